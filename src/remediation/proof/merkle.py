"""
The Merkle tree of RFC 6962, section 2.1, with the proofs of RFC 9162, section 2.1.

Hash is SHA-256; a leaf is hashed behind a 0x00 byte and a pair of nodes behind 0x01, so that neither can pass for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Self

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves (RFC 6962, 2.1)."""

HashSource = Callable[[int, int], bytes]
"""``source(level, index)``: the hash of the complete subtree over the leaves from ``index << level``, 1 << level of them.

Level 0 are leaf hashes. Asked only for subtrees that lie wholly inside the tree that a proof is about.
"""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 || data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """
    The right edge of a growing tree: all that is needed to append a leaf and to know the root.

    Holds one hash for each bit that is set in the size, the largest subtree first. Appending costs one inner hash on average.
    Mutable and not thread-safe; `copy` is cheap (at most 64 references).
    """

    __slots__ = ("_size", "_subtrees")

    def __init__(self, size: int = 0, subtrees: Iterable[bytes] = ()) -> None:
        """
        Continue from the state that `size` and `subtrees` told earlier.

        Raises:
            ValueError: the number of hashes does not fit the size, or one is not 32 bytes long.

        """
        hashes = list(subtrees)
        if size < 0 or len(hashes) != size.bit_count() or any(len(item) != HASH_BYTES for item in hashes):
            raise ValueError(
                f"a tree of size {size} has one subtree hash of {HASH_BYTES} bytes for each bit that is set in its size"
            )
        self._size = size
        self._subtrees = hashes

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    @property
    def subtrees(self) -> tuple[bytes, ...]:
        """The hashes of the complete subtrees that the tree falls into, the largest first."""
        return tuple(self._subtrees)

    def append(self, leaf: bytes) -> None:
        """Add one leaf, given by its hash."""
        subtrees = self._subtrees
        bits = self._size
        self._size = bits + 1
        while bits & 1:
            leaf = sha256(b"\x01" + subtrees.pop() + leaf).digest()
            bits >>= 1
        subtrees.append(leaf)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add many leaves, given by their hashes."""
        subtrees = self._subtrees
        pop, push = subtrees.pop, subtrees.append
        size = self._size
        for leaf in leaves:
            bits = size
            size += 1
            node = leaf
            while bits & 1:
                node = sha256(b"\x01" + pop() + node).digest()
                bits >>= 1
            push(node)
        self._size = size

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return fold(self._subtrees)

    def copy(self) -> Self:
        """An independent frontier in the same state."""
        twin = object.__new__(type(self))
        twin._size = self._size
        twin._subtrees = self._subtrees.copy()
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frontier):
            return NotImplemented
        return self._size == other._size and self._subtrees == other._subtrees

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Frontier(size={self._size}, root={self.root().hex()})"


def fold(subtrees: Sequence[bytes]) -> bytes:
    """The root over subtrees of falling size, the last being the smallest."""
    if not subtrees:
        return EMPTY_ROOT
    root = subtrees[-1]
    for left in subtrees[-2::-1]:
        root = sha256(b"\x01" + left + root).digest()
    return root


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root of the tree over `leaf_hashes`."""
    frontier = Frontier()
    frontier.extend(leaf_hashes)
    return frontier.root()


def hashes_of(leaf_hashes: Sequence[bytes]) -> HashSource:
    """A hash source over leaf hashes in memory. Non-guarantee: it does not see leaves that are added to the sequence later."""
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return lambda level, index: levels[level][index]


def inclusion_proof(index: int, size: int, source: HashSource) -> list[bytes]:
    """
    The audit path that leads from leaf `index` to the root of the tree of `size` leaves (RFC 9162, 2.1.3.1), leaf end first.

    Raises:
        ValueError: the tree has no such leaf.

    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _left_width(end - start)
        if index < middle:
            path.append(_range_root(middle, end, source))
            end = middle
        else:
            path.append(_range_root(start, middle, source))
            start = middle
    path.reverse()
    return path


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the hash `leaf` stands at `index` in the tree of `size` leaves with `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last = index, size - 1
    node = leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and node == root


def consistency_proof(old: int, new: int, source: HashSource) -> list[bytes]:
    """
    The hashes that show that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 9162, 2.1.4.1).

    Empty for equal sizes, and for an empty old tree, of which everything is a continuation.

    Raises:
        ValueError: `old` is greater than `new`, or negative.

    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves is no prefix of one of {new}")
    path: list[bytes] = []
    if old == 0:
        return path
    start, end = 0, new
    while end != old:
        middle = start + _left_width(end - start)
        if old <= middle:
            path.append(_range_root(middle, end, source))
            end = middle
        else:
            path.append(_range_root(start, middle, source))
            start = middle
    if start:
        path.append(_range_root(start, end, source))
    path.reverse()
    return path


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """
    Whether `proof` shows that the tree of `old` leaves with `old_root` is a prefix of that of `new` with `new_root`.

    RFC 9162, 2.1.4.2; beyond it, equal sizes need equal roots, and the empty tree is a prefix of any, both with an empty proof.
    """
    if old < 0 or old > new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    nodes = list(proof)
    if old & (old - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position >>= 1
        last >>= 1
    left = right = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            left = node_hash(sibling, left)
            right = node_hash(sibling, right)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            right = node_hash(right, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and left == old_root and right == new_root


def _left_width(width: int) -> int:
    """The largest power of two below `width`: where RFC 6962 splits a tree."""
    return 1 << ((width - 1).bit_length() - 1)


def _range_root(start: int, end: int, source: HashSource) -> bytes:
    """The root over the leaves from `start` to before `end`, a range into which RFC 6962 splits some tree."""
    subtrees: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        subtrees.append(source(level, start >> level))
        start += 1 << level
    return fold(subtrees)
