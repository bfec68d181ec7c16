"""Parts of a stored journal, for proofs and exports: each question reads only the rows that its answer needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from remediation.errors import EntryArchived, JournalDamaged
from remediation.proof import leaf_hash
from remediation.proof.tiles import WIDTH
from remediation.stores.snapshot import Snapshot, StoredRow

_RANGE = """
SELECT e.leaf, p.salt, p.body, e.seq, e.event_id, e.stream, e.stream_seq, e.type, e.time
FROM entry e LEFT JOIN payload p ON p.seq = e.seq WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq
"""
_ROTATIONS = "SELECT seq FROM entry WHERE type = 'key.rotated' AND seq < ? ORDER BY seq"


class Parts(Snapshot):
    """The journal at `path`, as of the moment when the `with` block is entered."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tiles: dict[tuple[int, int], bytes | None] = {}
        self.rows_read = 0
        """Rows that `leaves`, `cached_tile` and `entry` read so far; what proofs cost."""

    def require(self, size: int) -> None:
        """
        Refuse a journal that is shorter than its signed head.

        Raises:
            JournalDamaged: it has fewer than `size` entries.

        """
        if self.size() < size:
            raise JournalDamaged(
                f"{self._path} holds {self.size()} entries, its signed head is over {size}; run `remediation journal verify`"
            )

    def range(self, start: int, until: int) -> Iterator[StoredRow]:
        """
        The entries from `start` to before `until` in order, read as they are asked for.

        Raises:
            EntryArchived: one of them was archived.
            JournalDamaged: one of them is missing.

        """
        expected = start
        try:
            for row in self._open.execute(_RANGE, (start, until)):
                if row[0] is None or row[3] != expected:
                    break
                yield row
                expected += 1
        except sqlite3.Error as error:
            raise self.translated(error) from error
        if expected < until:
            self._refuse_archived(expected)
            raise JournalDamaged(f"{self._path}: entry {expected} is missing; run `remediation journal verify`")

    def entry(self, seq: int) -> StoredRow:
        """
        One entry.

        Raises:
            JournalDamaged: it is missing.

        """
        self.rows_read += 1
        return next(self.range(seq, seq + 1))

    def leaves(self, start: int, until: int) -> list[bytes]:
        """
        The leaves from `start` to before `until`.

        Raises:
            EntryArchived: one of them was archived.
            JournalDamaged: one of them is missing.

        """
        found = self._all("SELECT leaf FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq", start, until)
        self.rows_read += len(found)
        if len(found) != until - start:
            self._refuse_archived(start)
            raise JournalDamaged(f"{self._path}: entries between {start} and {until} are missing; run `remediation journal verify`")
        return [leaf for (leaf,) in found]

    def last_hashes(self, size: int) -> list[bytes]:
        """The leaf hashes of a tree of `size` leaves that no stored tile holds: those of its last ``size % 256`` leaves."""
        return [leaf_hash(leaf) for leaf in self.leaves(size - size % WIDTH, size)]

    def cached_tile(self, level: int, n: int) -> bytes | None:
        """A stored tile; read once, however often a proof asks for it."""
        if (level, n) not in self._tiles:
            self.rows_read += 1
            self._tiles[level, n] = self.tile(level, n)
        return self._tiles[level, n]

    def first_since(self, time: str, until: int) -> int:
        """Position of the first entry before `until` whose time is not before `time`; `until` if there is none."""
        found = self._all("SELECT min(seq) FROM entry WHERE time >= ? AND seq < ?", time, until)[0][0]
        return until if found is None else int(found)

    def erasures(self, start: int, until: int) -> list[int]:
        """Positions of the entries that say that bodies from `start` to before `until` were erased."""
        return [by for (by,) in self._all("SELECT by FROM erasure WHERE seq >= ? AND seq < ?", start, until)]

    def rotations(self, until: int) -> list[int]:
        """Positions of the entries before `until` that changed the signing key."""
        return [seq for (seq,) in self._all(_ROTATIONS, until)]

    def _refuse_archived(self, seq: int) -> None:
        archive = self.archive()
        if archive is not None and seq < archive[0]:
            raise EntryArchived(f"entry {seq} was archived: `remediation journal tail` says to which file")
