"""Where a command's product goes: a file that appears under its name when it is whole, or standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from remediation.cli import output

_CHUNK = 1 << 16

Write = Callable[[bytes], object]


@contextlib.contextmanager
def sink(out: Path | None) -> Iterator[Write]:
    """Standard output, or the file `out`; what the block writes is there in whole, or not at all."""
    with standard_output() if out is None else whole_file(out) as write:
        yield write


@contextlib.contextmanager
def whole_file(out: Path, *, mode: int = 0o600) -> Iterator[Write]:
    """
    A file that is written beside `out`, made durable, and renamed to it when the block ends; it replaces what was there.

    When the block fails, or the process is killed, `out` is as it was before; killed, it leaves a file with a name like
    ``.out.4711`` behind. Links are replaced, not followed. Ends the command if it can't be written.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, out)
        _sync(out.parent)
    except OSError as error:
        output.fail(f"{out} can't be written: {error.strerror}")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


@contextlib.contextmanager
def standard_output() -> Iterator[Write]:
    """Standard output, byte by byte; ends the command when nobody reads, or when it can't be written."""
    if sys.stdout is None:  # the shell closed it: `>&-`
        output.fail("standard output is closed; name a file with --out")
    output.flush()
    descriptor = sys.stdout.fileno()
    buffer = bytearray()

    def write(data: bytes) -> None:
        buffer.extend(data)
        if len(buffer) >= _CHUNK:
            _drain(descriptor, buffer)

    yield write
    _drain(descriptor, buffer)


def _drain(descriptor: int, buffer: bytearray) -> None:
    # Past Python's own buffer, which would complain again at exit about what could not be written.
    try:
        while buffer:
            del buffer[: os.write(descriptor, buffer)]
    except BrokenPipeError:
        _nobody_reads()
    except OSError as error:
        output.fail(f"standard output can't be written: {error.strerror}")


def _nobody_reads() -> NoReturn:
    """As a program that SIGPIPE ends: quietly."""
    import typer

    raise typer.Exit(output.ExitCode.NOBODY_READS)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
