"""
Reads what can still be read of a damaged journal, and says how much of it is proven.

Nothing is written: not even the write-ahead log is moved into the database, as it may be what somebody will want to look at.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from remediation.proof import Claims, Knowledge, NoteError, Replay, VerifierKey, claimed_size, judge, open_checkpoint
from remediation.stores.snapshot import StoredRow

_RANGE = """
SELECT e.leaf, p.salt, p.body, e.seq, e.event_id, e.stream, e.stream_seq, e.type, e.time
FROM entry e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq
"""
_STEP = 256


class Salvage:
    """
    The readable part of the journal at `path`, which may be missing, damaged, or no database at all: then it holds less, or nothing.

    A context manager. Non-guarantee: while somebody writes to the journal, its parts may be of different moments.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        if self._path.exists():
            with contextlib.suppress(sqlite3.Error):
                connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
                connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
                self._connection = connection
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def checkpoints(self) -> list[tuple[int, str]]:
        """The stored checkpoints, as far as they can be read, the smallest first."""
        found: list[tuple[int, str]] = []
        # From both ends: what is damaged may lie between.
        for sql in ("SELECT size, note FROM checkpoint ORDER BY size", "SELECT size, note FROM checkpoint ORDER BY size DESC"):
            with contextlib.suppress(sqlite3.Error):
                found.extend(self._rows(sql))
        return sorted(set(found))

    def size(self, *, at_least: int = 0) -> int:
        """How many entries there may be; `at_least` as many, if the database can't tell."""
        try:
            ((last,),) = self._rows("SELECT max(seq) FROM entry")
        except (sqlite3.Error, ValueError):
            return max([at_least, *(size for size, _ in self.checkpoints())])
        return 0 if last is None else int(last) + 1

    def archived(self) -> tuple[int, int, bytes] | None:
        """
        If entries were archived: how many, which entry says so, and what is folded from them. Of a journal of now only.

        What is folded is to be believed only if that entry names its SHA-256.
        """
        with contextlib.suppress(sqlite3.Error, ValueError):
            ((before, by, state),) = self._rows("SELECT before, by, state FROM archive")
            if isinstance(before, int) and isinstance(by, int) and isinstance(state, bytes):
                return before, by, state
        return None

    def row(self, seq: int) -> StoredRow | None:
        """One entry, if it can be read."""
        with contextlib.suppress(sqlite3.Error):
            for found in self._rows(_RANGE, seq, seq + 1):
                row: StoredRow = found
                return row
        return None

    def rows(self, until: int) -> Iterator[StoredRow]:
        """The entries before `until` that can be read, in order; damaged ones are left out."""
        for start in range(0, until, _STEP):
            stop = min(until, start + _STEP)
            try:
                some = list(self._rows(_RANGE, start, stop))
            except sqlite3.Error:
                some = []
                for seq in range(start, stop):
                    with contextlib.suppress(sqlite3.Error):
                        some += self._rows(_RANGE, seq, seq + 1)
            yield from some

    def _rows(self, sql: str, *values: object) -> Iterator[Any]:
        if self._connection is not None:
            for row in self._connection.execute(sql, values):  # noqa: UP028 - see `Snapshot.rows`
                yield row


def newest_signed(notes: Sequence[str], vkeys: Sequence[str]) -> str:
    """The one of `notes` over the most entries that one of `vkeys` signed for its own log; empty if there is none."""
    best, most = "", -1
    keys = [VerifierKey.parse(vkey) for vkey in vkeys]
    for note in notes:
        with contextlib.suppress(NoteError):
            size = open_checkpoint(note, keys, origin=keys[0].name).checkpoint.size
            if size > most:
                best, most = note, size
    return best


def provable(log: Salvage, size: int, vkeys: Sequence[str], head: str) -> int:
    """
    How many entries of `log`, from the first on, are proven by a checkpoint or by `head`, up to the first that is damaged.

    Args:
        log: Opened.
        size: Its `Salvage.size`.
        vkeys: The log's keys, the first one first; without any, nothing is proven.
        head: A signed head known from elsewhere; may be empty.

    """
    if not vkeys:
        return 0
    notes = {note: at for at, note in log.checkpoints() if _claims(note) == at}
    if head and (at := _claims(head)) is not None:
        notes[head] = at
    replay = Replay(VerifierKey.parse(vkeys[0]).name, watch=[at for at in notes.values() if at <= size])
    replay.feed(row for _, row in takewhile(lambda pair: pair[0] == pair[1][3], enumerate(log.rows(size))))
    # Not closed: a body that was erased is not missing because the entry that says so is among those that were lost.
    told = [replay.rotations[0].old if replay.rotations else vkeys[0], *(rotation.new for rotation in replay.rotations)]
    # Either may know more than the other: the list lags behind a rotation, and a log that was rolled back behind the list.
    chain = told if told[: len(vkeys)] == list(vkeys)[: len(told)] else list(vkeys)
    read = replay.size
    rotated = {rotation.size for rotation in replay.rotations}
    rotations = tuple(note for note, at in notes.items() if at in rotated)
    earlier = tuple(note for note, at in notes.items() if at not in rotated and at <= read)
    claims = Claims(tuple(chain), None, rotations, earlier)
    return judge(replay, claims, Knowledge(tuple(VerifierKey.parse(vkey) for vkey in vkeys), "home")).proven


def _claims(note: str) -> int | None:
    try:
        return claimed_size(note)
    except NoteError:
        return None


def some_checkpoints(path: Path) -> list[str]:
    """
    The checkpoints that stand in the file itself, newest first: at least the first one, which is written there when a journal is made.

    Nothing is opened beside it, so that nothing is made there. Empty if it can't be read.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            return [str(note) for (note,) in connection.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 100")]
    except (sqlite3.Error, UnicodeError):
        return []
