"""IntentJournal: the signed, append-only ledger, as one writer of possibly several processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Self

import structlog

from remediation.errors import GuardRefused, JournalError, JournalUnavailable, NotCanonical
from remediation.journal import encoding
from remediation.journal.folding import Folds
from remediation.journal.head import HeadNote
from remediation.journal.lock import WriterLock
from remediation.journal.log import Log
from remediation.journal.placing import Request
from remediation.journal.reading import POLL, JournalReader
from remediation.journal.rotating import rotation
from remediation.journal.store import Archiving, JournalStore, StreamTaken
from remediation.journal.tree import SignedTree
from remediation.model.entries import Entry, KeyRotated, Position, Record
from remediation.model.redaction import Redactor
from remediation.ports.clock import Clock
from remediation.ports.journal import ANY, Expected, Fold, Guard
from remediation.ports.keys import Signer
from remediation.proof.note import VerifierKey

BATCH = 512
HEAD_PACE = 1.0
"""Seconds between two writings of `head.note` while commits go on; it is also written before any note leaves the process."""


class IntentJournal(JournalReader):
    """
    See `remediation.ports.journal.Journal` for the guarantees of `append`, `read` and `follow`.

    Made by `open`; closed by `close`. Belongs to one event loop.
    """

    def __init__(self, store: JournalStore, log: Log, lock: WriterLock, head: HeadNote, folds: Folds, actor: str) -> None:
        super().__init__(store)
        self._log = log
        self._lock = lock
        self._head = head
        self._actor = actor
        self.redactor = Redactor()
        """Masks the secrets of each entry before anything else is done with it; a host gives it what it knows."""
        self._folds = folds
        self._queue: list[Request] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._gone = False
        self._ending = asyncio.Event()
        self._closed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._say = structlog.get_logger("remediation.journal")

    @classmethod
    async def open(
        cls,
        store: JournalStore,
        tree: SignedTree,
        lock: WriterLock,
        head: HeadNote,
        clock: Clock,
        *,
        actor: str = "",
        folds: Folds | Sequence[Fold] = (),
    ) -> Self:
        """
        Open for writing: check the head against the tree and `head.note`, fold all entries. An empty `actor`: the key that signs.

        Raises:
            JournalUnavailable, JournalTooNew, JournalDamaged, JournalRolledBack: not opened.

        """
        folds = folds if isinstance(folds, Folds) else Folds(folds)
        journal = cls(store, Log(store, tree, lock, head, clock, folds), lock, head, folds, actor)
        lock.open()
        try:
            await store.open()
            await lock.acquire()
            try:
                await journal._log.load()
            finally:
                lock.release()
        except BaseException:
            await store.close()
            lock.close()
            raise
        journal._tasks = [asyncio.create_task(task, name="journal") for task in (journal._write_on(), journal._publish_on())]
        return journal

    async def close(self) -> None:
        """Finish what is queued, write `head.note`, close. Later appends raise `JournalUnavailable`."""
        if self._closing:
            await self._closed.wait()
            return
        self._closing = True
        self._wake.set()
        self._ending.set()
        self._log.progress.announce(self._log.progress.committed)  # nobody waits for a first commit any more
        try:
            await self._finish()
        finally:
            self._closed.set()
            self._log.progress.announce(self._log.progress.committed)

    async def _finish(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(JournalError, OSError):
            await self.publish()
        await self._lock.acquire()
        try:
            # What another process erased meanwhile must not live on in a snapshot.
            if self._log.broken is None and self._lock.size_hint() == self._log.tree.size:
                self._folds.save(self._log.tree.size, self._log.tree.root, closing=True)
            await self._store.close()
        finally:
            self._lock.release()
            self._lock.close()
            self._head.close()

    @property
    def size(self) -> int:
        """Number of committed entries that this process knows of."""
        return self._log.progress.committed

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The log's signing keys in order, as far as this process knows; the last one signs."""
        return self._log.tree.epochs.keys

    @property
    def origin(self) -> str:
        """The log's name: ``<host-id>/remediation/<log-id>``."""
        return self._log.tree.origin

    async def append(
        self,
        stream: str,
        entries: Sequence[Entry],
        *,
        expected: int | Expected = ANY,
        guard: Guard | None = None,
        actor: str = "",
        causation: str | None = None,
        correlation: str | None = None,
        event_id: str | None = None,
        erases: Sequence[int] = (),
        archives: Archiving | None = None,
    ) -> Position:
        """
        Append `entries` to `stream`, durably; see `remediation.ports.journal.Journal.append`.

        `erases`: positions whose bodies are removed in the same commit, one for each of `entries`, which say so; `archives`: what else
        goes with it. See `remediation.bootstrap.erasing` and `archiving`.
        """
        if self._closing or self._gone:
            raise JournalUnavailable("the journal is closed")
        if not entries or not stream or len(stream) > encoding.STREAM_CAP:
            raise NotCanonical(f"an append needs entries and a stream of 1 to {encoding.STREAM_CAP} characters")
        encoding.check_texts(stream, actor or None, causation, correlation, event_id)
        if any(isinstance(entry, KeyRotated) for entry in entries):
            raise GuardRefused("only a rotation says that the key was rotated: `remediation keys rotate`")
        drafts = [encoding.draft(entry, self.redactor) for entry in entries]
        frame = (actor or self._actor, causation, correlation)
        return await self._asked(Request(stream, drafts, expected, guard, frame, event_id, erases=erases, archives=archives))

    async def _asked(self, request: Request) -> Position:
        self._queue.append(request)
        self._wake.set()
        return await request.future

    async def rotate(self, successor: Signer, reason: str = "") -> Position:
        """
        Go over to another signing key, which must be kept durably already: the entry ``key.rotated``, the last one of its commit.

        Its note is signed by both keys, later ones by `successor` alone, also those of other processes.

        Raises:
            GuardRefused: the key was rotated meanwhile, or `successor` was the log's before; nothing was appended.
            JournalError: as `append`.

        """
        await self.refresh()
        return await self._asked(rotation(self._log.tree, successor, self.redactor.text(reason), self._actor))

    async def durable(self, seq: int) -> None:
        """
        Return when the entry `seq` is committed.

        Raises:
            JournalUnavailable: the journal failed or closed before that.

        """
        while self._log.progress.committed <= seq:
            if self._closing or self._gone or self._log.broken:
                raise JournalUnavailable(f"entry {seq} is not durable: {self._log.broken or 'the journal is closed'}")
            await self._log.progress.moved.wait()

    async def refresh(self) -> None:
        """
        Fold what other processes have appended; opens the journal again if it had failed.

        Raises:
            JournalError: it still can't be used.

        """
        if self._closing or self._gone:
            raise JournalUnavailable("the journal is closed")
        if self._log.broken is None and self._lock.size_hint() == self._log.tree.size:
            return
        await self._asked(Request("", [], ANY, None, (self._actor, None, None), None))

    async def publish(self) -> str:
        """
        Make `head.note` durable at the present head and return that note: only such a note may leave the process.

        Raises:
            OSError: `head.note` can't be written.
            JournalError: what is there is no head of this log, or the journal is closed.

        """
        if self._log.unpublished:
            await self._lock.acquire()
            try:
                # Taken under the lock: a commit in between would have thinned this checkpoint out, and published ones are kept.
                if note := self._log.unpublished:
                    await asyncio.to_thread(self._head.advance, note)
                self._log.unpublished = ""
            finally:
                self._lock.release()
        return self._head.read()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[JournalStore]:
        """
        The storage while nobody else writes, in any process.

        Raises:
            JournalUnavailable: the journal is closed, or the lock can't be taken.

        """
        await self._lock.acquire()
        try:
            yield self._store
        finally:
            self._lock.release()

    async def _write_on(self) -> None:
        try:
            await self._write_until_closed()
        finally:
            # Also when the event loop ends and cancels everything: nobody may wait for ever.
            self._gone = True
            for request in self._queue:
                request.refuse(JournalUnavailable("the journal is closed"))
            self._log.progress.announce(self._log.progress.committed)

    async def _write_until_closed(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._lock.acquire()
            except JournalError as error:
                self._fail(error, self._drain())
                continue
            batch: list[Request] = []
            try:
                try:
                    await self._log.catch_up()
                finally:
                    batch = self._drain()
                try:
                    await self._log.commit(batch, trusting=True)
                except StreamTaken:
                    await self._log.load()
                    await self._log.commit(batch, trusting=False)
            except BaseException as error:
                # Whatever failed, nobody may wait for ever, and the next batch begins by reading the journal anew.
                self._fail(error, batch)
                if not isinstance(error, Exception):
                    raise
            finally:
                self._lock.release()
                self._log.progress.announce(self._log.progress.committed)

    def _drain(self) -> list[Request]:
        count = entries = 0
        for request in self._queue:
            entries += len(request.drafts)
            if count and entries > BATCH:
                break
            count += 1
            if request.successor is not None:
                break
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch

    def _fail(self, error: BaseException, batch: list[Request]) -> None:
        self._log.broken = error
        known: Exception
        if isinstance(error, JournalError):
            known = error
        else:
            if isinstance(error, Exception):
                self._say.error("journal failed", exc_info=error)
            known = JournalUnavailable(f"the journal failed: {type(error).__name__}: {error}")
        for request in batch:
            request.refuse(known)

    async def _publish_on(self) -> None:
        pause = self._log.progress.moved  # after the first commit at once: until then head.note is as old as the last run
        while not (self._closing or self._gone):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pause.wait(), HEAD_PACE)
            pause = self._ending
            if self._log.unpublished and self._log.broken is None:
                try:
                    await self.publish()
                except (OSError, JournalError) as error:
                    self._say.error("head.note can't be written; nothing may be published until it can", error=str(error))

    async def follow(self, *, after: int = -1) -> AsyncIterator[Record]:
        """Stored entries with seq > `after`, then each new one, also of other processes; ends when the journal closes."""
        while not self._closing:
            try:
                async for made in self.read(after=after):
                    after = made.seq
                    yield made
            except JournalUnavailable:
                if self._ending.is_set():
                    return
                # After a failed commit the journal is opened anew; what can't be read now can be in a moment, or somebody says why not.
                await asyncio.sleep(POLL)
                continue
            moved = self._log.progress.moved
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(moved.wait(), POLL)
            if not moved.is_set():
                with contextlib.suppress(JournalError):
                    await self.refresh()
