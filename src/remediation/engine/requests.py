"""Requests from the inbox: reports, and what people ask of the host from other processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from remediation.core.incident import Incident, Phase
from remediation.core.state import HostState
from remediation.engine.approvals import Approvals
from remediation.engine.policy import Policy
from remediation.engine.registry import Registry
from remediation.engine.remediator import Remediator
from remediation.engine.trusting import Trust
from remediation.errors import ExpectationFailed, HostStopped, IdConflict, JournalError, RemediationError
from remediation.journal.inbox import Inbox, Message, Unreadable
from remediation.model.entries import (
    ApprovalExpired,
    AttemptFinished,
    Entry,
    IncidentReopened,
    IncidentSettled,
    PauseEnded,
    PauseStarted,
)
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.text import SUMMARY_CAP, capped, reason_of, wellformed
from remediation.ports.clock import Clock
from remediation.ports.journal import Journal

POLL = 0.1
"""Seconds between two looks into the inbox."""
TRIES = 8


class RequestRefused(RemediationError):
    """A request can't be carried out; the message says why. It is put aside in ``inbox/rejected``."""


class Requests:
    """Carries out what lies in the inbox."""

    def __init__(
        self,
        inbox: Inbox,
        remediator: Remediator,
        journal: Journal,
        state: HostState,
        registry: Registry,
        policy: Policy,
        approvals: Approvals,
        trust: Trust,
        clock: Clock,
    ) -> None:
        self._inbox = inbox
        self._remediator = remediator
        self._journal = journal
        self._state = state
        self._registry = registry
        self._policy = policy
        self._approvals = approvals
        self._trust = trust
        self._clock = clock
        self._log = structlog.get_logger("remediation.inbox")
        self._handlers: dict[str, Callable[[Message], Awaitable[None]]] = {
            "report": self._report,
            "close": self._close,
            "reopen": self._reopen,
            "pause": self._pause,
            "resume": self._resume,
            "approve": self._answer,
            "deny": self._deny,
            "grant": self._grant,
            "revoke": self._revoke,
        }

    async def poll_on(self) -> None:
        """Look into the inbox, for ever."""
        while True:
            try:
                await self.take_in()
            except (JournalError, HostStopped) as error:
                self._log.error("the inbox waits until the journal can be written", error=str(error))
                await self._clock.sleep(2.0)
            except Exception:
                # A defect here must not end the only ear that other processes have.
                self._log.exception("the inbox could not be read; it is tried again")
                await self._clock.sleep(2.0)
            await self._clock.sleep(POLL)

    async def take_in(self) -> int:
        """
        Carry out every message that lies there now; returns how many there were.

        Raises:
            JournalError: the rest stays in the inbox.

        """
        number = 0
        while True:
            found = list(self._inbox.messages())
            for item in found:
                number += 1
                if isinstance(item, Unreadable):
                    self._reject(item.path.name, item.reason)
                    self._inbox.reject(item.path, item.reason)
                else:
                    await self._carry_out(item)
            if not found:
                return number

    async def _carry_out(self, message: Message) -> None:
        handler = self._handlers.get(message.kind)
        try:
            if handler is None:
                raise RequestRefused(f"this release does not know requests of kind {message.kind!r}")
            if message.kind != "report":
                # It may be about what another host of this home journaled a moment ago.
                await self._journal.refresh()
            await self._handle(handler, message)
        except (JournalError, HostStopped, OSError):
            raise
        except Exception as error:
            # A message that can't be carried out now never will be, and must not stand in the way of all that come after it.
            reason = reason_of(error)
            self._reject(message.id, reason)
            self._inbox.reject(message.path, reason)
        else:
            self._inbox.done(message)

    async def _handle(self, handler: Callable[[Message], Awaitable[None]], message: Message) -> None:
        for _ in range(TRIES):
            try:
                await handler(message)
            except ExpectationFailed:
                continue  # the incident moved on meanwhile: look at it again
            except IdConflict:
                return  # journaled before a crash, in the words of that time
            return
        raise RequestRefused("the incident changed again and again while this was carried out; ask again")

    def _reject(self, name: str, reason: str) -> None:
        self._log.warning("a message was put aside in inbox/rejected", message=name, reason=reason)

    async def _report(self, message: Message) -> None:
        event = DegradationEvent.model_validate(message.document)
        await self._remediator.report(event, Provenance.EXPLICIT, actor=message.actor, report_id=message.id)

    async def _close(self, message: Message) -> None:
        incident = self._incident(message)
        if not incident.open and not incident.held:
            return
        waits = incident.current is not None and incident.current.asked and not incident.current.receipts
        if incident.open and not waits and (incident.current is not None or incident.phase is Phase.ACTING):
            raise RequestRefused(
                f"incident {incident.id} is being acted on; wait until it is settled, or have it stopped and taken back: "
                "`remediation panic --revert`"
            )
        why = _text(message.document.get("reason"))
        reason = f"closed by {message.actor}" + (f": {why}" if why else "")
        entry = IncidentSettled(
            status="escalated" if incident.open else incident.status.value,
            reason=reason,
            runbook=incident.runbook,
            attempts=incident.acted,
            reports=incident.reports,
        )
        await self._journal.append(
            incident.stream,
            [*_called_off(incident, reason), entry] if waits else [entry],
            expected=incident.version,
            actor=message.actor,
            event_id=message.id,
            correlation=incident.id,
        )

    async def _answer(self, message: Message) -> None:
        document, signature = _signed(message)
        await self._approvals.answer(document, signature, actor=message.actor, event_id=message.id)

    async def _grant(self, message: Message) -> None:
        document, signature = _signed(message)
        await self._trust.grant(document, signature, actor=message.actor, event_id=message.id)

    async def _revoke(self, message: Message) -> None:
        wanted = str(message.document.get("grant_id", ""))
        await self._trust.revoke(wanted, by=message.actor, reason=_text(message.document.get("reason")), event_id=message.id)

    async def _deny(self, message: Message) -> None:
        wanted = str(message.document.get("approval_id", ""))
        await self._approvals.deny(wanted, by=message.actor, reason=_text(message.document.get("reason")), event_id=message.id)

    async def _reopen(self, message: Message) -> None:
        incident = self._incident(message)
        if incident.open:
            return
        other = self._state.open_or_held(incident.fingerprint)
        if other is not None and other.id != incident.id:
            raise RequestRefused(f"incident {other.id} of the same fingerprint is open or held; handle that one")
        matched = self._registry.match(incident.event, incident.provenance, faulted=lambda *_: None)
        matched.sort(
            key=lambda item: self._policy.runbook_state(self._state, item.spec.id, item.code_digest) not in ("live", "degraded")
        )
        entry = IncidentReopened(
            reason=_text(message.document.get("reason")) or f"reopened by {message.actor}",
            ladder=tuple(item.spec.id for item in matched),
        )
        await self._journal.append(
            incident.stream, [entry], expected=incident.version, actor=message.actor, event_id=message.id, correlation=incident.id
        )
        self._remediator.wake(incident.id)

    async def _pause(self, message: Message) -> None:
        document: dict[str, Any] = message.document
        entry = PauseStarted(
            reason=_text(document.get("reason")) or "no reason given",
            by=message.actor,
            until=int(document.get("until", 0)),
            panic=bool(document.get("panic", False)),
            revert=bool(document.get("revert", False)),
        )
        await self._journal.append("host/pauses", [entry], actor=message.actor, event_id=message.id)
        if entry.revert:
            self._remediator.resume()

    async def _resume(self, message: Message) -> None:
        entry = PauseEnded(by=message.actor, reason=_text(message.document.get("reason")))
        await self._journal.append("host/pauses", [entry], actor=message.actor, event_id=message.id)
        self._remediator.resume()

    def _incident(self, message: Message) -> Incident:
        wanted = str(message.document["incident"])
        found = [
            incident
            for id_, incident in self._state.incidents.items()
            if id_ == wanted or (len(wanted) >= 6 and id_.startswith(wanted))
        ]
        if len(found) != 1:
            raise RequestRefused(
                f"there is {'no' if not found else 'more than one'} incident {wanted!r} that can be closed or reopened"
            )
        return found[0]


def _called_off(incident: Incident, reason: str) -> list[Entry]:
    """What ends a request for consent whose incident is closed."""
    attempt, approval = incident.current, incident.approval
    if attempt is None:
        return []
    void = [ApprovalExpired(approval_id=approval.id, reason=reason)] if approval is not None else []
    return [*void, AttemptFinished(attempt=attempt.id, runbook=attempt.runbook, outcome="withheld", reason=reason)]


def _signed(message: Message) -> tuple[bytes, str]:
    """What a person signed, and the signature."""
    document, signature = message.document.get("document"), message.document.get("signature")
    if not isinstance(document, str) or not isinstance(signature, str):
        raise RequestRefused("what a person signed comes as a document and its signature, both as text")
    return wellformed(document).encode(), signature


def _text(value: Any) -> str:
    """What somebody wrote, safe to store."""
    return "" if value is None else capped(wellformed(str(value)), SUMMARY_CAP)
