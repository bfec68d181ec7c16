"""Which incidents still keep their entries from being erased or archived, and until when. A fold, and pure answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remediation.core.incident import id_of
from remediation.core.lifecycle import WEEK
from remediation.core.limits import DAY
from remediation.model.base import epoch_ms, parse_timestamp
from remediation.model.entries import AttemptFinished, IncidentReopened, IncidentSettled, PayloadErased, Record

INCIDENTS = "incident/"


@dataclass(frozen=True, slots=True)
class Need:
    """Why entries of an incident can't leave yet."""

    incident: str
    reason: str
    until: int = 0
    """Milliseconds since 1970 UTC; 0 while nobody can tell."""


class Standing:
    """
    Of every incident: where it began, whether it is over, and what limits remember of it. And which bodies were erased by which entry.

    A `remediation.ports.journal.Fold`; about 300 bytes an incident, so that it can be held for a whole journal.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """See `remediation.ports.journal.Fold`."""
        self.began: dict[str, int] = {}
        """By incident: the position of its first entry."""
        self._over: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._erased: list[tuple[int, int]] = []

    def loaded(self) -> None:
        """See `remediation.ports.journal.Fold`."""

    def apply(self, record: Record) -> None:
        """Take in the next entry."""
        head, entry = record.head, record.entry
        if isinstance(entry, PayloadErased):
            self._erased.append((head.seq, entry.seq))
        if not head.stream.startswith(INCIDENTS):
            return
        id_ = id_of(head.stream)
        self.began.setdefault(id_, head.seq)
        if isinstance(entry, IncidentSettled):
            if entry.held or entry.dirty:
                self._over.pop(id_, None)
            else:
                self._over[id_] = epoch_ms(parse_timestamp(head.time))
        elif isinstance(entry, IncidentReopened):
            self._over.pop(id_, None)
        elif isinstance(entry, AttemptFinished) and entry.outcome == "failed":
            self._failed[id_] = epoch_ms(parse_timestamp(head.time))

    def need(self, incident: str, *, now: int, cooldown_ms: int) -> Need | None:
        """
        Why the entries of `incident` are still needed at `now`; `None` if they are not.

        Needed are incidents that are open or held, those settled within 24 h (recurrence, history) or within the cooldown, and those
        with a failed verdict within 7 days (lifecycle).
        """
        over = self._over.get(incident)
        if over is None:
            if incident not in self.began:
                return Need(incident, "there is no such incident in the journal")
            return Need(incident, "it is open or held: let it be settled, or `remediation incident close` it")
        failed = self._failed.get(incident)
        if failed is not None and now < failed + WEEK:
            return Need(incident, "a runbook failed in it, which counts for 7 days", failed + WEEK)
        until = over + max(DAY, cooldown_ms)
        if now < until:
            return Need(incident, "it was settled a short while ago, and its subject's limits still remember it", until)
        return None

    def erased(self, before: int, *, since: int) -> int | None:
        """An entry before the position `before` whose body was erased by an entry at `since` or later; `None` if there is none."""
        return next((seq for by, seq in reversed(self._erased) if by >= since and seq < before), None)

    def in_the_way(self, before: int, *, now: int, cooldown_ms: int) -> Iterator[tuple[int, Need]]:
        """The incidents that began before the position `before` and are needed, each with where it began, the first one first."""
        for id_, seq in sorted(self.began.items(), key=lambda item: item[1]):
            if seq >= before:
                return
            need = self.need(id_, now=now, cooldown_ms=cooldown_ms)
            if need is not None:
                yield seq, need
