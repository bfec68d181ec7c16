"""
Replays a journal as it lies in its database, and compares the stored tiles on the way: as a whole, or in pieces that are joined.

A piece is as many entries as lie under one hash of level 2 of the tiles, so that the pieces' roots make the rest of the tree. Pieces
only ever tell that all is well: a journal in which anything is wrong is replayed as a whole, which says what.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from remediation.proof import Frontier, ProblemCode, Replay, TileWriter
from remediation.proof.merkle import HASH_BYTES, root_of
from remediation.proof.replay import Piece
from remediation.proof.tiles import WIDTH
from remediation.stores import indexes
from remediation.stores.indexes import Collector, Columns
from remediation.stores.snapshot import Snapshot

PIECE = WIDTH * WIDTH


def replay(log: Snapshot, size: int, origin: str, watch: Iterable[int]) -> Replay:
    """The first `size` entries, read once, in order, with everything that is wrong with them and with the stored tiles."""
    tree = _TiledTree(log)
    made = Replay(origin, frontier=tree, watch=watch)
    made.feed(log.rows(size))
    made.close()
    surplus = tree.surplus()
    for level, n in tree.wrong:
        made.problems.add(ProblemCode.TILE, f"the stored tile {n} of level {level} is not that of the entries")
    if surplus > 0:
        made.problems.add(ProblemCode.TILE, f"{surplus} more tiles are stored than the entries make")
    return made


class Part(NamedTuple):
    """A piece, and what it has to do with tiles. Builtin values only."""

    piece: Piece
    tiles: int
    """How many full tiles of the levels 0 and 1 are stored as they must be."""
    edge: bytes
    """The hashes of the last, partial tile of level 1, if there is one."""
    columns: Columns


def part(log: Snapshot, number: int, size: int, origin: str, watch: Sequence[int]) -> Part | None:
    """
    The piece `number` of the first `size` entries; `None` if anything is wrong with it.

    Raises:
        JournalDamaged, JournalUnavailable: the database can't be read.

    """
    start = number * PIECE
    end = min(start + PIECE, size)
    tree = _PieceTree(log, start)
    made = Replay(origin, start=start, frontier=tree, watch=[at for at in watch if start < at <= end], places=False)
    columns = Collector()
    for rows in log.batches(start, end):
        turned = tuple(zip(*rows, strict=True))
        made.feed_many(rows, turned)
        if not columns.take(turned):
            return None
    piece = made.piece()
    if piece is None or piece.size != end or tree.wrong:
        return None
    return Part(piece, tree.compared, tree.edge, columns.columns())


def settled(log: Snapshot, size: int) -> list[Columns] | None:
    """
    What the indexes list, piece by piece; `None` if anything is wrong with the database itself, as far as it shows without the entries.

    Raises:
        JournalDamaged, JournalUnavailable: the database can't be read.

    """
    if log.ask("PRAGMA quick_check(1)") != [("ok",)] or log.faults_beside():
        return None
    return indexes.listed(log, size, PIECE)


def joined(log: Snapshot, parts: Sequence[Part], index: Sequence[Columns], size: int, origin: str) -> Replay | None:
    """
    The replay of the first `size` entries from all their parts, in order; `None` if anything is wrong.

    Args:
        log: Open.
        parts: From `part`.
        index: From `settled`.
        size: The number of entries.
        origin: The log.

    """
    made = Replay(origin, watch=[0])
    base, hashes, tiles, edge = Frontier(), [], 0, b""
    for piece, compared, partial, _ in parts:
        states = {at: _hashes(state) for at, state in piece.roots.items()}
        roots = {}
        for at, state in states.items():
            if at == piece.start + PIECE:
                base.append(state[0])
                hashes.append(state[0])
                roots[at] = base.root()
            else:
                roots[at] = Frontier(at, (*base.subtrees, *state)).root()
        if not made.absorb(piece, roots):
            return None
        tiles += compared
        edge = partial
    made.close()
    if made.size != size or made.problems.listed:
        return None
    for level, n, data in _upper(hashes, edge, size):
        tiles += 1
        if log.tile(level, n) != data:
            return None
    return made if log.tiles() == tiles and _stored_well(log, parts, index, size - made.erased) else None


def _stored_well(log: Snapshot, parts: Sequence[Part], index: Sequence[Columns], bodies: int) -> bool:
    """Whether the indexes list the entries, each body belongs to one, and the index of erasures knows all that are gone."""
    strays = [each for part in parts for each in part.piece.strays]
    rotations = [at - 1 for part in parts for at, _, _ in part.piece.rotations]
    return (
        [part.columns for part in parts] == list(index)
        and indexes.few_agree(log, strays, rotations)
        and log.ask("SELECT count(*) FROM payload") == [(bodies,)]
        and {seq for part in parts for seq in part.piece.missing}.issubset(log.erased())
    )


def _upper(hashes: list[bytes], edge: bytes, size: int) -> Iterator[tuple[int, int, bytes]]:
    """The tiles of level 2 and above, and the partial one of level 1, of a tree of `size` leaves whose pieces have these roots."""
    if edge:
        yield 1, size // PIECE, edge
    level = 2
    while hashes:
        above = []
        for start in range(0, len(hashes), WIDTH):
            some = hashes[start : start + WIDTH]
            yield level, start // WIDTH, b"".join(some)
            if len(some) == WIDTH:
                above.append(root_of(some))
        hashes = above
        level += 1


def _hashes(state: bytes) -> list[bytes]:
    return [each for (each,) in struct.iter_unpack(f"{HASH_BYTES}s", state)]


class _TiledTree(Frontier):
    """The tree that a replay grows, which compares the stored tiles with those of the entries on the way: each hash is made once."""

    def __init__(self, log: Snapshot) -> None:
        super().__init__()
        self._log = log
        self._writer = TileWriter()
        self._partial: dict[tuple[int, int], bytes] = {}
        self.compared = 0
        self.wrong: list[tuple[int, int]] = []
        """(level, n) of stored tiles that are missing or other ones."""

    @property
    def size(self) -> int:
        return self._writer.size

    def extend(self, leaves: Iterable[bytes]) -> None:
        for tile in self._writer.extend(leaves):
            if tile.width < WIDTH:
                self._partial[tile.level, tile.n] = tile.data
            else:
                self._partial.pop((tile.level, tile.n), None)
                self._compare(*tile)

    def root(self) -> bytes:
        return self._writer.root()

    def copy(self) -> Self:
        # A replay copies the frontier that it is given; this one is its own already.
        return self

    def surplus(self) -> int:
        """To be called at the end: how many more tiles are stored than the entries make."""
        for (level, n), data in self._partial.items():
            self._compare(level, n, data)
        return self._log.tiles() - self.compared

    def _compare(self, level: int, n: int, data: bytes) -> None:
        self.compared += 1
        if self._log.tile(level, n) != data:
            self.wrong.append((level, n))


class _PieceTree(_TiledTree):
    """The tree of a piece that begins at `start`. What it calls its root are the subtrees that it falls into, one behind the other."""

    def __init__(self, log: Snapshot, start: int) -> None:
        super().__init__(log)
        self._start = start

    @property
    def size(self) -> int:
        return self._start + self._writer.size

    def root(self) -> bytes:
        return b"".join(self._writer.subtrees)

    @property
    def edge(self) -> bytes:
        """The hashes of the last tile of level 1, if it isn't full."""
        return self._partial.get((1, 0), b"")

    def _compare(self, level: int, n: int, data: bytes) -> None:
        if level < 2:
            super()._compare(level, n + (self._start >> 8 * (level + 1)), data)
