"""`RerunJob`: run a scheduled job once more, now, exactly as it is configured."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from remediation.effects.fields import AbsolutePath, TimeSpan, shown
from remediation.errors import EffectError, ProcessError
from remediation.model.base import epoch_ms
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Reversibility
from remediation.model.text import capped, ending, printable, wellformed
from remediation.ports.clock import Clock
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, Touches

_POLL = 0.05
_SAID_CAP = 4096


class RerunPrepared(Prepared):
    """Nothing is kept: there is no before-state that a run of the job would go back to."""


class RerunOutput(Output):
    """How the run ended. That it failed is for verify to judge, and no failure of the effect."""

    exit_code: int | None
    """`None` when it could not be started or overran its time; negative when a signal ended it."""
    error: str = ""
    """Why there is no exit code."""
    said: str = ""
    """The end of what it printed."""
    started_at: int
    """Milliseconds since 1970 UTC."""
    duration_ms: int


class RerunJob(Effect[RerunPrepared, RerunOutput]):
    """
    Runs a job's own command once.

    It counts as disposable: who puts a command on a schedule has declared that it may run again at any time, and what one run does,
    the next one does anew. Guarantee: while both know the same `lock`, it does not run at the same time as the scheduled job.
    Non-guarantees: what the job changes is not undone by `revert`; after a crash in the middle it is `unknown` whether it ran.
    """

    kind: ClassVar[str] = "jobs.rerun"
    promise: ClassVar[Promise] = Promise.ONCE

    name: str
    argv: tuple[str, ...] = Field(min_length=1)
    cwd: AbsolutePath
    env: tuple[tuple[str, str], ...] = ()
    """Added to the allow-listed environment; stands in the journal, so it is no place for secrets."""
    timeout: TimeSpan
    lock: AbsolutePath | None = None
    """The file that is locked while the job runs; none for a job that the host does not run by schedule."""

    def reversibility(self, context: EffectContext) -> Reversibility:
        return Reversibility.DISPOSABLE

    def touches(self) -> Touches:
        return Touches(argv=self.argv)

    def describe(self) -> str:
        return f"rerun the job {printable(self.name)}: {printable(' '.join(self.argv))} in {shown(self.cwd)}"

    async def prepare(self, context: EffectContext) -> RerunPrepared:
        if not os.path.isdir(self.cwd):
            raise EffectError(f"the job's folder {shown(self.cwd)} is gone; restore it, or change the job's cwd")
        return RerunPrepared()

    async def apply(self, context: EffectContext, prepared: RerunPrepared) -> RerunOutput:
        clock = context.clock
        async with running_alone(self.lock, clock, until=context.deadline):
            begin, started = clock.monotonic(), epoch_ms(clock.now())
            try:
                done = await context.run(
                    self.argv,
                    cwd=self.cwd,
                    env=dict(self.env),
                    timeout=min(self.timeout.total_seconds(), max(0.0, context.deadline - begin)),
                )
            except ProcessError as error:
                why, took = capped(wellformed(str(error)), _SAID_CAP), round((clock.monotonic() - begin) * 1000)
                return RerunOutput(exit_code=None, error=why, started_at=started, duration_ms=took)
        said = wellformed(ending(done.stderr or done.stdout, _SAID_CAP))
        return RerunOutput(exit_code=done.exit_code, said=said, started_at=started, duration_ms=done.duration_ms)

    async def probe(self, context: EffectContext, prepared: RerunPrepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: RerunPrepared, output: RerunOutput | None) -> None:
        """Nothing to undo: see the class."""


@contextlib.asynccontextmanager
async def running_alone(lock: Path | None, clock: Clock, *, until: float) -> AsyncIterator[None]:
    """
    Hold a job's lock (`flock` on the file `lock`, made if missing; nothing without one), waiting for it until `until` on the
    monotonic clock. The kernel lets go of it when this process ends.

    Raises:
        EffectError: somebody else held it all the time, or it can't be opened; the job was not started here.

    """
    if lock is None:
        yield
        return
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EffectError(f"the job's lock {shown(lock)} can't be opened: {error.strerror}; the job was not started") from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() >= until:
                    raise EffectError("the job is still running elsewhere on this host; it was not started a second time") from None
            await clock.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)
