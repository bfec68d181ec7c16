"""Plans and effects as they stand in the journal: values that can be read, compared and applied without the code that made them."""

from __future__ import annotations

import hashlib
from enum import StrEnum

from remediation.model import canonical
from remediation.model.base import Frozen
from remediation.model.runbook import Bounds, Radius, Reversibility, widest


class Promise(StrEnum):
    """How an effect kind keeps "never started again unless proved absent" (design, section 4)."""

    STATE = "state"  # compare-and-set on the before-state: changed at most once
    KEYED = "keyed"  # deduplicated by the receiver under the effect's key
    ONCE = "once"  # no sound probe: own commits before and after; in doubt never run again


class Probe(StrEnum):
    """What an effect's probe can say."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"


class BlobRef(Frozen):
    """Content in the blob store: its SHA-256 and size in bytes."""

    sha256: str
    size: int


class EffectRecord(Frozen):
    """One effect as stored: its kind, the kind's version, and its fields as JSON text."""

    kind: str
    version: int
    data: str


class PlannedEffect(Frozen):
    """One effect of a stage with all that the gate, a person and a recovery need to know about it."""

    key: str
    """``attempt:stage:index``; identifies the effect for ever, also to receivers that deduplicate."""
    effect: EffectRecord
    prepared: str
    """The kind's `Prepared` value as JSON text: the expected before-state and where the before-images are."""
    promise: Promise
    reversibility: Reversibility
    radius: Radius
    line: str
    """One line for people."""
    diff: str = ""
    """Unified diff, where there is one; cut at 16 KiB."""


class PlanRecord(Frozen):
    """One stage's plan as stored and as approved."""

    stage: int
    effects: tuple[PlannedEffect, ...]
    more: bool
    summary: str = ""
    loses: str = ""
    """What is lost for good when the plan is applied; empty for nothing."""
    tags: tuple[str, ...] = ()
    bounds: Bounds | None = None
    reversibility: Reversibility
    radius: Radius
    """The widest of what the runbook declares and what the effects reach; the gate goes by it."""
    nonce: str

    @property
    def reach(self) -> Radius:
        """The widest radius of the effects alone: what was done, whatever the runbook may do at other times."""
        return widest([item.radius for item in self.effects])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over effects, prepared before-states, bounds and nonce, as canonical JSON; not over prose."""
        covered = {
            "effects": [{"key": item.key, **item.effect.model_dump(), "prepared": item.prepared} for item in self.effects],
            "bounds": self.bounds.model_dump(mode="json") if self.bounds else None,
            "more": self.more,
            "nonce": self.nonce,
        }
        return hashlib.sha256(canonical.dumps(covered)).hexdigest()


class Receipt(Frozen):
    """What became of one effect."""

    key: str
    kind: str
    outcome: str
    """``applied``, ``found-applied`` (by a probe, after a crash), ``failed`` or ``uncertain``."""
    output: str = ""
    """The kind's `Output` value as JSON text; empty when unknown."""
    error: str = ""
    at: int = 0
    """When, in milliseconds since 1970 UTC."""
