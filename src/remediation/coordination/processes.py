"""Child processes whose life is bounded: own process group, inherited locks, no standard input, bounded output, certain end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from remediation.errors import ProcessError
from remediation.model.text import printable, wellformed
from remediation.ports.effect import Completed

OUTPUT_CAP = 1024 * 1024
GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The allow-listed part of this process's environment, and `extra`. Nothing else reaches children, secrets least of all."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment.update(extra or {})
    return environment


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
    Run `argv` to its end and return what it said.

    The child leads a process group of its own and inherits the descriptors `inherit` (lock files). At `timeout` (seconds), when the
    caller is cancelled, and for what is left of the group after the child's exit: SIGTERM to the group, then SIGKILL. Start daemons
    through a service manager. Children that leave the group are not ended; they are outside the promise.

    Args:
        env: Added to the allow-listed environment.
        started: Called with the child's pid right after its start.

    Raises:
        ProcessError: it could not be started, or was ended at the timeout; the message holds the end of its output.

    """
    begin = time.monotonic()
    shown = printable(" ".join(argv))
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=clean_environment(env),
            start_new_session=True,
            pass_fds=tuple(inherit),
        )
    except (OSError, ValueError) as error:
        raise ProcessError(f"can't start {shown!r}: {error}") from error
    if started:
        started(process.pid)
    assert process.stdout is not None  # noqa: S101 - for the type checker: asked for as pipes
    assert process.stderr is not None  # noqa: S101
    out, err = _Collector(process.stdout), _Collector(process.stderr)
    readers = [asyncio.ensure_future(out.read()), asyncio.ensure_future(err.read())]
    if stdin is not None and process.stdin is not None:
        readers.append(asyncio.ensure_future(_feed(process.stdin, stdin)))
    timed_out = False
    try:
        try:
            await asyncio.wait_for(process.wait(), timeout)
        except TimeoutError:
            timed_out = True
    finally:
        # Shielded so that a cancelled caller still leaves no process behind.
        await asyncio.shield(asyncio.ensure_future(_end_group(process)))
        done, pending = await asyncio.shield(asyncio.wait(readers, timeout=1.0))
        for task in pending:
            task.cancel()
        for task in done:
            task.exception()
    if timed_out:
        tail = printable((err.text() or out.text())[-300:])
        raise ProcessError(f"{shown!r} was ended after {timeout:g} s; it last said: {tail!r}")
    return Completed(
        argv=tuple(wellformed(part) for part in argv),
        exit_code=process.returncode if process.returncode is not None else -1,
        stdout=out.text(),
        stderr=err.text(),
        duration_ms=round((time.monotonic() - begin) * 1000),
    )


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()


async def _end_group(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
    elif _signal_group(process.pid, signal.SIGTERM):
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and _signal_group(process.pid, 0):
            await asyncio.sleep(0.02)
    _signal_group(process.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Whether the group still had members. Its id can't be reused while it has any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class _Collector:
    """Keeps the first and last halves of at most OUTPUT_CAP bytes; reads on so that the child never blocks."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    async def read(self) -> None:
        half = OUTPUT_CAP // 2
        while chunk := await self._stream.read(64 * 1024):
            room = half - len(self._head)
            self._head += chunk[:room] if room > 0 else b""
            self._tail += chunk[max(room, 0) :]
            if len(self._tail) > 2 * half:
                self._dropped += len(self._tail) - half
                del self._tail[:-half]

    def text(self) -> str:
        head, tail = bytes(self._head), bytes(self._tail)
        if self._dropped:
            return (
                f"{head.decode('utf-8', 'replace')}\n… [{self._dropped} bytes cut]\n{tail.decode('utf-8', 'replace')}"
            )
        return (head + tail).decode("utf-8", "replace")
