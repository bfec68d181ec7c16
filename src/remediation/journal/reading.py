"""Reading the journal: needs no key and takes no lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Self

from remediation.errors import JournalDamaged
from remediation.journal import encoding
from remediation.journal.selection import EVERYTHING, Selection
from remediation.journal.store import PAGE, Base, JournalStore, Row, streams_of
from remediation.journal.tree import stored_tree
from remediation.model.entries import JournalArchived, Record

_POSITIONS = 128 * PAGE
_NO_LIMIT = 2**62
POLL = 0.05
"""Seconds between two looks for entries of other processes."""


class JournalReader:
    """Reads a store. An async context manager that opens and closes it."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store

    async def __aenter__(self) -> Self:
        await self._store.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def head(self) -> tuple[int, str]:
        """Number of entries, and the newest signed checkpoint as stored (not verified here)."""
        return await self._store.head()

    async def root(self, size: int) -> bytes:
        """
        The root over the first `size` entries, computed from what is stored, signed or not.

        Raises:
            ProofError: so many entries are not there, or their tree is damaged.

        """
        return (await stored_tree(self._store, size)).root()

    async def read(
        self,
        *,
        after: int = -1,
        stream: str | None = None,
        types: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        correlation: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Record]:
        """
        Stored entries with seq > `after`, in the log's order; see `remediation.ports.journal.Journal.read`.

        Raises:
            JournalDamaged: a body is not the one that was committed to.

        """
        wanted = Selection.of(stream=stream, types=types, since=since, until=until, correlation=correlation)
        async for row in rows_of(self._store, after=after, wanted=wanted, limit=limit):
            yield encoding.record(row)

    async def newest(
        self,
        number: int,
        *,
        stream: str | None = None,
        types: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        correlation: str | None = None,
    ) -> list[Record]:
        """
        The last `number` entries of which all that is given holds, oldest first; see `read`.

        Raises:
            JournalDamaged: a body is not the one that was committed to.

        """
        wanted = Selection.of(stream=stream, types=types, since=since, until=until, correlation=correlation)
        positions = (await self._store.positions(-1, number, wanted, newest=True))[::-1]
        pages = [positions[start : start + PAGE] for start in range(0, len(positions), PAGE)]
        return [encoding.record(row) for page in pages for row in await self._store.rows_at(page)]

    async def follow(self, *, after: int = -1) -> AsyncIterator[Record]:
        """Like `read`, then each new entry of any process, within about 50 ms; does not end by itself."""
        while True:
            async for made in self.read(after=after):
                after = made.seq
                yield made
            await asyncio.sleep(POLL)

    async def base(self) -> Base | None:
        """
        What is left of entries that were archived, if there are any.

        Raises:
            JournalDamaged: it is not what the entry that tells of it names.

        """
        return await base_of(self._store)

    async def rows(self, *, after: int = -1, until: int | None = None) -> AsyncIterator[Row]:
        """Rows as stored, for verification and export: seq > `after` and < `until`."""
        async for row in rows_of(self._store, after=after, until=until):
            yield row


async def base_of(store: JournalStore) -> Base | None:
    """See `JournalReader.base`."""
    base = await store.base()
    if base is None:
        return None
    entry = encoding.record(base.by).entry
    if (
        not isinstance(entry, JournalArchived)
        or entry.before != base.size
        or entry.snapshot_sha256 != sha256(base.state).hexdigest()
    ):
        raise JournalDamaged(
            f"the state that was kept of {base.size} archived entries is not the one that entry {base.by.seq} names; "
            "run `remediation journal verify`"
        )
    signed = streams_of(base.state)
    if signed is not None and signed != base.streams:
        raise JournalDamaged(
            f"how long streams were when {base.size} entries were archived is not what entry {base.by.seq} stands for: whatever is "
            "appended would stand at a wrong place; run `remediation journal verify`"
        )
    return base


async def rows_of(
    store: JournalStore,
    *,
    after: int = -1,
    until: int | None = None,
    wanted: Selection = EVERYTHING,
    limit: int | None = None,
) -> AsyncIterator[Row]:
    """The rows of `store` with `after` < seq < `until`, in order, `limit` at most."""
    left = limit if limit is not None else _NO_LIMIT
    while left > 0:
        page = await store.rows(after, min(PAGE, left), wanted)
        if page is None:
            async for row in _through_positions(store, after, until, wanted, left):
                yield row
            return
        for row in page:
            if until is not None and row.seq >= until:
                return
            yield row
        if len(page) < PAGE:
            return
        left -= len(page)
        after = page[-1].seq


async def _through_positions(
    store: JournalStore, after: int, until: int | None, wanted: Selection, left: int
) -> AsyncIterator[Row]:
    """As `rows_of`, for what no index has in the log's order: many positions are looked up at once, their rows page by page."""
    while left > 0:
        positions = await store.positions(after, min(_POSITIONS, left), wanted)
        for start in range(0, len(positions), PAGE):
            for row in await store.rows_at(positions[start : start + PAGE]):
                if until is not None and row.seq >= until:
                    return
                yield row
        if len(positions) < _POSITIONS:
            return
        left -= len(positions)
        after = positions[-1]
