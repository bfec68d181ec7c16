"""The journal as the engine uses it: whoever writes, a failure is known at once, and so is the first success after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import structlog

from remediation.engine.notices import Notices
from remediation.errors import ExpectationFailed, GuardRefused, IdConflict, JournalError
from remediation.model.base import Severity
from remediation.model.entries import Entry, Position, Record
from remediation.ports.channel import Notice
from remediation.ports.journal import ANY, Expected, Guard, Journal


class Health:
    """
    Whether the journal can be written. Fails closed: when it can't, nothing is applied, and people are told.

    It counts as working again once something was written. So one incident is treated as a `trial`, up to its next entry.
    """

    def __init__(self, notices: Notices, instance: str) -> None:
        self._notices = notices
        self._instance = instance
        self._log = structlog.get_logger("remediation.engine")
        self.halted = ""
        """Why nothing may be applied; empty when all is well."""
        self.trial = ""
        """Id of the incident that may be treated all the same."""
        self.looked_at = 0.0
        """When what other processes journaled was last looked at before an effect, on the monotonic clock."""

    def failed(self, error: Exception) -> None:
        """Something could not be written, or read."""
        if not self.halted:
            self._log.critical("the journal can't be written; nothing is applied until it can", error=str(error))
            self._tell("host_failed", f"healing is suspended: {error}")
        self.halted = str(error) or type(error).__name__
        self.trial = ""

    def works(self) -> None:
        """Something was written."""
        if self.halted:
            self.halted = self.trial = ""
            self._log.warning("the journal works again; healing goes on")
            self._tell("host_recovered", "the journal works again; healing goes on")

    def may_treat(self, incident: str) -> bool:
        """Whether the incident with this id may be treated now."""
        return not self.halted or incident == self.trial

    def _tell(self, kind: str, title: str) -> None:
        self._notices.tell(
            Notice(
                kind=kind,
                incident="",
                code="HOST",
                subsystem="remediation",
                subject=self._instance,
                severity=Severity.P0,
                title=title,
            )
        )


class GuardedJournal:
    """A `Journal` whose appends tell `health` how they went. An answer (an expectation, a guard, an id) is no failure."""

    def __init__(self, journal: Journal, health: Health) -> None:
        self._journal = journal
        self._health = health
        self.durable = journal.durable
        self.refresh = journal.refresh

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
        """See `Journal.append`."""
        try:
            position = await self._journal.append(
                stream,
                entries,
                expected=expected,
                guard=guard,
                actor=actor,
                causation=causation,
                correlation=correlation,
                event_id=event_id,
            )
        except (ExpectationFailed, GuardRefused, IdConflict):
            raise
        except JournalError as error:
            self._health.failed(error)
            raise
        self._health.works()
        return position

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
        """See `Journal.read`."""
        return self._journal.read(
            after=after, stream=stream, types=types, since=since, until=until, correlation=correlation, limit=limit
        )

    def follow(self, *, after: int = -1) -> AsyncIterator[Record]:
        """See `Journal.follow`."""
        return self._journal.follow(after=after)
