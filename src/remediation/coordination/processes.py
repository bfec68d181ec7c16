"""Child processes whose life is bounded: own process group, inherited locks, no standard input, bounded output, certain end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import anyio

from remediation.errors import ProcessError
from remediation.model.text import ending, printable, wellformed
from remediation.ports.effect import Completed

OUTPUT_CAP = 1024 * 1024
"""Bytes of standard output and of standard error that are kept: the first and the last half of it."""
GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
_LATE = 1.0
"""Seconds to wait for the end of the output when the group is gone: somebody outside it may hold the pipe for ever."""
_POLL = 0.02
_TAKEN = 1 << 16
"""No exit status: stands for one that somebody else took."""
_ours: set[int] = set()
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The allow-listed part of this process's environment, and `extra`. Nothing else reaches children, secrets least of all."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment.update(extra or {})
    return environment


def ours() -> frozenset[int]:
    """Pids of the children that `run_process` has started and not yet seen to their end."""
    return frozenset(_ours)


async def run_process(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    inherit: Sequence[int] = (),
    started: Callable[[int], None] | None = None,
) -> Completed:
    """
    Run a command to its end and return what it said.

    The child leads a session and process group of its own. At the timeout, when the caller is cancelled, and for what is left of the
    group after the child's exit: SIGTERM to the group, then SIGKILL. This returns or raises only when the child is gone, whoever
    cancels it how often. Start daemons through a service manager: children that leave the group are not ended, and are outside the
    promise.

    Args:
        argv: The program, looked up on PATH, and its arguments; no shell.
        timeout: Seconds.
        cwd: The folder it runs in; the host's own by default.
        env: Added to the allow-listed environment.
        stdin: What it can read; nothing by default.
        inherit: Descriptors that it inherits under their numbers: lock files.
        started: Called with the child's pid right after its start.

    Raises:
        ProcessError: it could not be started, or was ended at the timeout; the message holds the command and the end of its output.

    """
    begin = time.monotonic()
    shown = printable(wellformed(" ".join(argv)))
    with _input(stdin) as source:
        try:
            child = subprocess.Popen(  # noqa: ASYNC220 - returns at the exec; asyncio's own call blocks for as long
                argv,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=clean_environment(env),
                start_new_session=True,
                pass_fds=tuple(inherit),
            )
        except (OSError, ValueError) as error:
            raise ProcessError(f"can't start {shown!r}: {error}") from error
    out, err = _Output(), _Output()
    in_time = False
    _ours.add(child.pid)
    try:
        if started:
            started(child.pid)
        await out.read(child.stdout)
        await err.read(child.stderr)
        in_time = await _exits(child.pid, timeout)
    finally:
        try:
            await _certainly(_end(child, in_time, out, err))
        finally:
            _ours.discard(child.pid)
    if child.returncode == _TAKEN:
        raise ProcessError(
            f"{shown!r} ended, but how is not known: other code of this process took its exit status; "
            "let nothing in the host wait for children that it did not start, or ignore SIGCHLD"
        )
    if not in_time:
        tail = printable(ending(err.text() or out.text(), 300))
        raise ProcessError(f"{shown!r} was ended after {timeout:g} s; it last said: {tail!r}")
    return Completed(
        argv=tuple(wellformed(part) for part in argv),
        exit_code=child.returncode,
        stdout=out.text(),
        stderr=err.text(),
        duration_ms=round((time.monotonic() - begin) * 1000),
    )


@contextlib.contextmanager
def _input(data: bytes | None) -> Iterator[int]:
    """A descriptor to read `data` from. A file, not a pipe: nothing has to feed it, and nobody waits for it."""
    if data is None:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


async def _exits(pid: int, timeout: float) -> bool:
    """Whether the child exits within `timeout` seconds. It stays a zombie, so that its pid and group can't be reused yet."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:  # a kernel before 5.3, or a sandbox that forbids the call
        deadline = time.monotonic() + timeout
        with contextlib.suppress(ChildProcessError):
            while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:  # noqa: ASYNC222 - WNOHANG
                if time.monotonic() >= deadline:
                    return False
                await asyncio.sleep(_POLL)
        return True
    try:
        return await readable(watched, timeout)
    finally:
        os.close(watched)


async def readable(descriptor: int, timeout: float) -> bool:
    """Whether `descriptor` can be read within `timeout` seconds; a pidfd can once its process has exited."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except TimeoutError:
        look = select.poll()  # select() knows no descriptor from 1024 on, and a host may have more files open
        look.register(descriptor, select.POLLIN)
        return bool(look.poll(0))
    finally:
        loop.remove_reader(descriptor)
    return True


async def _end(child: subprocess.Popen[bytes], exited: bool, out: _Output, err: _Output) -> None:
    # Until it is reaped, the child's number names this group and no other: SIGTERM can't meet a stranger.
    _signal_group(child.pid, signal.SIGTERM)
    if not exited and not await _exits(child.pid, GRACE):
        _signal_group(child.pid, signal.SIGKILL)
        while not await _exits(child.pid, 60.0):
            continue  # uninterruptible in the kernel: it must not be said to be gone
    _reap(child)
    deadline = time.monotonic() + GRACE
    # Members that are left keep the group's number from being given away.
    while _signal_group(child.pid, 0) and _running(child.pid):
        if time.monotonic() >= deadline:
            _signal_group(child.pid, signal.SIGKILL)
            break
        await asyncio.sleep(_POLL)
    await asyncio.gather(out.finish(), err.finish())


def _reap(child: subprocess.Popen[bytes]) -> None:
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        child.returncode = _TAKEN  # Popen itself would say 0: success
    else:
        child.wait()


def _signal_group(group: int, number: int) -> bool:
    """Whether the group still had members."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _running(group: int) -> bool:
    """Whether a member of the group still runs: in a container whose first process reaps nobody, dead members stay listed for ever."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                # proc_pid_stat(5): pid (comm) state ppid pgrp …; comm may hold spaces and parentheses.
                state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
                if int(its_group) == group and state not in b"ZX":
                    return True
    return False


async def _certainly(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end, whatever cancels the caller meanwhile, and however often; then be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled = False
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


class _Output(asyncio.Protocol):
    """Keeps the first and last halves of OUTPUT_CAP bytes; reads on, so that the child never blocks."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._closed = asyncio.Event()
        self._pipe: IO[bytes] | None = None
        self._transport: asyncio.ReadTransport | None = None

    async def read(self, pipe: IO[bytes] | None) -> None:
        """Begin to read `pipe`."""
        self._pipe = pipe
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, pipe)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        half = OUTPUT_CAP // 2
        room = max(0, half - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * half:
            self._dropped += len(self._tail) - half
            del self._tail[:-half]

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()

    async def finish(self) -> None:
        """Wait for the end of the output, not for ever, and close the pipe."""
        if self._transport is None:
            if self._pipe is not None:
                self._pipe.close()
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), _LATE)
        self._transport.close()
        await self._closed.wait()

    def text(self) -> str:
        """What was kept, and how much was not."""
        if not self._dropped:
            return (self._head + self._tail).decode("utf-8", "replace")
        tail = self._tail[-(OUTPUT_CAP // 2) :]
        dropped = self._dropped + len(self._tail) - len(tail)
        return f"{self._head.decode('utf-8', 'replace')}\n… [{dropped} bytes cut]\n{tail.decode('utf-8', 'replace')}"
