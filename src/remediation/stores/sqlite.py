"""The journal in one SQLite file: WAL, ``synchronous=FULL``, one hop to the database thread for each commit."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from remediation.errors import JournalDamaged, JournalUnavailable
from remediation.journal.selection import EVERYTHING, Selection
from remediation.journal.store import Base, Row, StreamTaken, Unit
from remediation.proof.tiles import Tile
from remediation.stores import queries, schema, writing
from remediation.stores.filesystem import refuse_network_filesystem

T = TypeVar("T")
APPLICATION_ID = writing.APPLICATION_ID
FORMAT = writing.FORMAT
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_PARTING = 5.0
_PATIENCE_MS = 10_000


def create(path: Path, note: str) -> None:
    """
    Make a new, empty journal whose first checkpoint is `note` (size 0): whole and durable, or not at all.

    The caller makes sure that nobody else makes it at the same time.

    Raises:
        JournalUnavailable: the file exists, or can't be made here.

    """
    refuse_network_filesystem(path)
    if path.exists():
        raise JournalUnavailable(f"{path} exists already; a journal is never overwritten")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        for suffix in ("", "-wal", "-shm", "-journal"):
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
        writing.fill(unfinished, note)
        os.rename(unfinished, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except (sqlite3.Error, OSError) as error:
        raise JournalUnavailable(f"can't create the journal {path}: {error}") from error


class SqliteJournalStore:
    """See `remediation.journal.store.JournalStore`. With `readonly`, `commit` is not available, and no key or lock is needed."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        self._readonly = readonly
        self._writer: aiosqlite.Connection | None = None
        self._raw: writing.UnitConnection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._closed_because = "the journal is closed"

    async def open(self) -> None:
        if not self._path.exists():
            raise JournalUnavailable(f"there is no journal at {self._path}; `remediation init` makes one")
        refuse_network_filesystem(self._path)
        self._opened = self._identity()
        try:
            # A writable connection also for readers where allowed: the first reader of a WAL database must be able to recover it.
            self._reader = await self._connect(sqlite3.Connection)
            await self._check_format(self._reader)
            await self._reader.execute("PRAGMA query_only = ON")
            if not self._readonly:
                self._writer = await self._connect(self._make_raw)
                await self._configure(self._writer)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            await self.close()
            # Whoever reads meanwhile is told this too.
            self._closed_because = str(self._translated(error))
            raise self._translated(error) from error
        except BaseException:
            await self.close()
            raise
        self._closed_because = "the journal is closed"

    def _make_raw(self, *args: Any, **kwargs: Any) -> writing.UnitConnection:
        self._raw = writing.UnitConnection(*args, **kwargs)
        return self._raw

    async def _connect(self, factory: Any) -> aiosqlite.Connection:
        writable = os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK)
        address = f"{self._path.absolute().as_uri()}?mode={'rw' if writable else 'ro'}"
        connecting = aiosqlite.connect(
            address, uri=True, factory=factory, isolation_level=None, timeout=_PATIENCE_MS / 1000, cached_statements=256
        )
        # A host whose event loop ended before it could close must be able to end. Up to aiosqlite 0.21 the connection is the thread.
        thread: Any = getattr(connecting, "_thread", connecting)
        thread.daemon = True
        try:
            return await connecting
        except BaseException:
            # The thread ends by itself, with a last word to this loop, which must still be there.
            await asyncio.to_thread(thread.join, _PARTING)
            raise

    async def _check_format(self, connection: aiosqlite.Connection) -> None:
        application = await _one(connection, "PRAGMA application_id")
        version = await _one(connection, "PRAGMA user_version")
        schema.refuse_format(self._path, application, version)
        odd = schema.faults([(str(row[0]), row[1]) for row in await connection.execute_fetchall(schema.SELECT)])
        if odd:
            raise JournalDamaged(f"{self._path} is no journal as this program makes it: {'; '.join(odd)}")

    async def _configure(self, connection: aiosqlite.Connection) -> None:
        mode = await _one(connection, "PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = FULL")
        await connection.execute(writing.TIDY)
        await connection.execute(writing.SELDOM)
        synchronous = await _one(connection, "PRAGMA synchronous")
        if mode != "wal" or synchronous != 2:
            raise JournalUnavailable(f"{self._path}: SQLite gave journal_mode={mode}, synchronous={synchronous}, not WAL and FULL")

    async def close(self) -> None:
        writer, self._writer, self._raw = self._writer, None, None
        reader, self._reader = self._reader, None
        for connection in (reader, writer):
            if connection is not None:
                try:
                    await connection.close()
                except (sqlite3.Error, ValueError):
                    continue

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    async def head(self) -> tuple[int, str]:
        rows = await self._query(
            "SELECT coalesce((SELECT max(seq) FROM entry), -1) + 1, (SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1)"
        )
        size, note = rows[0]
        if not isinstance(note, str):
            raise JournalDamaged(f"{self._path} holds no checkpoint")
        return size, note

    async def commit(self, unit: Unit) -> None:
        if self._writer is None or self._raw is None:
            raise JournalUnavailable("the journal is not open for writing")
        if self._identity() != self._opened:
            # SQLite would go on writing to the file that it opened, and what is appended there would be lost.
            raise JournalUnavailable(f"{self._path} was removed or exchanged while it was open; put the host's own file back")
        self._raw.unit = functools.partial(writing.write, unit)
        try:
            await self._writer.commit()
        except sqlite3.IntegrityError as error:
            raise StreamTaken(str(error)) from error
        except (sqlite3.Error, ValueError) as error:
            raise self._translated(error) from error

    async def rows(self, after: int, limit: int, wanted: Selection = EVERYTHING) -> list[Row] | None:
        query = queries.page(after, limit, wanted)
        return None if query is None else await self._rows(*query)

    async def positions(self, after: int, limit: int, wanted: Selection, *, newest: bool = False) -> list[int]:
        (last,) = (await self._query("SELECT max(seq) FROM entry"))[0]
        near = last is None or last - after <= queries.NEAR
        query = queries.positions(after, limit, wanted, near=near, newest=newest)
        return [seq for (seq,) in await self._query(*query)]

    async def rows_at(self, positions: Sequence[int]) -> list[Row]:
        return await self._rows(queries.at(len(positions)), positions) if positions else []

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        return await self._with_erasures([queries.row(*row) for row in await self._query(sql, values)])

    async def leaves(self, start: int, stop: int) -> list[bytes]:
        rows = await self._query("SELECT leaf FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq", (start, stop))
        if not all(isinstance(leaf, bytes) for (leaf,) in rows):
            raise JournalDamaged(f"{self._path}: an entry from {start} on has no leaf; run `remediation journal verify`")
        return [leaf for (leaf,) in rows]

    async def tiles(self, wanted: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        found = {}
        for level, n in wanted:
            for (data,) in await self._query("SELECT data FROM tile WHERE level = ? AND n = ?", (level, n)):
                found[level, n] = data if isinstance(data, bytes) else b""
        return found

    async def checkpoint(self, size: int) -> str | None:
        rows = await self._query("SELECT note FROM checkpoint WHERE size = ?", (size,))
        return rows[0][0] if rows else None

    async def rotations(self) -> list[Row]:
        # The type is written out, so that SQLite knows that the partial index will do.
        return [
            queries.row(*row)
            for row in await self._query(f"SELECT {queries.COLUMNS} {queries.FROM} WHERE e.type = 'key.rotated' ORDER BY e.seq")
        ]

    async def stream_lengths(self, streams: Sequence[str]) -> Mapping[str, int]:
        lengths = dict.fromkeys(streams, 0)
        for some in _batches(streams, 500):
            marks = ", ".join("?" * len(some))
            sql = f"SELECT stream, max(stream_seq) + 1 FROM entry WHERE stream IN ({marks}) GROUP BY stream"  # noqa: S608 - marks only
            lengths.update(await self._query(sql, tuple(some)))
            # Rotations of the key outlive their stream's other entries, so that both may know of a stream.
            archived = f"SELECT stream, length FROM archived_stream WHERE stream IN ({marks})"  # noqa: S608 - marks only
            lengths.update({stream: max(length, lengths[stream]) for stream, length in await self._query(archived, tuple(some))})
        return lengths

    async def by_ids(self, ids: Sequence[str]) -> Mapping[str, Row]:
        found: dict[str, Row] = {}
        for some in _batches(ids, 500):
            marks = ", ".join("?" * len(some))
            for row in await self._query(f"SELECT {queries.COLUMNS} {queries.FROM} WHERE e.event_id IN ({marks})", tuple(some)):
                found[row[1]] = queries.row(*row)
        return found

    async def _with_erasures(self, rows: list[Row]) -> list[Row]:
        """`rows`, the erased ones with the entries that say so."""
        erased = [row.seq for row in rows if row.body is None]
        if not erased:
            return rows
        sayings: dict[int, Row] = {}
        for some in _batches(erased, 500):
            marks = ", ".join("?" * len(some))
            sql = f"SELECT x.seq, {queries.COLUMNS} FROM erasure x JOIN entry e ON e.seq = x.by LEFT JOIN payload p ON p.seq = e.seq WHERE x.seq IN ({marks})"  # noqa: S608, E501 - constants and marks only
            sayings.update({seq: queries.row(*row) for seq, *row in await self._query(sql, tuple(some))})
        return [replace(row, erasure=sayings.get(row.seq)) if row.body is None else row for row in rows]

    async def base(self) -> Base | None:
        found = await self._query("SELECT before, by, state FROM archive ORDER BY before DESC LIMIT 1")
        streams = dict(await self._query("SELECT stream, length FROM archived_stream"))
        if not found:
            if streams:
                raise JournalDamaged(f"{self._path}: {schema.NEVER_ARCHIVED}; run `remediation journal verify`")
            return None
        ((before, by, state),) = found
        rows = await self.rows_at([by])
        if not rows:
            raise JournalDamaged(
                f"{self._path}: entry {by}, which tells of an archive, is missing: run `remediation journal verify`"
            )
        return Base(before, state, rows[0], streams)

    async def restore(self, rows: Sequence[Row], tiles: Sequence[Tile]) -> None:
        if self._writer is None or self._raw is None:
            raise JournalUnavailable("the journal is not open for writing")
        self._raw.unit = functools.partial(writing.restore, rows, tiles)
        try:
            await self._writer.commit()
        except (sqlite3.Error, ValueError) as error:
            raise self._translated(error) from error

    async def compact(self) -> None:
        if self._writer is None:
            raise JournalUnavailable("the journal is not open for writing")
        try:
            await self._writer.execute("VACUUM")
        except (sqlite3.Error, ValueError) as error:
            raise self._translated(error) from error

    async def flush(self) -> bool:
        if self._writer is None:
            raise JournalUnavailable("the journal is not open for writing")
        try:
            # Others wait for the writer lock meanwhile: better ask again than wait long.
            await self._writer.execute("PRAGMA busy_timeout = 100")
            rows = list(await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)"))
            await self._writer.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return False
            raise self._translated(error) from error
        except (sqlite3.Error, ValueError) as error:
            raise self._translated(error) from error
        return not rows[0][0]

    async def mentioned(self, texts: Collection[str], *, before: int | None = None, since: int = 0) -> set[str]:
        wanted = {text.encode() for text in texts}
        found: set[bytes] = set()
        after = since - 1
        while wanted - found:
            sql = "SELECT seq, body FROM payload WHERE seq > ? AND seq < ? ORDER BY seq LIMIT 512"
            page = await self._query(sql, (after, 2**62 if before is None else before))
            if not page:
                break
            after = page[-1][0]
            for _, body in page:
                found.update(wanted.intersection(_DIGEST.findall(body)))
        return {text.decode() for text in found}

    async def _query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        if self._reader is None:
            raise JournalUnavailable(self._closed_because)
        try:
            return list(await self._reader.execute_fetchall(sql, parameters))
        except (sqlite3.Error, ValueError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        # SQLite quotes its schema in errors, which is no text any more when it is damaged.
        garbled = isinstance(error, UnicodeDecodeError)
        if garbled or (
            isinstance(error, sqlite3.DatabaseError) and re.search("malformed|not a database|corrupt|decode", str(error))
        ):
            return JournalDamaged(f"{self._path} is damaged ({error}); `remediation journal verify` says what is still proven")
        return JournalUnavailable(
            f"the journal {self._path} can't be used: {error}. Nothing more is applied until it can; check disk space and permissions"
        )


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


async def _one(connection: aiosqlite.Connection, sql: str) -> Any:
    rows = list(await connection.execute_fetchall(sql))
    return rows[0][0]
