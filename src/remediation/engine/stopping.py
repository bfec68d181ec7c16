"""Stopping: why the next effect of an attempt under way must not be begun, and what becomes of the attempt then."""

from __future__ import annotations

from remediation.core import progress
from remediation.core.evolution import with_receipts
from remediation.core.incident import Attempt
from remediation.engine.session import Session
from remediation.model.entries import IncidentWaiting, PauseStarted
from remediation.model.plan import Receipt

NEWS_EVERY = 0.05
"""Seconds between two looks, before an effect, at what other processes have journaled."""


async def must_stop(session: Session, runbook: str) -> bool:
    """Whether the next effect of an attempt of `runbook` must not be begun."""
    health, moment = session.staff.health, session.clock.monotonic()
    if moment - health.looked_at >= NEWS_EVERY:
        health.looked_at = moment
        await session.staff.journal.refresh()
    return bool(health.halted) or panic(session) is not None or bool(quarantined(session, runbook))


def undoing_must_stop(session: Session) -> bool:
    """Whether not even the next effect must be undone."""
    pause = panic(session)
    return bool(session.staff.health.halted) or (pause is not None and not pause.revert)


def panic(session: Session) -> PauseStarted | None:
    """The panic in force."""
    pause = session.staff.state.pause(session.staff.now())
    return pause if pause is not None and pause.panic else None


def quarantined(session: Session, runbook: str) -> str:
    """Why `runbook` is quarantined; empty if it is not."""
    record = session.staff.state.runbooks.get(runbook)
    return f"{runbook} is quarantined: {record.why}" if record is not None and record.state == "quarantined" else ""


def given_up(session: Session, runbook: str) -> str:
    """Why an attempt of `runbook` that was stopped in the middle will not go on, and is taken back; empty if it may."""
    if session.staff.health.halted:
        return ""
    pause = panic(session)
    if pause is None:
        return quarantined(session, runbook)
    return f"stopped by a panic, to be taken back: {pause.reason}" if pause.revert else ""


async def stopped(session: Session, attempt: Attempt, receipts: tuple[Receipt, ...]) -> None:
    """Journal what becomes of `attempt`, which was stopped before its next effect: it is given up, or goes on when all is calm again."""
    why = given_up(session, attempt.runbook)
    if why:
        await give_up(session, with_receipts(attempt, receipts), why, receipts)
    else:
        await wait_for_calm(session, attempt)


async def give_up(session: Session, attempt: Attempt, why: str, receipts: tuple[Receipt, ...] = ()) -> None:
    """End `attempt`, which is not to go on: what it did is taken back."""
    await session.finish(attempt, "withheld", why, receipts=receipts, revert=progress.to_revert(attempt))
    session.fresh = True


async def wait_for_calm(session: Session, attempt: Attempt) -> None:
    """Journal that `attempt` waits until nothing stops it any more."""
    reason = "a panic" if panic(session) is not None else "a failure of the journal"
    waiting = IncidentWaiting(until=0, why="pause", reason=f"{reason} stopped it before the next effect", attempt=attempt.id)
    await session.case.commit(waiting, before=session.used())
