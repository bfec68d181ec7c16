"""The folds of a journal: kept current by the writer, built anew from the journal, or taken from a snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

import structlog

from remediation.journal import encoding
from remediation.journal.snapshot import Restorable, Snapshot, SnapshotFile
from remediation.journal.store import Base, Row
from remediation.model.entries import Record
from remediation.ports.journal import Fold
from remediation.proof.errors import ProofError

SNAPSHOT_EVERY = 25_000
"""Entries between two snapshots while the journal is open; another one is made when it is closed."""


class RestorableFold(Fold, Restorable, Protocol):
    """A fold whose state can be kept in a snapshot."""


@runtime_checkable
class Grounded(Protocol):
    """A fold that can go on from what was kept when entries were archived. Others see the entries since then only."""

    def begin(self, content: bytes) -> None:
        """Become what was kept; see `remediation.core.ground`."""


class Folds:
    """
    All folds of one journal.

    Args:
        folds: Kept current.
        kept: One of them that is also kept in `snapshots`.
        snapshots: Where.

    """

    def __init__(
        self, folds: Sequence[Fold] = (), kept: RestorableFold | None = None, snapshots: SnapshotFile | None = None
    ) -> None:
        self._folds = tuple(folds) if kept is None or kept in folds else (*folds, kept)
        # A snapshot spares reading the journal only when every fold is in it.
        alone = kept is not None and len(self._folds) == 1
        self._kept = kept if alone else None
        self._snapshots = snapshots if alone else None
        self._saved = 0
        self._log = structlog.get_logger("remediation.journal")

    def __bool__(self) -> bool:
        return bool(self._folds)

    def apply(self, record: Record) -> None:
        """Take in the next entry."""
        for fold in self._folds:
            fold.apply(record)

    async def rebuild(
        self,
        size: int,
        root_at: Callable[[int], Awaitable[bytes]],
        rows: Callable[[int], AsyncIterable[Row]],
        base: Base | None = None,
    ) -> None:
        """
        Bring all folds to `size` entries: from the snapshot and what came after it, or from the beginning.

        Args:
            size: Entries of the log.
            root_at: The root of the tree at a size.
            rows: The rows after a position, up to `size`.
            base: What is left of archived entries.

        """
        for fold in self._folds:
            fold.reset()
        if not self._folds:
            return
        first = base.size if base is not None else 0
        start = await self._restored(size, first, root_at)
        if base is not None and start == first:
            for fold in self._folds:
                if isinstance(fold, Grounded):
                    fold.begin(base.state)
        async for row in rows(start - 1):
            self.apply(encoding.record(row))
        for fold in self._folds:
            fold.loaded()

    def save(self, size: int, root: bytes, *, closing: bool = False) -> None:
        """Keep a snapshot, if it is time for one. A failure is logged: it costs time at the next start, nothing else."""
        if self._snapshots is None or self._kept is None or size == self._saved:
            return
        if not closing and size - self._saved < SNAPSHOT_EVERY:
            return
        self._saved = size
        try:
            self._snapshots.store(Snapshot(size, root, self._kept.dump()))
        except Exception as error:
            self._log.warning("no snapshot could be kept; the next start reads the whole journal", error=str(error))

    async def _restored(self, size: int, first: int, root_at: Callable[[int], Awaitable[bytes]]) -> int:
        """How many entries the snapshot spares; `first`, as many as were archived, without one that fits this log."""
        found = self._snapshots.load() if self._snapshots is not None else None
        if found is None or self._kept is None or not first < found.size <= size:
            return first
        try:
            if await root_at(found.size) != found.root:
                return first
        except ProofError:
            return first  # what only this old size would need is not stored any more
        try:
            self._kept.restore(found.content)
        except Exception as error:
            self._log.warning("the snapshot can't be read; the whole journal is", error=str(error))
            self._kept.reset()
            return first
        self._saved = found.size
        return found.size
