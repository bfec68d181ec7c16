"""What the journal asks of storage."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from remediation.journal.selection import EVERYTHING, Selection
from remediation.proof.tiles import Tile

PAGE = 512
"""Rows that are read at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as stored. `salt` and `body` are `None` when the payload was erased."""

    seq: int
    event_id: str
    stream: str
    stream_seq: int
    type: str
    time: str
    leaf: bytes
    salt: bytes | None
    body: bytes | None
    erasure: Row | None = None
    """Of an erased entry: the one that says so, and what was kept."""


@dataclass(frozen=True, slots=True)
class Erasing:
    """Removes the body and salt of the entry `seq`, for the sake of the entry `by`, which this commit writes and which says so."""

    seq: int
    by: int


@dataclass(frozen=True, slots=True)
class Archiving:
    """Removes the entries before `before` but rotations of the key, for the sake of the entry `by`, which this commit writes."""

    before: int
    state: bytes
    """What is folded from them."""
    streams: Mapping[str, int]
    """How long the streams were that go on."""
    by: int


@dataclass(frozen=True, slots=True)
class Base:
    """What is left of entries that were archived."""

    size: int
    """How many there were."""
    state: bytes
    """What is folded from them; believed only if `by` names its digest."""
    by: Row
    """The entry that says so."""
    streams: Mapping[str, int] = field(default_factory=dict)
    """How long the streams were that go on; believed only if `state` names the same."""


def streams_of(state: bytes) -> dict[str, int] | None:
    """How long the streams were, by the state that was kept of archived entries; `None` if it was kept before it named them."""
    try:
        found = json.loads(state)["streams"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class Unit:
    """All that one commit writes."""

    expected_size: int
    rows: Sequence[Row]
    tiles: Sequence[Tile]
    size: int
    note: str
    superseded: int | None
    """Size of the checkpoint that this one replaces, if it need not be kept."""
    erasing: Sequence[Erasing] = ()
    archiving: Archiving | None = None


class StreamTaken(Exception):
    """A unit would have put two entries at one place of a stream, or two under one id; nothing was written."""


class JournalStore(Protocol):
    """
    Entries, payloads, checkpoints and tiles.

    Guarantees: `commit` is atomic and durable when it returns, and refuses when the log is not at `expected_size`; reads see whole
    commits. The caller holds the writer lock around `commit` and `close`.
    """

    async def open(self) -> None:
        """
        Open; checks the format.

        Raises:
            JournalUnavailable, JournalTooNew, JournalDamaged.

        """

    async def close(self) -> None:
        """Close; safe to call twice."""

    async def head(self) -> tuple[int, str]:
        """The log's size and its newest checkpoint."""

    async def commit(self, unit: Unit) -> None:
        """
        Write a unit.

        Raises:
            StreamTaken: an entry's place or id is taken; nothing was written.
            JournalUnavailable: it was not written, or that is unknown: close, open and look.

        """

    async def rows(self, after: int, limit: int, wanted: Selection = EVERYTHING) -> list[Row] | None:
        """Up to `limit` of the wanted rows with seq > `after`, in order; `None` if that would take long: ask for their `positions`."""

    async def positions(self, after: int, limit: int, wanted: Selection, *, newest: bool = False) -> list[int]:
        """Up to `limit` positions > `after` of what is wanted: the first ones in order, or the `newest` ones in reverse order."""

    async def rows_at(self, positions: Sequence[int]) -> list[Row]:
        """The rows at these positions, in order; at most `PAGE` of them."""

    async def leaves(self, start: int, stop: int) -> list[bytes]:
        """The leaves start <= seq < stop."""

    async def tiles(self, wanted: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """The stored tiles among `wanted` (level, n)."""

    async def checkpoint(self, size: int) -> str | None:
        """The stored checkpoint of exactly this size."""

    async def rotations(self) -> list[Row]:
        """The entries of type ``key.rotated``, in order."""

    async def stream_lengths(self, streams: Sequence[str]) -> Mapping[str, int]:
        """How many entries each of `streams` has."""

    async def base(self) -> Base | None:
        """What is left of archived entries, if there are any."""

    async def restore(self, rows: Sequence[Row], tiles: Sequence[Tile]) -> None:
        """
        Bring archived entries back, all of them, and with them forget that they were archived. The caller holds the writer lock.

        Raises:
            JournalUnavailable: nothing was changed.

        """

    async def compact(self) -> None:
        """
        Give back the space of what was removed. The caller holds the writer lock.

        Raises:
            JournalUnavailable: it could not be; new entries will use the space.

        """

    async def flush(self) -> bool:
        """
        Bring the files to the content: nothing that was erased is left in any of them when this returns true.

        False: a reader still looks at an older state; try again. The caller holds the writer lock.

        Raises:
            JournalUnavailable: it can't be done.

        """

    async def mentioned(self, texts: Collection[str], *, before: int | None = None, since: int = 0) -> set[str]:
        """Those of `texts` (64 characters each, of ``0-9a-f``) that occur in a body with `since` <= seq < `before`."""

    async def by_ids(self, ids: Sequence[str]) -> Mapping[str, Row]:
        """The rows with these event ids."""
