"""
The writer lock: one writer at a time, over all processes of a machine.

`journal.lock` is a file of its own, locked with ``flock``. Its content is a hint: the log's size after the last commit, or ``dirty`` while
a commit is under way, so that a writer who finds its own size there knows without asking the database that nobody wrote in between.
The database checks the size again inside each commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from remediation.errors import JournalUnavailable

_WIDTH = 20


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Hold the lock while nobody else writes; waits for it, and blocks the thread meanwhile.

    Raises:
        JournalUnavailable: the lock file can't be made.

    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalUnavailable(f"the writer lock {path} can't be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class WriterLock:
    """``flock`` on `path`. Released by the kernel when the process ends, however it ends. Not inherited by children."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        # The tasks of this process share one descriptor, and flock knows descriptors only.
        self._local = asyncio.Lock()

    def open(self) -> None:
        """
        Open the lock file, creating it if missing.

        Raises:
            JournalUnavailable: it can't be opened for writing.

        """
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise JournalUnavailable(
                    f"the writer lock {self._path} can't be opened: {error.strerror}; only a user who may write to the home can append"
                ) from error

    async def acquire(self) -> None:
        """
        Wait for the lock. The wait itself can't be cancelled half-way: a cancelled caller gets it and gives it back.

        Raises:
            JournalUnavailable: it is closed, or can't be locked.

        """
        await self._local.acquire()
        try:
            if self._descriptor < 0:
                raise JournalUnavailable("the journal is closed")
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await self._wait()
        except OSError as error:
            self._local.release()
            raise JournalUnavailable(f"the writer lock {self._path} can't be taken: {error.strerror}") from error
        except BaseException:
            self._local.release()
            raise

    async def _wait(self) -> None:
        waiting = asyncio.ensure_future(asyncio.to_thread(fcntl.flock, self._descriptor, fcntl.LOCK_EX))
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await waiting
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            raise

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._local.release()

    def size_hint(self) -> int | None:
        """The log's size as the last writer left it; `None` when unknown."""
        text = os.pread(self._descriptor, _WIDTH, 0).strip()
        return int(text) if text.isdigit() else None

    def mark(self, size: int | None) -> None:
        """
        Leave the log's size, or (`None`) that a commit is under way.

        Raises:
            OSError: that a commit is under way can't be left. What is committed is so without a hint; others then look into the log.

        """
        if size is None:
            os.pwrite(self._descriptor, b"dirty".ljust(_WIDTH), 0)
            return
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, str(size).encode().ljust(_WIDTH), 0)

    def close(self) -> None:
        """Close the file; releases the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
