"""Reporting without a key and without a running host."""

from __future__ import annotations

import contextlib
import os

from remediation.errors import ConfigurationError, JournalUnavailable
from remediation.journal.inbox import Inbox
from remediation.model.base import epoch_ms
from remediation.model.events import DegradationEvent
from remediation.model.redaction import Redactor
from remediation.model.redaction.journaled import redacted_event
from remediation.ports.clock import SystemClock
from remediation.settings import Home


class Reporter:
    """
    Reports degradations from any process and thread: needs no key and no running host.

    Makes the home if there is none yet, readable by its owner only. A report is durable in the home's inbox when `report` returns; a
    host takes it from there, also if it starts later. Secrets of the built-in classes are masked before; those that only the host knows
    (its vault, plugins' patterns) when it takes the report in.
    """

    def __init__(self, home: Home | str | os.PathLike[str]) -> None:
        self._home = home if isinstance(home, Home) else Home.locate(home)
        self._redactor = Redactor()

    def report(self, event: DegradationEvent) -> str:
        """
        Leave a report; returns its id.

        Raises:
            JournalUnavailable: it is not durable; the message says why.
            TypeError: `event` is no `DegradationEvent`.

        """
        must_be_event(event)
        self._make_home()
        now = epoch_ms(SystemClock().now())
        if event.observed_at is None:
            event = event.model_copy(update={"observed_at": now})
        event = redacted_event(self._redactor, event)
        return Inbox(self._home.inbox).put("report", event.model_dump(mode="json"), at=now)

    def _make_home(self) -> None:
        """So that nobody has to wait for a first host. What can't be looked into is there, and the inbox says what is wrong with it."""
        with contextlib.suppress(PermissionError):
            if self._home.made:
                return
            try:
                self._home.make()
            except ConfigurationError as error:
                raise JournalUnavailable(f"the report can't be left: {error}") from error


def must_be_event(event: object) -> None:
    """
    Refuse what is no event, before anything is done.

    Raises:
        TypeError: it is none.

    """
    if not isinstance(event, DegradationEvent):
        raise TypeError(
            f"report takes a DegradationEvent, not {type(event).__name__}: write DegradationEvent(code=…, subsystem=…, subject=…)"
        )
