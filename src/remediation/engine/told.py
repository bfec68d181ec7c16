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

    Non-guarantee: it is written without waiting for the disk. After a power cut it may be older than it was, or gone: then notices are
    sent twice, or what is held is told again.
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

    def write(self, position: int) -> None:
        """Keep `position`. A failure is no error: the older one stands."""
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            unfinished.write_text(json.dumps({"format": FORMAT, "origin": self._origin, "position": position}), "utf-8")
            os.replace(unfinished, self._path)
