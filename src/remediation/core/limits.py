"""Limits that are folds over the journal: the change rate, and what was healed before."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

HOUR = 3_600_000
DAY = 24 * HOUR
AHEAD = DAY
"""What lies further in the future than this was dated by a clock that was wrong and has been set right: it counts for nothing."""


@dataclass(slots=True)
class ChangeRate:
    """Changes of the last day, counted by the second so that memory is bounded; asked for any window up to that in logarithmic time."""

    _seconds: list[int] = field(default_factory=list)
    _totals: list[int] = field(default_factory=list)
    """Of all changes up to and in the second beside."""
    _before: int = 0

    def count(self, at: int) -> None:
        """A change was decided at `at` (milliseconds). A clock that was set back by less than a day counts into the newest second."""
        second = at // 1000
        while self._seconds and self._seconds[-1] > second + AHEAD // 1000:
            gone = self._totals[-1] - (self._totals[-2] if len(self._totals) > 1 else self._before)
            self._before += gone
            self._totals = [total + gone for total in self._totals[:-1]]
            self._seconds.pop()
        total = self._totals[-1] if self._totals else self._before
        if self._seconds and self._seconds[-1] >= second:
            self._totals[-1] = total + 1
            return
        self._seconds.append(second)
        self._totals.append(total + 1)
        old = bisect_right(self._seconds, second - DAY // 1000)
        if old > 1024:  # now and then, as it moves all that stays
            self._before = self._totals[old - 1]
            del self._seconds[:old], self._totals[:old]

    def used(self, now: int, window: int = HOUR) -> int:
        """Changes within the `window` (milliseconds, a day at most) before `now`."""
        return self._until((now + AHEAD) // 1000) - self._until(now // 1000 - window // 1000)

    def free_at(self, most: int, window: int = HOUR, *, now: int) -> int:
        """From when on (milliseconds) fewer than `most` changes lie within a `window`, if none is added; 0 for always."""
        known = self._until((now + AHEAD) // 1000)
        if known - self._before < most:
            return 0
        index = bisect_left(self._totals, known - most + 1)
        return (self._seconds[index] + window // 1000) * 1000

    def _until(self, second: int) -> int:
        index = bisect_right(self._seconds, second)
        return self._totals[index - 1] if index else self._before


@dataclass(frozen=True, slots=True)
class PastHeal:
    """A settled incident, as far as a recurrence needs to know it."""

    incident: str
    settled_at: int
    status: str
    runbook: str
    level: str


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What the history of a fingerprint means for a new incident."""

    wait_until: int = 0
    escalate: str = ""
    history: tuple[str, ...] = ()


def recurrence(past: tuple[PastHeal, ...], *, now: int, cooldown_ms: int) -> Recurrence:
    """
    A fingerprint that was healed before is back (design, section 3).

    Within the cooldown after the last settling it waits. Within 24 h, one earlier *patch* or *heal*, or three *recovery* heals, escalate:
    fixing again what did not stay fixed is no healing.
    """
    past = tuple(heal for heal in past if heal.settled_at - now < AHEAD)
    healed = [heal for heal in past if heal.status == "resolved" and heal.runbook and now - heal.settled_at < DAY]
    history = tuple(heal.incident for heal in reversed(past) if now - heal.settled_at < DAY)
    if healed and now < healed[-1].settled_at + cooldown_ms:
        return Recurrence(wait_until=healed[-1].settled_at + cooldown_ms, history=history)
    lasting = [heal for heal in healed if heal.level in ("patch", "heal")]
    if lasting:
        last = lasting[-1]
        return Recurrence(escalate=f"{last.runbook} healed it before (incident {last.incident}), and it is back", history=history)
    if len(healed) >= 3:
        return Recurrence(escalate=f"it was healed {len(healed)} times in 24 h and keeps coming back", history=history)
    return Recurrence(history=history)
