"""
Asks the programs `look` and `touch` in child processes, and reads their answers.

| state | means |
|---|---|
| ``ok`` | the check found nothing |
| ``corrupt`` | SQLITE_CORRUPT, SQLITE_NOTADB, or findings of the check |
| ``missing`` | there is no file |
| ``busy`` | locked, or written all the time, for as long as the check waited |
| ``unreadable`` | permissions, a failing disk, or a schema that this SQLite does not understand: no word about damage |
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from remediation.effects.filestate import FileState
from remediation.errors import EffectError
from remediation.model.base import Frozen
from remediation.model.text import ending, printable, wellformed
from remediation.ports.effect import Completed

SUFFIXES = ("", "-wal", "-shm", "-journal")
"""The database and what SQLite keeps beside it."""
LOOK = Path(__file__).with_name("look.py")
TOUCH = Path(__file__).with_name("touch.py")
_ROOT = Path(__file__).parents[3]
_RUN_MODULE = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"
Runner = Callable[..., Awaitable[Completed]]
"""``run(argv, cwd=, timeout=)`` of a `Watch`, a `RemediationContext` or an `EffectContext`."""


SchemaEntry = tuple[str, str, str, str, int]
"""Type, name, table, SQL and root page."""


class Header(Frozen):
    """What the first 100 bytes say. Fields are missing where they make no sense."""

    size: int = 0
    """Of the file, in bytes."""
    magic: bool = False
    """Whether it begins as a SQLite database does."""
    journal_mode: str | None = None
    """``wal``, or ``delete`` for all others."""
    page_size: int | None = None
    counter: int | None = None
    """Grows with each transaction, outside of WAL mode."""
    auto_vacuum: int | None = None
    encoding: str | None = None
    user_version: int | None = None
    application_id: int | None = None


class Examination(Header):
    """What ``check`` saw."""

    state: Literal["ok", "corrupt", "missing", "busy", "unreadable"]
    reason: str
    findings: tuple[str, ...]
    rows: tuple[tuple[str, int | None], ...]
    """Ordinary tables and their row counts; `None`: can't be read to the end."""
    counted: bool
    """Whether all tables were counted (no, if it is too large or took too long)."""
    schema_entries: tuple[SchemaEntry, ...] = ()
    """Of a healthy database with a schema of at most 16,384 characters."""
    schema_version: int | None = None
    """Changes whenever the schema does; missing if `schema_entries` are."""


class FileDigest(FileState):
    """One file as ``digest`` saw it."""

    exists: bool = True
    content: str
    """SHA-256 that is not changed by a commit that changes nothing (masks the header's counters)."""
    names: int = 1
    """Hard links."""


class Written(Frozen):
    """What ``write`` did."""

    counter: int
    """The header's change counter before."""
    trial_rows: int


_DIGESTS = TypeAdapter(dict[str, FileDigest])


def side(path: Path, suffix: str) -> Path:
    """The path of a side file: `suffix` is one of `SUFFIXES`."""
    return path.with_name(path.name + suffix)


async def check(
    run: Runner,
    path: Path,
    *,
    seconds: float,
    count_below: int = 2**62,
    thorough: bool = False,
    cwd: Path | None = None,
) -> Examination:
    """
    Look at a database without leaving a trace; see `look`.

    Args:
        run: Starts children.
        path: The database.
        seconds: Bound of the counting; the child is ended two seconds and a half later.
        count_below: Rows are counted only if the file is smaller, in bytes.
        thorough: integrity_check instead of quick_check.
        cwd: Where the child runs.

    Raises:
        ProcessError, EffectError: the child overran its time, or failed.

    """
    asked = {"path": str(path), "seconds": seconds, "count_below": count_below, "thorough": thorough}
    return Examination.model_validate(await ask(run, "check", asked, timeout=seconds + 2.5, cwd=cwd))


async def header(run: Runner, path: Path, *, seconds: float) -> Header:
    """
    The header of a file that nobody's locks matter for.

    Raises:
        ProcessError, EffectError: it can't be read.

    """
    return Header.model_validate(await ask(run, "header", {"path": str(path)}, timeout=seconds))


async def write(run: Runner, path: Path, *, seconds: float) -> Written:
    """Commit a write that leaves the content as it is."""
    return Written.model_validate(await ask(run, "write", {"path": str(path)}, timeout=seconds, program=TOUCH))


async def digest(run: Runner, path: Path, *, seconds: float) -> dict[str, FileDigest]:
    """The database and its side files that exist, by suffix."""
    return _DIGESTS.validate_python(await ask(run, "digest", {"path": str(path)}, timeout=seconds, program=TOUCH))


async def lock_holders(run: Runner, path: Path, *, seconds: float = 20) -> tuple[int, ...]:
    """Pids that hold SQLite's locks on the database; 0 for one that can't be named from here (another pid namespace)."""
    return tuple((await ask(run, "locks", {"path": str(path)}, timeout=seconds))["pids"])


async def ask(
    run: Runner,
    command: str,
    asked: dict[str, Any],
    *,
    timeout: float,
    program: Path | str = LOOK,
    cwd: Path | None = None,
) -> dict[str, Any]:
    """
    One question to one child.

    Args:
        run: Starts it.
        command: Its command.
        asked: The arguments of the command.
        timeout: Seconds until it is ended.
        program: A file that imports the standard library only, or the name of a module of this package; packages on the way to it are
            imported, and must be as light.
        cwd: Where it runs.

    Raises:
        ProcessError: it could not be started, or was ended at the timeout.
        EffectError: it failed, or did not answer as it should.

    """
    how = (str(program),) if isinstance(program, Path) else ("-c", _RUN_MODULE, str(_ROOT), program)
    argv = (sys.executable, "-I", "-S", *how, command, json.dumps(asked))
    done = await (run(argv, timeout=timeout) if cwd is None else run(argv, timeout=timeout, cwd=cwd))
    if done.exit_code == 0:
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    told = printable(ending(wellformed((done.stderr or done.stdout).strip()), 500))
    raise EffectError(f"looking at {printable(asked.get('path', ''))} ({command}) failed with exit code {done.exit_code}: {told}")
