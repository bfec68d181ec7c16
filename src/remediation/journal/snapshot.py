"""
Snapshots of folded state: caches, believed only with a MAC over schema, position, root and content.

The MAC's key derives from the signing key, so that nobody without it can make the host believe another state; the root ties the content
to this very log. What doesn't fit in any respect is ignored, and the state is folded anew from the journal.

Who only shows the state, and has no key, takes a snapshot without its MAC: see `glance`.

The file: a line that names the format, the MAC (32 bytes), what the MAC is over: the schema (32), the digest of what follows (SHA-256),
the position (8, big-endian), the root (32), the content.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remediation import __version__

_MAGIC = b"remediation-snapshot/2\n"
_MAC_BYTES = 32
_ROOT_BYTES = 32
_SIZE_BYTES = 8
_HASH_BYTES = 32
_LEAST = len(_MAGIC) + _MAC_BYTES + 2 * _HASH_BYTES + _SIZE_BYTES + _ROOT_BYTES


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
        data = _read(self._path)
        start = len(_MAGIC) + _MAC_BYTES
        if data is None or not hmac.compare_digest(data[len(_MAGIC) : start], self._mac(data[start:])):
            return None
        return _parsed(data, self._schema)

    def store(self, snapshot: Snapshot) -> None:
        """
        Replace the snapshot. Not fsynced: what a crash leaves either has a good MAC or is ignored.

        Raises:
            OSError: it can't be written; the old one stands.

        """
        state = snapshot.size.to_bytes(_SIZE_BYTES, "big") + snapshot.root + snapshot.content
        rest = _hashed(self._schema) + _hashed(state) + state
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
        return hmac.digest(key, rest, "sha256")


def glance(path: Path, schema: bytes) -> Snapshot | None:
    """
    The snapshot at `path`, if this code made one there, whoever ran it: for showing, never for acting.

    What is checked: that the file is yours and only yours to write, that it is whole, and that it is of this code. The caller checks that
    its root is the log's. Non-guarantee: whoever can write as you could have made it say anything.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    data = _read(path)
    return None if data is None else _parsed(data, schema)


@functools.cache
def schema() -> bytes:
    """Identifies the code that folds: what other code has kept is not believed."""
    digest = hashlib.sha256(__version__.encode())
    folder = Path(__file__).parent.parent
    for file in sorted([*folder.glob("core/*.py"), *folder.glob("model/**/*.py")]):
        digest.update(file.read_bytes())
    return digest.digest()


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if data.startswith(_MAGIC) and len(data) >= _LEAST else None


def _parsed(data: bytes, schema: bytes) -> Snapshot | None:
    """The snapshot in a file's content, if it is whole and of this schema."""
    start = len(_MAGIC) + _MAC_BYTES
    made_by, digest, state = data[start:][:_HASH_BYTES], data[start + _HASH_BYTES :][:_HASH_BYTES], data[start + 2 * _HASH_BYTES :]
    if made_by != _hashed(schema) or digest != _hashed(state):
        return None
    root_end = _SIZE_BYTES + _ROOT_BYTES
    return Snapshot(int.from_bytes(state[:_SIZE_BYTES], "big"), state[_SIZE_BYTES:root_end], state[root_end:])


def _hashed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
