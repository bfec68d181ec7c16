"""
The gate: whether a plan may be applied now. A table; the strictest row wins, and every row that speaks is a reason.

Precedence: ``refuse > wait > observe > ask > proceed`` (design, section 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from remediation.model.entries import GateReason, GateRecord
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Radius, Reversibility, RunbookSpec

Decision = Literal["proceed", "ask", "observe", "wait", "refuse"]
Profile = Literal["observe", "supervised", "collaborative", "autonomous"]
STRICTNESS: tuple[Decision, ...] = ("proceed", "ask", "observe", "wait", "refuse")
HIGH_RISK = frozenset({"data-loss", "auth", "payments"})


@dataclass(frozen=True, slots=True)
class Situation:
    """What the gate knows beside the plan."""

    profile: Profile
    threshold: int
    state: Literal["registered", "live", "degraded", "quarantined", "deprecated"]
    """Of the runbook."""
    paused: str = ""
    """Reason of a pause in force; empty for none."""
    paused_until: int = 0
    """Milliseconds since 1970 UTC; 0 for a pause without an end."""
    panic: bool = False
    """Whether the pause also stops what is under way."""
    fenced_by: str = ""
    """The incident whose failed revert fences the subject."""
    cooldown_until: int = 0
    """Milliseconds since 1970 UTC; 0 for none."""
    changes_left: int = 1
    """Changes still allowed in the current hour."""
    runbook_free_at: int = 0
    """When the runbook may begin a change again, milliseconds since 1970 UTC; 0 for now."""
    storm_until: int = 0
    """When the storm of this code ends at the earliest; 0 for no storm."""
    held_back: str = ""
    """Why it must wait for others: too few healthy in its group, or too many act at once; empty if it need not."""
    first_stage: bool = True
    secrets: str = ""
    """Where the redactor fired in the plan."""
    approved_by: str = ""
    """Who consented to this very plan, or to bounds that it keeps within; empty for nobody."""
    elevated: str = ""
    """Why this runbook is trusted beyond the profile, for this plan; empty if it is not."""


Row = tuple[str, Decision, str, int]


def admit(situation: Situation, *, now: int) -> GateRecord:
    """What can be said before the precondition: pauses, fences, limits."""
    return _decided(list(_situation_rows(situation, now)))


def gate(plan: PlanRecord, confidence: int, spec: RunbookSpec, situation: Situation, *, now: int) -> GateRecord:
    """Whether `plan` may be applied at `now` (milliseconds)."""
    rows = [
        *_situation_rows(situation, now),
        *_declaration_rows(plan, spec, situation),
        *_lifecycle_rows(spec, situation),
        *_consent_rows(plan, confidence, spec, situation),
    ]
    return _decided([_lifted(row, situation) for row in rows])


def asks_for_trust(record: GateRecord) -> bool:
    """Whether the profile is all that keeps the plan from acting: trust beyond it would let it."""
    asking = {reason.row for reason in record.reasons if reason.decision == "ask"}
    return record.decision == "ask" and asking == {"profile"}


def _lifted(row: Row, situation: Situation) -> Row:
    """A row that asks, answered: consent lifts each of them, trust only that of the profile. Nothing else is ever lifted."""
    name, decision, reason, until = row
    if decision != "ask":
        return row
    if situation.approved_by:
        return name, "proceed", f"{reason}; {situation.approved_by} consented", until
    if situation.elevated and name == "profile":
        return name, "proceed", f"{reason}; {situation.elevated}", until
    return row


def _situation_rows(situation: Situation, now: int) -> Iterator[Row]:
    if situation.paused and (situation.first_stage or situation.panic):
        yield "pause", "wait", f"healing is paused: {situation.paused}", situation.paused_until
    if situation.fenced_by:
        yield "fence", "refuse", f"the subject is fenced: a revert failed in incident {situation.fenced_by}", 0
    if situation.first_stage and situation.cooldown_until > now:
        yield "cooldown", "wait", "the subject was changed a short while ago", situation.cooldown_until
    if situation.first_stage and situation.runbook_free_at > now:
        yield (
            "runbook-rate",
            "wait",
            "the runbook made as many changes as [limits] runbook_changes allows",
            situation.runbook_free_at,
        )
    if situation.first_stage and situation.storm_until > now:
        yield "storm", "wait", "many subjects of this code are degraded at once: a common cause is likely", situation.storm_until
    if situation.first_stage and situation.held_back:
        yield "held-back", "wait", situation.held_back, 0
    acts = situation.state in ("live", "degraded") and situation.profile != "observe"
    if situation.first_stage and situation.changes_left <= 0 and not situation.paused and acts:
        # The first one beyond the limit is given to people and pauses the rest, which then waits.
        yield "change-rate", "refuse", "as many changes were made in the last hour as [limits] changes_per_hour allows", 0


def _declaration_rows(plan: PlanRecord, spec: RunbookSpec, situation: Situation) -> Iterator[Row]:
    if plan.reversibility.rank > spec.reversibility.rank:
        yield (
            "reversibility",
            "refuse",
            f"the plan is {plan.reversibility.value}, but {spec.id} declares {spec.reversibility.value} at worst",
            0,
        )
    if plan.radius.rank > spec.blast_radius.rank:
        yield "radius", "refuse", f"the plan reaches the {plan.radius.value}, but {spec.id} declares {spec.blast_radius.value}", 0
    if situation.secrets:
        yield "secrets", "refuse", f"the plan holds what looks like a secret ({situation.secrets}); use a SecretRef", 0


def _lifecycle_rows(spec: RunbookSpec, situation: Situation) -> Iterator[Row]:
    if situation.state in ("registered", "quarantined", "deprecated"):
        how = {
            "registered": f'to let it act, `remediation runbooks promote {spec.id}`, or set [runbooks."{spec.id}"] state = "live"',
            "quarantined": f"find out why: `remediation runbooks show {spec.id}`",
            "deprecated": spec.deprecated or "use its successor",
        }[situation.state]
        yield "lifecycle", "observe", f"{spec.id} is {situation.state}; {how}", 0
    if situation.profile == "observe":
        yield "profile", "observe", "the profile is observe: plans are recorded, nothing is applied", 0


def _consent_rows(plan: PlanRecord, confidence: int, spec: RunbookSpec, situation: Situation) -> Iterator[Row]:
    if plan.reversibility.rank >= Reversibility.PARTIAL.rank:
        yield "lasting-loss", "ask", f"the plan is {plan.reversibility.value}" + (f": {plan.loses}" if plan.loses else ""), 0
    if plan.radius is Radius.FLEET:
        yield "fleet", "ask", "the plan reaches the whole fleet", 0
    risky = sorted(HIGH_RISK & {*plan.tags, *spec.tags})
    if risky:
        yield "high-risk", "ask", f"tagged {', '.join(risky)}", 0
    if situation.profile == "supervised":
        yield "profile", "ask", "the profile is supervised: a person approves each plan", 0
    elif situation.profile == "collaborative" and plan.radius is Radius.MACHINE:
        yield "profile", "ask", "the profile is collaborative: plans that reach the machine need a person", 0
    # Under `observe` too: what is recorded says whom it would have asked. Under `supervised`, a grant must not lift more than the profile.
    if confidence < situation.threshold:
        yield "confidence", "ask", f"confidence {confidence} is below the threshold {situation.threshold}", 0


_ALLOWED = GateRecord(
    decision="proceed", reasons=(GateReason(row="allowed", decision="proceed", reason="no row of the gate objects"),)
)


def _decided(rows: Sequence[Row]) -> GateRecord:
    if not rows:
        return _ALLOWED
    strictest = max(rows, key=lambda row: STRICTNESS.index(row[1]))[1]
    waits = [row[3] for row in rows if row[1] == strictest == "wait"]
    until = max(waits) if waits and all(waits) else 0  # 0 is a wait without an end, longer than any other
    reasons = tuple(GateReason(row=row, decision=decision, reason=reason) for row, decision, reason, _ in rows)
    return GateRecord(decision=strictest, reasons=reasons, until=until)
