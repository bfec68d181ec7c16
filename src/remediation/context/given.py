"""What the engine gives a context: views, recorded facts, and services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from remediation.model.base import Frozen, Severity
from remediation.model.events import Provenance
from remediation.model.plan import PlanRecord, Receipt
from remediation.model.runbook import Finding, Verdict
from remediation.ports.clock import Clock
from remediation.ports.effect import BlobStore, Completed, Disposable, Roots


class PriorAttempt(Frozen):
    """An earlier attempt at the same fingerprint, in this incident or before."""

    incident: str
    runbook: str
    outcome: str
    reason: str
    finished_at: int
    """Milliseconds since 1970 UTC."""


class IncidentView(Frozen):
    """What a step may know of its incident."""

    id: str
    severity: Severity
    provenance: Provenance
    opened_at: int
    """Milliseconds since 1970 UTC."""
    reports: int


@dataclass(frozen=True, slots=True)
class Services:
    """What the engine lends to a context; steps don't see this object."""

    clock: Clock
    roots: Roots
    blobs: BlobStore
    disposable: Disposable
    controls: frozenset[str]
    run: Callable[..., Awaitable[Completed]]
    """``run(argv, cwd=, env=, stdin=, timeout=)``, holding the attempt's lock."""
    secret: Callable[[str], str]
    make_scratch: Callable[[], Path]


@dataclass(slots=True)
class Facts:
    """The recorded facts of an attempt so far; the engine replaces them between steps."""

    finding: Finding | None = None
    plan: PlanRecord | None = None
    receipts: tuple[Receipt, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    stage: int = 0
    attempts: tuple[PriorAttempt, ...] = ()
    last_effect_at: int = 0
    cleared_at: int = 0
    deadline: float = field(default=0.0)
