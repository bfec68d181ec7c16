"""Entries of an attempt: its plans, its effects, its verification, its end. They stand in the incident's stream."""

from __future__ import annotations

from typing import ClassVar, Literal

from remediation.model.base import Frozen
from remediation.model.entries.base import Entry
from remediation.model.plan import PlanRecord, Receipt
from remediation.model.runbook import Finding, Level, Verdict


class GateReason(Frozen):
    """One row of the gate's table that had something to say."""

    row: str
    decision: Literal["proceed", "ask", "observe", "wait", "refuse"]
    reason: str


class GateRecord(Frozen):
    """What the gate decided about a plan, with every reason."""

    decision: Literal["proceed", "ask", "observe", "wait", "refuse"]
    reasons: tuple[GateReason, ...]
    until: int = 0
    """For `wait`: milliseconds since 1970 UTC."""


class AttemptPlanned(Entry):
    """A plan was made and judged. Nothing is applied that does not stand in such an entry with `proceed`."""

    type: ClassVar[str] = "attempt.planned"
    attempt: str
    number: int
    """1 for the incident's first attempt."""
    runbook: str
    level: Level
    code_digest: str
    instance: str
    """The host instance that decided."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Runbooks of the ladder that were not used, each with its reason (declined, raised, timed out)."""
    finding: Finding
    gate: GateRecord
    plan: PlanRecord
    plan_digest: str
    apply_ms: int
    """Time that the stage may take to apply."""


class StageApplied(Entry):
    """A stage with more to come was applied; the next is decided from these receipts."""

    type: ClassVar[str] = "stage.applied"
    attempt: str
    stage: int
    receipts: tuple[Receipt, ...]


class EffectStarted(Entry):
    """An effect of class *once* is about to start; without a later word about it, it is uncertain."""

    type: ClassVar[str] = "effect.started"
    attempt: str
    key: str


class EffectApplied(Entry):
    """An effect is done: one of class *once*, or one before an effect of which that can't be known."""

    type: ClassVar[str] = "effect.applied"
    attempt: str
    receipt: Receipt


class EffectFailed(Entry):
    """An effect of class *once* failed, and its failure is certain."""

    type: ClassVar[str] = "effect.failed"
    attempt: str
    receipt: Receipt


class EffectReverted(Entry):
    """An effect was undone (or found never applied)."""

    type: ClassVar[str] = "effect.reverted"
    attempt: str
    key: str
    note: str = ""


class EffectRevertFailed(Entry):
    """An effect could not be undone: the incident becomes dirty."""

    type: ClassVar[str] = "effect.revert_failed"
    attempt: str
    key: str
    error: str


class EffectUncertain(Entry):
    """Whether the effect happened can't be known; it is never run again."""

    type: ClassVar[str] = "effect.uncertain"
    attempt: str
    key: str
    reason: str


class VerificationStarted(Entry):
    """All stages are applied and the first verdict was not a failure: the window of sustained verification begins."""

    type: ClassVar[str] = "verification.started"
    attempt: str
    receipts: tuple[Receipt, ...] = ()
    """Of the last stage; empty when the window starts anew after a restart or a gap."""
    verdict: Verdict
    sustain_ms: int
    deadline: int
    """Milliseconds since 1970 UTC after which an unfinished window is inconclusive."""
    anew: str = ""
    """Why an earlier window did not count."""


class AttemptFinished(Entry):
    """The attempt's result. `failed` is at the same time the intent to revert `revert`, newest first."""

    type: ClassVar[str] = "attempt.finished"
    attempt: str
    runbook: str
    outcome: Literal["healed", "failed", "inconclusive", "conflict", "withheld"]
    """`conflict`: the world was no longer as planned; `withheld`: the gate did not let it act."""
    receipts: tuple[Receipt, ...] = ()
    verdict: Verdict | None = None
    reason: str = ""
    revert: tuple[str, ...] = ()
    """Keys of the effects to undo, in that order."""
    duration_ms: int = 0
    """From the attempt's first plan to here, by the monotonic clock; 0 when a restart lies between."""
