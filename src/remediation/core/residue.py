"""
What remains of an entry whose body is erased: its type's fields that state is folded from, without any free text.

`KEPT` names what stays; a field that it does not name is gone, also one that a later release adds. The folds take a residue as they took
the entry, so that counts, limits and records stay as they were. Types that are not in `KEPT` can't be erased: what they say is needed
(authority, keys, pauses, hosts), or they hold nothing to erase.

Specification: ``docs/specs/journal-format-v1.md``, section 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediation.model.entries import Entry, entry_types

GONE = "(erased)"
"""Stands where a text is required."""
ARCHIVED = "(archived)"
"""The same, in the state that stays behind when entries are archived."""

_Kept = Mapping[str, Any]
_STAYS: Any = object()
_SAYS_GONE: Any = object()


def _stay(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, _STAYS)


_RECEIPT: _Kept = _stay("key", "kind", "outcome", "at")
_VERDICT: _Kept = _stay("status")
_PLAN: _Kept = {
    **_stay("stage", "more", "tags", "reversibility", "radius", "nonce"),
    "effects": {
        **_stay("key", "promise", "reversibility", "radius"),
        "effect": {**_stay("kind", "version"), "data": _SAYS_GONE},
        "prepared": _SAYS_GONE,
        "line": _SAYS_GONE,
    },
}

KEPT: Mapping[str, _Kept] = {
    "degradation.reported": {
        "event": {**_stay("code", "subsystem", "severity", "observed_at"), "subject": _SAYS_GONE},
        **_stay("provenance"),
    },
    "degradation.coalesced": _stay("count", "severity", "observed_at", "why"),
    "degradation.cleared": _stay("observed_at"),
    "incident.waiting": {**_stay("until", "why", "runbook", "attempt"), "reason": _SAYS_GONE},
    "incident.settled": {**_stay("status", "runbook", "attempts", "reports", "held", "dirty"), "reason": _SAYS_GONE},
    "incident.reopened": {**_stay("ladder"), "reason": _SAYS_GONE},
    "attempt.planned": {
        **_stay("attempt", "number", "runbook", "level", "code_digest", "instance", "plan_digest", "apply_ms"),
        "finding": _stay("applicable", "confidence"),
        "gate": {**_stay("decision", "until"), "reasons": {**_stay("row", "decision"), "reason": _SAYS_GONE}},
        "plan": _PLAN,
    },
    "stage.applied": {**_stay("attempt", "stage"), "receipts": _RECEIPT},
    "effect.applied": {**_stay("attempt"), "receipt": _RECEIPT},
    "effect.failed": {**_stay("attempt"), "receipt": _RECEIPT},
    "effect.reverted": _stay("attempt", "key"),
    "effect.revert_failed": {**_stay("attempt", "key"), "error": _SAYS_GONE},
    "effect.uncertain": {**_stay("attempt", "key"), "reason": _SAYS_GONE},
    "verification.started": {**_stay("attempt", "sustain_ms", "deadline"), "receipts": _RECEIPT, "verdict": _VERDICT},
    "attempt.finished": {
        **_stay("attempt", "runbook", "outcome", "revert", "duration_ms"),
        "receipts": _RECEIPT,
        "verdict": _VERDICT,
    },
    "approval.denied": _stay("approval_id", "approver"),
    "runbook.faulted": {**_stay("runbook", "step", "incident"), "error": _SAYS_GONE},
}
"""By type: fields that stay, objects (or lists of objects) of which a part stays, and required texts that are replaced."""


def erasable(type_: str) -> bool:
    """Whether bodies of this type can be erased at all."""
    return type_ in KEPT


def residue(entry: Entry, *, mark: str = GONE) -> Entry:
    """
    What remains of `entry` when its body is erased; the same for a residue.

    Args:
        entry: Of a type in `KEPT`.
        mark: Stands where a text is required.

    """
    fields = entry.model_dump(mode="json", exclude_defaults=True)
    return entry_types()[entry.type].model_validate(_left(fields, KEPT[entry.type], mark))


def without_text(entry: Entry, *, mark: str = GONE) -> Entry:
    """The residue of `entry`, or `entry` itself if its type is not erasable."""
    return residue(entry, mark=mark) if entry.type in KEPT else entry


def differs(entry: Entry) -> bool:
    """Whether an erasure would take anything away."""
    return entry.type in KEPT and residue(entry) != entry


def _left(fields: Mapping[str, Any], kept: _Kept, mark: str) -> dict[str, Any]:
    left: dict[str, Any] = {}
    for name, value in fields.items():
        how = kept.get(name)
        if how is _STAYS:
            left[name] = value
        elif how is _SAYS_GONE:
            left[name] = mark
        elif how is not None and value is not None:
            left[name] = _left(value, how, mark) if isinstance(value, Mapping) else [_left(item, how, mark) for item in value]
    return left
