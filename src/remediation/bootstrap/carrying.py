"""
What a recovered log takes over from the one that was lost: pure decisions.

Whatever it forgets must not make the host bolder. So it begins paused, quarantines stay, and only incidents in which nothing was ever
done are open again; every other one that was open or held goes to people, and holds its fingerprint until they release it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from remediation.core.incident import Attempt, Incident, stream_of
from remediation.core.state import HostState
from remediation.model.entries import (
    DegradationCoalesced,
    DegradationReported,
    Entry,
    IncidentSettled,
    PauseStarted,
    RunbookQuarantined,
)
from remediation.model.events import Provenance
from remediation.model.text import capped

BY = "journal recover"
_ANALYSIS_CAP = 60_000


@dataclass(frozen=True, slots=True)
class Carried:
    """Entries of one stream of the new log."""

    stream: str
    entries: tuple[Entry, ...]


def pause_after(proven: HostState, readable: HostState, kept: str) -> Carried:
    """The pause in which the new log begins. It ends when a person resumes; a panic stays one."""
    panic = any(pause.panic for state in (proven, readable) for pause in state.pauses)
    reason = f"the journal was recovered: look through the incidents and what is kept in {kept}, then `remediation resume`"
    return Carried("host/pauses", (PauseStarted(reason=reason, by=BY, panic=panic),))


def quarantines(proven: HostState, readable: HostState) -> list[Carried]:
    """The runbooks that were quarantined, also if that is not proven."""
    known = {**proven.runbooks, **readable.runbooks}
    ids = sorted(
        id_
        for id_ in known
        if any((record := state.runbooks.get(id_)) and record.state == "quarantined" for state in (proven, readable))
    )
    return [
        Carried(f"runbook/{id_}", (RunbookQuarantined(runbook=id_, by=BY, reason=capped(known[id_].why, 2000) or "it was"),))
        for id_ in ids
    ]


def incidents(proven: HostState, readable: HostState) -> list[Carried]:
    """
    The incidents that were open, held, or fence their subject.

    Args:
        proven: What the provable entries say.
        readable: What all entries say that can be read, proven or not. An incident that only these know of comes from whoever could
            write to the file: it is told to people, and no runbook will match it.

    """
    old = _unsettled(proven)
    carried = {incident.id: _carried(incident) for incident in old}
    taken = {incident.fingerprint for incident in old}
    for incident in _unsettled(readable):
        before = proven.incidents.get(incident.id)
        if incident.id in carried:
            if before is not None and not _done(before) and _done(incident):
                # Not provable, and yet a reason to be careful: somebody may have acted.
                doubt = f"entries that can't be proven say that it was acted on (incident {incident.id} of the log before)"
                carried[incident.id] = _held(incident, doubt, dirty=True)
        elif incident.fingerprint not in taken:
            doubt = f"it stands after the last provable entry (incident {incident.id}); whether it is genuine is not known"
            carried[incident.id] = _held(incident, doubt, provenance=Provenance.FREE_TEXT)
    return list(carried.values())


def _unsettled(state: HostState) -> list[Incident]:
    ids = dict.fromkeys([*state.by_fingerprint.values(), *state.fenced.values()])
    return [incident for id_ in ids if (incident := state.incidents.get(id_)) is not None]


def _carried(incident: Incident) -> Carried:
    if not incident.open:
        return _held(incident, f"carried over from incident {incident.id} of the log before")
    if _done(incident):
        unsure = incident.current is not None
        doubt = f"it was being treated when the journal was lost (incident {incident.id} of the log before)"
        return _held(incident, doubt, dirty=unsure)
    entries: list[Entry] = [_opening(incident, incident.provenance)]
    if incident.reports > 1:
        entries.append(
            DegradationCoalesced(count=incident.reports, severity=incident.severity, observed_at=incident.observed_at, why="count")
        )
    return _anew(incident, entries)


def _done(incident: Incident) -> bool:
    """Whether something was, or may have been, done about it."""
    return any(attempt.acted for attempt in incident.attempts)


def _held(incident: Incident, doubt: str, *, dirty: bool = False, provenance: Provenance | None = None) -> Carried:
    settled = IncidentSettled(
        status="escalated" if incident.open else incident.status.value,
        reason=capped(f"{doubt}; {incident.reason}" if incident.reason else doubt, 4000),
        runbook=incident.runbook,
        attempts=incident.acted,
        reports=incident.reports,
        held=True,
        dirty=dirty or incident.dirty,
        analysis=capped(incident.analysis or _analysis(incident), _ANALYSIS_CAP),
        actions=tuple(capped(action, 2000) for action in incident.actions[:20]) or _ACTIONS,
    )
    return _anew(incident, [_opening(incident, provenance or incident.provenance), settled])


_ACTIONS = (
    "See what is true of the subject.",
    "`remediation incident close ID` when you have dealt with it, `incident reopen ID` to have it healed.",
)


def _analysis(incident: Incident) -> str:
    told = [line for attempt in incident.attempts if attempt.acted for line in _story(attempt)]
    return "\n".join(told) if told else "Nothing was done about it."


def _story(attempt: Attempt) -> Sequence[str]:
    known = {receipt.key for receipt in attempt.receipts}
    planned = [item.key for plan in attempt.plans for item in plan.effects]
    unknown = [key for key in planned if key not in known and key not in attempt.reverted]
    story = [f"Attempt {attempt.number} of `{attempt.runbook}`: {attempt.outcome or 'not finished'}."]
    if unknown:
        story.append(f"Of {len(planned)} effects nothing more is known of: {', '.join(unknown)}.")
    if attempt.revert:
        story.append(f"Still to be undone: {', '.join(attempt.revert)}.")
    return story


def _opening(incident: Incident, provenance: Provenance) -> DegradationReported:
    event = incident.event.model_copy(update={"severity": incident.severity})
    return DegradationReported(event=event, provenance=provenance)


def _anew(incident: Incident, entries: Sequence[Entry]) -> Carried:
    return Carried(stream_of(f"{incident.fingerprint}-{secrets.token_hex(6)}"), tuple(entries))
