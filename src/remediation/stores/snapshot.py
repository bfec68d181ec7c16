"""
A whole journal as of one moment, for commands that verify or export it in a process of their own: synchronous, and nothing else runs.

All is read in one transaction, also beside a running host. What the database holds is not believed: text that is no UTF-8 is escaped
rather than refused, so that whoever judges can say which entry it is in.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from remediation.errors import JournalDamaged, JournalUnavailable
from remediation.stores import schema

# A damaged page may hold a number where a leaf was: STRICT is kept when a row is written, not when it is read.
_ENTRIES = """
SELECT iif(typeof(e.leaf) = 'blob', e.leaf, NULL), iif(typeof(p.salt) = 'blob', p.salt, NULL), iif(typeof(p.body) = 'blob', p.body, NULL),
       e.seq, e.event_id, e.stream, e.stream_seq, e.type, e.time
FROM entry e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq
"""

_ERASURES = """
SELECT x.seq, e.type, iif(typeof(p.body) = 'blob', p.body, NULL)
FROM erasure x LEFT JOIN entry e ON e.seq = x.by LEFT JOIN payload p ON p.seq = x.by ORDER BY x.seq
"""

_SAYINGS = """
SELECT iif(typeof(p.body) = 'blob', p.body, NULL)
FROM entry e JOIN payload p ON p.seq = e.seq WHERE e.type = 'payload.erased' ORDER BY e.seq
"""

_SOME = 256
"""Rows that are read at a time; a full tile."""

_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged database raises: SQLite quotes names of its schema in errors, which may be no text any more."""

StoredRow = tuple[bytes | None, bytes | None, bytes | None, int, str, str, int, str, str]
"""An entry with its columns: leaf, salt, body, seq, id, stream, stream_seq, type, time. See `remediation.proof.Row`."""


class Snapshot:
    """
    The journal at `path`, as of the moment when the `with` block is entered.

    SQLite tidies up after its last reader: to leave the files of a journal as they are, see `remediation.stores.stillness`.
    With `immutable`, it is a database that nobody changes, and that has nothing beside it. `shown` is its name in messages.
    """

    def __init__(self, path: Path, *, immutable: bool = False, shown: Path | None = None) -> None:
        self.file = path
        self.immutable = immutable
        self._path = shown or path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        if not self.file.exists():
            raise JournalUnavailable(f"there is no journal at {self._path}; `remediation init` makes one")
        # The first reader of a WAL database must be able to write its index; see https://www.sqlite.org/wal.html#readonly
        writable = os.access(self.file, os.W_OK) and os.access(self.file.parent, os.W_OK)
        how = "mode=ro&immutable=1" if self.immutable else f"mode={'rw' if writable else 'ro'}"
        address = f"{self.file.absolute().as_uri()}?{how}"
        try:
            connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=10.0)
            self._connection = connection
            connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            # The transaction holds its snapshot from the first read of a table on.
            connection.execute("SELECT count(*) FROM checkpoint").fetchone()
        except _UNREADABLE as error:
            self.__exit__()
            raise self.translated(error) from error
        try:
            schema.refuse_format(self._path, application, version)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def again(self) -> Snapshot:
        """The same database, to be entered for itself; as of its own moment."""
        return Snapshot(self.file, immutable=self.immutable, shown=self._path)

    def map(self) -> None:
        """Read the file through the memory map, which is quicker, and ends the process if the file is cut off meanwhile."""
        self._all(f"PRAGMA mmap_size = {1 << 40}")

    def size(self) -> int:
        """The number that follows the newest entry's."""
        return int(self._one("SELECT coalesce(max(seq), -1) + 1 FROM entry"))

    def checkpoints(self) -> list[tuple[int, str]]:
        """All stored checkpoints with the sizes they are stored under, in order."""
        return self._all("SELECT size, iif(typeof(note) = 'text', note, '') FROM checkpoint ORDER BY size")

    def rows(self, until: int, *, since: int = 0) -> Iterator[StoredRow]:
        """The entries from `since` (0: from the first, whatever its number) to before `until`, in order, with their columns."""
        try:
            # No `yield from`: a reader that stops half-way would close the cursor when it is forgotten, after the connection.
            for row in self._open.execute(_ENTRIES, (since or -(2**63), until)):  # noqa: UP028
                yield row
        except _UNREADABLE as error:
            raise self.translated(error) from error

    def batches(self, start: int, until: int) -> Iterator[list[StoredRow]]:
        """
        The entries from `start` (0: from the first, whatever its number) to before `until`, some at a time.

        Raises:
            JournalDamaged: also where a text is no UTF-8; `rows` shows such an entry.

        """
        return self.exactly(_ENTRIES, start or -(2**63), until)

    def exactly(self, sql: str, *values: object) -> Iterator[list[Any]]:
        """
        What this query finds, some rows at a time.

        Raises:
            JournalDamaged: also where a text is no UTF-8.

        """
        connection = self._open
        escaping, connection.text_factory = connection.text_factory, str
        try:
            cursor = connection.execute(sql, values)
            while rows := cursor.fetchmany(_SOME):
                yield rows
        except _UNREADABLE as error:
            raise self.translated(error) from error
        finally:
            connection.text_factory = escaping

    def ask(self, sql: str, *values: object) -> list[Any]:
        """
        What this query finds.

        Raises:
            JournalDamaged, JournalUnavailable: it can't be told.

        """
        return self._all(sql, *values)

    def plan(self, sql: str) -> list[str]:
        """How SQLite answers a query, step by step."""
        return [str(row[3]) for row in self._all(f"EXPLAIN QUERY PLAN {sql}")]

    def archive(self) -> tuple[int, bytes, int] | None:
        """
        If entries were archived: the position of the first one that was not, the state that was kept, the entry that tells of it.

        None of them is believed.
        """
        found = self._all("SELECT before, state, by FROM archive ORDER BY before DESC LIMIT 1")
        return found[0] if found else None

    def archived_streams(self) -> dict[str, int]:
        """How long the archived streams were that go on. Not believed."""
        return dict(self._all("SELECT stream, length FROM archived_stream"))

    def tile(self, level: int, n: int) -> bytes | None:
        """A stored tile."""
        found = self._all("SELECT data FROM tile WHERE level = ? AND n = ?", level, n)
        return found[0][0] if found else None

    def faults(self) -> list[str]:
        """What SQLite itself finds wrong, and rows that belong to nothing; at most a few."""
        found = [str(row[0]) for row in self._all("PRAGMA integrity_check(5)") if row[0] != "ok"]
        nulls = self._one("SELECT count(*) FROM entry WHERE typeof(leaf) <> 'blob'")
        if nulls:
            found.append(f"{nulls} leaves are no bytes")
        orphans = self._one("SELECT count(*) FROM payload WHERE seq NOT IN (SELECT seq FROM entry)")
        if orphans:
            found.append(f"{orphans} bodies belong to no entry")
        lacking = self._one(
            "SELECT count(*) FROM entry WHERE seq NOT IN (SELECT seq FROM payload) AND seq NOT IN (SELECT seq FROM erasure)"
        )
        return found + self.faults_beside(lacking)

    def faults_beside(self, lacking: int = 0) -> list[str]:
        """The part of `faults` that is about anything but entries and bodies; `lacking` of these are gone, and not told of as erased."""
        found = schema.faults(self._all(schema.SELECT))
        wrong = [seq for seq, type_, body in self._all(_ERASURES) if type_ != "payload.erased" or _said_erased(body) != seq]
        if wrong:
            found.append(
                f"its index of erasures names an entry that does not say so, for entry {wrong[0]} and {len(wrong) - 1} more"
            )
        kept = self._one(
            "SELECT count(*) FROM erasure WHERE seq IN (SELECT seq FROM payload) OR seq NOT IN (SELECT seq FROM entry)"
        )
        if kept or lacking:
            found.append(f"its index of erasures has {kept} rows too many and lacks {lacking}")
        known = {seq for seq, *_ in self._all(_ERASURES)}
        archive = self.archive()
        unknown = [
            said
            for (body,) in self._all(_SAYINGS)
            if type(said := _said_erased(body)) is int and said not in known and not (archive is not None and said < archive[0])
        ]
        if unknown:
            found.append(f"its index of erasures lacks entry {unknown[0]} and {len(unknown) - 1} more that were erased")
        archives = self._one("SELECT count(*) FROM archive")
        if archives > 1:
            found.append(f"it tells of {archives} archives, and there is one at most")
        elif not archives and self._one("SELECT count(*) FROM archived_stream"):
            found.append(schema.NEVER_ARCHIVED)
        return found

    def erased(self) -> list[int]:
        """The entries whose bodies were erased, as the index of erasures says."""
        return [seq for (seq,) in self._all("SELECT seq FROM erasure")]

    def tiles(self) -> int:
        """How many tiles are stored."""
        return int(self._one("SELECT count(*) FROM tile"))

    def translated(self, error: Exception) -> JournalDamaged | JournalUnavailable:
        """Our error for one of SQLite's: what is read is damaged, or can't be reached."""
        if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _ELSEWHERE:
            return JournalUnavailable(f"the journal {self._path} can't be read: {error}")
        return JournalDamaged(f"{self._path} is damaged: {error}")

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalUnavailable(f"the snapshot of {self._path} was used outside its with block")
        return self._connection

    def _all(self, sql: str, *values: object) -> list[Any]:
        try:
            return self._open.execute(sql, values).fetchall()
        except _UNREADABLE as error:
            raise self.translated(error) from error

    def _one(self, sql: str) -> Any:
        return self._all(sql)[0][0]


def _said_erased(body: bytes | None) -> object:
    """The entry that the body of a ``payload.erased`` names."""
    try:
        return json.loads(body or b"")["seq"]
    except (ValueError, KeyError, TypeError):
        return None


_ELSEWHERE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM,
}
"""Result codes that say nothing about the content (https://www.sqlite.org/rescode.html)."""
