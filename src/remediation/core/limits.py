"""Limits that are folds over the journal: the change rate, and what was healed before."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

HOUR = 3_600_000
DAY = 24 * HOUR


@dataclass(slots=True)
class ChangeRate:
    """Changes in the last hour, counted by the second so that memory is bounded."""

    _seconds: deque[list[int]] = field(default_factory=deque)

    def count(self, at: int) -> None:
        """A change was decided at `at` (milliseconds)."""
        second = at // 1000
        if self._seconds and self._seconds[-1][0] >= second:
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([second, 1])
        while self._seconds and self._seconds[0][0] <= second - 3600:
            self._seconds.popleft()

    def used(self, now: int) -> int:
        """Changes within the hour before `now` (milliseconds)."""
        since = now // 1000 - 3600
        return sum(number for second, number in self._seconds if second > since)


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
