"""A real `Watch` for one sentinel: real processes, a real state folder, and a wall clock that a test can set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from remediation.coordination.processes import run_process
from remediation.model.events import DegradationEvent
from remediation.ports.clock import SystemClock
from remediation.ports.effect import Completed
from remediation.ports.sentinel import Sentinel


class SetClock(SystemClock):
    """The machine's clocks; the wall clock shifted by what the test says."""

    def __init__(self) -> None:
        self.shift = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def set(self, moment: datetime) -> None:
        """Make it `moment` now."""
        self.shift = moment - datetime.now(UTC)

    def advance(self, **span: float) -> None:
        """Let time pass on the wall clock."""
        self.shift += timedelta(**span)


@dataclass
class RealWatch:
    """What a sentinel is given, and what it said."""

    base: Path
    state: Path
    clock: SetClock = field(default_factory=SetClock)
    log: Any = field(default_factory=lambda: structlog.get_logger("watch"))
    reports: list[DegradationEvent] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    ran: int = 0

    async def report(self, event: DegradationEvent) -> None:
        # As the journal would: what can't be stored is found here.
        self.reports.append(DegradationEvent.model_validate_json(event.model_dump_json()))

    async def clear(self, code: str, subsystem: str, subject: str, summary: str = "") -> None:
        self.cleared.append(code)

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout: float,
        stdin: bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> Completed:
        self.ran += 1
        return await run_process(argv, timeout=timeout, cwd=cwd, env=env, stdin=stdin)

    def codes(self) -> list[str]:
        """The codes of all reports, in order."""
        return [event.code for event in self.reports]

    async def checked(self, sentinel: Sentinel[Any]) -> datetime:
        """Check once; when the next check is due."""
        began = self.clock.now()
        await sentinel.check(self)
        return sentinel.next_check(began)
