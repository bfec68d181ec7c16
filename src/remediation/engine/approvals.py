"""Answers to requests for consent: checked against the request, the signature and who may sign, then journaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remediation.core import consent
from remediation.core.incident import Approval, Attempt, Incident, id_of
from remediation.core.state import HostState
from remediation.engine.signatures import Signatories
from remediation.errors import ApprovalRefused, ExpectationFailed, GuardRefused
from remediation.model.base import epoch_ms
from remediation.model.entries import ApprovalDenied, ApprovalGranted
from remediation.model.plan import PlanRecord
from remediation.model.text import SUMMARY_CAP, capped, printable, wellformed
from remediation.ports.clock import Clock
from remediation.ports.journal import Journal

TRIES = 8


@dataclass(frozen=True, slots=True)
class Request:
    """A request for consent that nobody has answered: the incident, what is asked, for which attempt (with its finding), and the plan."""

    incident: Incident
    approval: Approval
    attempt: Attempt
    plan: PlanRecord


def pending(state: HostState) -> Iterator[Request]:
    """The requests of `state` that nobody has answered, the oldest first."""
    for id_ in list(state.approvals):
        yield find(state, id_)


def find(state: HostState, wanted: str) -> Request:
    """
    The one unanswered request of `state` that `wanted` stands for: its id or its incident's, or a beginning.

    Raises:
        ApprovalRefused: there is none, or more than one.

    """
    known = state.approvals
    if wanted in known:
        found = [wanted]
    else:
        found = [id_ for id_ in known if wanted and id_.startswith(wanted)]
        found = found or [id_ for id_, incident in known.items() if wanted and incident.startswith(wanted)]
    if len(found) != 1:
        many = "more than one request begins with" if found else "no request is pending as"
        raise ApprovalRefused(f"{many} {printable(wanted)!r}; it may be answered, expired, or no longer needed")
    incident = state.incidents[known[found[0]]]
    if incident.approval is None or incident.current is None:
        raise ApprovalRefused(f"the request {found[0]} is void")
    return Request(incident, incident.approval, incident.current, incident.current.plan)


class Approvals:
    """
    Who may consent, and what they said.

    Args:
        origin: The log's name.
        signers: The file of allowed signers; read anew for each answer, so that a key that is taken out counts no longer at once.
        allow_local: Whether a signature counts whose private key this process could read.

    """

    def __init__(
        self, journal: Journal, state: HostState, clock: Clock, origin: str, *, signers: Path | None, allow_local: bool
    ) -> None:
        self._journal = journal
        self._state = state
        self._clock = clock
        self._origin = origin
        self._people = Signatories(clock, signers=signers, allow_local=allow_local)

    def pending(self) -> Iterator[Request]:
        """What waits for an answer, the oldest first."""
        return pending(self._state)

    def request(self, approval_id: str) -> Request:
        """
        A pending request by its id, or by a beginning of it that no other has; or by the id of its incident, likewise.

        Raises:
            ApprovalRefused: there is none.

        """
        return find(self._state, approval_id)

    def document(self, approval_id: str, *, decision: consent.Decision, approver: str) -> bytes:
        """
        What `approver` has to sign, in the namespace ``remediation-approval``.

        Raises:
            ApprovalRefused: no such request is pending.

        """
        found = self.request(approval_id)
        return consent.document(self._origin, found.incident, found.approval, decision=decision, approver=approver)

    async def answer(self, document: bytes, signature: str, *, actor: str = "", event_id: str | None = None) -> str:
        """
        Take a signed answer, journal it, and return the incident's id.

        Raises:
            ApprovalRefused: it does not count; the message says why.
            JournalError: it may not be durable; give it again.

        """
        told = consent.asked_for(document)
        for _ in range(TRIES):
            try:
                found = self.request(told)
            except ApprovalRefused:
                if earlier := await self._earlier(event_id):
                    return earlier
                raise
            now = epoch_ms(self._clock.now())
            decision, approver = consent.check(document, self._origin, found.incident, found.approval, now=now)
            self._people.check(document, signature, approver, consent.NAMESPACE)
            entry = (
                ApprovalGranted(approval_id=found.approval.id, approver=approver, document=document.decode(), signature=signature)
                if decision == "approve"
                else ApprovalDenied(approval_id=found.approval.id, approver=approver, reason="signed")
            )
            if await self._append(found, entry, actor, event_id):
                return found.incident.id
        raise ApprovalRefused("the incident changed again and again meanwhile; answer again")

    async def deny(self, approval_id: str, *, by: str, reason: str = "", event_id: str | None = None) -> str:
        """
        Refuse consent; needs no signature, as it only keeps the host from acting. Returns the incident's id.

        Raises:
            ApprovalRefused: no such request is pending.
            JournalError: it may not be durable; say it again.

        """
        for _ in range(TRIES):
            try:
                found = self.request(approval_id)
            except ApprovalRefused:
                if earlier := await self._earlier(event_id):
                    return earlier
                raise
            entry = ApprovalDenied(approval_id=found.approval.id, approver=by, reason=capped(wellformed(reason), SUMMARY_CAP))
            if await self._append(found, entry, by, event_id):
                return found.incident.id
        raise ApprovalRefused("the incident changed again and again meanwhile; deny it again")

    async def _earlier(self, event_id: str | None) -> str:
        """The incident that this very answer settled before, told by its id: by another host, or before a crash. Empty for none."""
        if event_id is not None:
            async for record in self._journal.read(types=[ApprovalGranted.type, ApprovalDenied.type]):
                if record.head.id == event_id:
                    return id_of(record.head.stream)
        return ""

    async def _append(self, found: Request, entry: ApprovalGranted | ApprovalDenied, actor: str, event_id: str | None) -> bool:
        """Whether it was journaled; if not, the incident moved on and has to be looked at again."""

        def once() -> None:
            # Also against another host of this home that takes the same answer, or another one, at the same moment.
            if found.approval.id not in self._state.approvals:
                raise GuardRefused("the request was answered meanwhile")

        try:
            await self._journal.append(
                found.incident.stream,
                [entry],
                expected=found.incident.version,
                guard=once,
                actor=actor,
                correlation=found.incident.id,
                event_id=event_id,
            )
        except (ExpectationFailed, GuardRefused):
            return False
        return True
