"""An anchor in a file: the newest head, or one line for each head that it was ever given."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from remediation.errors import JournalError
from remediation.journal.head import HeadNote
from remediation.ports.anchor import AnchorError
from remediation.proof.anchored import head_of
from remediation.proof.checkpoint import Checkpoint

T = TypeVar("T")
READ_CAP = 32 * 1024 * 1024
"""Bytes of a history that are read: its newest ones, about 100,000 heads."""


class FileAnchor:
    """
    Keeps heads in the file `path`, which belongs on another disk or machine than the home.

    Without `history` the file is one signed note, replaced as a whole. With it, lines ``{"note": "…"}`` are appended, which a file system
    can be told to allow only (``chattr +a``). When another log begins (``journal recover``), the old one's last head is kept beside it
    under the name of its log-id. The folder must exist: a disk that is not mounted is an error, and is not written around.
    """

    def __init__(self, path: Path, *, history: bool = False, name: str = "", every: float = 60.0, timeout: float = 30.0) -> None:
        self.path = path
        self.history = history
        self.name = name or f"file:{path}"
        self.every = every
        self.timeout = timeout
        self._worker: threading.Thread | None = None

    async def keep(self, note: str) -> None:
        """
        Write `note`, durably.

        Raises:
            AnchorError: it can't be written, or what is there contradicts it.

        """
        await self._apart(lambda: self._keep(note))

    async def heads(self) -> Sequence[str]:
        """
        What the file holds; nothing if it is not there yet.

        Raises:
            AnchorError: it can't be read.

        """
        return await self._apart(self._heads)

    def _keep(self, note: str) -> None:
        new = head_of(note)
        if new is None:
            raise AnchorError(f"{self.name}: what it was given is no signed head")
        if not self.path.parent.is_dir():
            raise AnchorError(f"{self.name}: there is no folder {self.path.parent}; mount it, or make it")
        try:
            with _alone(self.path.with_name(f".{self.path.name}.lock")):
                kept = [head for old in self._heads() if (head := head_of(old)) is not None]
                same = [head for head in kept if head.origin == new.origin]
                if any(head.size == new.size and head.root != new.root for head in same):
                    raise AnchorError(f"{self.name} keeps another head over {new.size} entries: the journal was rewritten")
                if any(head.size >= new.size for head in same):
                    return
                if self.history:
                    self._append(note)
                else:
                    self._replace(note, kept[-1] if kept and not same else None)
        except OSError as error:
            raise AnchorError(f"{self.name} can't be written: {error.strerror}") from error
        except JournalError as error:
            raise AnchorError(f"{self.name} can't be written: {error}") from error

    def _replace(self, note: str, other: Checkpoint | None) -> None:
        if other is not None or (self.path.exists() and not self._heads_of_text(self.path.read_bytes())):
            # The last word about another log, or what somebody damaged, is evidence; HeadNote would not let go of it either.
            kind = other.origin.rpartition("/")[2] if other is not None else "damaged"
            os.replace(self.path, self.path.with_name(f"{self.path.name}.{kind}"))
        HeadNote(self.path).advance(note)

    def _append(self, note: str) -> None:
        line = json.dumps({"note": note}, ensure_ascii=False).encode() + b"\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash cut the last one off
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _heads(self) -> list[str]:
        if not self.path.parent.is_dir():
            raise AnchorError(f"{self.name}: there is no folder {self.path.parent}; mount it, or make it")
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - READ_CAP))
                return self._heads_of_text(file.read())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AnchorError(f"{self.name} can't be read: {error.strerror}") from error

    def _heads_of_text(self, data: bytes) -> list[str]:
        if self.history:
            return [note for line in data.split(b"\n") if (note := _note_of(line)) is not None]
        note = data.decode("utf-8", "replace")
        return [note] if head_of(note) is not None else []

    async def _apart(self, work: Callable[[], T]) -> T:
        """
        Do `work` in a thread that nothing waits for: a file system whose server is gone may hold it for ever.

        Raises:
            AnchorError: the last work has not ended yet.

        """
        if self._worker is not None and self._worker.is_alive():
            raise AnchorError(f"{self.name}: the file system does not answer; what was begun has not ended yet")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def answer(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

        def run() -> None:
            result, failed = None, None
            try:
                result = work()
            except BaseException as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(answer, result, failed)

        self._worker = threading.Thread(target=run, name=self.name, daemon=True)
        self._worker.start()
        try:
            return await future
        finally:
            if future.done() and not future.cancelled():
                self._worker.join(1.0)  # it has answered, and is about to end


def _note_of(line: bytes) -> str | None:
    """The note of a line of a history; a line that a crash cut off, or that somebody altered, holds none."""
    try:
        note = json.loads(line)["note"]
    except (ValueError, KeyError, TypeError):
        return None
    return note if isinstance(note, str) and head_of(note) is not None else None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two hosts of one home must not overtake each other between looking and writing."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
