"""Time: dates from the wall clock, durations from the monotonic clock, both from one injected object."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """
    The host's time.

    Guarantees: `monotonic` never goes back within one process. Non-guarantees: `now` may jump in both directions; neither says
    anything about another machine's time.
    """

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that also count while the machine is suspended."""

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds` of awake time."""


class SystemClock:
    """The machine's clocks: CLOCK_REALTIME, and CLOCK_BOOTTIME so that a suspend is seen as a gap."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))
