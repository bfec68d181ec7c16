"""What the operator allows, as the gate asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import structlog

from remediation.core import pausing
from remediation.core.gate import Profile, Situation
from remediation.core.incident import Incident
from remediation.core.lifecycle import RunbookRecord, State, to_quarantine
from remediation.core.limits import AHEAD, HOUR
from remediation.core.state import HostState
from remediation.core.tallies import Group
from remediation.core.trust import Elevation, TrustElevationSource
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Radius, RunbookSpec


@dataclass(frozen=True)
class Policy:
    """Profile and limits; see ``[gate]`` and ``[limits]``."""

    profile: Profile = "supervised"
    threshold: int = 70
    attempt_cap: int = 3
    cooldown_ms: int = 300_000
    changes_per_hour: int = 20
    runbook_changes: int = 1_000_000
    runbook_window_ms: int = HOUR
    storm_subjects: int = 100
    storm_exit_ms: int = 0
    groups: tuple[Group, ...] = ()
    concurrency: int = 16
    per_runbook: int = 1_000_000
    """Attempts of one runbook that may act at a time, over all hosts of the home."""
    per_radius: Mapping[Radius, int] = field(default_factory=dict)
    """Attempts that may act at a time, by the radius that their runbooks declare, over all hosts of the home; not named: any number."""
    approvers: bool = False
    """Whether there is anybody who may consent; without, what would ask is given to people as escalated."""
    approval_ms: int = 86_400_000
    """How long a request for consent stands."""
    recheck_ms: int = 300_000
    """How often it is looked at whether a plan that waits for consent is still needed."""
    trust: TrustElevationSource = field(default_factory=TrustElevationSource)
    radii: Mapping[str, Radius] = field(default_factory=dict)
    """What each registered runbook declares."""
    background: set[asyncio.Task[Any]] = field(default_factory=set)

    @cached_property
    def grouped(self) -> frozenset[str]:
        """All subjects of groups."""
        return frozenset(subject for group in self.groups for subject in group.subjects)

    def runbook_state(self, state: HostState, runbook: str, code_digest: str) -> State:
        """The lifecycle state of a runbook as this host runs it: `registered` if the journal knows it not, or with other code."""
        record = state.runbooks.get(runbook)
        if record is None:
            return "registered"
        return record.state if record.code_digest == code_digest or record.state == "quarantined" else "registered"

    def situation(
        self,
        state: HostState,
        incident: Incident,
        spec: RunbookSpec,
        code_digest: str,
        *,
        now: int,
        first: bool,
        approved_by: str = "",
        elevated: str = "",
        secrets: str = "",
    ) -> Situation:
        """What the gate has to know for a plan of the runbook of `spec`, run with this code, in `incident`."""
        rate = state.tallies.by_runbook.get(spec.id)
        storm = state.tallies.storms.get(incident.event.code)
        fenced_by = state.fenced.get(incident.event.subject, "")
        touched_by, touched_at = state.touched.get(incident.event.subject, ("", 0))
        pause = state.pause(now)
        lifecycle = self.runbook_state(state, spec.id, code_digest)
        if lifecycle in ("live", "degraded") and self.quarantine_reason(state, spec.id, essential=spec.essential, now=now):
            # Its last verdict was journaled, and a crash came before the entry that follows from it.
            lifecycle = "quarantined"
        return Situation(
            profile=self.profile,
            threshold=self.threshold,
            state=lifecycle,
            paused=pausing.reason_of(pause),
            paused_until=pause.until if pause is not None else 0,
            panic=pause is not None and pause.panic,
            fenced_by="" if fenced_by == incident.id else fenced_by,
            cooldown_until=touched_at + self.cooldown_ms if touched_by not in ("", incident.id) and touched_at - now < AHEAD else 0,
            changes_left=self.changes_per_hour - state.tallies.changes.used(now),
            runbook_free_at=rate.free_at(self.runbook_changes, self.runbook_window_ms, now=now) if rate is not None else 0,
            storm_until=storm + self.storm_exit_ms if storm is not None and storm - now < AHEAD else 0,
            held_back=self.held_back(state, incident, spec) if first else "",
            first_stage=first,
            approved_by=approved_by,
            elevated=elevated,
            secrets=secrets,
        )

    def held_back(self, state: HostState, incident: Incident, spec: RunbookSpec) -> str:
        """Why `incident` must wait for others before the runbook of `spec` may begin on it; empty if it need not."""
        holder = state.tallies.acted_on.get(incident.event.subject, incident.id)
        if holder != incident.id:
            return f"incident {holder} acts on the same subject"
        if self.groups and (why := state.tallies.below_quorum(self.groups, incident.event.subject)):
            return why
        acting = [runbook for id_, runbook in state.tallies.acting.items() if id_ != incident.id] if self._bounded else ()
        if sum(runbook == spec.id for runbook in acting) >= self.per_runbook:
            return f"{self.per_runbook} attempts of {spec.id} act already"
        most = self.per_radius.get(spec.blast_radius)
        reaching = sum(self.radii.get(runbook) is spec.blast_radius for runbook in acting) if most is not None else 0
        if most is not None and reaching >= most:
            return f"{reaching} attempts that may reach the {spec.blast_radius.value} act already"
        return ""

    @property
    def _bounded(self) -> bool:
        return self.per_runbook < self.concurrency or bool(self.per_radius)

    def elevation(self, state: HostState, incident: Incident, runbook: str, plan: PlanRecord, *, now: int) -> Elevation:
        """Whether `plan` is trusted beyond the profile."""
        record = state.runbooks.get(runbook) or RunbookRecord(runbook)
        return self.trust.answer(state.grants, record, plan, profile=self.profile, subject=incident.event.subject, now=now)

    def quarantine_reason(self, state: HostState, runbook: str, *, essential: bool, now: int) -> str:
        """Why `runbook` must stop acting, by its record; empty if it need not."""
        record = state.runbooks.get(runbook)
        return to_quarantine(record, essential=essential, now=now) if record is not None else ""

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` beside the caller; a failure is logged."""
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self.background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            structlog.get_logger("remediation.engine").error("background work failed", exc_info=task.exception())
