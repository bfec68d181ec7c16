"""
`head.note`: the newest signed head that may be known outside this process. It only grows, and it lies outside the home.

A log that is behind its head was rolled back, or is another one; continuing it would sign two histories of one log.

Beside it, in `head.note.acknowledged`, stands how many entries were acknowledged, also those that no head left the process for yet. It
is written with each commit and never synchronised: it outlives a kill of the process, and a power cut only by chance. So it shows that
what a killed host had committed was taken away, as whoever removes the write-ahead log does; it never shows that all is well.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from remediation.errors import JournalDamaged, JournalRolledBack, JournalUnavailable
from remediation.proof.checkpoint import Checkpoint
from remediation.proof.errors import NoteError
from remediation.proof.note import Note


class HeadNote:
    """The file `path`. Writers hold the journal's writer lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._size = -1
        self._acknowledged = path.with_name(f"{path.name}.acknowledged")
        self._descriptor = -1

    def read(self) -> str:
        """
        The note; its signature is not checked.

        Raises:
            JournalRolledBack: it is missing although the journal was initialised.
            JournalUnavailable: it can't be read.
            JournalDamaged: it is no signed head.

        """
        try:
            note = self._content().decode()
        except FileNotFoundError as error:
            raise JournalRolledBack(
                f"{self.path} is missing: without the last known head nobody can tell whether the journal was rolled back. "
                "Restore it from where heads are anchored; if it is lost for good, `remediation journal recover` starts a new log"
            ) from error
        except UnicodeDecodeError as error:
            raise self._damaged(error) from error
        self._parsed(note)
        return note

    def origin(self) -> str:
        """
        The name of the log whose head it is; its signature is not checked.

        Raises:
            JournalRolledBack, JournalUnavailable, JournalDamaged: as `read`.

        """
        return self._parsed(self.read()).origin

    def size(self) -> int:
        """
        The size that the note states; -1 when there is no note.

        Raises:
            JournalUnavailable: it can't be read.
            JournalDamaged: it is no signed head.

        """
        try:
            found = os.stat(self.path)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._size = self._parsed(self._content()).size
                self._seen = seen
        except FileNotFoundError:
            return -1
        except OSError as error:
            raise self._unreadable(error) from error
        return self._size

    def advance(self, note: str) -> None:
        """
        Make `note` the head, durably, unless the present one is at least as large.

        Raises:
            OSError: it could not be written; the old head stands.
            JournalUnavailable, JournalDamaged: the present one can't be read, and is not replaced.

        """
        self._seen = None  # inodes are reused and file times are coarse: only its content says what the file is
        if self._parsed(note).size <= self.size():
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            try:
                content = note.encode()
                while content:  # a disk that gets full cuts a write short before it refuses one
                    content = content[os.write(descriptor, content) :]
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

    def acknowledge(self, origin: str, size: int) -> None:
        """Leave that `size` entries of the log `origin` are committed. What can't be left is not: the log holds it."""
        with contextlib.suppress(OSError):
            if self._descriptor < 0:
                self._descriptor = os.open(self._acknowledged, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # One line that never gets shorter, in one write: whoever reads sees a whole one.
            os.pwrite(self._descriptor, f"{size:020} {origin}\n".encode(), 0)

    def acknowledged(self, origin: str) -> int:
        """How many entries of the log `origin` were acknowledged, as far as that is known; 0 if it isn't."""
        try:
            size, _, name = self._acknowledged.read_bytes().partition(b"\n")[0].decode().partition(" ")
        except (OSError, UnicodeDecodeError):
            return 0
        return int(size) if name == origin and size.isascii() and size.isdigit() else 0

    def close(self) -> None:
        """Close what `acknowledge` opened."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unreadable(error) from error

    def _parsed(self, note: str | bytes) -> Checkpoint:
        try:
            return Checkpoint.parse(Note.parse(note).text)
        except NoteError as error:
            raise self._damaged(error) from error

    def _unreadable(self, error: OSError) -> JournalUnavailable:
        return JournalUnavailable(f"{self.path} can't be read: {error.strerror}; make it readable for the host's user")

    def _damaged(self, error: Exception) -> JournalDamaged:
        return JournalDamaged(f"{self.path} is not a signed head ({error}); restore it from where heads are anchored")
