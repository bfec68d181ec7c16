"""
`head.note`: the newest signed head that may be known outside this process. It only grows, and it lies outside the home.

A log that is behind its head was rolled back, or is another one; continuing it would sign two histories of one log.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from remediation.errors import JournalRolledBack
from remediation.proof.checkpoint import Checkpoint
from remediation.proof.note import Note


class HeadNote:
    """The file `path`. Writers hold the journal's writer lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._size = -1

    def read(self) -> str:
        """
        The note.

        Raises:
            JournalRolledBack: it is missing or unreadable although the journal was initialised.

        """
        try:
            return self.path.read_text("utf-8")
        except OSError as error:
            raise JournalRolledBack(
                f"{self.path} can't be read ({error.strerror}): without the last known head nobody can tell whether the journal was rolled "
                "back. Restore it from where heads are anchored; if it is lost for good, `remediation journal recover` starts a new log"
            ) from error

    def size(self) -> int:
        """The size that the note states; -1 when there is no note."""
        try:
            found = os.stat(self.path)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._size = Checkpoint.parse(Note.parse(self.path.read_bytes()).text).size
                self._seen = seen
        except FileNotFoundError:
            return -1
        return self._size

    def advance(self, note: str) -> None:
        """
        Make `note` the head, durably, unless the present one is at least as large.

        Raises:
            OSError: it could not be written; the old head stands.

        """
        if Checkpoint.parse(Note.parse(note).text).size <= self.size():
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            try:
                os.write(descriptor, note.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
