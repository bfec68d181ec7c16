"""How each entry moves an incident: pure functions from a value to the next."""

from __future__ import annotations

from typing import Any

from remediation.core.incident import UNDO, Approval, Attempt, Incident, Phase, Status, changed, id_of
from remediation.model.entries import (
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRequested,
    AttemptFinished,
    AttemptPlanned,
    DegradationCleared,
    DegradationCoalesced,
    DegradationReported,
    EffectApplied,
    EffectFailed,
    EffectReverted,
    EffectRevertFailed,
    EffectStarted,
    EffectUncertain,
    Entry,
    IncidentOpened,
    IncidentReopened,
    IncidentSettled,
    IncidentWaiting,
    StageApplied,
    VerificationStarted,
)
from remediation.model.plan import Receipt


def opened(entry: DegradationReported, *, stream: str, seq: int, at: int) -> Incident:
    """The incident that begins with a report."""
    event = entry.event
    return Incident(
        id=id_of(stream),
        stream=stream,
        # Not of the event, whose subject may have been erased.
        fingerprint=id_of(stream).partition("-")[0],
        event=event,
        provenance=entry.provenance,
        opened_seq=seq,
        opened_at=at,
        changed_at=at,
        severity=event.severity,
        observed_at=event.observed_at or at,
        version=1,
    )


def evolve(incident: Incident, entry: Entry, *, at: int) -> Incident:
    """The incident after `entry`, journaled at time `at` (milliseconds). Unknown entries change nothing but the version."""
    moved = _MOVES.get(type(entry))
    copy = changed(incident, version=incident.version + 1, changed_at=at)
    if moved is not None:
        moved(copy, entry)
    return copy


def _set(copy: Incident, **changes: object) -> None:
    """Change the copy that `evolve` has just made, and nobody else has: one copy for each entry is enough, as folding is a hot path."""
    copy.__dict__.update(changes)


def _coalesced(incident: Incident, entry: DegradationCoalesced) -> None:
    counter = entry.observed_at if entry.why == "counter-evidence" else incident.counter_evidence_at
    _set(
        incident,
        reports=max(incident.reports, entry.count),
        severity=entry.severity,
        observed_at=max(incident.observed_at, entry.observed_at),
        counter_evidence_at=max(counter, incident.counter_evidence_at),
        heard=incident.heard or (entry.why == "counter-evidence" and entry.observed_at > incident.last_effect_at),
    )


def _cleared(incident: Incident, entry: DegradationCleared) -> None:
    heard = incident.heard or entry.observed_at > incident.last_effect_at
    _set(incident, cleared_at=max(incident.cleared_at, entry.observed_at), heard=heard)


def _taken_in(incident: Incident, entry: IncidentOpened) -> None:
    _set(incident, taken_in=True, ladder=entry.ladder, history=entry.history)


def _waiting(incident: Incident, entry: IncidentWaiting) -> None:
    waits = incident.waits + (entry.why in ("stage", "verify"))
    _set(incident, phase=Phase.WAITING, wait=entry, waiting_since=incident.changed_at, heard=False, waits=waits)


def _planned(incident: Incident, entry: AttemptPlanned) -> None:
    skipped = dict(incident.skipped) | dict(entry.skipped)
    acted, asked = entry.gate.decision == "proceed", entry.gate.decision == "ask"
    current, approval = incident.current, incident.approval
    if current is not None and current.id == entry.attempt:
        attempt = changed(
            current,
            # A plan that a person consented to is judged a second time, and stands in its own place.
            plans=(*current.plans[: entry.plan.stage], entry.plan),
            acted=current.acted or acted,
            asked=asked,
            apply_ms=entry.apply_ms,
            instance=entry.instance,
        )
        if acted and approval is not None and approval.granted_by and approval.plan_digest == entry.plan_digest:
            attempt = changed(attempt, approved_by=approval.granted_by, bounds=entry.plan.bounds)
            approval = None
        attempts = (*incident.attempts[:-1], attempt)
    else:
        attempt = Attempt(
            id=entry.attempt,
            number=entry.number,
            runbook=entry.runbook,
            level=entry.level,
            code_digest=entry.code_digest,
            instance=entry.instance,
            planned_at=incident.changed_at,
            finding=entry.finding,
            plans=(entry.plan,),
            acted=acted,
            asked=asked,
            apply_ms=entry.apply_ms,
        )
        attempts = (*incident.attempts, attempt)
    phase = Phase.ACTING if acted else Phase.DECIDING
    known = tuple(skipped.items())
    _set(incident, phase=phase, wait=None, waits=0, attempts=attempts, skipped=known, reason=_withheld(entry), approval=approval)


def _requested(incident: Incident, entry: ApprovalRequested) -> None:
    approval = Approval(
        id=entry.approval_id,
        attempt=entry.attempt,
        runbook=entry.runbook,
        code_digest=entry.code_digest,
        plan_digest=entry.plan_digest,
        requested_at=incident.changed_at,
        not_after=entry.not_after,
    )
    _set(incident, approval=approval)


def _answered(incident: Incident, entry: ApprovalGranted | ApprovalDenied) -> None:
    approval = incident.approval
    if approval is None or approval.id != entry.approval_id or approval.answered:
        return  # single use: a second answer changes nothing
    if isinstance(entry, ApprovalGranted):
        _set(incident, approval=changed(approval, granted_by=entry.approver))
    else:
        _set(incident, approval=changed(approval, denied_by=entry.approver, reason=entry.reason))


def _void(incident: Incident, entry: ApprovalExpired) -> None:
    approval = incident.approval
    if approval is not None and approval.id == entry.approval_id:
        _set(incident, approval=None)


def _withheld(entry: AttemptPlanned) -> str:
    if entry.gate.decision == "proceed":
        return ""
    return "; ".join(reason.reason for reason in entry.gate.reasons if reason.decision == entry.gate.decision)


def _with(incident: Incident, attempt: Attempt, **changes: object) -> None:
    attempts = tuple(attempt if old.id == attempt.id else old for old in incident.attempts)
    _set(incident, attempts=attempts, **changes)


def _attempt(incident: Incident, id_: str) -> Attempt:
    return next(attempt for attempt in reversed(incident.attempts) if attempt.id == id_)


def with_receipts(attempt: Attempt, new: tuple[Receipt, ...]) -> Attempt:
    """`attempt` with `new` receipts, all in the order of the plans."""
    if not new:
        return attempt
    merged = {receipt.key: receipt for receipt in (*attempt.receipts, *new)}
    if attempt.receipts:
        # What runs once has its receipt journaled at once, the others have theirs at the end of the stage.
        order = [item.key for plan in attempt.plans for item in plan.effects]
        merged = {key: merged[key] for key in order if key in merged} | merged
    return changed(attempt, receipts=tuple(merged.values()))


def _stage_applied(incident: Incident, entry: StageApplied) -> None:
    attempt = _attempt(incident, entry.attempt)
    attempt = changed(with_receipts(attempt, entry.receipts), applied_stages=entry.stage + 1)
    _with(incident, attempt, phase=Phase.DECIDING)


def _started(incident: Incident, entry: EffectStarted) -> None:
    attempt = _attempt(incident, entry.attempt)
    _with(incident, changed(attempt, started=(*attempt.started, entry.key)))


def _ended(incident: Incident, entry: EffectApplied | EffectFailed) -> None:
    attempt = _attempt(incident, entry.attempt)
    started = tuple(key for key in attempt.started if key != entry.receipt.key)
    _with(incident, changed(with_receipts(attempt, (entry.receipt,)), started=started))


def _uncertain(incident: Incident, entry: EffectUncertain) -> None:
    attempt = _attempt(incident, entry.attempt)
    started = tuple(key for key in attempt.started if key != entry.key)
    _with(incident, changed(attempt, started=started, uncertain=(*attempt.uncertain, entry.key)))


def _verifying(incident: Incident, entry: VerificationStarted) -> None:
    attempt = _attempt(incident, entry.attempt)
    attempt = changed(
        with_receipts(attempt, entry.receipts),
        applied_stages=len(attempt.plans),
        verification=entry,
        verification_at=incident.changed_at,
        verdict=entry.verdict,
    )
    _with(incident, attempt, phase=Phase.VERIFYING, wait=None)


def _finished(incident: Incident, entry: AttemptFinished) -> None:
    attempt = _attempt(incident, entry.attempt)
    attempt = changed(
        with_receipts(attempt, entry.receipts),
        applied_stages=len(attempt.plans),
        verdict=entry.verdict or attempt.verdict,
        outcome=entry.outcome,
        asked=False,
        reason=entry.reason,
        revert=entry.revert,
        finished_at=incident.changed_at,
    )
    _with(incident, attempt, phase=Phase.ACTING if entry.revert else Phase.DECIDING, wait=None)


def _reverted(incident: Incident, entry: EffectReverted | EffectRevertFailed) -> None:
    attempt = _attempt(incident, entry.attempt)
    failed = isinstance(entry, EffectRevertFailed)
    attempt = changed(
        attempt,
        revert=tuple(key for key in attempt.revert if key != entry.key),
        started=tuple(key for key in attempt.started if key != entry.key + UNDO),
        reverted=attempt.reverted if failed else (*attempt.reverted, entry.key),
        revert_failed=(*attempt.revert_failed, entry.key) if failed else attempt.revert_failed,
    )
    _with(incident, attempt, phase=Phase.ACTING if attempt.revert else Phase.DECIDING, dirty=incident.dirty or failed)


def _settled(incident: Incident, entry: IncidentSettled) -> None:
    _set(
        incident,
        status=Status(entry.status),
        phase=Phase.SETTLED,
        wait=None,
        approval=None,
        held=entry.held,
        dirty=entry.dirty,
        reports=max(incident.reports, entry.reports),
        settled_at=incident.settled_at or incident.changed_at,
        reason=entry.reason,
        analysis=entry.analysis or incident.analysis,
        actions=entry.actions or incident.actions,
    )


def _reopened(incident: Incident, entry: IncidentReopened) -> None:
    _set(
        incident,
        status=Status.OPEN,
        phase=Phase.DECIDING,
        wait=None,
        held=False,
        dirty=False,
        settled_at=0,
        reason="",
        skipped=(),
        ladder=entry.ladder,
        history=(),
        waits=0,
        fresh_from=len(incident.attempts),
        cleared_at=0,
        counter_evidence_at=0,
    )


_MOVES: dict[type[Entry], Any] = {
    DegradationCoalesced: _coalesced,
    DegradationCleared: _cleared,
    IncidentOpened: _taken_in,
    IncidentWaiting: _waiting,
    AttemptPlanned: _planned,
    StageApplied: _stage_applied,
    EffectStarted: _started,
    EffectApplied: _ended,
    EffectFailed: _ended,
    EffectUncertain: _uncertain,
    VerificationStarted: _verifying,
    AttemptFinished: _finished,
    EffectReverted: _reverted,
    EffectRevertFailed: _reverted,
    IncidentSettled: _settled,
    IncidentReopened: _reopened,
    ApprovalRequested: _requested,
    ApprovalGranted: _answered,
    ApprovalDenied: _answered,
    ApprovalExpired: _void,
}
