"""A journal's stored tiles, each proven by the signed root before it is handed out."""

from __future__ import annotations

from remediation.errors import JournalDamaged
from remediation.proof import Checkpoint, TileMissing, TileWriter, leaf_hash, root_of, width_of
from remediation.proof.merkle import HASH_BYTES
from remediation.proof.tiles import WIDTH
from remediation.stores.parts import Parts

_KEPT = 64
"""Tiles kept in memory: the newest of each level, mostly."""


class ProvenTiles:
    """
    The tiles above level 0 of the tree of a signed head.

    Its edge leads to the root, and every full tile is a hash in the tile above it. So what is altered in the database is never taken for
    what was signed. Reads as many tiles as a level has for what is asked in order.

    Raises:
        JournalDamaged: the stored tiles, or the last entries, don't lead to the head's root.
        EntryArchived: the last entries are not in the journal.

    """

    def __init__(self, parts: Parts, head: Checkpoint) -> None:
        self.size = head.size
        self._parts = parts
        self._kept: dict[tuple[int, int], bytes] = {}
        try:
            root = TileWriter.restore(head.size, parts.tile, self._last_hashes(head.size)).root()
        except TileMissing as error:
            raise JournalDamaged(f"{error}; run `remediation journal verify`") from error
        if root != head.root:
            raise JournalDamaged(
                f"the journal's entries don't lead to the root that was signed over {head.size} of them; run `remediation journal verify`"
            )

    def tile(self, level: int, n: int) -> bytes:
        """
        The hashes that tile `n` of `level`, which is 1 or more, holds in this tree.

        Raises:
            JournalDamaged: they are not what was signed.

        """
        if (level, n) in self._kept:
            return self._kept[level, n]
        width = width_of(level, n, self.size)
        data = self._parts.tile(level, n)
        # A partial one is of the edge, from which the root was made.
        if (
            not isinstance(data, bytes)
            or len(data) < width * HASH_BYTES
            or (width == WIDTH and root_of(_split(data)) != self._above(level, n))
        ):
            raise JournalDamaged(
                f"the journal's tile {n} of level {level} does not lead to the root that was signed over {self.size} entries; "
                "run `remediation journal verify`"
            )
        while len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[level, n] = found = data[: width * HASH_BYTES]
        return found

    def root_of_full(self, n: int) -> bytes:
        """The root of the full tile `n` of level 0."""
        return self._above(0, n)

    def root(self, size: int) -> bytes:
        """The root of the tree when it had `size` leaves, this tree's size at most."""
        return TileWriter.restore(size, self.tile, self._last_hashes(size)).root()

    def _above(self, level: int, n: int) -> bytes:
        return self.tile(level + 1, n // WIDTH)[n % WIDTH * HASH_BYTES :][:HASH_BYTES]

    def _last_hashes(self, size: int) -> list[bytes]:
        return [leaf_hash(leaf) for leaf in self._parts.leaves(size - size % WIDTH, size)]


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
