"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """
    A `remediation.ports.clock.Clock` for tests: time passes in `advance` only.

    Guarantee: whoever sleeps is woken once the time of its awakening has come, the earliest first, with `monotonic` at or past it.
    Non-guarantees: `advance` does not wait until the woken ones have done their work (they may wait for disks and processes, which keep
    their own time), and one that sleeps again after its awakening counts from the new time. So advance by steps no longer than the
    interval that matters, and wait for what should have happened before the next one. Belongs to one event loop.

    Args:
        start: The first wall-clock time; aware.

    """

    def __init__(self, start: datetime = START) -> None:
        self._wall = start.astimezone(UTC)
        self._monotonic = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Return once `advance` has let `seconds` pass; 0 or less returns after one turn of the loop."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._number, woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self._monotonic += seconds
        self._wall += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or (negative) back, as a correction of the machine's time does; nobody is woken."""
        self._wall += timedelta(seconds=seconds)

    @property
    def naps(self) -> tuple[float, ...]:
        """The seconds that each sleeper has left, the soonest first."""
        return tuple(sorted(due - self._monotonic for due, _, woken in self._sleepers if not woken.done()))
