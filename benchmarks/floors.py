"""The raw floors: what the disk takes, without any of our code."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def p50(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of one call."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def commit(folder: Path, rounds: int = 500) -> float:
    """Median seconds of a one-row commit of 500 bytes: SQLite, WAL, synchronous=FULL."""
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b BLOB)")
    data = b"x" * 500

    def one() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t (b) VALUES (?)", (data,))
        connection.execute("COMMIT")

    try:
        return p50(one, rounds)
    finally:
        connection.close()


def fdatasync(folder: Path, rounds: int = 500) -> float:
    """Median seconds of writing 500 bytes and fdatasync."""
    descriptor = os.open(folder / "floor.bin", os.O_CREAT | os.O_WRONLY, 0o600)

    def one() -> None:
        os.write(descriptor, b"x" * 500)
        os.fdatasync(descriptor)

    try:
        return p50(one, rounds)
    finally:
        os.close(descriptor)


def durable_delete(folder: Path, rounds: int = 200) -> float:
    """Median seconds of what a reversible deletion can't avoid: keep the content (write, fsync, link in, fsync the directory), unlink, fsync."""
    kept = folder / "kept"
    work = folder / "work"
    kept.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    numbers = iter(range(rounds))

    def sync(directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    for number in range(rounds):
        (work / str(number)).write_bytes(b"999999")

    def one() -> None:
        number = next(numbers)
        descriptor = os.open(kept / f"{number}.tmp", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(descriptor, (work / str(number)).read_bytes())
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(kept / f"{number}.tmp", kept / str(number))
        sync(kept)
        os.unlink(work / str(number))
        sync(work)

    return p50(one, rounds)
