"""What a report means: a new incident, or one more word about a known one."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from remediation.core.incident import Incident
from remediation.core.limits import AHEAD
from remediation.core.state import HostState
from remediation.core.tallies import STORM_SUBJECT
from remediation.model.base import Severity
from remediation.model.events import DegradationEvent, fingerprint


@dataclass(frozen=True, slots=True)
class Open:
    """Open a new incident for `event`, which in a storm is not the reported one."""

    event: DegradationEvent
    storm: bool = False


@dataclass(frozen=True, slots=True)
class Coalesce:
    """Take it into `incident`: merely count it, or (`why` not ``count``) journal it at once."""

    incident: Incident
    why: Literal["count", "severity", "counter-evidence"]
    severity: Severity


def decide_report(
    state: HostState,
    event: DegradationEvent,
    *,
    storm_subjects: int,
    storm_exit_ms: int = 0,
    now: int = 0,
    apart: Container[str] = frozenset(),
) -> Open | Coalesce:
    """
    What to do with a report; `event.observed_at` is set.

    Args:
        storm_subjects: Incidents of one code, open or given to people of late, beyond which new subjects fold into one storm incident.
        storm_exit_ms: A storm ends only when for so long no subject beyond the cap was heard of, and the incidents are fewer than that.
        now: Milliseconds since 1970 UTC.
        apart: Subjects that are never folded, because others are left alone when they are not well.

    """
    known = state.open_or_held(event.fingerprint)
    if known is not None:
        return _coalesce(known, event)
    if event.subject not in apart and in_storm(
        state, event.code, storm_subjects=storm_subjects, storm_exit_ms=storm_exit_ms, now=now
    ):
        storm = state.open_or_held(fingerprint(event.code, event.subsystem, STORM_SUBJECT))
        if storm is not None:
            return _coalesce(storm, event)
        summary = f"more than {storm_subjects} subjects of {event.code} at once; the first beyond is {event.subject[:200]}"
        return Open(event.model_copy(update={"subject": STORM_SUBJECT, "summary": summary}), storm=True)
    return Open(event)


def in_storm(state: HostState, code: str, *, storm_subjects: int, storm_exit_ms: int, now: int) -> bool:
    """Whether one more subject of `code` is beyond the cap; see `decide_report`."""
    heard = state.tallies.storms.get(code)
    crowd = state.by_code.get(code)
    beyond = crowd is not None and crowd.size(now, storm_subjects) >= storm_subjects
    return beyond or (heard is not None and -AHEAD < now - heard < storm_exit_ms)


def _coalesce(incident: Incident, event: DegradationEvent) -> Coalesce:
    observed = event.observed_at or 0
    attempt = incident.current
    # The first word of it is enough: the next sample fails.
    told = attempt is not None and incident.counter_evidence_at > attempt.last_effect_at
    if attempt is not None and attempt.verification is not None and observed > attempt.last_effect_at > 0 and not told:
        return Coalesce(incident, "counter-evidence", min(incident.severity, event.severity))
    if event.severity.worse_than(incident.severity):
        return Coalesce(incident, "severity", event.severity)
    return Coalesce(incident, "count", incident.severity)
