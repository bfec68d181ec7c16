"""What the operator allows, as the gate asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from remediation.core.gate import Profile, Situation
from remediation.core.incident import Incident
from remediation.core.lifecycle import State, to_quarantine
from remediation.core.state import HostState


@dataclass(frozen=True, slots=True)
class Policy:
    """Profile and limits; see ``[gate]`` and ``[limits]``."""

    profile: Profile = "supervised"
    threshold: int = 70
    attempt_cap: int = 3
    cooldown_ms: int = 300_000
    changes_per_hour: int = 20
    storm_subjects: int = 100
    concurrency: int = 16
    approvers: bool = False
    """Whether there is anybody who may consent; without, what would ask is given to people as escalated."""
    approval_ms: int = 86_400_000
    """How long a request for consent stands."""
    recheck_ms: int = 300_000
    """How often it is looked at whether a plan that waits for consent is still needed."""
    background: set[asyncio.Task[Any]] = field(default_factory=set)

    def runbook_state(self, state: HostState, runbook: str, code_digest: str) -> State:
        """The lifecycle state of a runbook as this host runs it: `registered` if the journal knows it not, or with other code."""
        record = state.runbooks.get(runbook)
        if record is None:
            return "registered"
        return record.state if record.code_digest == code_digest or record.state == "quarantined" else "registered"

    def situation(
        self, state: HostState, incident: Incident, runbook: str, code_digest: str, *, now: int, first: bool, approved_by: str = ""
    ) -> Situation:
        """What the gate has to know for a plan of `runbook`, run with this code, in `incident`."""
        fenced_by = state.fenced.get(incident.event.subject, "")
        touched_by, touched_at = state.touched.get(incident.event.subject, ("", 0))
        return Situation(
            profile=self.profile,
            threshold=self.threshold,
            state=self.runbook_state(state, runbook, code_digest),
            paused=state.paused(now),
            paused_until=state.pause.until if state.pause is not None else 0,
            fenced_by="" if fenced_by == incident.id else fenced_by,
            cooldown_until=touched_at + self.cooldown_ms if touched_by not in ("", incident.id) else 0,
            changes_left=self.changes_per_hour - state.changes.used(now),
            first_stage=first,
            approved_by=approved_by,
        )

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
