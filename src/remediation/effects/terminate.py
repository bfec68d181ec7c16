"""Ending a process."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import psutil
from pydantic import BeforeValidator, Field

from remediation.coordination.processes import readable
from remediation.effects.fields import BigInteger, TimeSpan
from remediation.effects.units import unit_name
from remediation.errors import EffectConflict, EffectError, EffectRefused
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Reversibility
from remediation.model.text import capped, printable
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, Touches

_TOLERANCE_MS = 20
"""Two of the kernel's clock ticks, in which start times are counted."""
_PF_KTHREAD = 0x00200000
"""The flag of kernel threads; include/linux/sched.h."""
_KILL_SECONDS = 10.0
"""How long a process may take to vanish after SIGKILL, at most what is left of the stage."""


def _milliseconds(value: Any) -> Any:
    return round(value * 1000) if isinstance(value, float) else value


StartTime = Annotated[int, BeforeValidator(_milliseconds)]


class TerminatePrepared(Prepared):
    """Which process it is, in terms that no change of the clock touches."""

    alive: bool
    ticks: BigInteger = 0
    """Its start, in clock ticks since boot."""
    boot: str = ""
    namespace: str = ""
    """The pid namespace in which the pid means something."""
    name: str = ""
    """For people."""


class TerminateOutput(Output):
    """The signal that ended it; empty if it was gone already."""

    signal: str


class TerminateProcess(Effect[TerminatePrepared, TerminateOutput]):
    """
    End one process: SIGTERM, then SIGKILL after `grace`. Its children are not touched.

    The process is recognised by pid and start time, and signalled through a pidfd: another process that was given the pid is never
    hit. It can't be brought back: `disposable` if the operator declared its unit or its command so, else `irreversible`.
    """

    kind: ClassVar[str] = "process.terminate"
    promise: ClassVar[Promise] = Promise.STATE

    pid: int = Field(ge=1, lt=2**31)
    start_time: StartTime
    """Milliseconds since 1970 UTC; a float is taken for the seconds of ``psutil.Process.create_time()``."""
    grace: TimeSpan = timedelta(seconds=10)
    """Between SIGTERM and SIGKILL."""
    unit: str = ""
    """The systemd unit that it must belong to, so that the unit's declaration covers it."""
    argv: tuple[str, ...] = ()
    """Words that its command line must begin with, so that their declaration covers it."""

    @classmethod
    def of(cls, pid: int, **fields: Any) -> Self:
        """
        The effect that ends the process which has `pid` now.

        Raises:
            EffectConflict: there is none.

        """
        try:
            return cls(pid=pid, start_time=psutil.Process(pid).create_time(), **fields)
        except psutil.NoSuchProcess as error:
            raise EffectConflict(f"there is no process {pid}") from error

    def reversibility(self, context: EffectContext) -> Reversibility:
        covered = context.disposable.covers(self.touches())
        return Reversibility.DISPOSABLE if covered else Reversibility.IRREVERSIBLE

    def touches(self) -> Touches:
        return Touches(argv=self.argv, units=(unit_name(self.unit),) if self.unit else ())

    def describe(self) -> str:
        what = f" of {printable(self.unit)}" if self.unit else ""
        started = timestamp(from_epoch_ms(self.start_time))
        return f"end process {self.pid}{what} (started {started}): SIGTERM, SIGKILL after {self.grace.total_seconds():g} s"

    def diff(self, prepared: TerminatePrepared, context: EffectContext) -> str:
        return f"ends {printable(prepared.name)!r}\n" if prepared.alive else "the process is gone already\n"

    async def prepare(self, context: EffectContext) -> TerminatePrepared:
        if self.pid in {1, os.getpid(), os.getppid()}:
            raise EffectRefused(f"process {self.pid} is init, this host or its parent; no runbook may end those")
        ticks = _ticks(self.pid)
        if ticks is None or not self._started_then():
            return TerminatePrepared(alive=False)
        name = self._checked()
        return TerminatePrepared(alive=True, ticks=ticks, boot=_boot(), namespace=_namespace(), name=name)

    async def apply(self, context: EffectContext, prepared: TerminatePrepared) -> TerminateOutput:
        if await self.probe(context, prepared) is Probe.UNKNOWN:
            raise EffectConflict(f"pid {self.pid} was seen in another pid namespace; nothing was ended, make a new plan")
        if not prepared.alive:
            return TerminateOutput(signal="")
        left = context.deadline - context.clock.monotonic()
        if left <= 0:
            raise EffectError(f"the deadline passed before process {self.pid} was ended; nothing was changed")
        with _handle(self.pid) as handle:
            # Asked again now that the handle is open: from here on it can mean no other process.
            if handle is None or self._gone(prepared):
                return TerminateOutput(signal="")
            for number, seconds in ((signal.SIGTERM, self.grace.total_seconds()), (signal.SIGKILL, _KILL_SECONDS)):
                if not self._send(handle, number):
                    return TerminateOutput(signal="")
                left = context.deadline - context.clock.monotonic()
                if await readable(handle, max(0.0, min(seconds, left))):
                    return TerminateOutput(signal=number.name)
        raise EffectError(f"process {self.pid} did not end, even after SIGKILL; it may hang in the kernel, look at its state")

    async def probe(self, context: EffectContext, prepared: TerminatePrepared) -> Probe:
        if not prepared.alive:
            return Probe.APPLIED
        if prepared.boot == _boot() and prepared.namespace != _namespace():
            return Probe.UNKNOWN
        return Probe.APPLIED if self._gone(prepared) else Probe.NOT_APPLIED

    def already(self, prepared: TerminatePrepared) -> bool:
        return not prepared.alive

    async def revert(self, context: EffectContext, prepared: TerminatePrepared, output: TerminateOutput | None) -> None:
        if prepared.alive and await self.probe(context, prepared) is not Probe.NOT_APPLIED:
            raise EffectError(f"process {self.pid} ({printable(prepared.name)!r}) can't be brought back; start its service again")

    def _started_then(self) -> bool:
        try:
            started = round(psutil.Process(self.pid).create_time() * 1000)
        except psutil.NoSuchProcess:
            return False
        return abs(started - self.start_time) <= _TOLERANCE_MS

    def _gone(self, prepared: TerminatePrepared) -> bool:
        return prepared.boot != _boot() or _ticks(self.pid) != prepared.ticks

    def _checked(self) -> str:
        """Refuse what is not the process that the author means; its name."""
        try:
            process = psutil.Process(self.pid)
            argv, name = process.cmdline(), process.name()
            status = Path(f"/proc/{self.pid}/status").read_text("utf-8", "replace")
        except (psutil.Error, OSError) as error:
            raise EffectConflict(f"process {self.pid} can't be examined: {error}") from error
        if f"\nTgid:\t{self.pid}\n" not in status:
            raise EffectRefused(f"{self.pid} is a thread of another process; no runbook may end it")
        if _kernel_thread(self.pid):
            raise EffectRefused(f"process {self.pid} ({printable(name)!r}) belongs to the kernel; no runbook may end it")
        if tuple(argv[: len(self.argv)]) != self.argv:
            raise EffectConflict(f"the command line of process {self.pid} does not begin with the words given as argv")
        if self.unit and unit_name(self.unit) not in _units(self.pid):
            raise EffectConflict(f"process {self.pid} does not belong to the unit {printable(self.unit)!r}")
        return capped(name, 64)

    def _send(self, handle: int, number: signal.Signals) -> bool:
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise EffectError(
                f"process {self.pid} can't be signalled: {error.strerror}; the host's user may not do that"
            ) from error
        return True


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int | None]:
    """A pidfd, or `None` if there is no such process."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.ESRCH:
            yield None
            return
        raise EffectError(
            f"process {pid} can't be held on to ({error.strerror}); ending it safely needs Linux 5.3 and permission for pidfd_open"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on, `None` if there is no such process. See proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


def _ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (field 22); `None` if it is gone or a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in (b"Z", b"X") else int(fields[19])


def _kernel_thread(pid: int) -> bool:
    fields = _stat(pid)
    return fields is not None and bool(int(fields[6]) & _PF_KTHREAD)


def _units(pid: int) -> frozenset[str]:
    """The units whose control group holds the process, slices included. cgroups(7), "/proc files"."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    return frozenset(part for line in text.splitlines() for part in line.split(":", 2)[-1].split("/") if part)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")
