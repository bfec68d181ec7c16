"""Deciding: which runbooks match, whether one applies, what it plans, and what the gate says to that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from remediation.core import gate as gating
from remediation.core import progress
from remediation.core.lifecycle import standing
from remediation.core.limits import recurrence
from remediation.core.state import HostState
from remediation.engine import judging, proposing, stopping
from remediation.engine.policy import Policy
from remediation.engine.registry import Registered
from remediation.engine.session import Session
from remediation.engine.steps import StepDeclined, StepFault, describe_error
from remediation.errors import NotCanonical
from remediation.model.base import milliseconds
from remediation.model.entries import (
    IncidentOpened,
    IncidentWaiting,
    RunbookFaulted,
)
from remediation.model.runbook import Wait

TOO_LARGE = "its plan is too large to be journaled ({}); keep contents with ctx.keep, or use stages"


async def take_in(session: Session) -> str:
    """Match the incident and look at its history; returns why it must be escalated at once, if it must."""
    incident, staff = session.case.incident, session.staff
    matched = staff.registry.match(
        incident.event, incident.provenance, faulted=lambda name, error: _match_faulted(session, name, error)
    )
    matched = by_standing(staff.policy, staff.state, matched)
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


def by_standing(policy: Policy, state: HostState, matched: Iterable[Registered]) -> list[Registered]:
    """Runbooks that may act go before those that only observe, and those without blame before those that gave cause for concern."""
    return sorted(matched, key=lambda item: standing(policy.runbook_state(state, item.spec.id, item.code_digest)))


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
    record = staff.state.runbooks.get(spec.id)
    if record is not None and record.uncalled:
        await _abandon(session, step, f"it is not called until a person releases it: {record.why}")
        return ""
    session.considered = spec.id
    if step.attempt is not None and (why := stopping.given_up(session, spec.id)):
        await stopping.give_up(session, step.attempt, why)
        return ""
    incident = session.case.incident
    first = step.stage == 0
    situation = staff.policy.situation(staff.state, incident, spec, registered.code_digest, now=staff.now(), first=first)
    admitted = gating.admit(situation, now=staff.now())
    if admitted.decision == "wait":
        await judging.wait(session, admitted, spec.id)
        return ""
    if admitted.decision == "refuse" and step.stage == 0:
        return judging.reasons(admitted) if await judging.first_beyond_rate(session, admitted) else ""
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

    def place(runbook: str) -> int:
        item = staff.registry.runbooks.get(runbook)
        state = staff.policy.runbook_state(staff.state, runbook, item.code_digest) if item is not None else "deprecated"
        return standing(state)

    ordered = tuple(sorted(step.candidates, key=place))
    return step if ordered == step.candidates else replace(step, candidates=ordered)


async def _plan(session: Session, step: progress.Decide, registered: Registered) -> None:
    spec, staff = registered.spec, session.staff
    ctx = session.context(registered, step.attempt)
    ctx.advance(stage=step.stage)
    finding = step.attempt.finding if step.attempt else None
    if finding is None:
        finding = await proposing.find(registered, ctx)
        if not finding.applicable:
            session.declined[spec.id] = finding
            session.case.skip(spec.id, f"declined: {finding.reason}")
            session.end_loan("it declined")
            return
    try:
        proposed = await proposing.propose(registered, ctx, session.lend(spec.id, session.attempt_id), stage=step.stage)
    except proposing.Unprepared as error:
        await _abandon(session, step, str(error))
        return
    if isinstance(proposed, Wait):
        if session.case.fresh().waits >= progress.WAITS_CAP:
            raise StepFault(f"action asked to wait {progress.WAITS_CAP} times, the last time {proposed.reason}")
        until = staff.now() + max(progress.SHORTEST_WAIT_MS, milliseconds(proposed.delay))
        waiting = IncidentWaiting(until=until, why="stage", reason=proposed.reason, runbook=spec.id)
        await session.case.commit(waiting, before=session.used())
        return
    try:
        await judging.judge(session, registered, finding, proposed, earlier=step.attempt)
    except NotCanonical as error:
        await _abandon(session, step, TOO_LARGE.format(error))


async def _abandon(session: Session, step: progress.Decide, reason: str) -> None:
    """The runbook does not go on: skipped before its first plan; later, what it did is reverted."""
    runbook = step.candidates[0]
    if step.attempt is None:
        session.case.skip(runbook, reason)
        session.end_loan("it was skipped")
    else:
        await session.finish(step.attempt, "failed", reason, revert=progress.to_revert(step.attempt))
