"""Reading the journal: needs no key and takes no lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Self

from remediation.journal import encoding
from remediation.journal.store import JournalStore, Row
from remediation.journal.tree import stored_tree
from remediation.model.entries import Record

PAGE = 512
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
        self, *, after: int = -1, stream: str | None = None, types: Sequence[str] = (), limit: int | None = None
    ) -> AsyncIterator[Record]:
        """
        Stored entries with seq > `after`, in order. `stream` ending in ``/`` means all streams that begin so.

        Raises:
            JournalDamaged: a body is not the one that was committed to.

        """
        async for row in rows_of(self._store, after=after, stream=stream, types=types, limit=limit):
            yield encoding.record(row)

    async def follow(self, *, after: int = -1) -> AsyncIterator[Record]:
        """Like `read`, then each new entry of any process, within about 50 ms; does not end by itself."""
        while True:
            async for made in self.read(after=after):
                after = made.seq
                yield made
            await asyncio.sleep(POLL)

    async def rows(self, *, after: int = -1, until: int | None = None) -> AsyncIterator[Row]:
        """Rows as stored, for verification and export: seq > `after` and < `until`."""
        async for row in rows_of(self._store, after=after, until=until):
            yield row


async def rows_of(
    store: JournalStore,
    *,
    after: int = -1,
    until: int | None = None,
    stream: str | None = None,
    types: Sequence[str] = (),
    limit: int | None = None,
) -> AsyncIterator[Row]:
    """The rows of `store` with `after` < seq < `until`, page by page, in order; filters as in `JournalReader.read`."""
    left = limit if limit is not None else float("inf")
    while left > 0:
        page = await store.rows(after, int(min(PAGE, left)), stream=stream, types=types)
        for row in page:
            if until is not None and row.seq >= until:
                return
            yield row
        if len(page) < PAGE:
            return
        left -= len(page)
        after = page[-1].seq
