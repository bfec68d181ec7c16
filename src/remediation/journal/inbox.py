"""
The inbox: how processes without a key tell the host something durably.

A message is a file ``<id>.json``, written under a temporary name, fsynced, renamed, and the directory fsynced. Its owner, as the kernel
knows it, becomes the actor. The host appends what it says, with the message's id, and removes the file; after a crash in between, the
same id makes the second append the first one. What can't be read is moved to ``rejected/`` with the reason beside it, never dropped.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import json
import math
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediation.errors import JournalUnavailable, NotCanonical
from remediation.model.base import new_id
from remediation.model.redaction import Redactor
from remediation.model.text import SUMMARY_CAP, capped, printable

MESSAGE_CAP = 1024 * 1024
_REDACTOR = Redactor()
_NAME = re.compile(r"([0-9]{20})-([0-9a-f]{32})\.json")
_FAULTS = {errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV}
"""What opening says of a file that can't be a message: a link, one that nobody lets us read, a socket."""


def is_message(name: str) -> bool:
    """Whether a file of this name in an inbox is a message; others are left alone."""
    return _NAME.fullmatch(name) is not None


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
            document: JSON values. In a ``reason`` secrets are masked; who leaves a report masks those in it.
            at: Milliseconds since 1970 UTC; messages are read in this order, those of one process and millisecond in that of
                its calls.

        Raises:
            NotCanonical: `document` holds what JSON does not have.
            JournalUnavailable: it could not be written, or is too large.

        """
        id_ = new_id()
        if isinstance(document.get("reason"), str):
            document = document | {"reason": _REDACTOR.text(document["reason"])}
        try:
            data = json.dumps({"v": 1, "kind": kind, "document": document}, ensure_ascii=True, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise NotCanonical(f"a message of kind {kind!r} can't be written as JSON: {error}") from error
        if len(data) > MESSAGE_CAP:
            raise JournalUnavailable(f"a message of {len(data)} bytes is too large for the inbox (at most {MESSAGE_CAP})")
        name = f"{_ORDER.next(at):020d}-{id_}.json"
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            _write(temporary, data)
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
        """
        What lies in the inbox, oldest first, at most `limit`. Files of other names than messages have are left alone.

        Raises:
            JournalUnavailable: the inbox can't be read now; this is no fault of a message.

        """
        for name in heapq.nsmallest(limit, self._names()):
            with contextlib.suppress(FileNotFoundError):
                yield self._read(self.path / name)

    def pending(self) -> bool:
        """
        Whether there is a message.

        Raises:
            JournalUnavailable: the inbox can't be read now.

        """
        return any(True for _ in self._names())

    def done(self, message: Message) -> None:
        """Remove a message whose content is durable elsewhere."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(message.path)

    def reject(self, path: Path, reason: str) -> None:
        """Put a file aside in ``rejected/``, with the reason in a file beside it. Nothing that lies there is replaced."""
        folder = self.path / "rejected"
        folder.mkdir(mode=0o700, exist_ok=True)
        aside = folder / path.name
        for number in itertools.count(1):
            if not os.path.lexists(aside):
                break
            aside = folder / f"{path.name}.{number}"
        aside.with_name(f"{aside.name}.reason").write_text(printable(capped(_REDACTOR.text(reason), SUMMARY_CAP)) + "\n", "utf-8")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)

    def _names(self) -> Iterator[str]:
        try:
            with os.scandir(self.path) as entries:
                yield from (entry.name for entry in entries if is_message(entry.name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalUnavailable(f"the inbox {self.path} can't be read: {error.strerror}") from error

    def _read(self, path: Path) -> Message | Unreadable:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in _FAULTS:
                raise JournalUnavailable(f"the message {path} can't be read now: {error.strerror}") from error
            return Unreadable(path, f"can't be opened: {error.strerror}")
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return Unreadable(path, "is no regular file")
            if found.st_nlink > 1:
                return Unreadable(path, "has another name too, so that its owner need not be who put it here")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(MESSAGE_CAP + 1)
        except OSError as error:
            raise JournalUnavailable(f"the message {path} can't be read now: {error.strerror}") from error
        finally:
            os.close(descriptor)
        return _parsed(path, data, found.st_uid)

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Order:
    """Numbers for messages: their milliseconds, and within these the order of the calls in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self, at: int) -> int:
        with self._lock:
            first = min(max(at, 0), _LAST_MOMENT) * _WITHIN
            same = self._last // _WITHIN == first // _WITHIN
            self._last = self._last + 1 if same else first
            return self._last


_WITHIN = 1_000_000
_LAST_MOMENT = 99_999_999_999_998
_ORDER = _Order()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # The host may run as another user than the writer; who can reach the file at all is for the folders above to say.
        os.fchmod(descriptor, 0o644)
        while data:  # a disk that gets full cuts a write short before it refuses one
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parsed(path: Path, data: bytes, uid: int) -> Message | Unreadable:
    if len(data) > MESSAGE_CAP:
        return Unreadable(path, f"is larger than {MESSAGE_CAP} bytes")
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
        version, kind, document = content["v"], content["kind"], content["document"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Unreadable(path, f"is no message: {type(error).__name__}: {error}")
    if type(version) is not int or version != 1 or not isinstance(kind, str) or not isinstance(document, dict):
        return Unreadable(path, "is no message of version 1")
    return Message(path, path.name[21:53], kind, f"uid:{uid}", document)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
