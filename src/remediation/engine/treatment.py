"""Treatment: drives one incident from step to step until it is settled or has to wait. The shell around `core.progress`."""

from __future__ import annotations

from typing import Any

from remediation.core import progress
from remediation.core.incident import Incident, Status
from remediation.engine import acting, consenting, deciding
from remediation.engine.casefile import Overtaken
from remediation.engine.session import Session, Staff
from remediation.engine.steps import CONDUCT, StepDeclined, StepFault, call_step
from remediation.model.entries import IncidentWaiting
from remediation.model.runbook import Escalation
from remediation.model.text import capped
from remediation.ports.locking import HeldLock

ANALYSIS_CAP = 24 * 1024


async def treat(staff: Staff, incident: Incident, lock: HeldLock) -> int | None:
    """
    Treat `incident` under its subject's `lock`.

    Returns:
        `None` when it is settled; else until when it waits, in milliseconds since 1970 UTC (0: until something else changes).

    Raises:
        JournalError: it can't be journaled; nothing more may be applied.

    """
    CONDUCT.set(staff.world.conduct)
    session = Session(staff, incident, lock)
    woken = True
    try:
        while True:
            pause = staff.state.pause(staff.now())
            step = progress.next_step(
                session.case.incident,
                staff.registry.specs,
                now=staff.now(),
                attempt_cap=staff.policy.attempt_cap,
                paused=pause is not None,
                held_back=staff.held_back(session.case.incident),
                take_back=pause is not None and pause.revert,
            )
            if isinstance(step, progress.Done):
                return None
            if isinstance(step, progress.Sleep):
                return step.until
            if staff.policy.profile == "observe" and isinstance(step, progress.Apply | progress.Revert):
                # Allowed by a host that is gone. One that observes leaves it as it is, for the next that may go on with it.
                return 0
            try:
                if isinstance(step, progress.AwaitConsent):
                    until = await consenting.wait(session, step, woken=woken)
                    if until is not None:
                        return until
                else:
                    await _take(session, step)
                woken = False
            except Overtaken:
                session.end_loan("the incident was moved on by somebody else")
                session.fresh = False
                try:
                    session.case.reload()
                except Overtaken:
                    return None
    finally:
        session.end_loan("its attempt ended")


async def _take(session: Session, step: progress.Step) -> None:
    match step:
        case progress.TakeIn():
            if why := await deciding.take_in(session):
                await _give_up(session, Status.ESCALATED, why)
        case progress.Decide():
            if why := await deciding.decide(session, step):
                await _give_up(session, Status.ESCALATED, why)
        case progress.Apply(attempt):
            await acting.apply(session, attempt)
        case progress.Consented():
            await consenting.proceed(session, step)
        case progress.NoConsent():
            await consenting.end(session, step)
        case progress.Verify(attempt):
            await acting.conclude(session, attempt)
        case progress.Revert(attempt):
            await acting.revert(session, attempt)
        case progress.RetryLater(runbook, until):
            await session.case.commit(
                IncidentWaiting(until=until, why="retry", reason=f"{runbook} is tried again", runbook=runbook)
            )
        case progress.Resolve(reason):
            await _settle(session, Status.RESOLVED, reason)
        case progress.GiveUp(status, reason, dirty):
            await _give_up(session, status, reason, dirty=dirty)


async def _give_up(session: Session, status: Status, reason: str, *, dirty: bool = False) -> None:
    told = await _escalation(session, reason)
    analysis = "\n\n".join(part for part in (told.analysis, _considered(session)) if part)
    await _settle(
        session, status, reason, dirty=dirty, analysis=capped(analysis, ANALYSIS_CAP), actions=(told.title, *told.actions)
    )


def _considered(session: Session) -> str:
    """The runbooks that were not used, each with its reason and what it saw."""
    lines = []
    for runbook, why in session.case.incident.skipped:
        lines.append(f"- {runbook}: {why}")
        lines += [f"  - {line}" for line in (session.declined[runbook].evidence if runbook in session.declined else ())]
    return "\n".join(lines)


async def _escalation(session: Session, reason: str) -> Escalation:
    """What the newest runbook says, or the plain facts when it can't."""
    incident = session.case.incident
    registered = session.staff.registry.runbooks.get(incident.runbook or session.considered)
    record = session.staff.state.runbooks.get(registered.spec.id) if registered is not None else None
    if registered is not None and registered.spec.id not in session.stuck and not (record is not None and record.uncalled):
        ctx = session.context(registered, incident.attempts[-1] if incident.attempts else None)
        if not incident.attempts:
            ctx.advance(finding=session.declined.get(registered.spec.id))
        try:
            seconds = registered.spec.timeouts.decide.total_seconds()
            told: Escalation = await call_step(registered.runbook, "escalate", ctx, seconds=seconds)
        except StepFault as error:
            await session.record_fault(registered.spec.id, error, "escalate")
        except StepDeclined:
            pass
        else:
            return told
    return default_escalation(incident, reason)


def default_escalation(incident: Incident, reason: str) -> Escalation:
    """What is said about an incident that no runbook speaks for."""
    return Escalation(
        title=f"{incident.event.code} of {incident.event.subject}: {reason}",
        actions=(f"Mend it by hand, then `remediation incident close {incident.id}`; `incident reopen` has it tried again.",),
    )


async def _settle(session: Session, status: Status, reason: str, **more: Any) -> None:
    entry = progress.settlement(session.case.incident, status, reason, **more)
    await session.case.commit(entry, before=session.used())
