"""
A program of its own, run as a child: hashes the files of a SQLite database, or proves that it can be written.

Usage: ``python -I -S touch.py COMMAND JSON``; the answer is one JSON object on standard output. It imports the standard library
only. Commands:

| command | does |
|---|---|
| ``digest`` | SHA-256, owner, mode, times and attributes of the database and its side files |
| ``write`` | a trial table that is rolled back, and a committed write that leaves the content as it was |
"""

# ruff: noqa: S608 - names of tables can't be parameters
from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import sqlite3
import stat
import struct
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

MAGIC = b"SQLite format 3\0"
SUFFIXES = ("", "-wal", "-shm", "-journal")
# File format, section 1.3: the change counter (24..27), and the counter and library version that it was valid for (92..99), are all
# that a commit without new content changes.
_VOLATILE = (slice(24, 28), slice(92, 100))


def main() -> None:
    """Run the command of the arguments."""
    commands: dict[str, Callable[..., dict[str, Any]]] = {"digest": digest, "write": write}
    answer = commands[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(json.dumps(answer))


def digest(path: str) -> dict[str, Any]:
    """The files that exist, by suffix. ``content`` is the SHA-256 without what a commit of nothing changes."""
    files = {}
    for suffix in SUFFIXES:
        try:
            descriptor = os.open(path + suffix, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        try:
            files[suffix] = _digest(descriptor)
        finally:
            os.close(descriptor)
    return files


def _digest(descriptor: int) -> dict[str, Any]:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    whole, content, first = hashlib.sha256(), hashlib.sha256(), True
    while chunk := os.read(descriptor, 1024 * 1024):
        whole.update(chunk)
        if first and chunk[:16] == MAGIC and len(chunk) >= 100:
            masked = bytearray(chunk)
            for span in _VOLATILE:
                masked[span] = bytes(span.stop - span.start)
            chunk = bytes(masked)
        content.update(chunk)
        first = False
    return {
        "sha256": whole.hexdigest(),
        "content": content.hexdigest(),
        "size": str(found.st_size),
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime_ns": str(found.st_mtime_ns),
        "attributes": _attributes(descriptor),
        "names": found.st_nlink,
    }


def _attributes(descriptor: int) -> list[tuple[str, str]]:
    try:
        names = sorted(os.listxattr(descriptor))
        return [(name, base64.b64encode(os.getxattr(descriptor, name)).decode("ascii")) for name in names]
    except (AttributeError, OSError):
        return []


def write(path: str) -> dict[str, Any]:
    """
    Commit a write that changes nothing but the change counter of the header.

    Before that, a table is made, filled, read and rolled back, so that pages are really allocated and journaled.
    """
    before = _counter(path)
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5)
    try:
        database.execute("BEGIN IMMEDIATE")
        trial = f"remediation_trial_{os.getpid()}"
        database.execute(f"CREATE TABLE {trial} (value)")
        database.executemany(f"INSERT INTO {trial} VALUES (?)", [(bytes(500),)] * 20)
        kept = database.execute(f"SELECT count(*) FROM {trial}").fetchone()[0]
        database.execute("ROLLBACK")
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        database.execute("BEGIN IMMEDIATE")
        database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
    finally:
        database.close()
    return {"counter": before, "trial_rows": kept}


def _counter(path: str) -> int:
    with open(path, "rb") as file:
        return int(struct.unpack_from(">I", file.read(100), 24)[0])


if __name__ == "__main__":
    main()
