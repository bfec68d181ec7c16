"""Running sentinels: each by its own schedule, none able to harm another or the Remediator."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from remediation.coordination.processes import run_process
from remediation.engine.intake import Reported
from remediation.engine.steps import describe_error
from remediation.errors import HostStopped, JournalError
from remediation.model.base import Severity
from remediation.model.events import DegradationEvent, Provenance
from remediation.ports.clock import Clock
from remediation.ports.effect import Completed
from remediation.ports.sentinel import Sentinel

FAILED = "SENTINEL_FAILED"
Report = Callable[[DegradationEvent, Provenance], Awaitable[Reported]]
Clear = Callable[..., Awaitable[None]]


class Lookout:
    """What one sentinel is given; see `remediation.ports.sentinel.Watch`."""

    def __init__(self, sentinel: Sentinel[Any], report: Report, clear: Clear, clock: Clock, state: Path) -> None:
        self.clock = clock
        self.base = sentinel.base
        self.state = state
        self.log = structlog.get_logger("remediation.sentinels").bind(sentinel=sentinel.name)
        self._report = report
        self._clear = clear

    async def report(self, event: DegradationEvent) -> None:
        """Publish a degradation; returns when it is durable."""
        await self._report(event, Provenance.SENTINEL)

    async def clear(self, code: str, subsystem: str, subject: str, summary: str = "") -> None:
        """Say that the degradation is no longer seen."""
        await self._clear(code, subsystem, subject, summary)

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout: float,
        stdin: bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run a command to its end, at most `timeout` seconds."""
        return await run_process(argv, timeout=timeout, cwd=cwd or self.base, stdin=stdin, env=env)


class Sentinels:
    """All sentinels of a host."""

    def __init__(self, sentinels: Sequence[Sentinel[Any]], report: Report, clear: Clear, clock: Clock, folder: Path) -> None:
        self._clock = clock
        self._report = report
        self._clear = clear
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("remediation.sentinels")
        self._pairs = []
        for sentinel in sentinels:
            state = folder / hashlib.sha256(sentinel.name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
            self._pairs.append((sentinel, Lookout(sentinel, report, clear, clock, state)))

    def start(self) -> None:
        """Begin to watch: each sentinel looks at once, then by its schedule."""
        self._tasks = [asyncio.create_task(self._watch(*pair), name=f"sentinel {pair[0].name}") for pair in self._pairs]

    async def stop(self) -> None:
        """End all checks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def check_once(self) -> None:
        """Have each sentinel look once."""
        await asyncio.gather(*(self._check(*pair) for pair in self._pairs))

    async def _watch(self, sentinel: Sentinel[Any], lookout: Lookout) -> None:
        while True:
            begun = self._clock.now()
            await self._check(sentinel, lookout)
            await self._until(self._next(sentinel, begun))

    def _next(self, sentinel: Sentinel[Any], begun: datetime) -> datetime:
        try:
            return sentinel.next_check(begun)
        except Exception as error:
            self._log.error(
                "a sentinel's next_check failed; it looks again in a minute", sentinel=sentinel.name, error=describe_error(error)
            )
            return datetime.fromtimestamp(begun.timestamp() + 60, begun.tzinfo)

    async def _until(self, moment: datetime) -> None:
        while (left := (moment - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(min(left, 5.0))  # in naps: the wall clock may jump

    async def _check(self, sentinel: Sentinel[Any], lookout: Lookout) -> None:
        subject = sentinel.name
        try:
            lookout.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            async with asyncio.timeout(sentinel.timeout):
                await sentinel.check(lookout)
            await self._clear(FAILED, "sentinels", subject, "the sentinel works again")
        except (JournalError, HostStopped) as error:
            self._log.error("what a sentinel saw could not be journaled; it looks again", sentinel=subject, error=str(error))
        except Exception as error:
            why = f"not done within {sentinel.timeout:g} s" if isinstance(error, TimeoutError) else describe_error(error)
            self._log.warning("a sentinel's check failed", sentinel=subject, error=why)
            await self._report_failure(subject, why)

    async def _report_failure(self, subject: str, why: str) -> None:
        event = DegradationEvent(code=FAILED, subsystem="sentinels", subject=subject, severity=Severity.P2, summary=why)
        try:
            await self._report(event, Provenance.NATIVE)
        except (JournalError, HostStopped) as error:
            self._log.error("a failing sentinel could not be journaled", sentinel=subject, error=str(error))
