"""
The pages of a database file as they are stored (file format, sections 1.3, 1.5 and 1.6), read without SQLite.

A page counts as intact only if each of its bytes is accounted for, as in SQLite's own integrity check: rubbish does not pass for rows.
Used by `walk` in its own process: standard library only.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAF, INTERIOR = 0x0D, 0x05
"""Of tables with a rowid. Nothing else begins with a leaf's byte: overflow and trunk pages begin with four bytes of a page's number."""
_MOST = 0x0C000000
"""Pages; with more, such a number could begin with that byte."""
_CLASSES = ("null", *["integer"] * 6, "real", "integer", "integer")
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)


@dataclass(frozen=True)
class Leaf:
    """What lies on an intact leaf page."""

    page: int
    rows: int
    first: int
    """The lowest rowid."""
    last: int
    fewest: int
    """Values in its shortest row."""
    classes: tuple[frozenset[str], ...]
    """By column: which storage classes occur."""


class Pages:
    """
    The pages of one file that nobody changes.

    Raises:
        ValueError: the header makes no sense, or there are too many pages.

    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        size = int.from_bytes(data[16:18], "big")
        self.size = 65536 if size == 1 else size
        if self.size < 512 or self.size & (self.size - 1):
            raise ValueError(f"a page has {self.size} bytes")
        self.usable = self.size - data[20]
        inside, said = len(data) // self.size, self._number(28)
        if not said or data[24:28] != data[92:96]:
            said = inside  # as SQLite takes it
        self.count = min(said, inside)
        """Pages of the database that are there; what may follow in the file is not part of it."""
        self.named = max(said, inside)
        """The highest number that a page may refer to."""
        if self.named > _MOST:
            raise ValueError(f"it has {self.named} pages")

    def kind(self, page: int) -> int:
        """The byte that tells what it is."""
        return self._data[(page - 1) * self.size + (100 if page == 1 else 0)]

    def has(self, page: int) -> bool:
        """Whether it is there, and may be referred to."""
        return 2 <= page <= self.count

    def _number(self, offset: int) -> int:
        return int.from_bytes(self._data[offset : offset + 4], "big")

    # -- free pages

    def free(self) -> set[int] | None:
        """The free pages by the list of them, or `None` if that list is damaged."""
        found: set[int] = set()
        trunk, total = self._number(32), self._number(36)
        while trunk:
            listed = self.listed(trunk)
            if listed is None or len(found) > total:
                return None
            named = {trunk, *listed}
            if len(named) <= len(listed) or named & found:
                return None
            found |= named
            trunk = self._number((trunk - 1) * self.size)
        return found if len(found) == total else None

    def listed(self, page: int) -> list[int] | None:
        """What this page says is free, if it can be a part of the list of free pages."""
        if not self.has(page):
            return None
        base = (page - 1) * self.size
        following, length = self._number(base), self._number(base + 4)
        if length > self.usable // 4 - 2 or not (following == 0 or self.has(following)):
            return None
        listed = [self._number(base + 8 + 4 * index) for index in range(length)]
        return listed if all(self.has(number) for number in listed) else None

    # -- pages of trees

    def interior(self, page: int) -> list[tuple[int, int]] | None:
        """
        The children of an intact interior page: each with the highest rowid that may lie below it. For the last one that is `HIGH`.

        `None` for a page that is anything else.
        """
        data, head = self._page(page)
        if data[head] != INTERIOR:
            return None
        found, spans = [], []
        for offset in self._pointers(data, head, 12):
            key, end = _varint(data, offset + 4)
            found.append((int.from_bytes(data[offset : offset + 4], "big"), _signed(key)))
            spans.append((offset, end))
        found.append((int.from_bytes(data[head + 8 : head + 12], "big"), 2**63 - 1))
        keys = [key for _, key in found]
        sound = (
            (len(found) > 1 or page == 1)
            and all(2 <= child <= self.named for child, _ in found)
            and len({child for child, _ in found}) == len(found)
            and all(low < high for low, high in pairwise(keys[:-1]))
            and self._filled(data, head, 12, spans)
        )
        return found if sound else None

    def leaf(self, page: int) -> Leaf | None:
        """What lies on an intact leaf page of a table; `None` for a page that is anything else."""
        data, head = self._page(page)
        if data[head] != LEAF:
            return None
        spans: list[tuple[int, int]] = []
        keys: list[int] = []
        classes: list[set[str]] = []
        fewest = 2**31
        for offset in self._pointers(data, head, 8):
            size, start = _varint(data, offset)
            key, start = _varint(data, start)
            local, end = self._local(size, start)
            if end > start + local and not self.has(int.from_bytes(data[end - 4 : end], "big")):
                return None
            row = _record(data[start : start + local], size)
            if row is None:
                return None
            keys.append(_signed(key))
            spans.append((offset, end))
            fewest = min(fewest, len(row))
            classes += [set() for _ in range(len(row) - len(classes))]
            for column, name in zip(classes, row, strict=False):
                column.add(name)
        ascending = all(low < high for low, high in pairwise(keys))
        if not ascending or not self._filled(data, head, 8, spans):
            return None
        first, last = (keys[0], keys[-1]) if keys else (0, 0)
        return Leaf(page, len(keys), first, last, fewest, tuple(frozenset(column) for column in classes))

    def _page(self, page: int) -> tuple[bytes, int]:
        base = (page - 1) * self.size
        return bytes(self._data[base : base + self.usable]), 100 if page == 1 else 0

    def _pointers(self, data: bytes, head: int, start: int) -> Iterable[int]:
        number = int.from_bytes(data[head + 3 : head + 5], "big")
        for offset in range(head + start, min(head + start + 2 * number, self.usable - 1), 2):
            yield int.from_bytes(data[offset : offset + 2], "big")

    def _local(self, size: int, start: int) -> tuple[int, int]:
        """How much of a row lies on its leaf page, and where its cell ends."""
        if size <= self.usable - 35:
            return size, start + size
        least = (self.usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (self.usable - 4)
        local = local if local <= self.usable - 35 else least
        return local, start + local + 4

    def _filled(self, data: bytes, head: int, start: int, cells: Sequence[tuple[int, int]]) -> bool:
        """Whether cells, free blocks and the number of stray bytes make up the page exactly."""
        number, content = (int.from_bytes(data[head + at : head + at + 2], "big") for at in (3, 5))
        content = content or 65536
        if number != len(cells) or content < head + start + 2 * number or content > self.usable:
            return False
        spans = [(offset, max(end, offset + 4)) for offset, end in cells]
        block, before = int.from_bytes(data[head + 1 : head + 3], "big"), 0
        while block:
            if block < before or block + 4 > self.usable:
                return False
            before = block + int.from_bytes(data[block + 2 : block + 4], "big")
            if before < block + 4:
                return False
            spans.append((block, before))
            block = int.from_bytes(data[block : block + 2], "big")
        stray, at = 0, content
        for offset, end in sorted(spans):
            if offset < at or end > self.usable:
                return False
            stray, at = stray + offset - at, end
        return stray + self.usable - at == data[head + 7]


def _record(data: bytes, size: int) -> list[str] | None:
    """The storage classes of a row of `size` bytes; `None` if it is none, or its header goes beyond `data`."""
    header, at = _varint(data, 0)
    if not at <= header <= len(data):
        return None
    found, content = [], 0
    while at < header:
        kind, at = _varint(data, at)
        if kind in (10, 11):
            return None
        found.append(_CLASSES[kind] if kind < 10 else "text" if kind % 2 else "blob")
        content += _SIZES[kind] if kind < 10 else (kind - 12) // 2
    return found if at == header and header + content == size else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends; beyond the end of `data` are zeroes."""
    value = 0
    for index in range(9):
        byte = data[at] if at < len(data) else 0
        at += 1
        if index == 8:
            return value << 8 | byte, at
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
