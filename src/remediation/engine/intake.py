"""Intake: makes reports durable, coalesces what is known, and counts without losing an incident."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from remediation.core.incident import Incident, stream_of
from remediation.core.intake import Coalesce, decide_report
from remediation.core.state import HostState
from remediation.engine.policy import Policy
from remediation.errors import ExpectationFailed, GuardRefused, JournalError
from remediation.model.base import epoch_ms
from remediation.model.entries import DegradationCleared, DegradationCoalesced, DegradationReported, Entry, IncidentSettled
from remediation.model.events import DegradationEvent, Provenance, fingerprint
from remediation.ports.clock import Clock
from remediation.ports.journal import NO_STREAM, Journal

FLUSH = 1.0
"""Seconds between two writings of counts; a crash may lose that much of a count, never an incident."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of a report, once it is durable."""

    id: str
    """Of the report: the id of its journal entry, if it opened an incident."""
    incident: str
    opened: bool
    """False when it was taken into an incident that was there already."""


class Intake:
    """See `report`. One per host."""

    def __init__(
        self,
        journal: Journal,
        state: HostState,
        policy: Policy,
        clock: Clock,
        handled: Callable[[DegradationEvent, Provenance], bool],
    ) -> None:
        self._journal = journal
        self._state = state
        self._policy = policy
        self._clock = clock
        self._handled = handled
        self._counts: dict[str, tuple[int, int]] = {}
        self._log = structlog.get_logger("remediation.intake")

    async def report(
        self, event: DegradationEvent, provenance: Provenance, *, actor: str = "", report_id: str | None = None
    ) -> Reported:
        """
        Take a degradation in; returns when it is durable.

        Args:
            actor: Who reports; the host by default.
            report_id: Makes the report idempotent: the same id twice is one report.

        Raises:
            JournalError: it is not durable; report again.

        """
        now = epoch_ms(self._clock.now())
        if event.observed_at is None:
            event = event.model_copy(update={"observed_at": now})
        id_ = report_id or secrets.token_hex(16)
        while True:
            decision = decide_report(self._state, event, storm_subjects=self._policy.storm_subjects)
            if isinstance(decision, Coalesce):
                await self._coalesce(decision, event)
                return Reported(id_, decision.incident.id, opened=False)
            taken = decision.event
            incident_id = f"{taken.fingerprint}-{id_[:12]}"
            try:
                await self._open(incident_id, taken, provenance, actor, id_)
            except (GuardRefused, ExpectationFailed):
                if self._state.incidents.get(incident_id) is not None:
                    return Reported(id_, incident_id, opened=False)
                continue  # somebody else opened it meanwhile
            return Reported(id_, incident_id, opened=True)

    async def clear(self, code: str, subsystem: str, subject: str, summary: str = "", *, observed_at: int | None = None) -> None:
        """The reporter no longer sees the degradation. Costs nothing when no incident of it is open or held."""
        incident = self._state.open_or_held(fingerprint(code, subsystem, subject))
        if incident is None:
            return
        observed = observed_at if observed_at is not None else epoch_ms(self._clock.now())
        if incident.cleared_at > incident.observed_at and incident.cleared_at > incident.last_effect_at:
            return  # said already
        await self._journal.append(
            incident.stream, [DegradationCleared(observed_at=observed, summary=summary)], correlation=incident.id
        )

    async def flush(self) -> None:
        """Journal the counts that are only in memory."""
        counts, self._counts = self._counts, {}
        for id_, (count, observed) in counts.items():
            incident = self._state.incidents.get(id_)
            if incident is not None and count > incident.reports:
                entry = DegradationCoalesced(count=count, severity=incident.severity, observed_at=observed, why="count")
                await self._journal.append(incident.stream, [entry], correlation=id_)

    async def flush_on(self) -> None:
        """Flush at most once a second, for ever."""
        while True:
            await self._clock.sleep(FLUSH)
            if self._counts:
                try:
                    await self.flush()
                except JournalError as error:
                    self._log.error("counts of repeated reports could not be journaled", error=str(error))

    def count_of(self, incident: Incident) -> int:
        """Reports of an incident, those only in memory included."""
        return max(incident.reports, self._counts.get(incident.id, (0, 0))[0])

    async def _open(self, incident_id: str, event: DegradationEvent, provenance: Provenance, actor: str, id_: str) -> None:
        stream = stream_of(incident_id)

        def guard() -> None:
            if self._state.open_or_held(event.fingerprint) is not None:
                raise GuardRefused("an incident of this fingerprint is open or held")

        entries: list[Entry] = [DegradationReported(event=event, provenance=provenance)]
        if not self._handled(event, provenance):
            # No runbook: reported and escalated in one commit, since nothing has to be decided.
            entries.append(IncidentSettled(status="escalated", reason=f"no runbook handles {event.code}", held=True))
        await self._journal.append(
            stream, entries, expected=NO_STREAM, guard=guard, actor=actor, event_id=id_, correlation=incident_id
        )

    async def _coalesce(self, decision: Coalesce, event: DegradationEvent) -> None:
        incident = decision.incident
        observed = event.observed_at or 0
        count = self.count_of(incident) + 1
        if decision.why == "count":
            self._counts[incident.id] = (count, observed)
            await self._journal.durable(incident.opened_seq)
            return
        self._counts.pop(incident.id, None)
        entry = DegradationCoalesced(
            count=count,
            severity=decision.severity,
            observed_at=observed,
            why=decision.why,
            summary=event.summary,
            evidence=event.model_dump(mode="json", include={"evidence"})["evidence"],
        )
        await self._journal.append(incident.stream, [entry], correlation=incident.id)
