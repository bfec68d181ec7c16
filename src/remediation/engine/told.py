"""How far people were told: a position in the log, kept in the home, so that a crash swallows no notice."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

FORMAT = "remediation-told/1"


class Told:
    """
    The file `path` of the log `origin`: everything up to its position was told.

    Non-guarantee: but for the first time, it is written without waiting for the disk. After a power cut it may be older than it was: then
    notices are sent twice. If it is lost, what is held is told again, and what was resolved is not.
    """

    def __init__(self, path: Path, origin: str) -> None:
        self._path = path
        self._origin = origin

    def read(self) -> int | None:
        """The position; `None` when nobody knows, also when the file is of another log."""
        try:
            found: Any = json.loads(self._path.read_text("utf-8"))
            known = found["format"] == FORMAT and found["origin"] == self._origin
            return int(found["position"]) if known else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, position: int, *, durably: bool = False) -> None:
        """Keep `position`, `durably` if wanted. A failure is no error: the older one stands."""
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            unfinished.write_text(json.dumps({"format": FORMAT, "origin": self._origin, "position": position}), "utf-8")
            if durably:
                _sync(unfinished, os.O_RDONLY)
            os.replace(unfinished, self._path)
            if durably:
                _sync(self._path.parent, os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
