"""The records of a job's runs: a small file in the sentinel's own folder, and a cache only."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

KEPT = 50
_FILE = "runs.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run; times in milliseconds since 1970 UTC."""

    started: int
    duration: int
    exit_code: int | None
    """`None`: it could not be started, or overran its time."""


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a job's runs."""

    seen: int = 0
    """When the host first saw the job; 0 for never."""
    runs: tuple[Run, ...] = field(default=())
    """Oldest first, at most `KEPT`."""

    def with_run(self, run: Run) -> History:
        """The same history and one more run."""
        return replace(self, seen=self.seen or run.started, runs=(*self.runs, run)[-KEPT:])


def load(folder: Path) -> History:
    """The history in `folder`; an empty one where there is none that can be read."""
    try:
        stored = json.loads((folder / _FILE).read_bytes())
        if stored["v"] != _VERSION:
            return History()
        return History(int(stored["seen"]), tuple(_run(row) for row in stored["runs"]))
    except (OSError, ValueError, KeyError, TypeError):
        return History()


def _run(row: object) -> Run:
    match row:
        case [int(started), int(duration), (int() | None) as exit_code]:
            return Run(started, duration, exit_code)
    raise ValueError("not the record of a run")


def store(folder: Path, history: History) -> None:
    """Keep `history` in `folder`: all of it or, when this process or the machine dies, what was there before."""
    runs = [[run.started, run.duration, run.exit_code] for run in history.runs]
    data = json.dumps({"v": _VERSION, "seen": history.seen, "runs": runs}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{_FILE}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / _FILE)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
