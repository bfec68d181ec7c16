"""What `doctor` says of what is watched: jobs that can't be run, databases and backups that are not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from remediation.effects.sqlite.known import backups
from remediation.model.text import printable
from remediation.ports.sentinel import Sentinel
from remediation.sentinels.jobs import JobSentinel
from remediation.sentinels.sqlite import SqliteSentinel

Said = tuple[str, str]
"""What is wrong, and how to mend it. Each is a warning: a host starts all the same, and what is missing may come yet."""


def look_at_sentinels(sentinels: Sequence[Sentinel[Any]], base: Path) -> Iterator[Said]:
    """What there is to say of `sentinels`; relative paths are relative to `base`."""
    for sentinel in sentinels:
        if isinstance(sentinel, JobSentinel):
            yield from _job(sentinel, base)
        elif isinstance(sentinel, SqliteSentinel):
            yield from _database(sentinel, base)


def _job(sentinel: JobSentinel, base: Path) -> Iterator[Said]:
    options = sentinel.options
    job = f"the job {printable(options.name)}"
    cwd = Path(os.path.normpath(base / options.cwd))
    if not cwd.is_dir():
        yield f"{job} can't run: its folder {printable(str(cwd))} is not there", "make it, or set cwd"
        return
    program = options.command[0]
    # As the system looks for it: names along PATH, paths from the folder in which the job runs.
    found = shutil.which(cwd / program if "/" in program else program, path=options.env.get("PATH"))
    if found is None:
        where = "not there, or not executable" if "/" in program else "not found along the PATH that this command has"
        yield f"{job} can't run: its program {printable(program)} is {where}", "install it, or name it in full in command"


def _database(sentinel: SqliteSentinel, base: Path) -> Iterator[Said]:
    path = Path(os.path.abspath(base / sentinel.options.path))
    if not path.exists():
        yield f"the database {printable(str(path))} is not there: the host will report SQLITE_MISSING", "make it, or set path"
    for pattern in sentinel.options.backups:
        if not backups([os.path.abspath(base / pattern)], path):
            yield (
                f"no backup of {printable(str(path))} matches {printable(pattern)}: what can't be salvaged could not be restored",
                f"make one, or set backups; relative patterns begin at {base}",
            )
