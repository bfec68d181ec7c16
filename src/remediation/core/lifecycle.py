"""Runbooks as the journal knows them: state, code digest and track record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from remediation.core.incident import Incident
from remediation.model.entries import (
    AttemptFinished,
    Entry,
    RunbookDegraded,
    RunbookFaulted,
    RunbookPromoted,
    RunbookQuarantined,
    RunbookRegistered,
    RunbookReleased,
)
from remediation.model.runbook import Radius

State = Literal["registered", "live", "degraded", "quarantined", "deprecated"]
ACTIVE: tuple[State, ...] = ("live", "degraded")
"""The states in which a runbook may act."""
WEEK = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class RunbookRecord:
    """One runbook's state and record."""

    id: str
    state: State = "registered"
    code_digest: str = ""
    plugin: str = ""
    spec: str = ""
    why: str = ""
    promoted_by: str = ""
    """Who promoted it; empty unless it is live."""
    changed_at: int = 0
    attempts: int = 0
    healed: int = 0
    failed: int = 0
    inconclusive: int = 0
    clean: int = 0
    """Verified heals whose plans reached no further than the process, since the last failed verdict, fault, quarantine or new code."""
    faults: int = 0
    last_fault: str = ""
    failures: tuple[tuple[int, str], ...] = field(default=())
    """Failed verdicts of the last 7 days: (time, incident), one per incident."""


def evolve_runbook(record: RunbookRecord | None, entry: Entry, *, at: int) -> RunbookRecord:
    """The record after an entry of the runbook's own stream."""
    name = getattr(entry, "runbook", "")
    known = record or RunbookRecord(name)
    match entry:
        case RunbookRegistered():
            # Changed code has to earn its place again; quarantine outlives a change of code.
            state: State = "quarantined" if known.state == "quarantined" else "registered"
            why = "first seen" if not known.code_digest else "new code" if known.code_digest != entry.code_digest else "taken back"
            known = replace(known, code_digest=entry.code_digest, plugin=entry.plugin, spec=entry.spec)
            return replace(known, state=state, promoted_by="", why=why, changed_at=at, clean=0)
        case RunbookPromoted():
            # A promotion is for exactly the code that it names, and a quarantine is ended by a release only.
            if known.state == "quarantined" or entry.code_digest != known.code_digest:
                return known
            why = f"promoted by {entry.by}" + (f": {entry.reason}" if entry.reason else "")
            return replace(known, state="live", promoted_by=entry.by, why=why, changed_at=at)
        case RunbookDegraded():
            if known.state not in ("live", "degraded"):
                return known
            return replace(known, state="degraded", why=entry.reason, changed_at=at)
        case RunbookQuarantined():
            return replace(known, state="quarantined", why=f"quarantined by {entry.by}: {entry.reason}", changed_at=at, clean=0)
        case RunbookReleased():
            return replace(known, state="registered", why=f"released by {entry.by}", failures=(), changed_at=at)
        case RunbookFaulted():
            return replace(known, faults=known.faults + 1, clean=0, last_fault=f"{entry.step}: {entry.error}")
    return known


def learn(records: dict[str, RunbookRecord], incident: Incident, entry: AttemptFinished, *, at: int) -> None:
    """Take the end of an attempt into the track records."""
    if entry.outcome != "withheld":
        known = records.get(entry.runbook, RunbookRecord(entry.runbook))
        failures = known.failures
        if entry.outcome == "failed":
            recent = tuple(item for item in failures if at - item[0] < WEEK and item[1] != incident.id)
            failures = (*recent, (at, incident.id))
        records[entry.runbook] = replace(
            known,
            attempts=known.attempts + 1,
            healed=known.healed + (entry.outcome == "healed"),
            failed=known.failed + (entry.outcome == "failed"),
            inconclusive=known.inconclusive + (entry.outcome == "inconclusive"),
            clean=_clean(known, incident, entry),
            failures=failures,
        )


def _clean(record: RunbookRecord, incident: Incident, entry: AttemptFinished) -> int:
    if entry.outcome == "failed":
        return 0
    if entry.outcome != "healed":
        return record.clean
    reach = {plan.radius for attempt in incident.attempts if attempt.id == entry.attempt for plan in attempt.plans}
    return record.clean + (reach == {Radius.PROCESS})


def standing(state: State) -> int:
    """The place of a runbook in this state on the ladder, whatever else its place goes by: the least goes first."""
    return ACTIVE.index(state) if state in ACTIVE else len(ACTIVE)


def to_quarantine(record: RunbookRecord, *, essential: bool, now: int) -> str:
    """
    Why the runbook has to be quarantined by its record; empty if it has not.

    Failed verdicts in 2 distinct incidents in 7 days; 5 for `essential`.
    """
    if record.state == "quarantined":
        return ""
    recent = {incident for at, incident in record.failures if now - at < WEEK}
    most = 5 if essential else 2
    return f"failed verdicts in {len(recent)} incidents within 7 days" if len(recent) >= most else ""
