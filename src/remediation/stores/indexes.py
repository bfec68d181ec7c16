"""
Compares what the indexes of a journal list with its rows, without looking each row up.

SQLite's own check looks up each row in each index, all over the file: of a long journal, a third of what verification took. Here each
index is read once, from its beginning to its end. What it lists must be in order and, laid out by position, be the columns as they
were read beside the leaves (hashes of pieces of them are compared): then it lists each row, as it is, and nothing else. That no id
occurs twice, and that the positions in each stream have no gaps, is seen on the way. The two indexes that list few rows are asked for
each of these, and for how many they list.

Like the pieces of a replay, this only ever tells that all is well: whatever is wrong, or out of the ordinary, is left to SQLite's check.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from operator import lt
from typing import Any, NamedTuple

from remediation.errors import RemediationError
from remediation.stores import queries
from remediation.stores.snapshot import Snapshot

_TIME = len("2026-01-01T00:00:00.000Z")
_IDS = "SELECT event_id, seq FROM entry INDEXED BY sqlite_autoindex_entry_1 ORDER BY event_id"
_STREAMS = "SELECT stream, stream_seq, seq FROM entry INDEXED BY sqlite_autoindex_entry_2 ORDER BY stream, stream_seq"
_TIMES = "SELECT type, time, seq FROM entry INDEXED BY entry_type_time ORDER BY type, time"
_CELLS = "SELECT coalesce(sum(ncell), 0) FROM dbstat WHERE name = ?"
_ROTATION = "SELECT seq FROM entry INDEXED BY rotation WHERE type = 'key.rotated' AND seq = ?"


class Columns(NamedTuple):
    """The columns of a piece of the entries, in order: SHA-256 of each. Builtin values only, to be handed to another process."""

    ids: bytes
    streams: bytes
    positions: bytes
    kinds: dict[str, bytes]
    """By type: the positions of its entries, and behind them their times."""


class Collector:
    """Gathers the columns of rows that go by."""

    def __init__(self) -> None:
        self._ids, self._streams, self._positions = sha256(), sha256(), sha256()
        self._kinds: dict[str, tuple[array[int], list[str]]] = {}

    def take(self, columns: Sequence[Sequence[Any]]) -> bool:
        """
        Take some rows in; returns whether that could be done, as it can of all rows whose leaves are well.

        Args:
            columns: The columns of a `StoredRow`, of as many rows.

        """
        try:
            _, _, _, seqs, ids, streams, positions, types, times = columns
            self._ids.update(_lines(ids))
            self._streams.update(_lines(streams))
            self._positions.update(array("q", positions))
            kinds = self._kinds
            for type_ in {*types} - kinds.keys():
                kinds[type_] = array("q"), []
            for seq, type_, time in zip(seqs, types, times, strict=True):
                of_type, when = kinds[type_]
                of_type.append(seq)
                when.append(time)
        except (TypeError, ValueError, OverflowError):
            return False
        return True

    def columns(self) -> Columns:
        """What was gathered."""
        kinds = {type_: _kind(seqs, times) for type_, (seqs, times) in self._kinds.items()}
        return Columns(self._ids.digest(), self._streams.digest(), self._positions.digest(), kinds)


def listed(log: Snapshot, size: int, piece: int) -> list[Columns] | None:
    """
    What the three indexes that list all entries say of the first `size`, in pieces of `piece` entries.

    `None` if one is not in order, lists another number of entries, an id twice, or a stream with a gap.

    Raises:
        JournalDamaged, JournalUnavailable: they can't be read.

    """
    try:
        # Each is read from the index and nowhere else: else it would be the rows that are compared with themselves.
        if not all("COVERING INDEX" in step for sql in (_IDS, _STREAMS, _TIMES) for step in log.plan(sql)):
            return None
        ranges = [range(start, min(start + piece, size)) for start in range(0, size, piece)]
        ids = [sha256(_lines(each)).digest() for each in _split(_listed_ids(log, size), ranges)]
        names, places = _listed_streams(log, size)
        streams = [sha256(_lines(each)).digest() for each in _split(names, ranges)]
        positions = [sha256(places[each.start : each.stop]).digest() for each in ranges]
        return list(map(Columns, ids, streams, positions, _listed_kinds(log, size, ranges)))
    except (_OtherwiseError, IndexError, TypeError, ValueError, OverflowError):
        return None


def few_agree(log: Snapshot, strays: Sequence[tuple[int, str]], rotations: Sequence[int]) -> bool:
    """
    Whether the two indexes that list few entries list these, and no others: those with a `strays` correlation, and those of rotations.

    Where SQLite was built without dbstat, which tells how many they list, its own check of the table answers.
    """
    try:
        if log.ask(_CELLS, "entry_correlation") != [(len(strays),)] or log.ask(_CELLS, "rotation") != [(len(rotations),)]:
            return False
        by_correlation: dict[str, list[int]] = {}
        for seq, correlation in strays:
            by_correlation.setdefault(correlation, []).append(seq)
        return all(
            log.ask(queries.BY_CORRELATION_INDEX, correlation) == [(seq,) for seq in seqs]
            for correlation, seqs in by_correlation.items()
        ) and all(log.ask(_ROTATION, seq) == [(seq,)] for seq in rotations)
    except RemediationError:
        return log.ask("PRAGMA integrity_check(entry)") == [("ok",)]


class _OtherwiseError(Exception):
    """An index does not list what a sound one would."""


def _listed_ids(log: Snapshot, size: int) -> list[str | None]:
    names: list[str | None] = [None] * size
    last = ""
    for rows in log.exactly(_IDS):
        for id_, seq in rows:
            if not last < id_ or seq < 0:
                raise _OtherwiseError
            names[seq] = last = id_
    return names


def _listed_streams(log: Snapshot, size: int) -> tuple[list[str | None], array[int]]:
    names: list[str | None] = [None] * size
    places = array("q", bytes(8 * size))
    last, expected, before = "", 0, -1
    for rows in log.exactly(_STREAMS):
        for stream, position, seq in rows:
            if position:
                if stream != last or position != expected or seq <= before:
                    raise _OtherwiseError
                places[seq] = position
                expected += 1
            elif last < stream and seq >= 0:
                last, expected = stream, 1
            else:
                raise _OtherwiseError
            names[seq] = last
            before = seq
    return names, places


def _listed_kinds(log: Snapshot, size: int, ranges: Sequence[range]) -> list[dict[str, bytes]]:
    kinds: dict[str, tuple[array[int], list[bytes]]] = {}
    last: tuple[str, ...] = ("",)
    count = 0
    for rows in log.exactly(_TIMES):
        if not (last < rows[0] and all(map(lt, rows, islice(rows, 1, None)))):
            raise _OtherwiseError
        last = rows[-1]
        count += len(rows)
        for type_ in {row[0] for row in rows} if rows[0][0] != last[0] else {last[0]}:
            some: Iterable[Any] = rows if rows[0][0] == last[0] else (row for row in rows if row[0] == type_)
            _, moments, numbers_ = zip(*some, strict=True)
            if {*map(len, moments)} != {_TIME}:
                raise _OtherwiseError
            of_type, when = kinds.setdefault(type_, (array("q"), []))
            of_type.extend(numbers_)
            when.append("".join(moments).encode())
    if count != size:
        raise _OtherwiseError
    found: list[dict[str, bytes]] = [{} for _ in ranges]
    for type_, (seqs, when) in kinds.items():
        numbers, times = _by_position(seqs, b"".join(when))
        for kinds_of, each in zip(found, ranges, strict=True):
            begin, end = bisect_left(numbers, each.start), bisect_left(numbers, each.stop)
            if begin < end:
                kinds_of[type_] = _kind(numbers[begin:end], [times[begin * _TIME : end * _TIME].decode()])
    return found


def _by_position(seqs: array[int], times: bytes) -> tuple[array[int], bytes]:
    """Positions and times in the order of the positions: as they are, unless a clock was set back."""
    if all(map(lt, seqs, islice(seqs, 1, None))):
        return seqs, times
    pairs = sorted(zip(seqs, struct.iter_unpack(f"{_TIME}s", times), strict=True))
    return array("q", [seq for seq, _ in pairs]), b"".join(time for _, (time,) in pairs)


def _kind(seqs: array[int], times: Sequence[str]) -> bytes:
    return sha256(seqs.tobytes() + "".join(times).encode()).digest()


def _split(names: Sequence[str | None], ranges: Sequence[range]) -> Iterator[Sequence[str]]:
    for each in ranges:
        yield names[each.start : each.stop]  # type: ignore[misc]  # where an entry isn't listed, there will be a TypeError


def _lines(texts: Sequence[str]) -> bytes:
    """One behind the other, each with a line feed behind it, which none may hold."""
    text = "\n".join((*texts, ""))
    if text.count("\n") != len(texts):
        raise ValueError("a name with a line feed")
    return text.encode()
