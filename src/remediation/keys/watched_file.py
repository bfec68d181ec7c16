"""A file that was read, and whether it is still the one at its path."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class WatchedFile:
    """
    Holds the file open: as long as it does, no other file gets its inode number, so that a replaced file always looks replaced.

    Non-guarantee: a change in place that leaves size and time of modification as they were is not seen.
    """

    def __init__(self, descriptor: int, content: bytes) -> None:
        self._descriptor = descriptor
        self._state = _state(os.fstat(descriptor))
        self._content = content

    @classmethod
    def at(cls, path: Path, most: int) -> WatchedFile | None:
        """
        The file at `path`, at most `most` bytes of it and one more; `None` if there is none. Links are not followed.

        Raises:
            OSError: it can't be read.

        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            with open(descriptor, "rb", closefd=False) as file:
                return cls(descriptor, file.read(most + 1))
        except BaseException:
            os.close(descriptor)
            raise

    def take(self) -> bytes:
        """What was read; it is not kept."""
        content, self._content = self._content, b""
        return content

    def still_at(self, path: Path) -> bool:
        """Whether this file is the one at `path`, unchanged."""
        try:
            return _state(os.stat(path, follow_symlinks=False)) == self._state
        except OSError:
            return False

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
