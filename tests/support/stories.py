"""Entries of incidents as a host writes them, for tests that read them."""

from remediation.model import entries
from remediation.model.base import Severity
from remediation.model.entries import Entry, GateReason, GateRecord
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import EffectRecord, PlannedEffect, PlanRecord, Promise, Receipt
from remediation.model.runbook import Finding, Level, Radius, Reversibility, Verdict

SEEN = 1_700_000_000_000
HOSTILE = "x\x1b[31m\u202e`[a](http://evil)`<script>\n# heading\n```\n@everyone"


def event(**changes: object) -> DegradationEvent:
    fields: dict[str, object] = {
        "code": "LOCK_STALE",
        "subsystem": "jobs",
        "subject": "/srv/app/job.lock",
        "severity": "P2",
        "summary": "the lock is 3 hours old",
        "evidence": {"pid": 4711},
        "observed_at": SEEN,
    }
    return DegradationEvent(**(fields | changes))


def stream(name: str = "0a1b2c3d") -> str:
    return f"incident/{event().fingerprint}/{name}"


def incident_id(name: str = "0a1b2c3d") -> str:
    return f"{event().fingerprint}-{name}"


def reported(**changes: object) -> Entry:
    return entries.DegradationReported(event=event(**changes), provenance=Provenance.EXPLICIT)


def opened(*ladder: str, history: tuple[str, ...] = ()) -> Entry:
    return entries.IncidentOpened(fingerprint=event().fingerprint, severity=Severity.P2, ladder=ladder, history=history)


def planned_effect(key: str = "at1:0:0", *, line: str = "delete /srv/app/job.lock", diff: str = "") -> PlannedEffect:
    return PlannedEffect(
        key=key,
        effect=EffectRecord(kind="delete_file", version=1, data="{}"),
        prepared="{}",
        promise=Promise.STATE,
        reversibility=Reversibility.REVERSIBLE,
        radius=Radius.PROCESS,
        line=line,
        diff=diff,
    )


def planned(
    *effects: PlannedEffect,
    attempt: str = "at1",
    number: int = 1,
    runbook: str = "stale-lock-file",
    decision: str = "proceed",
    reason: str = "no row of the gate objects",
    stage: int = 0,
    more: bool = False,
    skipped: tuple[tuple[str, str], ...] = (),
    evidence: tuple[str, ...] = ("pid 4711 is gone",),
) -> Entry:
    plan = PlanRecord(
        stage=stage,
        effects=effects or (planned_effect(),),
        more=more,
        summary="remove the lock",
        reversibility=Reversibility.REVERSIBLE,
        radius=Radius.PROCESS,
        nonce="00",
    )
    return entries.AttemptPlanned(
        attempt=attempt,
        number=number,
        runbook=runbook,
        level=Level.PATCH,
        code_digest="c0de" * 16,
        instance="inst",
        skipped=skipped,
        finding=Finding.applies(95, evidence=evidence),
        gate=GateRecord(decision=decision, reasons=(GateReason(row="lifecycle", decision=decision, reason=reason),)),
        plan=plan,
        plan_digest=plan.digest,
        apply_ms=60_000,
    )


def receipt(key: str = "at1:0:0", outcome: str = "applied", error: str = "") -> Receipt:
    return Receipt(key=key, kind="delete_file", outcome=outcome, error=error, at=SEEN + 1000)


def finished(
    outcome: str = "healed", *, attempt: str = "at1", receipts: tuple[Receipt, ...] | None = None, **changes: object
) -> Entry:
    fields: dict[str, object] = {
        "attempt": attempt,
        "runbook": "stale-lock-file",
        "outcome": outcome,
        "receipts": (receipt(),) if receipts is None else receipts,
        "verdict": Verdict.healthy("the lock is gone") if outcome == "healed" else Verdict.failed("still there"),
        "duration_ms": 12,
    }
    return entries.AttemptFinished(**(fields | changes))


def settled(status: str = "resolved", reason: str = "healed by stale-lock-file", **changes: object) -> Entry:
    return entries.IncidentSettled(status=status, reason=reason, runbook="stale-lock-file", attempts=1, **changes)


def healed() -> list[Entry]:
    """The whole stream of an incident that a runbook healed."""
    return [
        reported(),
        opened("stale-lock-file", "restart-job"),
        planned(planned_effect(diff="-4711\n"), skipped=(("restart-job", "declined: nothing runs"),)),
        finished(),
        settled(),
    ]


def escalated() -> list[Entry]:
    """The whole stream of an incident that no runbook matched."""
    return [
        reported(),
        opened(),
        settled(
            "escalated", "no runbook matches LOCK_STALE", held=True, analysis="Nobody knows this.", actions=("Look at the lock",)
        ),
    ]
