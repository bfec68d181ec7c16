"""
Snapshots of folded state: caches, believed only with a MAC over schema, position, root and content.

The MAC's key derives from the signing key, so that nobody without it can make the host believe another state; the root ties the content
to this very log. What doesn't fit in any respect is ignored, and the state is folded anew from the journal.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_MAGIC = b"remediation-snapshot/1\n"
_MAC_BYTES = 32
_ROOT_BYTES = 32
_SIZE_BYTES = 8


class Restorable(Protocol):
    """State that can be kept in a snapshot."""

    def dump(self) -> bytes:
        """All of it."""

    def restore(self, content: bytes) -> None:
        """Become what `dump` returned. May raise anything; the caller then folds anew."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State after `size` entries of the log whose root at that size is `root`."""

    size: int
    root: bytes
    content: bytes


class SnapshotFile:
    """
    The snapshot at `path`.

    Args:
        path: A file of the home.
        key: 32 bytes that only holders of the signing key know; or what gets them, which may change with that key.
        schema: Identifies the code that made the content; other content is not believed.

    """

    def __init__(self, path: Path, key: bytes | Callable[[], bytes], schema: bytes) -> None:
        self._path = path
        self._key = key
        self._schema = schema

    def load(self) -> Snapshot | None:
        """The snapshot, if there is one that this key and this code made."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC)
        if not data.startswith(_MAGIC) or len(data) < start + _MAC_BYTES + _SIZE_BYTES + _ROOT_BYTES:
            return None
        mac, rest = data[start : start + _MAC_BYTES], data[start + _MAC_BYTES :]
        if not hmac.compare_digest(mac, self._mac(rest)):
            return None
        size = int.from_bytes(rest[:_SIZE_BYTES], "big")
        return Snapshot(size, rest[_SIZE_BYTES : _SIZE_BYTES + _ROOT_BYTES], rest[_SIZE_BYTES + _ROOT_BYTES :])

    def store(self, snapshot: Snapshot) -> None:
        """
        Replace the snapshot. Not fsynced: what a crash leaves either has a good MAC or is ignored.

        Raises:
            OSError: it can't be written; the old one stands.

        """
        rest = snapshot.size.to_bytes(_SIZE_BYTES, "big") + snapshot.root + snapshot.content
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + self._mac(rest) + rest)
            os.rename(temporary, self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def _mac(self, rest: bytes) -> bytes:
        key = self._key if isinstance(self._key, bytes) else self._key()
        return hmac.digest(key, len(self._schema).to_bytes(8, "big") + self._schema + rest, "sha256")
