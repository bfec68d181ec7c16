"""The journal as the rest of the package sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from enum import Enum
from typing import Literal, Protocol

from remediation.model.entries import Entry, Position, Record


class Expected(Enum):
    """Expected versions of a stream that are not a number."""

    ANY = "any"
    NO_STREAM = "no stream"


ANY: Literal[Expected.ANY] = Expected.ANY
NO_STREAM: Literal[Expected.NO_STREAM] = Expected.NO_STREAM
Guard = Callable[[], None]
"""Evaluated inside the append's transaction, after the entries of other processes were folded; raises `GuardRefused` to refuse.

It must only look: one append may evaluate it more than once."""


class NewId(str):
    """An event id that was drawn at random for the append that it is given to: nothing can be stored under it, so nobody looks."""

    __slots__ = ()


class Fold(Protocol):
    """State derived from the journal, kept current by it."""

    def apply(self, record: Record) -> None:
        """Take in the next entry. Called once per entry, in order, before the append that made it returns. Must not raise or block."""

    def reset(self) -> None:
        """Forget everything: the journal is about to apply all entries again."""

    def loaded(self) -> None:
        """All stored entries were applied; those that follow are new."""


class Journal(Protocol):
    """
    The signed, append-only ledger.

    Guarantees: when `append` returns, the entries are durable, signed and folded; either all entries of one call are stored or none;
    cancelling a caller neither cancels nor splits a commit. Non-guarantee: a call that raised `JournalUnavailable` may still turn out
    stored after the next open (a COMMIT whose answer was lost); repeat it with the same `event_id` to find out.
    """

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
    ) -> Position:
        """
        Append `entries` to `stream`; returns the position of the first.

        Args:
            stream: Where; 1-512 characters.
            entries: One or more.
            expected: The number of entries that the stream must have (`NO_STREAM` is 0).
            guard: A last check, see `Guard`.
            actor: Who; the host by default.
            causation: Id of the entry that led to this.
            correlation: Id that ties entries of several streams together.
            event_id: Makes the append idempotent: the id of the first entry (others derive from it).

        Raises:
            ExpectationFailed, GuardRefused, IdConflict: nothing was appended.
            NotCanonical: an entry is outside the JSON domain or its size cap; nothing was appended.
            JournalUnavailable, JournalDamaged, JournalRolledBack: the journal can't be written; stop acting.

        """

    async def durable(self, seq: int) -> None:
        """
        Return when the entry `seq`, which a fold may show before its commit, is durable.

        Raises:
            JournalUnavailable: it may never be.

        """

    async def refresh(self) -> None:
        """
        Fold what other processes appended.

        Raises:
            JournalError: the journal can't be used.

        """

    def read(
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
        Stored entries with seq > `after`, in the log's order, of which all that is given holds. Goes through an index.

        Args:
            after: A position.
            stream: Their stream; with a ``/`` at its end, all streams that begin so.
            types: Their type is one of these.
            since: Their time is this or later. Times are in milliseconds.
            until: Their time is earlier than this. Non-guarantee: times order nothing. After a clock was set back, entries between
                two moments need not stand side by side.
            correlation: The id that ties them together.
            limit: How many at most.

        Raises:
            ValueError: a moment without time zone.

        """

    def follow(self, *, after: int = -1) -> AsyncIterator[Record]:
        """Like `read`, then goes on with each new entry, also of other processes."""
