"""Which runbook goes first."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from remediation.model.events import DegradationEvent, Provenance
from remediation.model.runbook import Handles, RunbookSpec


def handles(pattern: Handles, event: DegradationEvent) -> bool:
    """Whether `pattern` covers `event`, whose code is known to be equal."""
    return (pattern.subsystem == "*" or fnmatch.fnmatchcase(event.subsystem, pattern.subsystem)) and (
        pattern.subject == "*" or fnmatch.fnmatchcase(event.subject, pattern.subject)
    )


def may_match(provenance: Provenance) -> bool:
    """Whether a degradation of this provenance may be matched to runbooks: guesses from free text may not."""
    return provenance is not Provenance.FREE_TEXT


def rank(spec: RunbookSpec, order: Sequence[str]) -> tuple[int, int, int, int, str]:
    """The sort key of the ladder: configured order, priority, level, specificity, id; the least goes first."""
    configured = order.index(spec.id) if spec.id in order else len(order)
    specificity = max((item.subsystem != "*") + 2 * (item.subject != "*") for item in spec.handles)
    return configured, -spec.priority, spec.level.rank, -specificity, spec.id
