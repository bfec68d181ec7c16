"""How a unit of the journal gets into its database: one transaction, run as a whole on the database's thread."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from remediation.errors import JournalTooNew
from remediation.journal.store import Archiving, Erasing, Row, Unit
from remediation.proof.tiles import WIDTH, Tile
from remediation.stores import schema

APPLICATION_ID = schema.APPLICATION_ID
FORMAT = schema.FORMAT
TIDY = "PRAGMA secure_delete = FAST"
"""No page that is rewritten keeps pieces of what stood in it. Erasing needs more, and costs more: see `_erase`."""
SELDOM = "PRAGMA wal_autocheckpoint = 4000"
"""Pages in the write-ahead log before SQLite moves them into the database: four times its default, as ids and streams are random and
each commit touches many pages of their indexes; most of them are touched again before they are moved. 16 MB."""
_CHUNKS = (64, 8, 1)


class UnitConnection(sqlite3.Connection):
    """A connection whose `commit` runs a whole unit of work, so that aiosqlite's one hop to its thread covers all of it."""

    unit: Callable[[sqlite3.Connection], None] | None = None

    def commit(self) -> None:
        unit, self.unit = self.unit, None
        if unit is not None:
            unit(self)


def fill(path: Path, note: str) -> None:
    """Make a journal whose first checkpoint is `note`, in a file that is not there."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        os.chmod(path, 0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{schema.statements()}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {FORMAT};"
        )
        connection.execute("INSERT INTO checkpoint VALUES (0, ?)", (note,))
        connection.execute("COMMIT")
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("its first pages could not be moved out of the write-ahead log")


@functools.cache
def _insert(table: str, columns: int, rows: int) -> str:
    # Many rows a statement: each statement costs the database thread one hand-over of the interpreter lock.
    row = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * rows)}"  # noqa: S608 - constants only


def write(unit: Unit, connection: sqlite3.Connection) -> None:
    """Write `unit`, or nothing of it."""
    execute = connection.execute
    if unit.erasing:
        execute("PRAGMA secure_delete = ON")
    execute("BEGIN IMMEDIATE")
    try:
        (version,) = execute("PRAGMA user_version").fetchone()
        if version != FORMAT:
            raise JournalTooNew(
                f"the journal was brought to format {version} while it was open, this release writes {FORMAT}; upgrade"
            )
        (last,) = execute("SELECT max(seq) FROM entry").fetchone()
        if (-1 if last is None else last) + 1 != unit.expected_size:
            raise sqlite3.OperationalError("the log moved on although its writer lock was held; another program writes to it")
        rows = unit.rows
        start = 0
        for size in _CHUNKS:
            while len(rows) - start >= size:
                some = rows[start : start + size]
                start += size
                execute(
                    _insert("entry", 7, size),
                    [
                        value
                        for row in some
                        for value in (row.seq, row.event_id, row.stream, row.stream_seq, row.type, row.time, row.leaf)
                    ],
                )
                execute(_insert("payload", 3, size), [value for row in some for value in (row.seq, row.salt, row.body)])
        if unit.tiles:
            connection.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", [tuple(tile) for tile in unit.tiles])
        if unit.superseded is not None:
            execute("DELETE FROM checkpoint WHERE size = ?", (unit.superseded,))
        execute("INSERT INTO checkpoint VALUES (?, ?)", (unit.size, unit.note))
        _erase(unit.erasing, connection)
        if unit.archiving is not None:
            _archive(unit.archiving, connection)
        execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise
    finally:
        if unit.erasing:
            execute(TIDY)


def _erase(erasing: Sequence[Erasing], connection: sqlite3.Connection) -> None:
    for item in erasing:
        if connection.execute("DELETE FROM payload WHERE seq = ?", (item.seq,)).rowcount != 1:
            raise sqlite3.OperationalError(f"the body of entry {item.seq} is not there to be erased")
        connection.execute("INSERT INTO erasure VALUES (?, ?)", (item.seq, item.by))


def _archive(item: Archiving, connection: sqlite3.Connection) -> None:
    execute = connection.execute
    gone = "seq < ? AND type <> 'key.rotated'"
    execute("DELETE FROM archived_stream")
    connection.executemany("INSERT INTO archived_stream VALUES (?, ?)", list(item.streams.items()))
    execute(f"DELETE FROM payload WHERE seq IN (SELECT seq FROM entry WHERE {gone})", (item.before,))  # noqa: S608 - constants only
    execute("DELETE FROM erasure WHERE seq < ?", (item.before,))
    execute(f"DELETE FROM entry WHERE {gone}", (item.before,))  # noqa: S608 - constants only
    execute("DELETE FROM tile WHERE level = 0 AND n < ?", (item.before // WIDTH,))
    execute("DELETE FROM archive")
    execute("INSERT INTO archive VALUES (?, ?, ?)", (item.before, item.by, item.state))


def restore(rows: Sequence[Row], tiles: Sequence[Tile], connection: sqlite3.Connection) -> None:
    """Bring back archived entries, or none of them."""
    execute = connection.execute
    execute("BEGIN IMMEDIATE")
    try:
        for row in rows:
            execute(
                "INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)",
                (row.seq, row.event_id, row.stream, row.stream_seq, row.type, row.time, row.leaf),
            )
            if row.body is not None:
                execute("INSERT OR IGNORE INTO payload VALUES (?, ?, ?)", (row.seq, row.salt, row.body))
        connection.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", [tuple(tile) for tile in tiles])
        sayings = execute("SELECT p.seq, p.body FROM entry e JOIN payload p ON p.seq = e.seq WHERE e.type = 'payload.erased'")
        said = [(json.loads(body)["seq"], by) for by, body in sayings.fetchall()]
        connection.executemany("INSERT OR IGNORE INTO erasure VALUES (?, ?)", said)
        execute("DELETE FROM archive")
        execute("DELETE FROM archived_stream")
        execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise
