"""
Tells while it happens that the event loop is blocked, by what, and leaves a note of it for the next start.

A loop that is blocked can neither log nor journal. So a thread watches it; what it finds out is logged at once, and a step that blocks is
noted in a file: a host that has to be ended because of it is not to call that runbook again when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from remediation.engine.conduct import Conduct

PACE = 0.25
"""Seconds between two looks."""
LIMIT = 2.0
"""Seconds without a turn of the loop from which on it counts as blocked."""
_FRAMES = 12


@dataclass(frozen=True, slots=True)
class Blocked:
    """A step that blocks the event loop."""

    runbook: str
    step: str
    incident: str
    seconds: float
    stack: tuple[str, ...]
    """Innermost last: file, line and function; never a value."""


class LoopWatch:
    """The watch over the running event loop, from `begin` to `end`."""

    def __init__(self, conduct: Conduct, note: Path) -> None:
        self._conduct = conduct
        self._note = note
        self._turned = time.monotonic()
        self._ended = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = 0
        self._log = structlog.get_logger("remediation.host")

    def begin(self) -> None:
        """Watch the running loop, which is that of the calling thread."""
        self._thread = threading.get_ident()
        self._turn()
        threading.Thread(target=self._watch, name="loop watch", daemon=True).start()

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        self._note.unlink(missing_ok=True)

    def _turn(self) -> None:
        self._turned = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(PACE, self._turn)

    def _watch(self) -> None:
        looked = time.monotonic()
        told = LIMIT
        while not self._ended.wait(PACE):
            before, looked = looked, time.monotonic()
            if looked - before > 4 * PACE:
                # This thread was kept from running as well: the process was stopped, or the machine is overloaded.
                self._turned = max(self._turned, looked - PACE)
            blocked = looked - self._turned
            if blocked > told:
                self._tell(blocked)
                told = 2 * blocked
            elif blocked <= LIMIT and told > LIMIT:
                told = LIMIT
                self._log.warning("the event loop turns again")
                with contextlib.suppress(OSError):
                    self._note.unlink(missing_ok=True)

    def _tell(self, seconds: float) -> None:
        stack = stack_of(self._thread)
        executing = self._conduct.executing
        named = {}
        if executing is not None:
            scope, _ = executing
            named = {"runbook": scope.runbook, "step": scope.step, "incident": scope.incident}
            with contextlib.suppress(OSError):
                _leave(self._note, Blocked(**named, seconds=round(seconds, 1), stack=stack))
        self._log.critical("the event loop is blocked", seconds=round(seconds, 1), stack=" > ".join(stack), **named)


def stack_of(thread: int) -> tuple[str, ...]:
    """Where a thread is: ``file:line function`` of its frames, the innermost last."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to another thread's frames
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        frame = frame.f_back
    return tuple(reversed(found))


def _leave(path: Path, blocked: Blocked) -> None:
    temporary = path.with_name(f".{path.name}.{path.stem}")
    temporary.write_text(json.dumps(asdict(blocked)), "ascii")
    os.rename(temporary, path)


def notes_in(folder: Path) -> Sequence[tuple[Path, Blocked | None]]:
    """The notes that hosts left behind; `None` for one that can't be read."""
    found: list[tuple[Path, Blocked | None]] = []
    for path in sorted(folder.glob("*.blocked")):
        try:
            known = json.loads(path.read_bytes())
            known["stack"] = tuple(str(line) for line in known["stack"])
            blocked: Blocked | None = Blocked(**known)
        except (OSError, ValueError, TypeError, KeyError):
            blocked = None
        found.append((path, blocked))
    return found
