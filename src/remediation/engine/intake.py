"""Intake: makes reports durable, coalesces what is known, and counts without losing an incident."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from remediation.core.incident import Incident, stream_of
from remediation.core.intake import Coalesce, decide_report, in_storm
from remediation.core.state import HostState
from remediation.core.tallies import STORM_SUBJECT
from remediation.engine.policy import Policy
from remediation.errors import ExpectationFailed, GuardRefused, IdConflict, JournalError, JournalUnavailable
from remediation.model.base import epoch_ms
from remediation.model.entries import DegradationCleared, DegradationCoalesced, DegradationReported, Entry, IncidentSettled
from remediation.model.events import DegradationEvent, Provenance, fingerprint
from remediation.model.redaction import Redactor
from remediation.model.redaction.journaled import identity, redacted_event
from remediation.ports.clock import Clock
from remediation.ports.journal import NO_STREAM, Journal, NewId

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


@dataclass(frozen=True, slots=True)
class Counted:
    """Reports of a known incident that are not journaled yet."""

    count: int
    """Reports of the incident so far, the first included."""
    observed_at: int
    """When the newest was seen, milliseconds since 1970 UTC."""
    event: DegradationEvent
    """The newest."""
    provenance: Provenance
    actor: str


class Intake:
    """See `report`. One per host."""

    def __init__(
        self,
        journal: Journal,
        state: HostState,
        policy: Policy,
        clock: Clock,
        handled: Callable[[DegradationEvent, Provenance], bool],
        redactor: Redactor,
    ) -> None:
        self._journal = journal
        self._state = state
        self._policy = policy
        self._clock = clock
        self._handled = handled
        self._redactor = redactor
        self._counts: dict[str, Counted] = {}
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
        # First of all: what is masked in a subject is not part of its identity either.
        event = redacted_event(self._redactor, event)
        if event.subject == STORM_SUBJECT:
            # Ours alone: whoever reported it would switch off the healing of a whole code.
            event = event.model_copy(update={"subject": f'"{STORM_SUBJECT}"'})
        if event.observed_at is None or not 0 <= event.observed_at <= now:
            # A reporter whose clock is ahead would otherwise go on contradicting everything that happens until then.
            event = event.model_copy(update={"observed_at": now})
        id_ = report_id or secrets.token_hex(16)
        while True:
            decision = decide_report(
                self._state,
                event,
                storm_subjects=self._policy.storm_subjects,
                storm_exit_ms=self._policy.storm_exit_ms,
                now=now,
                apart=self._policy.grouped,
            )
            if isinstance(decision, Coalesce):
                if report_id and decision.incident.id == f"{event.fingerprint}-{id_[:12]}":
                    return Reported(id_, decision.incident.id, opened=False)  # told twice, because a crash came in between
                try:
                    await self._coalesce(decision, event, provenance, actor)
                except GuardRefused:
                    continue  # the incident was settled meanwhile: this may be a new one
                except JournalUnavailable:
                    # What was known of the incident may be lost; if the journal works again, it tells.
                    await self._journal.refresh()
                    if self._state.incidents.get(decision.incident.id) is decision.incident:
                        raise
                    continue
                return Reported(id_, decision.incident.id, opened=False)
            taken = decision.event
            incident_id = f"{taken.fingerprint}-{id_[:12]}"
            try:
                await self._open(incident_id, taken, provenance, actor, id_ if report_id else NewId(id_))
            except (GuardRefused, ExpectationFailed):
                if self._state.incidents.get(incident_id) is not None:
                    return Reported(id_, incident_id, opened=False)
                continue  # somebody else opened it meanwhile
            except IdConflict:
                return Reported(id_, incident_id, opened=False)  # journaled before a crash, with the time of that moment
            return Reported(id_, incident_id, opened=True)

    async def clear(self, code: str, subsystem: str, subject: str, summary: str = "", *, observed_at: int | None = None) -> None:
        """The reporter no longer sees the degradation. Costs nothing when no incident of it is open or held."""
        incident = self._state.open_or_held(fingerprint(code, subsystem, identity(self._redactor, subject)))
        if incident is None:
            return
        observed = observed_at if observed_at is not None else epoch_ms(self._clock.now())
        seen = max(incident.observed_at, self.observed(incident.id), incident.last_effect_at)
        if incident.cleared_at > seen:
            return  # said already
        await self._journal.append(
            incident.stream, [DegradationCleared(observed_at=observed, summary=summary)], correlation=incident.id
        )

    async def flush(self) -> None:
        """
        Journal the counts that are only in memory.

        What was seen after the last effect of an incident that was resolved meanwhile is no longer its business: it is reported anew.
        """
        for id_ in list(self._counts):
            incident = self._state.incidents.get(id_)
            counted = self._counts[id_]
            over = incident is None or not (incident.open or incident.held)
            if over and (incident is None or counted.observed_at > max(incident.last_effect_at, incident.cleared_at)):
                del self._counts[id_]
                await self.report(counted.event, counted.provenance, actor=counted.actor)
            elif incident is not None and (entry := self.take(incident)) is not None:
                await self._journal.append(incident.stream, [entry], correlation=id_)
            else:
                self._counts.pop(id_, None)

    def observed(self, incident_id: str) -> int:
        """When the newest report that is not journaled yet was seen, milliseconds since 1970 UTC; 0 for none."""
        counted = self._counts.get(incident_id)
        return counted.observed_at if counted is not None else 0

    def take(self, incident: Incident) -> DegradationCoalesced | None:
        """The entry about reports that are not journaled yet, for whoever journals the incident's next step; `None` for none."""
        counted = self._counts.pop(incident.id, None)
        if counted is None or counted.count <= incident.reports:
            return None
        return DegradationCoalesced(count=counted.count, severity=incident.severity, observed_at=counted.observed_at, why="count")

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
        counted = self._counts.get(incident.id)
        return max(incident.reports, counted.count if counted is not None else 0)

    async def _open(self, incident_id: str, event: DegradationEvent, provenance: Provenance, actor: str, id_: str) -> None:
        stream = stream_of(incident_id)

        def guard() -> None:
            if self._state.open_or_held(event.fingerprint) is not None:
                raise GuardRefused("an incident of this fingerprint is open or held")
            # Others may have been taken in since, by this host or another one: each alone below the cap, all of them beyond it.
            if (
                event.subject != STORM_SUBJECT
                and event.subject not in self._policy.grouped
                and in_storm(
                    self._state,
                    event.code,
                    storm_subjects=self._policy.storm_subjects,
                    storm_exit_ms=self._policy.storm_exit_ms,
                    now=epoch_ms(self._clock.now()),
                )
            ):
                raise GuardRefused("the code is in a storm by now")

        entries: list[Entry] = [DegradationReported(event=event, provenance=provenance)]
        # Reported and escalated in one commit where nothing has to be decided. A storm has no subject that anybody could act on.
        if event.subject == STORM_SUBJECT:
            entries.append(IncidentSettled(status="escalated", reason=event.summary, held=True))
        elif not self._handled(event, provenance):
            entries.append(IncidentSettled(status="escalated", reason=f"no runbook handles {event.code}", held=True))
        await self._journal.append(
            stream, entries, expected=NO_STREAM, guard=guard, actor=actor, event_id=id_, correlation=incident_id
        )

    async def _coalesce(self, decision: Coalesce, event: DegradationEvent, provenance: Provenance, actor: str) -> None:
        incident = decision.incident
        observed = max(event.observed_at or 0, self.observed(incident.id))
        count = self.count_of(incident) + 1
        # What undoes a "no longer seen" must be known to whoever would resolve the incident for it.
        undoes = incident.cleared_at > incident.observed_at and observed > incident.cleared_at
        if decision.why == "count" and not undoes:
            self._counts[incident.id] = Counted(count, observed, event, provenance, actor)
            await self._journal.durable(incident.opened_seq)
            return

        def guard() -> None:
            known = self._state.open_or_held(incident.fingerprint)
            if known is None or known.id != incident.id:
                raise GuardRefused("the incident was settled")

        self._counts.pop(incident.id, None)
        entry = DegradationCoalesced(
            count=count,
            severity=decision.severity,
            observed_at=observed,
            why=decision.why,
            summary=event.summary,
            evidence=event.model_dump(mode="json", include={"evidence"})["evidence"],
        )
        await self._journal.append(incident.stream, [entry], guard=guard, correlation=incident.id)
