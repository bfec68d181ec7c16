"""
OCSF 1.3: every entry as a Remediation Activity (class 7001 of category 7), one a line, for SIEMs and data lakes.

What acts on the world, or says what became of it, is the activity Restore ("returns the system to a better state", D3FEND); all other
entries are Other, named by their type. Nothing is left out, so that gaps in ``metadata.sequence`` mean something. ``command_uid`` is
the attempt, or else the incident or other stream, that the entry is about. What has no place in the class stands in ``unmapped``,
the content of the entry as ``unmapped.body``.
"""

from __future__ import annotations

from typing import Any

from remediation import __version__
from remediation.stores.exporting.gravity import Gravity, gravity_of, sentence_of
from remediation.stores.exporting.records import ExportedEntry, line

VERSION = "1.3.0"
CATEGORY, CLASS = 7, 7001
RESTORE, OTHER = 3, 99

_PRODUCT = {"name": "remediation", "vendor_name": "remediation", "version": __version__}
_RESTORE = ("attempt.", "effect.", "stage.", "verification.")
_SEVERITIES = {
    Gravity.UNKNOWN: "Unknown",
    Gravity.INFO: "Informational",
    Gravity.LOW: "Low",
    Gravity.MEDIUM: "Medium",
    Gravity.HIGH: "High",
    Gravity.CRITICAL: "Critical",
}
"""The values of `Gravity` are those of ``severity_id``."""
_SUCCESS, _FAILURE, _PARTIAL, _ERROR = 1, 2, 4, 6
_STATUSES = {
    "effect.applied": _SUCCESS,
    "effect.reverted": _SUCCESS,
    "effect.failed": _FAILURE,
    "effect.revert_failed": _FAILURE,
    "stage.applied": _PARTIAL,
    "attempt.finished/healed": _SUCCESS,
    "attempt.finished/failed": _FAILURE,
    "attempt.finished/inconclusive": OTHER,
    "attempt.finished/conflict": _ERROR,
    "attempt.finished/withheld": OTHER,
    "incident.settled/resolved": _SUCCESS,
    "incident.settled/heal_failed": _FAILURE,
    "incident.settled/escalated": OTHER,
}


class Ocsf:
    """The encoder."""

    def __init__(self, origin: str) -> None:
        """For the log `origin`."""
        self._origin = origin

    def encode(self, entry: ExportedEntry) -> bytes:
        """One event."""
        activity = RESTORE if entry.type.startswith(_RESTORE) or entry.type == "incident.settled" else OTHER
        name = "Restore" if activity == RESTORE else entry.type
        gravity = gravity_of(entry)
        metadata: dict[str, Any] = {
            "version": VERSION,
            "product": _PRODUCT,
            "uid": entry.id,
            "event_code": entry.type,
            "sequence": entry.seq,
            "log_name": self._origin,
            "log_provider": "remediation",
            "original_time": entry.time,
        }
        if entry.correlation is not None:
            metadata["correlation_uid"] = entry.correlation
        event: dict[str, Any] = {
            "category_uid": CATEGORY,
            "category_name": "Remediation",
            "class_uid": CLASS,
            "class_name": "Remediation Activity",
            "activity_id": activity,
            "activity_name": name,
            "type_uid": CLASS * 100 + activity,
            "type_name": f"Remediation Activity: {name if activity == RESTORE else 'Other'}",
            "time": entry.milliseconds(),
            "severity_id": int(gravity),
            "severity": _SEVERITIES[gravity],
            "message": sentence_of(entry),
            "command_uid": _command(entry),
            "metadata": metadata,
            "unmapped": _unmapped(entry),
        }
        _add_status(event, entry)
        return line(event)

    def finish(self) -> bytes:
        """Nothing."""
        return b""


def _command(entry: ExportedEntry) -> str:
    attempt = entry.body.get("attempt") if entry.body is not None else None
    return attempt if isinstance(attempt, str) and attempt else entry.correlation or entry.stream


def _unmapped(entry: ExportedEntry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "leaf_hash": entry.leaf_hash,
        "stream": entry.stream,
        "stream_seq": entry.stream_seq,
        "actor": entry.actor,
        "causation": entry.causation,
    }
    if entry.body is None:
        return found | {"erased": True}
    return found | {"body": entry.body}


def _add_status(event: dict[str, Any], entry: ExportedEntry) -> None:
    body = entry.body or {}
    word = body.get("outcome") or body.get("status") or ""
    status = _STATUSES.get(entry.type, _STATUSES.get(f"{entry.type}/{word}"))
    if status is not None:
        event["status_id"] = status
        event["status"] = word or entry.type.rpartition(".")[2]
