"""
Tiles: how the hashes of a tree are cut up for storage and publication.

Geometry of C2SP tlog-tiles (c2sp.org/tlog-tiles, "Merkle Tree"): tile `n` of level 0 holds the leaf hashes from ``n * 256``; above,
each hash is the root of one full tile of the level below. A tile is full with 256 hashes (8,192 bytes); the last one of a level
may be partial.

A journal feeds a `TileWriter` with leaf hashes and stores what it yields. Partial tiles of level 0 are not stored, since their
hashes can be made from the leaves; those of higher levels are, each time they gain a hash (once in 256 leaves). So a writer is
restored by reading at most 255 leaves and one tile for each level above: 2 tiles for a million entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, Self

from remediation.proof.errors import TileMissing
from remediation.proof.merkle import HASH_BYTES, Frontier, HashSource, fold, root_of

HEIGHT = 8
WIDTH = 1 << HEIGHT
_LAST = WIDTH - 1

TileReader = Callable[[int, int], bytes | None]
"""``tile(level, n)``: the stored hashes of a tile, or `None`. It may hold more hashes than the tree of the size asked for."""


class Tile(NamedTuple):
    """What is to be stored at (level, n), in place of what is there: 1 to 256 hashes."""

    level: int
    n: int
    data: bytes

    @property
    def width(self) -> int:
        """The number of hashes; 256 is a full tile."""
        return len(self.data) // HASH_BYTES


def width_of(level: int, n: int, size: int) -> int:
    """How many hashes tile `n` of `level` holds in a tree of `size` leaves: 0 to 256."""
    return min(max((size >> (HEIGHT * level)) - n * WIDTH, 0), WIDTH)


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, n, width) of every tile of a tree of `size` leaves, level by level; the partial ones too."""
    level = 0
    while hashes := size >> (HEIGHT * level):
        for n in range(-(-hashes // WIDTH)):
            yield level, n, width_of(level, n, size)
        level += 1


def completed(old: int, new: int) -> Iterator[tuple[int, int]]:
    """(level, n) of the tiles that become full when a tree grows from `old` to `new` leaves, level by level."""
    level = 0
    while new >> (HEIGHT * (level + 1)):
        for n in range(old >> (HEIGHT * (level + 1)), new >> (HEIGHT * (level + 1))):
            yield level, n
        level += 1


def tile_path(level: int | str, n: int, width: int = WIDTH) -> str:
    """
    The resource path of a tile, e.g. ``tile/1/x001/x234/067.p/3``; level ``"entries"`` is an entry bundle.

    Raises:
        ValueError: outside the specification's ranges.

    """
    if not (level == "entries" or (isinstance(level, int) and 0 <= level <= 63)) or n < 0 or not 1 <= width <= WIDTH:
        raise ValueError(f"there is no tile {n} of width {width} at level {level}")
    groups = [f"{n % 1000:03}"]
    while n := n // 1000:
        groups.insert(0, f"x{n % 1000:03}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def entry_bundle(leaves: Iterable[bytes]) -> bytes:
    """
    The entry bundle of up to 256 leaves: each behind its length in two bytes, big-endian ("Log entries").

    Raises:
        ValueError: a leaf is longer than 65,535 bytes.

    """
    try:
        return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)
    except OverflowError as error:
        raise ValueError("a leaf in an entry bundle has at most 65,535 bytes") from error


def bundled_leaves(bundle: bytes) -> list[bytes] | None:
    """The leaves of an entry bundle; None if it is none."""
    leaves, at = [], 0
    while at < len(bundle):
        start = at + 2
        at = start + int.from_bytes(bundle[at:start], "big")
        leaves.append(bundle[start:at])
    return leaves if at == len(bundle) else None


class TileWriter:
    """
    A growing tree that says which tiles to store.

    Computes each hash once: it is the tree's frontier too. Pure: what `extend` returns has to be stored by the caller in the same
    transaction as the leaves; to take back a failed transaction, go on with a `copy` made before it. Mutable, not thread-safe.
    """

    __slots__ = ("_edges", "_size", "_subtrees")

    def __init__(self) -> None:
        """An empty tree; see `restore` for one that is stored."""
        self._size = 0
        self._subtrees: list[bytes] = []
        self._edges = [bytearray()]

    @classmethod
    def restore(cls, size: int, tile: TileReader, leaf_hashes: Sequence[bytes]) -> Self:
        """
        The writer of a stored tree of `size` leaves.

        Reads one tile for each level above 0 and hashes at most 255 pairs a level. Non-guarantee: storage is believed; compare
        `root` with the signed checkpoint.

        Args:
            size: Number of leaves.
            tile: Reads stored tiles.
            leaf_hashes: The hashes of the last ``size % 256`` leaves.

        Raises:
            TileMissing: storage lacks hashes that a tree of this size has.

        """
        if len(leaf_hashes) != size % WIDTH:
            raise TileMissing(
                f"a tree of {size} leaves needs the hashes of its last {size % WIDTH} leaves, {len(leaf_hashes)} were given"
            )
        edges = [bytearray().join(leaf_hashes)]
        while size >> (HEIGHT * len(edges)):
            level = len(edges)
            width = (size >> (HEIGHT * level)) & _LAST
            edges.append(bytearray(_stored(tile, level, size >> (HEIGHT * (level + 1)), width) if width else b""))
        writer = cls()
        writer._size = size
        writer._edges = edges
        for edge in reversed(edges):
            writer._subtrees += _subtrees_of(edge)
        return writer

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    @property
    def subtrees(self) -> tuple[bytes, ...]:
        """The hashes of the complete subtrees that the tree falls into, the largest first; see `Frontier`."""
        return tuple(self._subtrees)

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return fold(self._subtrees)

    def frontier(self) -> Frontier:
        """The tree's frontier, independent of this writer."""
        return Frontier(self._size, self._subtrees)

    def copy(self) -> Self:
        """An independent writer in the same state; costs a few microseconds."""
        twin = object.__new__(type(self))
        twin._size = self._size
        twin._subtrees = self._subtrees.copy()
        twin._edges = [edge.copy() for edge in self._edges]
        return twin

    def extend(self, leaf_hashes: Iterable[bytes]) -> list[Tile]:
        """
        Add leaves, given by their hashes; returns the tiles that became full, and the partial ones above level 0 that grew.

        A (level, n) occurs once; store it in place of what was there.
        """
        tiles: list[Tile] = []
        if isinstance(leaf_hashes, list) and len(leaf_hashes) == WIDTH and not self._edges[0]:
            self._edges[0] += b"".join(leaf_hashes)
            self._size += WIDTH
            self._complete(tiles, _tile_root(leaf_hashes))
            leaf_hashes = ()
        subtrees = self._subtrees
        pop, push = subtrees.pop, subtrees.append
        leaves = self._edges[0]
        size = self._size
        for leaf in leaf_hashes:
            leaves += leaf
            if size & _LAST == _LAST:
                self._size = size = size + 1
                node = leaf
                for _ in range(HEIGHT):
                    node = sha256(b"\x01" + pop() + node).digest()
                self._complete(tiles, node)
                continue
            bits = size
            size += 1
            node = leaf
            while bits & 1:
                node = sha256(b"\x01" + pop() + node).digest()
                bits >>= 1
            push(node)
        self._size = size
        finished = {tile.level for tile in tiles}
        tiles.extend(
            Tile(level, size >> (HEIGHT * (level + 1)), bytes(edge))
            for level, edge in enumerate(self._edges)
            if edge and level - 1 in finished
        )
        return tiles

    def _complete(self, tiles: list[Tile], node: bytes) -> None:
        """The newest leaf filled a tile of level 0, whose root is `node`: hand it up, through every level that it fills."""
        pop = self._subtrees.pop
        level = 0
        hashes = self._size >> HEIGHT
        while True:
            edge = self._edges[level]
            tiles.append(Tile(level, hashes - 1, bytes(edge)))
            edge.clear()
            level += 1
            if level == len(self._edges):
                self._edges.append(bytearray())
            self._edges[level] += node
            if hashes & _LAST:
                break
            for _ in range(HEIGHT):
                node = sha256(b"\x01" + pop() + node).digest()
            hashes >>= HEIGHT
        bits = hashes - 1
        while bits & 1:
            node = sha256(b"\x01" + pop() + node).digest()
            bits >>= 1
        self._subtrees.append(node)


def tile_hashes(size: int, tile: TileReader, leaf_hashes: Sequence[bytes]) -> HashSource:
    """
    A hash source over the stored tiles of a tree of `size` leaves, for proofs from storage.

    Args:
        size: Number of leaves.
        tile: Reads stored tiles; called once for each hash asked for.
        leaf_hashes: The hashes of the last ``size % 256`` leaves.

    The source raises TileMissing if storage lacks a hash. Non-guarantee: storage is believed; check the proof against a root.

    """

    def source(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, HEIGHT)
        count = 1 << height
        n, offset = divmod(index * count, WIDTH)
        if tile_level == 0 and n == size >> HEIGHT:
            return root_of(leaf_hashes[offset : offset + count])
        return root_of(_split(_stored(tile, tile_level, n, offset + count)[offset * HASH_BYTES :]))

    return source


def _stored(tile: TileReader, level: int, n: int, width: int) -> bytes:
    """The first `width` hashes of a stored tile."""
    data = tile(level, n)
    if data is None or len(data) < width * HASH_BYTES:
        found = "is not stored" if data is None else f"holds {len(data)} bytes"
        raise TileMissing(
            f"tile {n} of level {level} {found}, {width * HASH_BYTES} are needed: "
            "the stored tree is damaged; rebuild its tiles from the leaves"
        )
    return data[: width * HASH_BYTES]


def _split(hashes: bytes | bytearray) -> list[bytes]:
    return [bytes(hashes[at : at + HASH_BYTES]) for at in range(0, len(hashes), HASH_BYTES)]


def _tile_root(hashes: list[bytes]) -> bytes:
    """The root over the hashes of a full tile: quicker than one by one."""
    while len(hashes) > 1:
        pairs = iter(hashes)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return hashes[0]


def _subtrees_of(edge: bytearray) -> list[bytes]:
    """The roots of the complete subtrees that a tile's hashes fall into, the largest first."""
    frontier = Frontier()
    frontier.extend(_split(edge))
    return list(frontier.subtrees)
