"""
The inbox: how processes without a key tell the host something durably.

A message is a file ``<id>.json``, written under a temporary name, fsynced, renamed, and the directory fsynced. Its owner, as the kernel
knows it, becomes the actor. The host appends what it says, with the message's id, and removes the file; after a crash in between, the
same id makes the second append the first one. What can't be read is moved to ``rejected/`` with the reason beside it, never dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediation.errors import JournalUnavailable
from remediation.model.base import new_id
from remediation.model.text import printable

MESSAGE_CAP = 1024 * 1024
_NAME = re.compile(r"([0-9]{20})-([0-9a-f]{32})\.json")


@dataclass(frozen=True, slots=True)
class Message:
    """One message as found in the inbox."""

    path: Path
    id: str
    kind: str
    actor: str
    """``uid:<number>`` of the file's owner."""
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file of the inbox that is no message."""

    path: Path
    reason: str


class Inbox:
    """The folder `path` of a home. Safe for many writers and one reader at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, kind: str, document: dict[str, Any], *, at: int) -> str:
        """
        Leave a message, durably, and return its id.

        Args:
            kind: ``report``, ``close``, ``reopen``, ``pause``, ``resume``, …
            document: JSON values.
            at: Milliseconds since 1970 UTC; messages are read in this order.

        Raises:
            JournalUnavailable: it could not be written.

        """
        id_ = new_id()
        name = f"{at:020d}-{id_}.json"
        data = json.dumps({"v": 1, "kind": kind, "document": document}, ensure_ascii=True).encode()
        if len(data) > MESSAGE_CAP:
            raise JournalUnavailable(f"a message of {len(data)} bytes is too large for the inbox (at most {MESSAGE_CAP})")
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, self.path / name)
            self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise JournalUnavailable(
                f"the inbox {self.path} can't be written: {error.strerror}; `remediation init` makes a home, and its owner may write to it"
            ) from error
        return id_

    def messages(self, limit: int = 256) -> Iterator[Message | Unreadable]:
        """What lies in the inbox, oldest first, at most `limit`."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.path) if _NAME.fullmatch(entry.name))
        except FileNotFoundError:
            return
        for name in names[:limit]:
            with contextlib.suppress(FileNotFoundError):
                yield self._read(self.path / name)

    def pending(self) -> bool:
        """Whether there is a message."""
        try:
            return any(_NAME.fullmatch(entry.name) for entry in os.scandir(self.path))
        except FileNotFoundError:
            return False

    def done(self, message: Message) -> None:
        """Remove a message whose content is durable elsewhere."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(message.path)

    def reject(self, path: Path, reason: str) -> None:
        """Put a file aside, with the reason."""
        folder = self.path / "rejected"
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, folder / path.name)
            (folder / f"{path.name}.reason").write_text(printable(reason) + "\n", "utf-8")

    def _read(self, path: Path) -> Message | Unreadable:
        match = _NAME.fullmatch(path.name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            return Unreadable(path, f"can't be opened: {error.strerror}")
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return Unreadable(path, "is no regular file")
            data = file.read(MESSAGE_CAP + 1)
        if len(data) > MESSAGE_CAP:
            return Unreadable(path, f"is larger than {MESSAGE_CAP} bytes")
        try:
            content = json.loads(data)
            kind, document = content["kind"], content["document"]
            if content["v"] != 1 or not isinstance(kind, str) or not isinstance(document, dict):
                raise ValueError("is no message of version 1")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return Unreadable(path, f"is no message: {error}")
        return Message(path, match[2] if match else new_id(), kind, f"uid:{found.st_uid}", document)

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
