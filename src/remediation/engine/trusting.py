"""Grants of trust: checked against the runbook, the scope, the signature and who may sign, then journaled; and their end."""

from __future__ import annotations

import secrets

from remediation.core import grants as granting
from remediation.core.state import HostState
from remediation.engine.signatures import Signatories
from remediation.errors import ExpectationFailed, GrantRefused, GuardRefused
from remediation.model.base import epoch_ms
from remediation.model.entries import TrustGranted, TrustRevoked
from remediation.model.redaction import Redactor
from remediation.model.runbook import Radius, Reversibility
from remediation.model.text import SUMMARY_CAP, capped, printable, wellformed
from remediation.ports.clock import Clock
from remediation.ports.journal import Journal


def standing(state: HostState, now: int) -> list[TrustGranted]:
    """The grants of `state` that are in force at `now` (milliseconds since 1970 UTC), the one that ends first before the others."""
    return sorted((grant for grant in state.grants.values() if grant.not_after > now), key=lambda item: item.not_after)


def find(state: HostState, wanted: str) -> TrustGranted:
    """
    The one grant of `state` with the id `wanted`, or a beginning of it that no other has.

    Raises:
        GrantRefused: there is none, or more than one.

    """
    known = state.grants
    found = [wanted] if wanted in known else [id_ for id_ in known if wanted and id_.startswith(wanted)]
    if len(found) != 1:
        many = "more than one grant begins with" if found else "no grant is known as"
        raise GrantRefused(f"{many} {printable(wanted)!r}; `remediation trust list --all` lists them")
    return known[found[0]]


class Trust:
    """
    Who trusts which runbook beyond the profile.

    Args:
        origin: The log's name.
        people: Whose signatures count; raises `GrantRefused`.
        redactor: Knows what must not stand in the journal: a signed text can't be masked.

    """

    def __init__(
        self, journal: Journal, state: HostState, clock: Clock, origin: str, people: Signatories, redactor: Redactor
    ) -> None:
        self._journal = journal
        self._state = state
        self._clock = clock
        self._origin = origin
        self._people = people
        self._redactor = redactor

    def grants(self) -> list[TrustGranted]:
        """Those in force, the one that ends first before the others."""
        return standing(self._state, self._now())

    def document(
        self,
        runbook: str,
        *,
        not_after: int,
        reason: str,
        approver: str,
        subjects: str = "*",
        radius: Radius | str = Radius.MACHINE,
        reversibility: Reversibility | str = Reversibility.REVERSIBLE,
    ) -> bytes:
        """
        What `approver` has to sign, in the namespace ``remediation-trust``, to trust `runbook` with the code that it has now.

        Args:
            runbook: Its id.
            not_after: When the grant ends, in milliseconds since 1970 UTC; at most 90 days ahead.
            reason: Why; it is journaled.
            approver: The principal under which the key stands in the allowed signers.
            subjects: A glob (`fnmatch`, with case) that the subject of an incident must match.
            radius: The widest radius of a plan that it covers: ``process`` or ``machine``.
            reversibility: The worst reversibility of one: ``reversible`` or ``disposable``.

        Raises:
            GrantRefused: it can't be granted; the message says why.

        """
        record = self._state.runbooks.get(runbook)
        digest = record.code_digest if record is not None else ""
        grant = granting.Grant(
            secrets.token_hex(16), runbook, digest, subjects, str(radius), str(reversibility), not_after, reason, approver
        )
        self._check(grant)
        return grant.document(self._origin)

    async def grant(self, document: bytes, signature: str, *, actor: str = "", event_id: str | None = None) -> str:
        """
        Take in a signed grant, journal it, and return its id.

        Raises:
            GrantRefused: it does not count; the message says why.
            JournalError: it may not be durable; give it again.

        """
        grant = granting.read(document, self._origin)
        self._check(grant)
        self._people.check(document, signature, grant.approver, granting.NAMESPACE)

        def still() -> None:
            # Also against what other processes journaled meanwhile: a quarantine, new code.
            try:
                self._check(grant)
            except GrantRefused as error:
                raise GuardRefused(str(error)) from error

        try:
            await self._journal.append(
                f"trust/{grant.grant_id}",
                [grant.entry(document, signature)],
                # A number is looked up, also among archived entries; "no stream" may be believed.
                expected=0,
                guard=still,
                actor=actor,
                event_id=event_id,
            )
        except ExpectationFailed as error:
            raise GrantRefused(f"the grant {grant.grant_id} was taken in before; a grant counts once") from error
        except GuardRefused as error:
            raise GrantRefused(str(error)) from error
        return grant.grant_id

    async def revoke(self, grant_id: str, *, by: str, reason: str = "", event_id: str | None = None) -> str:
        """
        End a grant at once; needs no signature, as it only keeps the host from acting. Returns the whole id.

        Args:
            grant_id: Its id, or a beginning of it that no other has.
            by: Who says so.
            reason: Why; it is journaled.
            event_id: Makes it idempotent.

        Raises:
            GrantRefused: no such grant is known.
            JournalError: it may not be durable; say it again.

        """
        found = find(self._state, grant_id).grant_id
        why = capped(wellformed(reason), SUMMARY_CAP) or "no reason given"
        await self._journal.append(f"trust/{found}", [TrustRevoked(grant_id=found, by=by, reason=why)], actor=by, event_id=event_id)
        return found

    def _check(self, grant: granting.Grant) -> None:
        granting.check(grant, self._state.runbooks.get(grant.runbook), now=self._now())
        for text in (grant.reason, grant.subjects):
            if self._redactor.credentials(text) != text:
                raise GrantRefused("the grant holds what looks like a secret, and a signed text can't be masked; write it without")

    def _now(self) -> int:
        return epoch_ms(self._clock.now())
