"""
The incident: a closed state machine as frozen values. How entries move it is in `evolution`.

Specification: ``docs/specs/incident-state-machine.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from remediation.model.base import Severity
from remediation.model.entries import IncidentWaiting, VerificationStarted
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import PlanRecord, Receipt
from remediation.model.runbook import Bounds, Finding, Level, Verdict

T = TypeVar("T", "Approval", "Attempt", "Incident")
UNDO = ":undo"
"""Suffix of an effect's key where its undoing is meant."""


class Status(StrEnum):
    """How an incident stands."""

    OPEN = "open"
    RESOLVED = "resolved"
    ESCALATED = "escalated"
    HEAL_FAILED = "heal_failed"


class Phase(StrEnum):
    """What an open incident is at."""

    DECIDING = "deciding"
    WAITING = "waiting"
    ACTING = "acting"
    VERIFYING = "verifying"
    SETTLED = "settled"


@dataclass(frozen=True)
class Approval:
    """A request for a person's consent to one plan, and the answer. Times are milliseconds since 1970 UTC."""

    id: str
    attempt: str
    runbook: str
    code_digest: str
    plan_digest: str
    requested_at: int
    not_after: int
    requested_seq: int = -1
    """Position of the request in the log: part of what is signed."""
    granted_by: str = ""
    denied_by: str = ""
    reason: str = ""
    """Of the denial."""

    @property
    def answered(self) -> bool:
        """Whether somebody consented or refused."""
        return bool(self.granted_by or self.denied_by)


@dataclass(frozen=True)
class Attempt:
    """One run of one runbook against the incident."""

    id: str
    number: int
    runbook: str
    level: Level
    code_digest: str
    instance: str
    planned_at: int
    finding: Finding
    plans: tuple[PlanRecord, ...]
    acted: bool
    apply_ms: int
    asked: bool = False
    """Whether the newest plan waits for a person's consent."""
    approved_by: str = ""
    """Who consented to the newest plan that a person consented to; later stages may be covered by its bounds."""
    bounds: Bounds | None = None
    """Of that plan."""
    receipts: tuple[Receipt, ...] = ()
    applied_stages: int = 0
    started: tuple[str, ...] = ()
    """Keys of *once* effects (or their undoing) that were started and have no word about their end."""
    uncertain: tuple[str, ...] = ()
    verification: VerificationStarted | None = None
    verification_at: int = 0
    verdict: Verdict | None = None
    outcome: str = ""
    reason: str = ""
    revert: tuple[str, ...] = ()
    """Keys still to be undone, in that order."""
    reverted: tuple[str, ...] = ()
    revert_failed: tuple[str, ...] = ()
    finished_at: int = 0

    @property
    def plan(self) -> PlanRecord:
        """The newest stage's plan."""
        return self.plans[-1]

    @property
    def last_effect_at(self) -> int:
        """When the newest receipt was made, milliseconds since 1970 UTC; 0 before."""
        return max((receipt.at for receipt in self.receipts), default=0)


@dataclass(frozen=True)
class Incident:
    """All degradations with one fingerprint from first sight until settled. Times are milliseconds since 1970 UTC."""

    id: str
    stream: str
    fingerprint: str
    event: DegradationEvent
    provenance: Provenance
    opened_seq: int
    opened_at: int
    severity: Severity
    version: int
    """Entries in the stream."""
    status: Status = Status.OPEN
    phase: Phase = Phase.DECIDING
    changed_at: int = 0
    taken_in: bool = False
    ladder: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    attempts: tuple[Attempt, ...] = ()
    fresh_from: int = 0
    """Attempts before this index belong to the time before a reopening: they don't count towards the cap."""
    wait: IncidentWaiting | None = None
    waiting_since: int = 0
    approval: Approval | None = None
    """The newest request for consent, until it is used or void."""
    heard: bool = False
    """Whether the reporter said something since the wait began that a verification has to know."""
    waits: int = 0
    """Waits that the runbook asked for since it last did something."""
    reports: int = 1
    observed_at: int = 0
    counter_evidence_at: int = 0
    cleared_at: int = 0
    held: bool = False
    dirty: bool = False
    settled_at: int = 0
    reason: str = ""
    analysis: str = ""
    actions: tuple[str, ...] = field(default=())

    @property
    def open(self) -> bool:
        """Whether it is not settled."""
        return self.status is Status.OPEN

    @property
    def current(self) -> Attempt | None:
        """The attempt under way: without outcome, or with something left to revert."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and (not last.outcome or last.revert) else None

    @property
    def runbook(self) -> str:
        """Of the newest attempt; empty before one."""
        return self.attempts[-1].runbook if self.attempts else ""

    @property
    def acted(self) -> int:
        """Attempts that were allowed to act, since the incident was opened or reopened."""
        return sum(attempt.acted for attempt in self.attempts[self.fresh_from :])

    @property
    def last_effect_at(self) -> int:
        """When the newest effect of any attempt ended; 0 before."""
        return max((attempt.last_effect_at for attempt in self.attempts), default=0)


def changed(value: T, **changes: Any) -> T:
    """`value` with `changes`. A tenth of the cost of `dataclasses.replace`, which calls the constructor: folding is a hot path."""
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__, **changes)
    return copy


def stream_of(incident_id: str) -> str:
    """The stream of an incident: ``incident/<fingerprint>/<random>`` for the id ``<fingerprint>-<random>``."""
    fingerprint, _, rest = incident_id.partition("-")
    return f"incident/{fingerprint}/{rest}"


def id_of(stream: str) -> str:
    """The incident's id of a stream; see `stream_of`."""
    return stream.removeprefix("incident/").replace("/", "-", 1)
