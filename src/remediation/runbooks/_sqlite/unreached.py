"""
Leaf pages that are intact, and that only a damaged page referred to: whose rows they hold, and how SQLite is made to read them.

SQLite reaches a page through the pages above it; with one interior page, hundreds of leaves are out of reach. They are still in the
file, and each page of a sound file has one place: in one tree, in a chain of overflow pages, or in the list of free pages. So a leaf
that is in no tree and not free lay below a page that can't be read. It is given back to a table only if it fits there and nowhere
else: the table lacks a part of its tree, its rowids fall into what is missing, and its values are such as the columns allow. A wrong
row is worse than a lost one: where that can't be told, and wherever the file contradicts itself, rows are counted and left out.

Used by `walk` in its own process: standard library only.
"""

from __future__ import annotations

import mmap
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from remediation.runbooks._sqlite.pages import INTERIOR, LEAF, Leaf, Pages
from remediation.runbooks._sqlite.reading import HIGH, LOW, Table, quoted

SCHEMA = "sqlite_schema"
_ANY = frozenset({"null", "integer", "real", "text", "blob"})


@dataclass(frozen=True)
class Column:
    """What may be stored in one column."""

    classes: frozenset[str]
    optional: bool
    """Whether old rows may end before it, because it was added later."""


def stored(database: sqlite3.Connection, table: Table) -> list[Column]:
    """What may lie in a row of a table: a rowid that has a name is stored as NULL, and TEXT columns hold no numbers."""
    columns = []
    for _, name, kind, required, default, primary, hidden in database.execute(f"PRAGMA table_xinfo({quoted(table.name)})"):
        if hidden not in (0, 3):
            continue  # generated as it is read
        text = "INT" not in kind.upper() and any(part in kind.upper() for part in ("CHAR", "CLOB", "TEXT"))
        classes = _ANY - {"integer", "real"} if text else _ANY
        if hidden == 0 and name not in table.columns:
            classes = frozenset({"null"})
        elif required:
            classes -= {"null"}
        columns.append(Column(classes, optional=not primary and not hidden and not (required and default is None)))
    return columns


@dataclass(frozen=True)
class Gap:
    """The rowids that lay below a page that can't be read."""

    table: str
    low: int
    high: int


@dataclass
class Unreached:
    """What no tree reaches."""

    taken: dict[str, list[Leaf]] = field(default_factory=dict)
    """By table, in the order of their rowids: leaves that can only be of that table."""
    left: list[Leaf] = field(default_factory=list)
    why: str = ""
    """Why those are left; empty if none are."""

    @property
    def rows(self) -> int:
        """Rows that are left out."""
        return sum(leaf.rows for leaf in self.left)


class Survey:
    """
    Looks through one file.

    Args:
        path: The file; no connection has it open, and no write-ahead log lies beside it.
        roots: The root page of every table.
        shapes: The columns of each table with a rowid, as they are stored; a table that is missing here may hold anything.
        unsure: Why free pages can't be told from others; empty if they can.

    """

    def __init__(self, path: str, roots: Mapping[str, int], shapes: Mapping[str, Sequence[Column]], unsure: str = "") -> None:
        self._path = path
        self._roots = {SCHEMA: 1, **roots}
        self._shapes = shapes
        self._unsure = unsure
        self._reached: set[int] = set()
        self._gaps: list[Gap] = []
        self._leaves: list[tuple[int, Gap]] = []
        """Pages that say of themselves that they are leaves, and the place of each."""

    def look(self, until: float) -> Unreached:
        """
        Find the leaves.

        Raises:
            OSError, ValueError: the file can't be looked through.
            TimeoutError: it is later than `until` on the monotonic clock.

        """
        with open(self._path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pages = Pages(data)
            for name, root in self._roots.items():
                self._climb(pages, name, root, until)
            free = pages.free()
            leaves: list[Leaf] = []
            claimed: set[int] = set()
            for page in range(2, pages.count + 1):
                if page % 1024 == 0 and time.monotonic() > until:
                    raise TimeoutError
                if page in self._reached or (free is not None and page in free):
                    continue
                kind = pages.kind(page)
                if kind == LEAF and (leaf := pages.leaf(page)) and leaf.rows:
                    leaves.append(leaf)
                elif kind == 0:
                    claimed.update(pages.listed(page) or ())
            if leaves:
                self._look_at_leaves(pages, until)
        if free is None or not claimed.isdisjoint(leaf.page for leaf in leaves):
            self._unsure = self._unsure or "the list of free pages is damaged, and deleted rows could be among them"
        elif not free.isdisjoint(self._reached):
            self._unsure = self._unsure or "pages that are in use are listed as free"
        return self._given(sorted(leaves, key=lambda leaf: leaf.first))

    def _climb(self, pages: Pages, table: str, root: int, until: float) -> None:
        waiting = [(root, LOW, HIGH)]
        while waiting:
            page, low, high = waiting.pop()
            if time.monotonic() > until:
                raise TimeoutError
            if page in self._reached:
                self._unsure = self._unsure or f"more than one place refers to page {page}"
                continue
            there = page == 1 or pages.has(page)
            kind = pages.kind(page) if there else 0
            if page == root and kind in (0x02, 0x0A) and table not in self._shapes:
                continue  # WITHOUT ROWID
            children = pages.interior(page) if there and kind == INTERIOR else None
            if children and all(low <= key <= high for _, key in children[:-1]):
                for child, key in children:
                    waiting.append((child, low, min(key, high)))
                    low = key + 1
            elif kind == LEAF:
                self._leaves.append((page, Gap(table, low, high)))
            else:
                self._gaps.append(Gap(table, low, high))
                continue
            self._reached.add(page)

    def _look_at_leaves(self, pages: Pages, until: float) -> None:
        """Rubbish may begin with the byte of a leaf: such a page may have been one that led to others."""
        for page, place in self._leaves:
            if time.monotonic() > until:
                raise TimeoutError
            leaf = pages.leaf(page)
            if leaf is None:
                self._gaps.append(place)
            elif leaf.rows and not (place.low <= leaf.first and leaf.last <= place.high):
                self._unsure = self._unsure or f"page {page} is not where it belongs"

    def _given(self, leaves: Sequence[Leaf]) -> Unreached:
        """Give each leaf to the one table that it fits."""
        found = Unreached()
        if self._unsure and not self._gaps:
            return found  # free pages, as far as anybody can tell
        if self._unsure or any(gap.table == SCHEMA for gap in self._gaps):
            found.left = list(leaves)
            found.why = self._unsure or "the schema is damaged, and they could be of a table that it lacks"
            return found
        for leaf in leaves:
            fitting = {gap.table for gap in self._gaps if gap.low <= leaf.first and leaf.last <= gap.high and self._fits(leaf, gap)}
            if len(fitting) == 1 and (name := fitting.pop()) in self._shapes:
                found.taken.setdefault(name, []).append(leaf)
            else:
                found.left.append(leaf)
                found.why = "they fit more than one table that lacks pages, or none"
        for name, given in found.taken.items():
            # Of two leaves that overlap, one is no part of the table any more, and which can't be told.
            double = {leaf.page for pair in _overlapping(given) for leaf in pair}
            found.left += [leaf for leaf in given if leaf.page in double]
            found.taken[name] = [leaf for leaf in given if leaf.page not in double]
            found.why = found.why or ("they contradict each other" if double else "")
        return found

    def _fits(self, leaf: Leaf, gap: Gap) -> bool:
        columns = self._shapes.get(gap.table)
        if columns is None:
            return True
        return (
            len(leaf.classes) <= len(columns)
            and all(column.optional for column in columns[leaf.fewest :])
            and all(there <= column.classes for there, column in zip(leaf.classes, columns, strict=False))
        )


def _overlapping(leaves: Sequence[Leaf]) -> list[tuple[Leaf, Leaf]]:
    found = []
    widest: Leaf | None = None
    for leaf in leaves:
        if widest is not None and leaf.first <= widest.last:
            found.append((widest, leaf))
        if widest is None or leaf.last > widest.last:
            widest = leaf
    return found


def plant(path: str, taken: Mapping[str, Sequence[Leaf]]) -> dict[str, int]:
    """
    Put a new tree over the leaves of each table, at the end of a copy; returns the root pages, which no schema refers to yet.

    Without leaves nothing is done. The copy is not to be used for anything but reading from then on: its free pages and its pointer map
    are forgotten.
    """
    roots: dict[str, int] = {}
    if not any(taken.values()):
        return roots
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pages = Pages(data)
    with open(path, "r+b") as copy:
        last = pages.count
        for name, leaves in ((name, leaves) for name, leaves in taken.items() if leaves):
            level = [(leaf.page, leaf.last) for leaf in leaves]
            width = (pages.usable - 12) // 15 + 1
            while len(level) > 1:
                above = []
                for start in range(0, len(level), width):
                    children = level[start : start + width]
                    if len(children) == 1:  # a page needs two children; this one's depth does not matter to a reader
                        above.append(children[0])
                        continue
                    last += 2 if last + 1 == 0x40000000 // pages.size + 1 else 1  # SQLite never uses the page with its locks
                    copy.seek((last - 1) * pages.size)
                    copy.write(_interior(children, pages.usable).ljust(pages.size, b"\0"))
                    above.append((last, children[-1][1]))
                level = above
            roots[name] = level[0][0]
        for offset, number in ((28, last), (32, 0), (36, 0), (52, 0)):
            copy.seek(offset)
            copy.write(number.to_bytes(4, "big"))
        copy.truncate(last * pages.size)
    return roots


def _interior(children: Sequence[tuple[int, int]], usable: int) -> bytes:
    page = bytearray(usable)
    at, pointers = usable, []
    for child, key in children[:-1]:
        cell = child.to_bytes(4, "big") + _as_varint(key)
        at -= len(cell)
        page[at : at + len(cell)] = cell
        pointers.append(at.to_bytes(2, "big"))
    header = bytes([INTERIOR, 0, 0]) + len(pointers).to_bytes(2, "big") + (at % 65536).to_bytes(2, "big") + b"\0"
    start = header + children[-1][0].to_bytes(4, "big") + b"".join(pointers)
    page[: len(start)] = start
    return bytes(page)


def _as_varint(value: int) -> bytes:
    value %= 2**64
    if value >= 2**56:
        return bytes([0x80 | value >> shift & 0x7F for shift in range(57, 7, -7)]) + bytes([value & 0xFF])
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(0x80 | value & 0x7F)
    return bytes(reversed(parts))
