"""The context itself."""

from __future__ import annotations

import glob
import itertools
import os
import stat as stat_module
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import structlog

from remediation.context.given import Facts, IncidentView, PriorAttempt, Services
from remediation.context.validity import only_while_valid
from remediation.errors import ContextSealed, OutsideRoots
from remediation.model.events import DegradationEvent
from remediation.model.plan import BlobRef, PlanRecord, Receipt
from remediation.model.runbook import Finding, Verdict
from remediation.ports.effect import Completed, Touches

READ_CAP = 16 * 1024 * 1024


@only_while_valid(but=("seal", "advance"))
class RemediationContext:
    """
    A capability for one attempt, valid for that attempt, in this process, until its deadline; used after, it raises.

    It only reads: all mutation is in the effects of the plan that `action` returns. That is a contract for authors, held up by review
    and by what the helpers offer; it is not a sandbox, because a runbook is Python code of this process.
    """

    def __init__(
        self,
        event: DegradationEvent,
        incident: IncidentView,
        runbook: str,
        options: Any,
        services: Services,
        facts: Facts,
        bound: Mapping[str, str],
    ) -> None:
        self._event = event
        self._incident = incident
        self._runbook = runbook
        self._options = options
        self._services = services
        self._facts = facts
        self._bound = bound
        self._pid = os.getpid()
        self._sealed = ""

    @property
    def event(self) -> DegradationEvent:
        """The degradation that opened the incident."""
        return self._event

    @property
    def incident(self) -> IncidentView:
        """The incident."""
        return self._incident

    @property
    def options(self) -> Any:
        """The runbook's options, as its options model."""
        return self._options

    @property
    def attempts(self) -> tuple[PriorAttempt, ...]:
        """Finished attempts at this fingerprint, newest first, also of earlier incidents."""
        return self._facts.attempts

    @property
    def finding(self) -> Finding | None:
        """What the precondition found; `None` inside it."""
        return self._facts.finding

    @property
    def plan(self) -> PlanRecord | None:
        """The newest recorded plan of this attempt."""
        return self._facts.plan

    @property
    def stage(self) -> int:
        """The stage that is being decided, from 0."""
        return self._facts.stage

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What became of all effects of this attempt so far, in order."""
        return self._facts.receipts

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Verdicts of this attempt so far."""
        return self._facts.verdicts

    @property
    def cleared(self) -> bool:
        """Whether the reporter said, after this attempt's last effect, that it no longer sees the degradation."""
        return self._facts.cleared_at > self._facts.last_effect_at > 0

    @property
    def last_effect_at(self) -> int:
        """When this attempt's last effect was applied, in milliseconds since 1970 UTC; 0 before."""
        return self._facts.last_effect_at

    @property
    def deadline(self) -> float:
        """When the running step is cancelled, in `time.monotonic` seconds."""
        return self._facts.deadline

    @property
    def seconds_left(self) -> float:
        """Seconds until the running step is cancelled."""
        return max(0.0, self._facts.deadline - time.monotonic())

    @property
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """A logger that carries incident, runbook and attempt."""
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("remediation.runbooks")
        return logger.bind(**self._bound)

    def now(self) -> datetime:
        """The host's wall clock, in UTC."""
        return self._services.clock.now()

    def subject_path(self) -> Path:
        """
        The event's subject as a path inside the allowed roots.

        Raises:
            OutsideRoots: it is not; left uncaught, the runbook declines with that reason.

        """
        return self.confined(self._event.subject)

    def confined(self, path: str | os.PathLike[str]) -> Path:
        """
        `path`, if it lies inside the allowed roots and no link is on the way.

        Raises:
            OutsideRoots: otherwise.

        """
        return self._services.roots.check(path)

    def may_change(self, path: str | os.PathLike[str]) -> bool:
        """Whether `confined` would accept `path`."""
        try:
            self.confined(path)
        except OutsideRoots:
            return False
        return True

    async def read_bytes(self, path: str | os.PathLike[str], *, limit: int = READ_CAP) -> bytes:
        """
        The content of a regular file (links are followed), at most `limit` bytes.

        Raises:
            OSError: missing, unreadable, not a regular file, or larger than `limit`.

        """
        return await anyio.to_thread.run_sync(_read, Path(path), limit)

    async def read_text(self, path: str | os.PathLike[str], *, limit: int = READ_CAP) -> str:
        """Like `read_bytes`, decoded as UTF-8 with undecodable bytes replaced."""
        return (await self.read_bytes(path, limit=limit)).decode("utf-8", "replace")

    async def exists(self, path: str | os.PathLike[str]) -> bool:
        """Whether something (a dangling link too) is at `path`."""
        return os.path.lexists(path)

    async def stat(self, path: str | os.PathLike[str]) -> os.stat_result | None:
        """`lstat` of `path`, or `None` where there is nothing."""
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    async def glob(self, pattern: str, *, limit: int = 10_000) -> list[Path]:
        """Paths that match an absolute glob pattern (``**`` included), sorted, at most `limit`."""
        return await anyio.to_thread.run_sync(_glob, pattern, limit)

    def process_alive(self, pid: int) -> bool:
        """Whether a process with this pid runs now (a zombie does not)."""
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True

    def disposable_glob(self, path: str | os.PathLike[str]) -> bool:
        """Whether the operator declared `path` re-creatable."""
        return self._services.disposable.covers(Touches(destroys=(str(path),)))

    def has_control(self, name: str) -> bool:
        """Whether the host registered a control of this name."""
        return name in self._services.controls

    @property
    def scratch(self) -> Path:
        """A private folder with a quota, removed after the attempt. Made on first use."""
        return self._services.make_scratch()

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float | None = None,
    ) -> Completed:
        """
        Run a command that only computes, in `cwd` (default: scratch), until `timeout` (seconds; default: what is left of the step).

        Raises:
            ProcessError: it could not be started, or was ended at its deadline.

        """
        left = self.seconds_left
        return await self._services.run(
            argv,
            cwd=cwd if cwd is not None else self._services.make_scratch(),
            env=env,
            stdin=stdin,
            timeout=left if timeout is None else min(timeout, left),
        )

    async def keep(self, path: str | os.PathLike[str]) -> BlobRef:
        """Store a file's content durably, for effects whose content is too large for a plan."""
        return await self._services.blobs.put_file(Path(path))

    def secret(self, name: str) -> str:
        """
        The value of a declared credential; its use is journaled by name.

        Raises:
            CredentialRefused: not declared in the spec, or not in the vault.

        """
        return self._services.secret(name)

    def seal(self, why: str) -> None:
        """End this context's validity; every later use raises with `why`."""
        self._sealed = self._sealed or why

    def advance(self, **facts: Any) -> None:
        """Replace recorded facts between two steps."""
        for name, value in facts.items():
            setattr(self._facts, name, value)

    def _alive(self) -> None:
        if self._sealed:
            raise ContextSealed(f"the context of {self._runbook} was used after {self._sealed}; keep no reference to it")
        if os.getpid() != self._pid:
            raise ContextSealed(f"the context of {self._runbook} was used in another process; pass values, not the context")
        if self._facts.deadline and time.monotonic() > self._facts.deadline:
            raise ContextSealed(f"the context of {self._runbook} was used past its step's deadline")

    def __getstate__(self) -> Any:
        raise ContextSealed("a context can't be pickled; pass values, not the context")


def _read(path: Path, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"{path} is larger than {limit} bytes; read it with a command in scratch")
    return data


def _glob(pattern: str, limit: int) -> list[Path]:
    return sorted(Path(item) for item in itertools.islice(glob.iglob(pattern, recursive=True), limit))
