"""
Reading a damaged table: in the order of its keys, from both ends, and by rowid between damaged places.

Each damaged page costs the rows below it, and no others. Keys must ascend, so that rubbish is not taken for rows. Values are handed
out as they are stored, TEXT that is not UTF-8 too. Used by `walk` in its own process: standard library only.
"""

# ruff: noqa: S608 - names of foreign tables can't be parameters; `quoted` quotes them
from __future__ import annotations

import heapq
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

LOW, HIGH = -(2**63), 2**63 - 1
_PROBES = 3000
"""Failed attempts to read between two damaged places of a table, at most."""
_INTERRUPT = 9


class Text(bytes):
    """A TEXT value as it is stored; a BLOB is plain bytes."""

    __slots__ = ()


@dataclass
class Outcome:
    """What became of one table."""

    name: str
    clean: bool = True
    """Read from its first row to its last without an error."""
    error: str = ""
    read: int = 0


@dataclass
class Table:
    """A table of the new database, and how to read it from the old one."""

    name: str
    columns: list[str]
    key: str
    """The rowid's name; empty for a WITHOUT ROWID table."""
    primary: list[str] = field(default_factory=list)

    def select(self, where: str, order: str) -> str:
        """A query for the key, if there is one, and the columns."""
        names = [self.key, *map(quoted, self.columns)] if self.key else [quoted(name) for name in self.columns]
        return f"SELECT {', '.join(names)} FROM {quoted(self.name)} NOT INDEXED {where} {order}"

    def insert(self, values: Sequence[Any]) -> str:
        """The statement for one row; what is still `Text` is no UTF-8 and goes in as its bytes."""
        names = [self.key, *map(quoted, self.columns)] if self.key else [quoted(name) for name in self.columns]
        marks = ["CAST(? AS TEXT)" if isinstance(value, Text) else "?" for value in values]
        return f"INSERT OR IGNORE INTO {quoted(self.name)} ({', '.join(names)}) VALUES ({', '.join(marks)})"


class Reader:
    """Reads from one database until a time on the monotonic clock."""

    def __init__(self, path: str, until: float) -> None:
        self.expired = False
        self.source = sqlite3.connect(path, isolation_level=None)
        self.source.text_factory = Text
        # One malformed definition then hides only itself, and a file that was cut off can be opened.
        for pragma in ("writable_schema = ON", "trusted_schema = OFF", "cell_size_check = ON"):
            self.source.execute(f"PRAGMA {pragma}")
        self.source.set_progress_handler(lambda: time.monotonic() > until, 20_000)

    def rows(self, table: Table, outcome: Outcome) -> Iterator[tuple[Any, ...]]:
        """Every row that can be read, each once for tables with a rowid."""
        if not table.key:
            order = ", ".join(f"{quoted(name)} DESC" for name in table.primary)
            yield from self.unkeyed(table, outcome, "")
            if not outcome.clean and order:
                yield from self.unkeyed(table, outcome, f"ORDER BY {order}")
            return
        last = yield from self.span(table, outcome, LOW, HIGH, up=True)
        if outcome.clean:
            return
        low = LOW if last is None else last + 1
        first = yield from self.span(table, outcome, low, HIGH, up=False)
        high = HIGH if first is None else first - 1
        if low > LOW and high < HIGH:
            yield from self.fill(table, outcome, low, high, _PROBES)
            return
        for power in range(45):  # ever wider windows away from what could be read, or from 0
            near, far, probes = 2**power - 1, 2 ** (power + 1) - 2, 200 if power < 20 else 20
            start = low if low > LOW else 0
            if high == HIGH:
                yield from self.fill(table, outcome, start + near, min(start + far, HIGH), probes)
            if low == LOW:
                end = high if high < HIGH else -1
                yield from self.fill(table, outcome, max(end - far, LOW), end - near, probes)

    def fill(self, table: Table, outcome: Outcome, low: int, high: int, probes: int) -> Iterator[tuple[Any, ...]]:
        """Rows between two damaged places, from the middle of the widest gap on."""
        gaps = [(low - high, low, high)]
        while gaps and probes > 0 and not self.expired:
            _, low, high = heapq.heappop(gaps)
            before = outcome.error
            outcome.error = ""
            last = yield from self.span(table, outcome, low, high, up=True)
            if outcome.error:
                outcome.error = ""
                low = low if last is None else last + 1
                first = yield from self.span(table, outcome, low, high, up=False)
                high = high if first is None else first - 1
                if outcome.error and low < high:
                    probes -= 1
                    middle = (low + high) // 2
                    heapq.heappush(gaps, (low - middle, low, middle))
                    heapq.heappush(gaps, (middle + 1 - high, middle + 1, high))
            outcome.error = before

    def unkeyed(self, table: Table, outcome: Outcome, order: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a WITHOUT ROWID table, from one end until an error."""
        query, number, outcome.error = table.select("", order), 0, ""
        for row in self.read(table, outcome, query, ()):
            number += 1
            yield row
        if outcome.error:
            yield from self.read(table, outcome, f"{query} LIMIT 1 OFFSET ?", (number,))

    def span(self, table: Table, outcome: Outcome, low: int, high: int, *, up: bool) -> Any:
        """
        The rows with keys from `low` to `high` until an error; returns the last key that was read.

        The row before the error is asked for alone: this library looks for the next row before it hands out one.
        """
        last, before, outcome.error = None, outcome.error, ""
        query = table.select(f"WHERE {table.key} BETWEEN ? AND ?", f"ORDER BY {table.key} {'ASC' if up else 'DESC'}")
        for ending in ("", " LIMIT 1"):
            for row in self.read(table, outcome, query + ending, (low, high)):
                key = row[0]
                if not isinstance(key, int) or not low <= key <= high:
                    outcome.clean, outcome.error = False, f"{table.name}: keys are out of order"
                    break
                last, low, high = (key, key + 1, high) if up else (key, low, key - 1)
                yield row
            if not outcome.error or low > high:
                break
        outcome.error = outcome.error or before
        return last

    def read(self, table: Table, outcome: Outcome, query: str, bounds: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query until an error."""
        try:
            yield from self.source.execute(query, bounds)
        except (sqlite3.Error, MemoryError) as error:
            outcome.clean, outcome.error = False, f"{table.name}: {error}"
            self.expired = self.expired or getattr(error, "sqlite_errorcode", 0) & 0xFF == _INTERRUPT


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'
