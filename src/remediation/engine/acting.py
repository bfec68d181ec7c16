"""Acting: applies the committed plan, has it verified, and undoes it where it failed."""

from __future__ import annotations

from remediation.core import progress
from remediation.core.evolution import with_receipts
from remediation.core.incident import Attempt
from remediation.engine import stopping
from remediation.engine.carrying import Carrier
from remediation.engine.session import Session
from remediation.engine.steps import StepFault
from remediation.engine.verification import SEEN_AGAIN, Verification
from remediation.model.entries import Entry, StageApplied
from remediation.model.plan import Receipt

REVERT_SECONDS = 60.0


async def apply(session: Session, attempt: Attempt) -> None:
    """Apply the newest stage of `attempt`, then go on to the next stage or to verification."""
    fresh, session.fresh = session.fresh, False
    plan = attempt.plan
    carrier = _carrier(session, attempt)
    done = await carrier.apply(attempt, plan, fresh=fresh, seconds=attempt.apply_ms / 1000)
    receipts = tuple(done.receipts)
    if carrier.stuck is not None:
        # As long as it runs, nobody knows what it does: nothing is verified, and nothing taken back.
        await session.record_fault(attempt.runbook, carrier.stuck, "apply")
        await session.finish(attempt, "inconclusive", str(carrier.stuck), receipts=receipts)
    elif done.stopped:
        await stopping.stopped(session, attempt, receipts)
    elif done.failure:
        attempt = with_receipts(attempt, receipts)
        outcome = "conflict" if done.conflict else "failed"
        await session.finish(attempt, outcome, done.failure, receipts=receipts, revert=progress.to_revert(attempt, done.doubtful))
        session.fresh = True
    elif done.uncertain or not plan.more:
        await conclude(session, attempt, receipts)
    else:
        await session.case.commit(StageApplied(attempt=attempt.id, stage=plan.stage, receipts=receipts), before=session.used())


async def conclude(session: Session, attempt: Attempt, receipts: tuple[Receipt, ...] = ()) -> None:
    """Verify, and journal what follows: the last commit of a healthy heal."""
    registered = session.staff.registry.runbooks.get(attempt.runbook)
    if registered is None:
        await session.finish(attempt, "inconclusive", "its runbook is no longer registered; nobody can verify", receipts=receipts)
        return
    attempt = with_receipts(_journaled(session, attempt), receipts)
    ctx = session.context(registered, attempt)
    verification = Verification(session, registered, ctx, attempt, receipts)
    try:
        verdict = await verification.run()
    except StepFault as error:
        await session.record_fault(registered.spec.id, error, "verify")
        await session.finish(attempt, "inconclusive", str(error), receipts=receipts)
        return
    if verdict is None:
        return
    journaled = _journaled(session, attempt)
    attempt = with_receipts(journaled, receipts)
    receipts = tuple(receipt for receipt in receipts if receipt not in journaled.receipts)
    if verdict.status == "healthy" and session.contradicted(attempt):
        verdict = SEEN_AGAIN
    outcome, reason = {"healthy": "healed"}.get(verdict.status, verdict.status), verdict.reason
    if outcome == "healed" and attempt.uncertain:
        outcome, reason = "inconclusive", "an effect is uncertain, although the subject looks healthy"
    revert = progress.to_revert(attempt) if outcome == "failed" else ()
    await session.finish(attempt, outcome, reason, receipts=receipts, revert=revert, verdict=verdict)
    session.fresh = True


async def revert(session: Session, attempt: Attempt) -> None:
    """Undo the next effect that has to be undone; not in a panic, which stops that too, unless somebody asked for it."""
    if stopping.undoing_must_stop(session):
        await stopping.wait_for_calm(session, attempt)
        return
    carrier = _carrier(session, attempt)
    entry = await carrier.revert(attempt, attempt.revert[0], fresh=session.fresh, seconds=REVERT_SECONDS)
    if carrier.stuck is not None:
        await session.record_fault(attempt.runbook, carrier.stuck, "revert")
    await session.case.commit(entry, before=session.used())
    session.fresh = True


def _journaled(session: Session, attempt: Attempt) -> Attempt:
    return next(item for item in session.case.fresh().attempts if item.id == attempt.id)


def _carrier(session: Session, attempt: Attempt) -> Carrier:
    loan = session.lend(attempt.runbook, attempt.id)

    async def commit(*entries: Entry) -> None:
        await session.case.commit(*entries, before=session.used())

    return Carrier(loan, commit, lambda: stopping.must_stop(session, attempt.runbook))
