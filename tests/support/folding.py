"""State as the journal makes it, without a journal: entries are told to a `HostState` one after the other."""

import itertools
from typing import Any

from remediation.core.incident import Incident, id_of
from remediation.core.state import HostState
from remediation.model import entries
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.entries import Entry, EntryHead, GateReason, GateRecord, Record
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import EffectRecord, PlannedEffect, PlanRecord, Promise, Receipt
from remediation.model.runbook import Finding, Handles, Level, Radius, Reversibility, RunbookSpec, Verdict

NOW = 1_800_000_000_000
"""Milliseconds since 1970 UTC, for tests that need some time."""
_ATTEMPTS = itertools.count(1)


def spec(name: str = "mend", **changes: Any) -> RunbookSpec:
    fields = {"handles": (Handles(code="BROKEN"),), "blast_radius": "process", "reversibility": "reversible", "level": "recovery"}
    return RunbookSpec(id=name, **{**fields, **changes})


def effect(
    key: str, *, reversibility: str = "reversible", radius: str = "process", promise: Promise = Promise.STATE
) -> PlannedEffect:
    return PlannedEffect(
        key=key,
        effect=EffectRecord(kind="file.write", version=1, data="{}"),
        prepared="{}",
        promise=promise,
        reversibility=Reversibility(reversibility),
        radius=Radius(radius),
        line=f"do {key}",
    )


def plan(*effects: PlannedEffect, **changes: Any) -> PlanRecord:
    from remediation.model.runbook import widest, worst

    fields: dict[str, Any] = {
        "stage": 0,
        "effects": effects,
        "more": False,
        "reversibility": worst([item.reversibility for item in effects]),
        "radius": widest([item.radius for item in effects]),
        "nonce": "n",
    }
    return PlanRecord(**{**fields, **changes})


def planned(
    attempt: str = "", *, runbook: str = "mend", decision: str = "proceed", number: int = 1, **changes: Any
) -> entries.AttemptPlanned:
    attempt = attempt or f"a{next(_ATTEMPTS)}"
    made = changes.pop("plan", None) or plan(effect(f"{attempt}:0:0"))
    fields: dict[str, Any] = {
        "attempt": attempt,
        "number": number,
        "runbook": runbook,
        "level": Level.RECOVERY,
        "code_digest": "d",
        "instance": "i",
        "finding": Finding.applies(confidence=90),
        "gate": GateRecord(decision=decision, reasons=(GateReason(row="r", decision=decision, reason=f"because {decision}"),)),
        "plan": made,
        "plan_digest": made.digest,
        "apply_ms": 60_000,
    }
    return entries.AttemptPlanned(**{**fields, **changes})


def receipt(key: str, outcome: str = "applied", *, at: int = NOW) -> Receipt:
    return Receipt(key=key, kind="file.write", outcome=outcome, at=at)


def finished(entry: entries.AttemptPlanned, outcome: str = "healed", **changes: Any) -> entries.AttemptFinished:
    verdicts = {"healed": Verdict.healthy(), "failed": Verdict.failed("no"), "inconclusive": Verdict.inconclusive("who knows")}
    fields = {
        "attempt": entry.attempt,
        "runbook": entry.runbook,
        "outcome": outcome,
        "verdict": verdicts.get(outcome),
        "reason": outcome,
    }
    return entries.AttemptFinished(**{**fields, **changes})


def event(subject: str = "thing", *, code: str = "BROKEN", observed_at: int = NOW, **changes: Any) -> DegradationEvent:
    return DegradationEvent(code=code, subsystem="test", subject=subject, observed_at=observed_at, **changes)


class Ledger:
    """Entries by stream, and the state that comes of them."""

    def __init__(self, *, keep_settled: int | None = 2048, now: int = NOW) -> None:
        self.state = HostState(keep_settled=keep_settled)
        self.now = now
        self.records: list[Record] = []
        self._lengths: dict[str, int] = {}

    def add(self, stream: str, *added: Entry) -> None:
        """Journal entries at the present time."""
        for entry in added:
            length = self._lengths.get(stream, 0)
            self._lengths[stream] = length + 1
            time = timestamp(from_epoch_ms(self.now))
            head = EntryHead(len(self.records), f"{len(self.records):032x}", stream, length, entry.type, time, "test", None, None)
            record = Record(head, entry)
            self.records.append(record)
            self.state.apply(record)

    def report(
        self, reported: DegradationEvent | None = None, *, rest: str = "", provenance: Provenance = Provenance.NATIVE
    ) -> Incident:
        """Open an incident."""
        reported = reported or event(observed_at=self.now)
        stream = f"incident/{reported.fingerprint}/{rest or len(self.records)}"
        self.add(stream, entries.DegradationReported(event=reported, provenance=provenance))
        return self.state.incidents[id_of(stream)]

    def tell(self, incident: Incident, *added: Entry) -> Incident:
        """Journal entries of an incident; returns it as it is then."""
        self.add(incident.stream, *added)
        return self.state.incidents[incident.id]

    def take_in(self, incident: Incident, *ladder: str) -> Incident:
        """Let it have been matched to runbooks."""
        return self.tell(
            incident, entries.IncidentOpened(fingerprint=incident.fingerprint, severity=incident.severity, ladder=ladder)
        )

    def settle(self, incident: Incident, status: str = "resolved", **changes: Any) -> Incident:
        """Settle it."""
        held = changes.pop("held", status != "resolved")
        return self.tell(incident, entries.IncidentSettled(status=status, reason=status, held=held, **changes))

    def healed(self, subject: str = "thing", *, runbook: str = "mend", level: Level = Level.RECOVERY) -> Incident:
        """A whole incident that a runbook resolved."""
        incident = self.take_in(self.report(event(subject, observed_at=self.now)), runbook)
        made = planned(runbook=runbook, level=level)
        self.tell(incident, made, finished(made))
        return self.settle(incident)

    def replayed(self, *, keep_settled: int | None = 2048) -> HostState:
        """A state that was told the same entries."""
        state = HostState(keep_settled=keep_settled)
        for record in self.records:
            state.apply(record)
        return state
