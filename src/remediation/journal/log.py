"""The log as this process has it: storage, tree, head and folds, brought forward together under the writer lock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from remediation.errors import JournalDamaged
from remediation.journal import encoding
from remediation.journal.folding import Folds
from remediation.journal.head import HeadNote
from remediation.journal.lock import WriterLock
from remediation.journal.placing import Placing, Request
from remediation.journal.reading import base_of, rows_of
from remediation.journal.store import Archiving, Erasing, JournalStore, Row, Unit
from remediation.journal.tree import SignedTree, stored_tree
from remediation.model.base import timestamp
from remediation.model.entries import KeyRotated, Position
from remediation.ports.clock import Clock


@dataclass(slots=True)
class Progress:
    """How much is committed, and who waits for more."""

    committed: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def announce(self, size: int) -> None:
        """`size` entries are committed: wake whoever waits."""
        self.committed = size
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


class Log:
    """
    Brought forward by `commit`, by what other processes committed, or by reading everything anew.

    The caller holds `lock` around every method, and calls `load` before anything else, and again after anything failed.
    """

    def __init__(self, store: JournalStore, tree: SignedTree, lock: WriterLock, head: HeadNote, clock: Clock, folds: Folds) -> None:
        self._store = store
        self._lock = lock
        self._head = head
        self._clock = clock
        self._folds = folds
        self._placing = Placing()
        self.tree = tree
        self.progress = Progress()
        self.unpublished = ""
        """The newest note, while `head.note` is behind it."""
        self.broken: BaseException | None = None
        """What failed last; `load` mends it."""

    async def catch_up(self) -> None:
        """
        Bring the log to what is stored: whatever failed before, and whoever wrote meanwhile.

        Raises:
            JournalError: it can't be; nothing may be committed.

        """
        if self.broken is not None:
            await self._store.close()
            await self._store.open()
            await self.load()
        elif self._lock.size_hint() != self.tree.size:
            await self._take_in()

    async def _take_in(self) -> None:
        """Fold what others committed, and check that it continues our tree."""
        size, note = await self._store.head()
        tree = self.tree
        if size < tree.size:
            raise JournalDamaged(
                f"the journal has {size} entries where {tree.size} were committed; it was replaced under a running host"
            )
        rows = [row async for row in rows_of(self._store, after=tree.size - 1, until=size)]
        start = 0
        for number, row in enumerate(rows, 1):
            if row.type == KeyRotated.type:
                tree.extend([each.leaf for each in rows[start:number]])
                await tree.turn(self._store, row)
                start = number
        tree.extend([row.leaf for row in rows[start:]])
        tree.check(note)
        await tree.arm()
        for row in rows:
            self._placing.saw(row.stream, row.stream_seq)
            self._folds.apply(encoding.record(row))
        self.unpublished = note
        self.progress.announce(size)
        self._lock.mark(size)

    async def load(self) -> None:
        """
        Read everything anew: the tree, the head, and all folds.

        Raises:
            JournalUnavailable, JournalTooNew, JournalDamaged, JournalRolledBack: the log can't be used.

        """
        size, note = await self._store.head()
        head = self._head.read()
        self.tree.require(size, note, self._head.acknowledged(self.tree.origin))
        await self.tree.load(self._store, size, note, head)
        await self.tree.check_head(self._store, head)
        if self.unpublished:
            await self.tree.check_head(self._store, self.unpublished)
        self._placing.forget()
        base = await base_of(self._store)
        await self._folds.rebuild(size, self._root_at, lambda after: rows_of(self._store, after=after, until=size), base)
        self.unpublished = note
        self.broken = None
        self._lock.mark(size)
        self.progress.announce(size)

    async def _root_at(self, size: int) -> bytes:
        return (await stored_tree(self._store, size)).root()

    async def commit(self, batch: list[Request], *, trusting: bool) -> None:
        """
        Commit what can be placed of `batch`, and answer its callers; see `Placing.look_up` for `trusting`.

        Raises:
            StreamTaken: a caller that was trusted was wrong; nothing was committed, and the log has to be loaded.
            JournalUnavailable: nothing was committed, or that is unknown; the log has to be loaded.

        """
        await self._placing.look_up(self._store, batch, trusting=trusting)
        time = timestamp(self._clock.now())
        placed: list[tuple[Request, Position]] = []
        refused: list[tuple[Request, Exception]] = []
        rows: list[Row] = []
        erasing: list[Erasing] = []
        archiving: Archiving | None = None
        tree = self.tree
        seq = tree.size
        for request in batch:
            try:
                position, new = self._placing.place(request, tree.origin, seq, time, tree.actor)
            except Exception as error:
                refused.append((request, await self._placing.refusal(self._store, request, error)))
                continue
            rows += [row for row, _ in new]
            erasing += [Erasing(erased, row.seq) for erased, (row, _) in zip(request.erases, new, strict=False)]
            if request.archives is not None and new:
                archiving = replace(request.archives, by=seq)
            seq += len(new)
            # Folded at once, so that the guard of the next request sees it; a failed commit reads everything anew.
            for _, made in new:
                self._folds.apply(made)
            placed.append((request, position))
        if rows:
            old = tree.size
            successor = placed[-1][0].successor if placed and placed[-1][0] is batch[-1] else None
            tiles, note = tree.grow([row.leaf for row in rows], successor)
            superseded = tree.superseded(old, time)
            if superseded is not None and self._head.size() == superseded:
                superseded = None
            self._lock.mark(None)
            await self._store.commit(Unit(old, rows, tiles, tree.size, note, superseded, erasing, archiving))
            self._lock.mark(tree.size)
            self._head.acknowledge(tree.origin, tree.size)
            self.unpublished = note
            self.progress.announce(tree.size)
            self._folds.save(tree.size, tree.root)
        # Not before: when a caller who was trusted was wrong, what others were refused for may never have been.
        for request, reason in refused:
            request.refuse(reason)
        for request, position in placed:
            request.answer(position)
