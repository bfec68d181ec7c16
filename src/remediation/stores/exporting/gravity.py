"""How grave an entry is, for formats that want to know. A reading aid: nothing in the engine depends on it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from remediation.stores.exporting.records import ExportedEntry


class Gravity(IntEnum):
    """From nothing special to the worst; 0 where an erased body would have told."""

    UNKNOWN = 0
    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


_SEVERITIES = {"P0": Gravity.CRITICAL, "P1": Gravity.HIGH, "P2": Gravity.MEDIUM, "P3": Gravity.LOW}
_TYPES = {
    "effect.failed": Gravity.HIGH,
    "effect.uncertain": Gravity.HIGH,
    "effect.revert_failed": Gravity.CRITICAL,
    "effect.reverted": Gravity.LOW,
    "runbook.faulted": Gravity.HIGH,
    "runbook.quarantined": Gravity.MEDIUM,
    "runbook.degraded": Gravity.LOW,
    "approval.denied": Gravity.LOW,
    "approval.expired": Gravity.MEDIUM,
    "trust.refused": Gravity.LOW,
    "key.revoked": Gravity.HIGH,
    "key.rotated": Gravity.LOW,
    "payload.erased": Gravity.LOW,
    "journal.recovered": Gravity.HIGH,
}
_OUTCOMES = {
    "failed": Gravity.HIGH,
    "inconclusive": Gravity.MEDIUM,
    "conflict": Gravity.MEDIUM,
    "heal_failed": Gravity.HIGH,
    "escalated": Gravity.HIGH,
}
_TOLD_BY_BODY = frozenset(
    ("degradation.reported", "degradation.coalesced", "incident.opened", "attempt.finished", "incident.settled", "pause.started")
)


def gravity_of(entry: ExportedEntry) -> Gravity:
    """How grave it is."""
    if entry.type not in _TOLD_BY_BODY:
        return _TYPES.get(entry.type, Gravity.INFO)
    body = entry.body
    if body is None:
        return Gravity.UNKNOWN
    if entry.type == "pause.started":
        return Gravity.HIGH if body.get("panic") else Gravity.LOW
    if entry.type == "incident.settled" and body.get("dirty"):
        return Gravity.CRITICAL
    if entry.type in {"attempt.finished", "incident.settled"}:
        return _OUTCOMES.get(_text(body, "outcome") or _text(body, "status"), Gravity.INFO)
    event = body.get("event")
    # Fields at their default are not stored; a degradation's default is P2.
    severity = _text(body, "severity") or (_text(event, "severity") if isinstance(event, dict) else "") or "P2"
    return _SEVERITIES.get(severity, Gravity.UNKNOWN)


def sentence_of(entry: ExportedEntry) -> str:
    """What happened, in one line: the entry's type and the reason that it gives."""
    body = entry.body
    if body is None:
        return f"{entry.type} in {entry.stream} (content erased)"
    event = body.get("event")
    inner = event if isinstance(event, dict) else {}
    about = _text(body, "runbook") or _text(inner, "code")
    why = next((text for name in ("reason", "summary", "error", "outcome") if (text := _text(body, name))), "") or _text(
        inner, "summary"
    )
    named = f" {about}" if about else ""
    return f"{entry.type}{named} in {entry.stream}" + (f": {why}" if why else "")


def _text(body: dict[str, Any], name: str) -> str:
    found = body.get(name)
    return found if isinstance(found, str) else ""
