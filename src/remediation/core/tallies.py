"""Tallies: what limits count, folded from incidents: changes of each runbook, who acts now, which subjects are unwell, storms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from remediation.core.incident import Incident
from remediation.core.limits import AHEAD, HOUR, ChangeRate
from remediation.model.base import Frozen
from remediation.model.entries import AttemptPlanned, Entry

STORM_SUBJECT = "(storm)"


RECENT = HOUR
"""How long an incident that was given to people counts for a storm: what lies there since yesterday is none."""


@dataclass(slots=True)
class Crowd:
    """The incidents of one code that count for a storm."""

    open: int = 0
    given: dict[str, int] = field(default_factory=dict)
    """Held incidents, and when they were settled (milliseconds since 1970 UTC), oldest first."""

    def size(self, now: int, enough: int) -> int:
        """How many are open, or were given to people of late; counted no further than to `enough`."""
        found = self.open
        if found + len(self.given) < enough:
            return found
        for settled_at in reversed(self.given.values()):
            if found >= enough or now - settled_at >= RECENT:
                break
            found += settled_at - now < AHEAD
        return found

    def begin(self, incident: Incident) -> None:
        """An incident of which nothing was known."""
        if incident.open:
            self.open += 1
        else:
            self.given[incident.id] = incident.settled_at

    def settle(self, was: Incident, incident: Incident, at: int) -> None:
        """`incident` was settled, or let go of its fingerprint."""
        if was.open:
            self.open -= 1
        if not incident.held:
            self.given.pop(incident.id, None)
        elif was.open:
            self.given[incident.id] = at

    def reopen(self, incident: Incident) -> None:
        """`incident` is open again."""
        self.given.pop(incident.id, None)
        self.open += 1

    @property
    def nobody(self) -> bool:
        """Whether there is nothing to count."""
        return not self.open and not self.given


class Group(Frozen):
    """Subjects of which some must stay healthy, whatever is done to the others; see ``[[limits.groups]]``."""

    name: str
    subjects: tuple[str, ...]
    min_healthy: int


@dataclass(slots=True)
class Tallies:
    """Mutable, one per state; `take` is called with each change of an incident."""

    changes: ChangeRate = field(default_factory=ChangeRate)
    """Of all runbooks."""
    by_runbook: dict[str, ChangeRate] = field(default_factory=dict)
    acting: dict[str, str] = field(default_factory=dict)
    """Incidents that have an attempt that may act and has not ended, each with its runbook."""
    acted_on: dict[str, str] = field(default_factory=dict)
    """The subjects of these incidents, each with the incident."""
    unwell: Counter[str] = field(default_factory=Counter)
    """Open and held incidents by subject."""
    storms: dict[str, int] = field(default_factory=dict)
    """Codes with more subjects than the cap: when one beyond it was last heard of, milliseconds since 1970 UTC."""

    def take(self, was: Incident | None, incident: Incident, entry: Entry, *, at: int) -> None:
        """`entry`, journaled at `at`, moved an incident from `was` to `incident`."""
        if isinstance(entry, AttemptPlanned) and entry.gate.decision == "proceed" and entry.plan.stage == 0:
            self.changes.count(at)
            self.by_runbook.setdefault(entry.runbook, ChangeRate()).count(at)
        current = incident.current
        if current is not None and current.acted:
            self.acting[incident.id] = current.runbook
            self.acted_on[incident.event.subject] = incident.id
        elif self.acting.pop(incident.id, None) and self.acted_on.get(incident.event.subject) == incident.id:
            del self.acted_on[incident.event.subject]
        before, after = was is not None and _unwell(was), _unwell(incident)
        subject = incident.event.subject
        if before != after:
            self.unwell[subject] += 1 if after else -1
            if not self.unwell[subject]:
                del self.unwell[subject]
        if subject == STORM_SUBJECT and (was is None or incident.reports != was.reports):
            self.storms[incident.event.code] = at

    def healthy(self, group: Group, *, without: str) -> int:
        """How many subjects of `group` have no open or held incident, not counting the subject `without`."""
        return sum(subject != without and not self.unwell.get(subject) for subject in group.subjects)

    def below_quorum(self, groups: Sequence[Group], subject: str) -> str:
        """Which group of `subject` has too few healthy others, as a reason; empty for none."""
        for group in groups:
            if subject in group.subjects and self.healthy(group, without=subject) < group.min_healthy:
                return f"fewer than {group.min_healthy} others of the group {group.name} are healthy"
        return ""


def _unwell(incident: Incident) -> bool:
    return incident.open or incident.held
