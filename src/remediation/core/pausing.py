"""Pauses: several may be in force, and a milder one never takes back what a stricter one says."""

from __future__ import annotations

from remediation.model.entries import PauseStarted


def added(known: tuple[PauseStarted, ...], new: PauseStarted, at: int) -> tuple[PauseStarted, ...]:
    """The pauses after `new` began at `at` (milliseconds): without those that are over, and those that others cover in everything."""
    if any(_covers(pause, new) for pause in known if not _over(pause, at)):
        return tuple(pause for pause in known if not _over(pause, at))
    return (*(pause for pause in known if not _over(pause, at) and not _covers(new, pause)), new)


def in_force(known: tuple[PauseStarted, ...], now: int) -> PauseStarted | None:
    """
    What the pauses in force at `now` come to: the reason of the strictest, the end of the last.

    It is a panic, and takes back, if any of them is or does.
    """
    found = [pause for pause in known if not _over(pause, now)]
    if len(found) < 2:
        return found[0] if found else None
    strictest = max(found, key=lambda pause: (pause.panic, pause.revert, pause.until == 0, pause.until))
    endless = any(pause.until == 0 for pause in found)
    return strictest.model_copy(
        update={
            "until": 0 if endless else max(pause.until for pause in found),
            "revert": any(pause.revert for pause in found),
        }
    )


def reason_of(pause: PauseStarted | None) -> str:
    """Why it is paused; empty for `None`, which is no pause."""
    return pause.reason or "no reason given" if pause is not None else ""


def _over(pause: PauseStarted, now: int) -> bool:
    return 0 < pause.until <= now


def _covers(one: PauseStarted, other: PauseStarted) -> bool:
    longer = one.until == 0 or (other.until != 0 and one.until >= other.until)
    return longer and one.panic >= other.panic and one.revert >= other.revert
