"""
Runbooks as the journal knows them: state, code digest and track record.

A runbook that no host has registered is a candidate: it has no record. The states and what moves a runbook between them stand in
``docs/specs/runbook-lifecycle.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from remediation.core.incident import Incident
from remediation.model.entries import (
    AttemptFinished,
    AttemptPlanned,
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
DURATIONS = 101
"""Newest healed attempts whose durations are kept."""


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
    """Who promoted it; empty unless it may act."""
    uncalled: bool = False
    """Whether none of its steps is called, not even to observe: the engine quarantined it, as it could not be stopped."""
    changed_at: int = 0
    changed_seq: int = -1
    """The entry that brought it into its state, or told anew why it is in it."""
    deprecated: str = ""
    """Why it should not be used any more, as its spec says."""
    attempts: int = 0
    healed: int = 0
    failed: int = 0
    inconclusive: int = 0
    clean: int = 0
    """Verified heals whose effects reached no further than the process, since the last failed verdict, fault, quarantine or new code."""
    faults: int = 0
    last_fault: str = ""
    failures: tuple[tuple[int, str], ...] = field(default=())
    """Failed verdicts of the last 7 days: (time, incident), one per incident."""
    withheld: int = 0
    """Attempts whose plans were not applied, for whatever reason."""
    observed: int = 0
    """Plans of the present code that were recorded only to be read."""
    would_act: int = 0
    """How many of these would have been applied at once if the runbook had been live; for the others a person would have been asked."""
    durations: tuple[int, ...] = ()
    """Milliseconds that the newest healed attempts took, of at most `DURATIONS`; the newest stands last."""

    @property
    def median_ms(self) -> int | None:
        """The median of `durations`, the lower one of two; `None` if there are none."""
        ordered = sorted(self.durations)
        return ordered[(len(ordered) - 1) // 2] if ordered else None


def evolve_runbook(record: RunbookRecord | None, entry: Entry, *, at: int, seq: int = -1) -> RunbookRecord:
    """The record after `entry` of the runbook's own stream, which stands at `seq`. An entry that does not fit the state changes nothing."""
    known = record or RunbookRecord(getattr(entry, "runbook", ""))
    match entry:
        case RunbookRegistered():
            return _registered(known, entry, at, seq)
        case RunbookPromoted():
            # A promotion is for exactly the code that it names, and a quarantine is ended by a release only.
            if known.state in ("quarantined", "deprecated") or entry.code_digest != known.code_digest:
                return known
            why = f"promoted by {entry.by}" + (f": {entry.reason}" if entry.reason else "")
            return replace(known, state="live", promoted_by=entry.by, why=why, changed_at=at, changed_seq=seq)
        case RunbookDegraded():
            if known.state not in ACTIVE:
                return known
            return replace(known, state="degraded", why=entry.reason, changed_at=at, changed_seq=seq)
        case RunbookQuarantined():
            why = f"quarantined by {entry.by}: {entry.reason}"
            uncalled = known.uncalled or entry.by == "engine"
            return replace(
                known, state="quarantined", promoted_by="", why=why, changed_at=at, changed_seq=seq, clean=0, uncalled=uncalled
            )
        case RunbookReleased():
            if known.state != "quarantined":
                return known
            why = f"released by {entry.by}" + (f": {entry.reason}" if entry.reason else "")
            state = _unproven(known.deprecated)
            return replace(known, state=state, why=why, failures=(), changed_at=at, changed_seq=seq, uncalled=False)
        case RunbookFaulted():
            return replace(known, faults=known.faults + 1, clean=0, last_fault=f"{entry.step}: {entry.error}")
    return known


def _registered(known: RunbookRecord, entry: RunbookRegistered, at: int, seq: int) -> RunbookRecord:
    new = known.code_digest != entry.code_digest
    why = "first seen" if not known.code_digest else "new code" if new else "taken back"
    known = replace(
        known,
        code_digest=entry.code_digest,
        plugin=entry.plugin,
        spec=entry.spec,
        deprecated=entry.deprecated,
        promoted_by="",
        clean=0,
        # What other code would have done is no evidence for this one.
        observed=0 if new else known.observed,
        would_act=0 if new else known.would_act,
    )
    if known.state == "quarantined":
        return known  # quarantine outlives a change of code
    why = f"deprecated: {entry.deprecated}" if entry.deprecated else why
    return replace(known, state=_unproven(entry.deprecated), why=why, changed_at=at, changed_seq=seq)


def _unproven(deprecated: str) -> State:
    """Changed code, and what comes out of a quarantine, has to earn its place again."""
    return "deprecated" if deprecated else "registered"


def observe(records: dict[str, RunbookRecord], entry: AttemptPlanned) -> None:
    """Take a plan into the track records if it was recorded only to be read: it is evidence of what the runbook would do."""
    if entry.gate.decision != "observe":
        return
    known = records.get(entry.runbook, RunbookRecord(entry.runbook))
    if known.code_digest == entry.code_digest:
        alone = not any(reason.decision == "ask" for reason in entry.gate.reasons)
        records[entry.runbook] = replace(known, observed=known.observed + 1, would_act=known.would_act + alone)


def learn(records: dict[str, RunbookRecord], incident: Incident, entry: AttemptFinished, *, at: int) -> None:
    """Take the end of an attempt into the track records."""
    known = records.get(entry.runbook, RunbookRecord(entry.runbook))
    if entry.outcome == "withheld":
        records[entry.runbook] = replace(known, withheld=known.withheld + 1)
        return
    failures, durations = known.failures, known.durations
    if entry.outcome == "failed":
        recent = tuple(item for item in failures if at - item[0] < WEEK and item[1] != incident.id)
        failures = (*recent, (at, incident.id))
    elif entry.outcome == "healed" and entry.duration_ms:
        durations = (*durations[1 - DURATIONS :], entry.duration_ms)
    records[entry.runbook] = replace(
        known,
        attempts=known.attempts + 1,
        healed=known.healed + (entry.outcome == "healed"),
        failed=known.failed + (entry.outcome == "failed"),
        inconclusive=known.inconclusive + (entry.outcome == "inconclusive"),
        clean=_clean(known, incident, entry),
        failures=failures,
        durations=durations,
    )


def _clean(record: RunbookRecord, incident: Incident, entry: AttemptFinished) -> int:
    if entry.outcome == "failed":
        return 0
    if entry.outcome != "healed":
        return record.clean
    reach = {plan.reach for attempt in incident.attempts if attempt.id == entry.attempt for plan in attempt.plans}
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
