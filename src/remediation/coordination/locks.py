"""The locks of host instances: `flock` on a file of their own, which their children inherit."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class HostLock:
    """Held by one host instance from start to end; `alive` tells others whether it still is."""

    def __init__(self, folder: Path, instance: str) -> None:
        self.path = folder / f"host-{instance}.lock"
        while True:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if _same(self.descriptor, self.path):
                return
            os.close(self.descriptor)  # `alive` met the file before it was locked, and removed it

    def release(self) -> None:
        """Give it back; the file goes too."""
        if self.descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            os.close(self.descriptor)
            self.descriptor = -1


def alive(path: Path) -> bool:
    """
    Whether some process holds the host lock file `path`: the host, or a child that inherited it.

    A file that nobody holds is removed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        if _same(descriptor, path):
            os.unlink(path)
        return False
    finally:
        os.close(descriptor)


def _same(descriptor: int, path: Path) -> bool:
    """Whether `path` is the file that `descriptor` has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
