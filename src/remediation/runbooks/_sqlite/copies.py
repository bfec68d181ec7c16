"""
A program of its own, run as a child: copies databases into scratch, mends the header of a copy, and finishes a replacement.

Arguments: ``COMMAND JSON``; the answer is one JSON object on standard output. It imports the standard
library only.

| command | does |
|---|---|
| ``copy`` | copies a database with its side files; says whether they changed meanwhile |
| ``mend`` | writes a header into a copy whose own makes no sense, if the schema can then be read |
| ``finish`` | sets the journal mode, checks everything, and closes the replacement without side files |
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import sqlite3
import struct
import sys
from collections.abc import Callable
from typing import Any

from remediation.runbooks._sqlite.pages import Pages

SUFFIXES = ("", "-wal", "-shm", "-journal")
_PAGE_SIZES = (4096, 1024, 8192, 2048, 512, 16384, 32768, 65536)
_ENCODINGS = {"UTF-8": 1, "UTF-16le": 2, "UTF-16be": 3}


def main() -> None:
    """Run the command of the arguments."""
    commands: dict[str, Callable[..., dict[str, Any]]] = {"copy": copy, "mend": mend, "finish": finish}
    answer = commands[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(json.dumps(answer))


def copy(source: str, target: str, suffixes: list[str]) -> dict[str, Any]:
    """Copy the files that exist; `stable` says whether none changed meanwhile (the ``-shm`` may)."""
    before = _signature(source)
    for suffix in suffixes:
        try:
            shutil.copyfile(source + suffix, target + suffix)
        except FileNotFoundError:
            continue
    return {"stable": before == _signature(source)}


def _signature(path: str) -> list[tuple[int, int, int]]:
    found = []
    for suffix in SUFFIXES:
        if suffix != "-shm":
            try:
                told = os.stat(path + suffix)
            except FileNotFoundError:
                continue
            found.append((told.st_ino, told.st_size, told.st_mtime_ns))
    return found


def mend(path: str, page_size: int | None, encoding: str | None) -> dict[str, Any]:
    """
    Make the schema of a copy readable again, if its header is what is wrong.

    With a wrong page size, some of the schema may be readable by chance; the right one is that with which most entries refer to pages
    that are intact, or at least begin as the page of a tree does.
    """
    if _roots(path):
        return {"mended": False, "readable": True}
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        old = file.read(100)
    scores = {}
    for candidate in dict.fromkeys([page_size, *_PAGE_SIZES]):
        if candidate and size >= candidate:
            _put(path, _header(candidate, encoding, wal=os.path.exists(path + "-wal")))
            scores[candidate] = _trees(path)
    best = max(scores, key=lambda candidate: scores[candidate], default=0)
    if scores.get(best, (0, 0)) == (0, 0):
        _put(path, old)
        return {"mended": False, "readable": False}
    _put(path, _header(best, encoding, wal=os.path.exists(path + "-wal")))
    return {"mended": True, "readable": True, "page_size": best}


def _put(path: str, head: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(head)


def _roots(path: str) -> list[int]:
    """The root pages that the schema names, as far as it can be read."""
    found: list[int] = []
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.text_factory = bytes
        database.execute("PRAGMA writable_schema = ON")
        for (root,) in database.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 0"):
            found.append(root)
    except (sqlite3.Error, MemoryError):
        pass  # the rest can't be read
    finally:
        database.close()
    return found


def _trees(path: str) -> tuple[int, int]:
    """How many of them are intact pages of tables, and how many begin as the page of a tree does (file format, section 1.6)."""
    roots = _roots(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pages = Pages(data)
        there = [root for root in roots if pages.has(root)]
        intact = sum(pages.leaf(root) is not None or pages.interior(root) is not None for root in there)
        return intact, sum(pages.kind(root) in (0x02, 0x05, 0x0A, 0x0D) for root in there)


def _header(page_size: int, encoding: str | None, *, wal: bool) -> bytes:
    """A header as in the file format, section 1.3: no free pages, and a size that is to be taken from the file."""
    version = 2 if wal else 1
    start = struct.pack(
        ">16sHBBBBBB", b"SQLite format 3\0", 1 if page_size == 65536 else page_size, version, version, 0, 64, 32, 32
    )
    middle = struct.pack(">IIIIII", 1, 0, 0, 0, 1, 4)  # counter, size, first free page, free pages, schema cookie, schema format
    rest = struct.pack(">IIIIII", 0, 0, _ENCODINGS.get(encoding or "UTF-8", 1), 0, 0, 0)
    return (start + middle + rest).ljust(92, b"\0") + struct.pack(">II", 0, sqlite3.sqlite_version_info[1] * 1000 + 3_000_000)


def finish(path: str, journal_mode: str) -> dict[str, Any]:
    """Set the journal mode, check, and close; side files are gone afterwards."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        database.execute("PRAGMA trusted_schema = OFF")
        mode = database.execute(f"PRAGMA journal_mode = {'WAL' if journal_mode == 'wal' else 'DELETE'}").fetchone()[0]
        findings = [str(row[0])[:300] for row in database.execute("PRAGMA integrity_check(20)")]
        orphans = 0
        for _ in database.execute("PRAGMA foreign_key_check"):
            orphans += 1
    except sqlite3.Error as error:
        return {"findings": [str(error)[:300]], "orphans": 0, "journal_mode": ""}
    finally:
        database.close()
    return {"findings": [] if findings == ["ok"] else findings, "orphans": orphans, "journal_mode": mode}


if __name__ == "__main__":
    main()
