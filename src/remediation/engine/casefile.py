"""One incident under treatment: its journaled state, what is decided but not yet journaled, and how both are committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remediation.core.evolution import evolve
from remediation.core.incident import Incident, changed
from remediation.core.state import HostState
from remediation.errors import ExpectationFailed, NotCanonical
from remediation.model.base import epoch_ms
from remediation.model.entries import AttemptFinished, EffectApplied, EffectFailed, Entry, StageApplied, VerificationStarted
from remediation.model.plan import Receipt
from remediation.model.text import capped
from remediation.ports.clock import Clock
from remediation.ports.journal import Guard, Journal

REASON_CAP = 500
"""Characters of a reason that is one of many."""
REASONS_CAP = 16 * 1024
"""Characters of all of them in one entry."""


class Overtaken(Exception):
    """Somebody else moved the incident on; decide anew from its present state."""


class CaseFile:
    """
    The incident as the driver sees it.

    `note` takes decisions that need no commit of their own (they go in front of the next one); `commit` journals. Reports that came in
    between are no reason to stop; any other change by somebody else is.
    """

    def __init__(self, journal: Journal, state: HostState, clock: Clock, incident: Incident) -> None:
        self._journal = journal
        self._state = state
        self._clock = clock
        self._base = incident
        self._pending: list[Entry] = []
        self.incident = incident
        self.skipped: dict[str, str] = {}

    def note(self, entry: Entry) -> None:
        """Decide `entry` now, journal it with the next commit."""
        self._pending.append(entry)
        self.incident = evolve(self.incident, entry, at=epoch_ms(self._clock.now()))

    def skip(self, runbook: str, reason: str) -> None:
        """The runbook is not used for this incident."""
        self.skipped[runbook] = reason = capped(reason, REASON_CAP)
        self.incident = changed(self.incident, skipped=tuple((dict(self.incident.skipped) | self.skipped).items()))

    def told_skipped(self) -> tuple[tuple[str, str], ...]:
        """The runbooks skipped since the last commit, each with its reason; of very many, with the beginnings of their reasons."""
        room = max(40, REASONS_CAP // max(1, len(self.skipped)))
        return tuple((runbook, capped(reason, room)) for runbook, reason in self.skipped.items())

    async def commit(self, *entries: Entry, guard: Guard | None = None, before: Sequence[Entry] = ()) -> None:
        """
        Journal what was noted, and `entries`.

        Raises:
            Overtaken: the incident is no longer where it was; nothing was journaled.
            NotCanonical: an entry is too large even without its details; nothing was journaled.
            GuardRefused, JournalError: nothing was journaled.

        """
        told = [*self._pending, *before, *entries]
        while True:
            base = self._base
            try:
                await self._journal.append(base.stream, told, expected=base.version, guard=guard, correlation=base.id)
            except NotCanonical:
                # What happened must go on record, if need be without its details. A plan is recorded whole, or not carried out.
                shorter = [shortened(entry) for entry in told]
                if shorter == told:
                    raise
                told = shorter
                continue
            except ExpectationFailed:
                now = self._state.incidents.get(base.id)
                if now is None or _essence(now) != _essence(base):
                    raise Overtaken from None
                self._base = now
                continue
            break
        self.reload()

    def reload(self) -> None:
        """
        Look at the journaled state again; what was noted and not journaled is forgotten.

        Raises:
            Overtaken: the incident is no longer known here.

        """
        now = self._state.incidents.get(self._base.id)
        if now is None:
            raise Overtaken
        self._pending.clear()
        self.skipped.clear()
        self._base = self.incident = now

    def fresh(self) -> Incident:
        """The journaled state as it is now, reports of the last moment included."""
        return self._state.incidents.get(self._base.id, self._base)


def shortened(entry: Entry) -> Entry:
    """`entry` without the outputs of effects and the evidence of verdicts; other entries as they are."""
    changes: dict[str, Any] = {}
    if isinstance(entry, StageApplied | VerificationStarted | AttemptFinished):
        changes["receipts"] = tuple(_bare(receipt) for receipt in entry.receipts)
    if isinstance(entry, EffectApplied | EffectFailed):
        changes["receipt"] = _bare(entry.receipt)
    if isinstance(entry, VerificationStarted | AttemptFinished) and entry.verdict is not None:
        changes["verdict"] = entry.verdict.model_copy(update={"evidence": ()})
    return entry.model_copy(update=changes) if changes else entry


def _bare(receipt: Receipt) -> Receipt:
    return receipt.model_copy(update={"output": "", "error": capped(receipt.error, REASON_CAP)})


def _essence(incident: Incident) -> tuple[object, ...]:
    return incident.status, incident.phase, incident.taken_in, incident.attempts, incident.wait, incident.approval
