"""Judging: what the gate says to a prepared plan, and the commit that follows from it."""

from __future__ import annotations

import secrets
from typing import Literal

from remediation.core import gate as gating
from remediation.core import progress
from remediation.core.bounds import beyond
from remediation.core.incident import Approval, Attempt, Incident
from remediation.core.limits import HOUR
from remediation.core.state import HostState
from remediation.core.trust import RECORD, Elevation
from remediation.engine.policy import Policy
from remediation.engine.registry import Registered
from remediation.engine.session import Session
from remediation.errors import GuardRefused
from remediation.model.base import milliseconds
from remediation.model.entries import (
    ApprovalRequested,
    AttemptFinished,
    AttemptPlanned,
    Entry,
    GateRecord,
    IncidentWaiting,
    PauseStarted,
    TrustGranted,
    TrustRefused,
    TrustRequested,
)
from remediation.model.plan import PlanRecord
from remediation.model.redaction.plans import secrets_of, without_secrets
from remediation.model.runbook import Finding
from remediation.ports.world import Touches

NOBODY = "nobody may consent: name people's keys in [approvals] allowed_signers"


async def judge(
    session: Session,
    registered: Registered,
    finding: Finding,
    plan: PlanRecord,
    *,
    earlier: Attempt | None = None,
    approval: Approval | None = None,
) -> None:
    """
    Have the gate judge `plan`, and commit what follows: an attempt that may act, waits for consent, or is withheld; or a wait.

    Args:
        earlier: The attempt that the plan belongs to, for a later stage or a plan that was judged before.
        approval: A person's consent to this very plan.

    Raises:
        NotCanonical: the plan is too large to be journaled.
        Overtaken, JournalError: nothing was committed.

    """
    spec, staff, incident = registered.spec, session.staff, session.case.incident
    consented = approval.granted_by if approval is not None else _within_bounds(session, earlier, plan)
    held = secrets_of(staff.world.redactor, plan)
    if held:
        plan = without_secrets(staff.world.redactor, plan)  # refused as it is, and recorded only to be read

    def judged() -> tuple[GateRecord, Elevation | None]:
        return verdict_of(
            staff.policy, staff.state, incident, registered, finding, plan, now=staff.now(), approved_by=consented, held=held
        )

    seen = staff.state.position
    record, elevation = judged()
    if record.decision == "wait":
        await wait(session, record, spec.id)
        return
    if record.decision == "refuse" and not await first_beyond_rate(session, record):
        return
    attempt = earlier.id if earlier is not None else session.attempt_id
    planned = planned_of(
        registered,
        finding,
        plan,
        record,
        attempt=attempt,
        number=earlier.number if earlier is not None else len(incident.attempts) + 1,
        instance=staff.world.instance,
        skipped=session.case.told_skipped(),
    )
    entries: list[Entry] = [*_trust(planned, elevation), planned]
    if record.decision == "ask" and staff.policy.approvers:
        entries += _request(session, planned)
    elif record.decision != "proceed":
        why = reasons(record) + (f"; {NOBODY}" if record.decision == "ask" else "")
        revert = progress.to_revert(earlier) if earlier is not None else ()
        entries.append(AttemptFinished(attempt=attempt, runbook=spec.id, outcome="withheld", reason=why, revert=revert))

    def guard() -> None:
        # Evaluated inside the append: another process may have used up a limit since, or revoked a grant.
        # What is refused acts in no case.
        if staff.state.position == seen or record.decision == "refuse":
            return
        now, trusted = judged()
        if now.decision != record.decision or _given_by(trusted) != _given_by(elevation):
            raise GuardRefused("the gate would decide otherwise now")

    try:
        await session.case.commit(*entries, guard=guard, before=session.used())
    except GuardRefused:
        return  # decided anew, from the state as it is now
    session.fresh = True
    session.began = session.began or session.clock.monotonic()


def planned_of(
    registered: Registered,
    finding: Finding,
    plan: PlanRecord,
    record: GateRecord,
    *,
    attempt: str,
    number: int,
    instance: str,
    skipped: tuple[tuple[str, str], ...],
) -> AttemptPlanned:
    """The entry about a plan that was judged: all that is on record of it before anything is done."""
    spec = registered.spec
    return AttemptPlanned(
        attempt=attempt,
        number=number,
        runbook=spec.id,
        level=spec.level,
        code_digest=registered.code_digest,
        instance=instance,
        skipped=skipped,
        finding=finding,
        gate=record,
        plan=plan,
        plan_digest=plan.digest,
        apply_ms=milliseconds(spec.timeouts.apply),
    )


def verdict_of(
    policy: Policy,
    state: HostState,
    incident: Incident,
    registered: Registered,
    finding: Finding,
    plan: PlanRecord,
    *,
    now: int,
    approved_by: str = "",
    held: str = "",
) -> tuple[GateRecord, Elevation | None]:
    """
    What the gate says to `plan` at `now` (milliseconds since 1970 UTC), and what the answer was if it had to be trusted beyond the profile.

    Args:
        approved_by: Who consented to this very plan, or to bounds that it keeps within.
        held: Where the redactor fired in the plan; see `secrets_of`.

    """
    spec = registered.spec

    def at(elevated: str) -> GateRecord:
        situation = policy.situation(
            state,
            incident,
            spec,
            registered.code_digest,
            now=now,
            first=plan.stage == 0,
            approved_by=approved_by,
            elevated=elevated,
            secrets=held,
        )
        return gating.gate(plan, finding.confidence, spec, situation, now=now)

    record = at("")
    if record.decision != "ask" or not gating.asks_for_trust(record):
        return record, None
    elevation = policy.elevation(state, incident, spec.id, plan, now=now)
    return (at(elevation.reason) if elevation.granted else record), elevation


def _given_by(elevation: Elevation | None) -> str:
    """The grant that lets a plan act, so that none is named that was revoked meanwhile; a record may go on growing."""
    if elevation is None or not elevation.granted:
        return ""
    return elevation.by if elevation.by == RECORD else elevation.reason


def _trust(planned: AttemptPlanned, elevation: Elevation | None) -> list[Entry]:
    """That a plan asked for trust beyond the profile, and what was answered."""
    if elevation is None:
        return []
    plan = planned.plan
    scope = f"a {plan.reversibility.value} plan that reaches the {plan.radius.value}"
    asked = TrustRequested(runbook=planned.runbook, attempt=planned.attempt, scope=scope)
    if elevation.granted:
        answer: Entry = TrustGranted(
            grant_id=planned.attempt,
            runbook=planned.runbook,
            scope=scope,
            by=elevation.by,
            not_after=0,
            reason=elevation.reason,
            code_digest=planned.code_digest,
            radius=plan.radius,
            reversibility=plan.reversibility,
        )
    else:
        answer = TrustRefused(runbook=planned.runbook, attempt=planned.attempt, reason=elevation.reason)
    return [asked, answer]


def _request(session: Session, planned: AttemptPlanned) -> list[Entry]:
    policy = session.staff.policy
    until = session.staff.now() + policy.approval_ms
    requested = ApprovalRequested(
        approval_id=secrets.token_hex(8),
        attempt=planned.attempt,
        runbook=planned.runbook,
        code_digest=planned.code_digest,
        plan_digest=planned.plan_digest,
        not_after=until,
    )
    reason = f"a person must consent: {reasons(planned.gate)}"
    return [
        requested,
        IncidentWaiting(until=until, why="approval", reason=reason, runbook=planned.runbook, attempt=planned.attempt),
    ]


def _within_bounds(session: Session, earlier: Attempt | None, plan: PlanRecord) -> str:
    """Who consented to bounds that this later stage keeps within; empty for nobody."""
    if earlier is None or earlier.bounds is None or plan.stage == 0:
        return ""
    approved = next(item for item in reversed(earlier.plans) if item.bounds == earlier.bounds)
    kinds = session.staff.world.kinds
    loaded = [kinds.load(item.effect) for item in plan.effects]
    touches = [effect.touches() if effect is not None else Touches(paths=("(an effect of an unknown kind)",)) for effect in loaded]
    later = (*earlier.plans[approved.stage + 1 : plan.stage], plan)
    return "" if beyond(earlier.bounds, approved, later, touches) else earlier.approved_by


async def first_beyond_rate(session: Session, record: GateRecord) -> bool:
    """
    The first change beyond the rate pauses the rest, and is given to people.

    Returns:
        False when another one was the first meanwhile: decide anew, and wait. True also for a record that is not about the rate.

    """
    staff = session.staff
    if all(reason.row != "change-rate" for reason in record.reasons):
        return True

    def guard() -> None:
        if staff.state.paused(staff.now()):
            raise GuardRefused("healing is paused by now")

    reason = "as many changes were made within an hour as [limits] changes_per_hour allows"
    entry = PauseStarted(reason=reason, by="limit", until=staff.now() + HOUR)
    try:
        await staff.journal.append("host/pauses", [entry], guard=guard)
    except GuardRefused:
        return False
    return True


async def wait(session: Session, record: GateRecord, runbook: str) -> None:
    """Journal the wait that the gate ordered."""
    rows = {reason.row for reason in record.reasons if reason.decision == "wait"}
    # What ends a wait without a date must be found in `why`: the end of a pause, or what others do.
    why: Literal["pause", "cooldown", "limit"] = (
        "pause" if "pause" in rows else "cooldown" if record.until and "cooldown" in rows else "limit"
    )
    entry = IncidentWaiting(
        until=record.until,
        why=why,
        reason=reasons(record),
        runbook=runbook,
    )
    await session.case.commit(entry, before=session.used())


def reasons(record: GateRecord) -> str:
    """The reasons for the gate's decision, as one line."""
    return "; ".join(reason.reason for reason in record.reasons if reason.decision == record.decision)
