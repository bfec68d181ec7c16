"""Deciding: which runbooks match, whether one applies, what it plans, and what the gate says to that."""

from __future__ import annotations

from dataclasses import replace

from remediation.core import gate as gating
from remediation.core import progress
from remediation.core.limits import HOUR, recurrence
from remediation.engine import carrying
from remediation.engine.registry import Registered
from remediation.engine.session import Session
from remediation.engine.steps import StepDeclined, StepFault, bounded, call_step, describe_error
from remediation.errors import GuardRefused, NotCanonical, RemediationError
from remediation.model.base import milliseconds
from remediation.model.entries import (
    AttemptFinished,
    AttemptPlanned,
    Entry,
    GateRecord,
    IncidentOpened,
    IncidentWaiting,
    PauseStarted,
    RunbookFaulted,
)
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Finding, Wait

ACTIVE = ("live", "degraded")


async def take_in(session: Session) -> str:
    """Match the incident and look at its history; returns why it must be escalated at once, if it must."""
    incident, staff = session.case.incident, session.staff
    matched = staff.registry.match(
        incident.event, incident.provenance, faulted=lambda name, error: _match_faulted(session, name, error)
    )
    # Runbooks that may act go before those that only observe.
    matched.sort(key=lambda item: staff.policy.runbook_state(staff.state, item.spec.id, item.code_digest) not in ACTIVE)
    back = recurrence(await staff.past(incident.fingerprint), now=staff.now(), cooldown_ms=staff.policy.cooldown_ms)
    if matched and back.wait_until:
        # Taken in only after the wait, so that the history is looked at again then.
        reason = "it was healed a short while ago; it may still be settling"
        await session.case.commit(IncidentWaiting(until=back.wait_until, why="cooldown", reason=reason))
        return ""
    ladder = tuple(item.spec.id for item in matched)
    session.case.note(
        IncidentOpened(fingerprint=incident.fingerprint, severity=incident.severity, ladder=ladder, history=back.history)
    )
    return back.escalate if matched else ""


def _match_faulted(session: Session, runbook: str, error: BaseException) -> None:
    entry = RunbookFaulted(runbook=runbook, step="matches", error=describe_error(error), incident=session.case.incident.id)
    session.staff.policy.later(session.staff.journal.append(f"runbook/{runbook}", [entry]))


async def decide(session: Session, step: progress.Decide) -> str:
    """
    Let the first candidate decide the stage; returns why the incident must be escalated at once, if it must.

    What comes of it is a commit (a plan, a wait, the end of the attempt), or a skipped runbook.
    """
    staff = session.staff
    step = _active_first(session, step)
    registered = staff.registry.runbooks.get(step.candidates[0])
    if registered is None:
        await _abandon(session, step, "it is no longer registered")
        return ""
    spec = registered.spec
    session.considered = spec.id
    incident = session.case.incident
    first = step.stage == 0
    situation = staff.policy.situation(staff.state, incident, spec.id, registered.code_digest, now=staff.now(), first=first)
    admitted = gating.admit(situation, now=staff.now())
    if admitted.decision == "wait":
        await _wait(session, admitted, spec.id)
        return ""
    if admitted.decision == "refuse" and step.stage == 0:
        await _pause_for_rate(session, admitted)
        return reasons(admitted)
    try:
        await _plan(session, step, registered)
    except StepDeclined as error:
        await _abandon(session, step, f"declined: {error}")
    except StepFault as error:
        await session.record_fault(spec.id, error, "decide")
        if error.running is None:
            await _abandon(session, step, str(error))
        elif step.attempt is None:
            return f"{spec.id}: {error}"
        else:
            # Nobody else may act on a subject on which something still runs: what was done is taken back, and people are told.
            await session.finish(step.attempt, "inconclusive", str(error), revert=progress.to_revert(step.attempt))
    return ""


def _active_first(session: Session, step: progress.Decide) -> progress.Decide:
    """A runbook that lost its right to act since the incident was taken in comes after those that have it."""
    staff = session.staff

    def idle(runbook: str) -> bool:
        item = staff.registry.runbooks.get(runbook)
        return item is None or staff.policy.runbook_state(staff.state, runbook, item.code_digest) not in ACTIVE

    return replace(step, candidates=tuple(sorted(step.candidates, key=idle)))


async def _plan(session: Session, step: progress.Decide, registered: Registered) -> None:
    spec, staff = registered.spec, session.staff
    ctx = session.context(registered, step.attempt)
    ctx.advance(stage=step.stage)
    seconds = spec.timeouts.decide.total_seconds()
    finding = step.attempt.finding if step.attempt else None
    if finding is None:
        finding = await call_step(registered.runbook, "precondition", ctx, seconds=seconds)
        if not finding.applicable:
            session.declined[spec.id] = finding
            session.case.skip(spec.id, f"declined: {finding.reason}")
            session.end_loan("it declined")
            return
        ctx.advance(finding=finding)
    proposed = await call_step(registered.runbook, "action", ctx, seconds=seconds)
    if isinstance(proposed, Wait):
        if session.case.fresh().waits >= progress.WAITS_CAP:
            raise StepFault(f"action asked to wait {progress.WAITS_CAP} times, the last time {proposed.reason}")
        until = staff.now() + max(progress.SHORTEST_WAIT_MS, milliseconds(proposed.delay))
        waiting = IncidentWaiting(until=until, why="stage", reason=proposed.reason, runbook=spec.id)
        await session.case.commit(waiting, before=session.used())
        return
    loan = session.lend(spec.id, session.attempt_id)
    try:
        seconds = spec.timeouts.apply.total_seconds()
        plan = await bounded(carrying.prepare(proposed, loan, stage=step.stage, seconds=seconds), seconds, "prepare")
    except StepFault:
        raise
    except (RemediationError, TimeoutError, OSError) as error:
        await _abandon(session, step, f"its plan can't be prepared: {describe_error(error)}")
    except Exception as error:
        raise StepFault(f"an effect could not be prepared: {describe_error(error)}") from error
    else:
        await _judge(session, step, registered, finding, plan)


async def _judge(session: Session, step: progress.Decide, registered: Registered, finding: Finding, plan: PlanRecord) -> None:
    spec, staff, incident = registered.spec, session.staff, session.case.incident

    def judged() -> GateRecord:
        first = step.stage == 0
        situation = staff.policy.situation(staff.state, incident, spec.id, registered.code_digest, now=staff.now(), first=first)
        return gating.gate(plan, finding.confidence, spec, situation, now=staff.now())

    seen = staff.state.position
    record = judged()
    if record.decision == "wait":
        await _wait(session, record, spec.id)
        return
    attempt = session.attempt_id
    planned = AttemptPlanned(
        attempt=attempt,
        number=step.attempt.number if step.attempt else len(incident.attempts) + 1,
        runbook=spec.id,
        level=spec.level,
        code_digest=registered.code_digest,
        instance=staff.world.instance,
        skipped=session.case.told_skipped(),
        finding=finding,
        gate=record,
        plan=plan,
        plan_digest=plan.digest,
        apply_ms=milliseconds(spec.timeouts.apply),
    )
    entries: list[Entry] = [planned]
    if record.decision != "proceed":
        revert = progress.to_revert(step.attempt) if step.attempt else ()
        entries.append(AttemptFinished(attempt=attempt, runbook=spec.id, outcome="withheld", reason=reasons(record), revert=revert))

    def guard() -> None:
        # Evaluated inside the append: another process may have used up a limit since.
        if staff.state.position != seen and judged().decision != record.decision:
            raise GuardRefused("the gate would decide otherwise now")

    try:
        await session.case.commit(*entries, guard=guard, before=session.used())
    except GuardRefused:
        return  # decided anew, from the state as it is now
    except NotCanonical as error:
        await _abandon(
            session, step, f"its plan is too large to be journaled ({error}); keep contents with ctx.keep, or use stages"
        )
        return
    session.fresh = True
    session.began = session.began or session.clock.monotonic()
    await _pause_for_rate(session, record)


async def _pause_for_rate(session: Session, record: GateRecord) -> None:
    staff = session.staff
    if any(reason.row == "change-rate" for reason in record.reasons) and not staff.state.paused(staff.now()):
        reason = "as many changes were made within an hour as [limits] changes_per_hour allows"
        await staff.journal.append("host/pauses", [PauseStarted(reason=reason, by="limit", until=staff.now() + HOUR)])


async def _wait(session: Session, record: GateRecord, runbook: str) -> None:
    row = next((reason.row for reason in record.reasons if reason.decision == "wait"), "limit")
    entry = IncidentWaiting(
        until=record.until,
        why="pause" if row == "pause" else "cooldown" if row == "cooldown" else "limit",
        reason=reasons(record),
        runbook=runbook,
    )
    await session.case.commit(entry, before=session.used())


async def _abandon(session: Session, step: progress.Decide, reason: str) -> None:
    """The runbook does not go on: skipped before its first plan; later, what it did is reverted."""
    runbook = step.candidates[0]
    if step.attempt is None:
        session.case.skip(runbook, reason)
        session.end_loan("it was skipped")
    else:
        await session.finish(step.attempt, "failed", reason, revert=progress.to_revert(step.attempt))


def reasons(record: GateRecord) -> str:
    """The reasons for the gate's decision, as one line."""
    return "; ".join(reason.reason for reason in record.reasons if reason.decision == record.decision)
