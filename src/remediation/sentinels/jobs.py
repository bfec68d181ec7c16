"""
Runs commands on a schedule, and reports those that fail, take too long, or were not run in time.

| code | when |
|---|---|
| ``JOB_FILE_MISSING`` | it failed with a Python traceback whose last exception is FileNotFoundError |
| ``JOB_FAILED`` | it failed in any other way, or could not be started |
| ``JOB_TIMEOUT`` | it overran its `timeout`, and was ended |
| ``JOB_MISSED`` | it was due and not started within `expect_within`: the host was down, asleep or busy |

A run that was missed is made up for once, at once. Runs of one job never overlap. A run during which the host ended does not count.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import anyio.to_thread

from remediation.effects.rerun_job import RerunJob, running_alone
from remediation.errors import EffectError, ProcessError
from remediation.hooks import hookimpl
from remediation.model.base import epoch_ms, from_epoch_ms, milliseconds
from remediation.model.events import DegradationEvent
from remediation.model.text import capped, printable, wellformed
from remediation.ports.effect import Completed, Effect
from remediation.ports.sentinel import Sentinel, Watch
from remediation.sentinels._jobs import evidence, history
from remediation.sentinels._jobs.history import History, Run
from remediation.sentinels._jobs.options import JobOptions
from remediation.sentinels._jobs.traceback import parse

FAILED = "JOB_FAILED"
FILE_MISSING = "JOB_FILE_MISSING"
MISSED = "JOB_MISSED"
TIMEOUT = "JOB_TIMEOUT"
CODES = (FAILED, FILE_MISSING, MISSED, TIMEOUT)
_SLACK = 60.0
_BUSY_AGAIN = timedelta(seconds=30)


class JobSentinel(Sentinel[JobOptions]):
    """Runs and watches one job; see the module. A check runs it if it is due, else does nothing."""

    kind: ClassVar[str] = "jobs"
    options_type = JobOptions

    def __init__(self, options: JobOptions, base: Path) -> None:
        super().__init__(options, base)
        self._schedule = options.schedule()
        self._cwd = Path(os.path.normpath(base / options.cwd))
        self._due: datetime | None = None

    @property
    def name(self) -> str:
        return f"jobs:{self.options.name}"

    def roots(self) -> Sequence[Path]:
        """The job's folder."""
        return (self._cwd,)

    @property
    def timeout(self) -> float:
        # A rerun by a heal may hold the job first, for as long as a run may take.
        return 2 * self.options.timeout.total_seconds() + _SLACK

    def next_check(self, after: datetime) -> datetime:
        if self._due is not None and self._due > after:
            return self._due
        return self._schedule.next_after(after)

    async def check(self, watch: Watch) -> None:
        """Run the job if it is due, and report or clear."""
        now = watch.clock.now()
        past = history.load(watch.state)
        due = self._due = self._due_at(past, now)
        if due > now:
            if not past.seen:
                await anyio.to_thread.run_sync(history.store, watch.state, History(seen=epoch_ms(now), runs=past.runs))
            return
        late = now - due
        in_time = late <= self.options.grace(self._schedule.period(due))
        if not in_time:
            await self._report(watch, MISSED, now, past, self._missed(due, late))
        watch.state.mkdir(parents=True, exist_ok=True)
        try:
            limit = self.options.timeout.total_seconds()
            async with running_alone(self._lock(watch), watch.clock, until=watch.clock.monotonic() + limit):
                await self._run(watch, past)
        except EffectError as error:
            self._due = watch.clock.now() + _BUSY_AGAIN
            watch.log.warning("a job that is due was not started", job=self.options.name, why=str(error))
            return
        if in_time:
            await watch.clear(MISSED, self.options.subsystem, self.options.name)

    def _due_at(self, past: History, now: datetime) -> datetime:
        """When the next run is or was due. What a clock that was set back makes of the records can't lie in the future."""
        if past.runs:
            return self._schedule.next_after(min(from_epoch_ms(past.runs[-1].started), now))
        if self._schedule.every is not None:
            return now
        return self._schedule.next_after(min(from_epoch_ms(past.seen), now) if past.seen else now)

    async def _run(self, watch: Watch, past: History) -> None:
        started, begin = watch.clock.now(), watch.clock.monotonic()
        limit = self.options.timeout.total_seconds()
        done: Completed | None = None
        error = ""
        try:
            done = await watch.run(self.options.command, cwd=self._cwd, timeout=limit, env=dict(self.options.env))
        except ProcessError as raised:
            error = str(raised)
        took = watch.clock.monotonic() - begin
        run = Run(epoch_ms(started), round(took * 1000), done.exit_code if done is not None else None)
        self._due = self._schedule.next_after(started)
        past = past.with_run(run)
        await anyio.to_thread.run_sync(history.store, watch.state, past)
        if done is not None and done.exit_code == 0:
            for code in CODES:
                await watch.clear(code, self.options.subsystem, self.options.name, f"the job succeeded after {took:.1f} s")
        elif done is not None:
            await self._report_failure(watch, done, started, past)
        else:
            code, why = (TIMEOUT, f"took longer than {limit:g} s") if took >= limit else (FAILED, "could not be started")
            said = {"error": capped(wellformed(error), 2048), "duration_ms": run.duration, "started_at": run.started}
            await self._report(watch, code, started, past, (f"the job {why}: {error}", said))

    async def _report_failure(self, watch: Watch, done: Completed, started: datetime, past: History) -> None:
        found = await anyio.to_thread.run_sync(parse, done.stderr) or await anyio.to_thread.run_sync(parse, done.stdout)
        said: dict[str, Any] = {
            "exit_code": done.exit_code,
            "duration_ms": done.duration_ms,
            "started_at": epoch_ms(started),
            **evidence.of_output(done.stdout, done.stderr),
        }
        code = FAILED
        how = f"ended by signal {-done.exit_code}" if done.exit_code < 0 else f"exit code {done.exit_code}"
        if found is not None:
            said |= evidence.of_traceback(found, self._cwd)
            how += f", {found.exception}: {found.message}"
            code = FILE_MISSING if found.exception == "FileNotFoundError" else FAILED
        await self._report(watch, code, started, past, (f"the job failed: {how}", said))

    def _missed(self, due: datetime, late: timedelta) -> tuple[str, dict[str, Any]]:
        return (
            f"the job was due at {due.isoformat(timespec='seconds')}, and starts {late.total_seconds():.0f} s late",
            {"due_at": epoch_ms(due), "late_ms": milliseconds(late)},
        )

    async def _report(self, watch: Watch, code: str, at: datetime, past: History, said: tuple[str, dict[str, Any]]) -> None:
        summary, details = said
        job = evidence.of_job(self.options, self._cwd, self._lock(watch), self._schedule.next_after(at), past)
        found = evidence.fitting(details | job)
        event = DegradationEvent(
            code=code,
            subsystem=self.options.subsystem,
            subject=self.options.name,
            severity=self.options.severity,
            summary=printable(summary),
            evidence=found,
            tainted=evidence.tainted(found),
            observed_at=epoch_ms(at),
        )
        await watch.report(event)

    def _lock(self, watch: Watch) -> Path:
        return watch.state / "running.lock"


@hookimpl
def remediation_sentinels() -> Sequence[type[Sentinel[Any]]]:
    return [JobSentinel]


@hookimpl
def remediation_effects() -> Sequence[type[Effect[Any, Any]]]:
    return [RerunJob]
