"""Consent: what becomes of a plan that a person was asked about, while it waits and after the answer."""

from __future__ import annotations

from remediation.core import progress
from remediation.core.incident import Attempt, Status
from remediation.engine import judging, stopping
from remediation.engine.carrying import Carrier
from remediation.engine.registry import Registered
from remediation.engine.session import Session
from remediation.engine.steps import StepDeclined, StepFault, call_step
from remediation.errors import NotCanonical
from remediation.model.entries import ApprovalExpired, AttemptFinished, Entry
from remediation.model.runbook import Verdict

GONE = "it is no longer there"


async def wait(session: Session, step: progress.AwaitConsent, *, woken: bool) -> int | None:
    """
    Wait for an answer; when `woken`, look first whether it is still needed.

    Returns:
        When to look again, in milliseconds since 1970 UTC; `None` if the incident moved on.

    """
    if await _given_up(session, step.attempt):
        return None
    interval, now = session.staff.policy.recheck_ms, session.staff.now()
    since = session.case.incident.waiting_since
    if woken and now - since >= interval and await _void(session, step.attempt):
        return None
    return min(step.until, since + ((now - since) // interval + 1) * interval)


async def proceed(session: Session, step: progress.Consented) -> None:
    """
    Judge the approved plan again, and let it act.

    If the world is not as it was shown, nothing is applied: the consent is void, and a new plan asks anew.
    """
    attempt, approval = step.attempt, step.approval
    if await _given_up(session, attempt) or await _void(session, attempt):
        return
    registered = session.staff.registry.runbooks[attempt.runbook]
    carrier = Carrier(session.lend(attempt.runbook, attempt.id), session.case.commit, _never)
    differs = await carrier.differs(attempt.plan, seconds=registered.spec.timeouts.decide.total_seconds())
    if differs:
        await _finish(session, attempt, "conflict", f"the world is no longer as the plan was shown: {differs}")
        return
    try:
        await judging.judge(session, registered, attempt.finding, attempt.plan, earlier=attempt, approval=approval)
    except NotCanonical as error:
        await _finish(session, attempt, "withheld", str(error))


async def end(session: Session, step: progress.NoConsent) -> None:
    """Nobody consented: the plan is withheld, and what earlier stages did is taken back."""
    await _finish(session, step.attempt, "withheld", step.reason, answered=step.denied)


async def _given_up(session: Session, attempt: Attempt) -> bool:
    """Whether the attempt, of which earlier stages have acted, is not to go on; then it is taken back."""
    why = stopping.given_up(session, attempt.runbook) if attempt.acted else ""
    if why:
        await _finish(session, attempt, "withheld", why)
    return bool(why)


async def _never() -> bool:
    return False


async def _void(session: Session, attempt: Attempt) -> bool:
    """Whether the plan is no longer what is needed; then that is journaled."""
    registered = session.staff.registry.runbooks.get(attempt.runbook)
    if registered is None or registered.code_digest != attempt.code_digest:
        why = "is no longer registered" if registered is None else "has other code now"
        await _finish(session, attempt, "conflict", f"its runbook {why}")
        return True
    if attempt.receipts:
        return False  # between two stages only the world can say; the plan's own before-states do
    declined = await _declines(session, registered, attempt)
    if not declined:
        return False
    if await _healthy(session, registered, attempt):
        void = ApprovalExpired(approval_id=_id(session), reason=GONE)
        finished = AttemptFinished(attempt=attempt.id, runbook=attempt.runbook, outcome="withheld", reason=GONE)
        session.case.note(void)
        session.case.note(finished)
        settled = progress.settlement(session.case.incident, Status.RESOLVED, f"{GONE}: {declined}")
        await session.case.commit(settled, before=session.used())
    else:
        await _finish(session, attempt, "conflict", f"the runbook would decline now: {declined}")
    return True


async def _declines(session: Session, registered: Registered, attempt: Attempt) -> str:
    """Why the runbook's precondition would decline now; empty if it would not, or can't say."""
    seconds = registered.spec.timeouts.decide.total_seconds()
    try:
        finding = await call_step(registered.runbook, "precondition", session.context(registered, attempt), seconds=seconds)
    except StepDeclined as error:
        return str(error)
    except StepFault as error:
        session.log.warning("a finding could not be looked at again; the request stands", runbook=attempt.runbook, error=str(error))
        return ""
    return "" if finding.applicable else finding.reason or "it gave no reason"


async def _healthy(session: Session, registered: Registered, attempt: Attempt) -> bool:
    seconds = registered.spec.timeouts.verify.total_seconds()
    try:
        verdict = await call_step(registered.runbook, "verify", session.context(registered, attempt), seconds=seconds)
    except (StepDeclined, StepFault):
        return False  # most verify by what was done, and nothing was
    return isinstance(verdict, Verdict) and verdict.status == "healthy"


async def _finish(session: Session, attempt: Attempt, outcome: str, reason: str, *, answered: bool = False) -> None:
    before: list[Entry] = [] if answered else [ApprovalExpired(approval_id=_id(session), reason=reason)]
    for entry in before:
        session.case.note(entry)
    await session.finish(attempt, outcome, reason, revert=progress.to_revert(attempt))


def _id(session: Session) -> str:
    approval = session.case.incident.approval
    return approval.id if approval is not None else ""
