"""Entries of an incident's life outside its attempts. Stream: ``incident/<fingerprint>/<random>``."""

from __future__ import annotations

from typing import ClassVar, Literal

from remediation.model.base import Severity
from remediation.model.entries.base import Entry
from remediation.model.events import DegradationEvent, Provenance


class DegradationReported(Entry):
    """A degradation was published; the first entry of each incident's stream."""

    type: ClassVar[str] = "degradation.reported"
    event: DegradationEvent
    provenance: Provenance


class DegradationCoalesced(Entry):
    """Further reports of the same fingerprint were taken into the incident."""

    type: ClassVar[str] = "degradation.coalesced"
    count: int
    """Reports so far, the first included."""
    severity: Severity
    """The worst so far."""
    observed_at: int
    """When the newest was seen, milliseconds since 1970 UTC."""
    why: Literal["count", "severity", "counter-evidence"]
    summary: str = ""
    evidence: str = ""
    """Of the newest report, as JSON text; only for severity and counter-evidence."""


class DegradationCleared(Entry):
    """The reporter says that it no longer sees the degradation."""

    type: ClassVar[str] = "degradation.cleared"
    observed_at: int
    summary: str = ""


class IncidentOpened(Entry):
    """The Remediator took the degradation in: which runbooks match, and what came before."""

    type: ClassVar[str] = "incident.opened"
    fingerprint: str
    severity: Severity
    ladder: tuple[str, ...] = ()
    """Ids of the matching runbooks in the order in which they will be tried."""
    history: tuple[str, ...] = ()
    """Ids of earlier incidents of the fingerprint within 24 h, newest first."""


class IncidentWaiting(Entry):
    """A durable timer, and what it waits for."""

    type: ClassVar[str] = "incident.waiting"
    until: int
    """Milliseconds since 1970 UTC; 0 means until something else changes (a resume, an approval)."""
    why: Literal["cooldown", "limit", "pause", "stage", "retry", "verify", "approval", "lock"]
    reason: str
    runbook: str = ""
    attempt: str = ""


class IncidentSettled(Entry):
    """The incident ended, or (a second time) a held one was released."""

    type: ClassVar[str] = "incident.settled"
    status: Literal["resolved", "escalated", "heal_failed"]
    reason: str
    runbook: str = ""
    attempts: int = 0
    reports: int = 1
    held: bool = False
    """Further reports of the fingerprint coalesce, and nothing acts, until a person or a sustained *cleared* releases it."""
    dirty: bool = False
    """A revert failed: the subject is not as it was, and is fenced."""
    analysis: str = ""
    """For people: what was found, tried and is left to do (Markdown)."""
    actions: tuple[str, ...] = ()


class IncidentReopened(Entry):
    """A person wants the incident handled again: the ladder starts anew."""

    type: ClassVar[str] = "incident.reopened"
    reason: str
    ladder: tuple[str, ...] = ()
