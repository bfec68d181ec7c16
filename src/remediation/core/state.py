"""HostState: everything that is known, folded from the journal. Mutable container of frozen values; one per process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from remediation.core import ground, keeping, pausing
from remediation.core.evolution import evolve, opened
from remediation.core.incident import Incident, Status, changed, id_of
from remediation.core.lifecycle import RunbookRecord, evolve_runbook, learn, observe
from remediation.core.limits import PastHeal
from remediation.core.tallies import Crowd, Tallies
from remediation.core.trust import evolve_grants
from remediation.model.base import epoch_ms, parse_timestamp
from remediation.model.entries import (
    ApprovalRequested,
    AttemptFinished,
    AttemptPlanned,
    DegradationReported,
    HostStarted,
    HostStopped,
    IncidentReopened,
    IncidentSettled,
    PauseEnded,
    PauseStarted,
    PayloadErased,
    Record,
    RunbookQuarantined,
    TrustGranted,
    TrustRevoked,
)

Listener = Callable[[Incident, Record], None]


_NOT_KEPT = frozenset({"listeners", "_keep", "_live"})


class HostState:
    """
    Incidents, limits, runbooks and pauses as of the newest folded entry.

    Args:
        keep_settled: How many settled incidents to remember in full; `None` for all (a command that lists them). A forgotten one is
            still counted in `forgotten`, and can be read back from its stream.

    """

    def __init__(self, *, keep_settled: int | None = 512) -> None:
        self._keep = keep_settled
        self.listeners: list[Listener] = []
        """Called after an incident changed, while the append is under way: they must only take note."""
        self.reset()

    def reset(self) -> None:
        """Forget everything; see `remediation.ports.journal.Fold`."""
        self.position = -1
        self._live = False
        self.incidents: OrderedDict[str, Incident] = OrderedDict()
        self.by_fingerprint: dict[str, str] = {}
        self.by_code: dict[str, Crowd] = {}
        """Open incidents of each code, and those given to people of late: what makes a storm."""
        self.approvals: dict[str, str] = {}
        """Requests for consent that nobody has answered: their id, and the incident's."""
        self.past: OrderedDict[str, tuple[PastHeal, ...]] = OrderedDict()
        self.forgotten = bytearray(1 << 20)
        self.fenced: dict[str, str] = {}
        self.touched: OrderedDict[str, tuple[str, int]] = OrderedDict()
        """By subject: the last incident in which something was done to it, and when that was settled."""
        self.tallies = Tallies()
        self.grants: dict[str, TrustGranted] = {}
        self.runbooks: dict[str, RunbookRecord] = {}
        self.pauses: tuple[PauseStarted, ...] = ()
        """Not ended by a person; see `pause`."""
        self.instances: dict[str, HostStarted] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._second: tuple[str, int] = ("", 0)

    def dump(self) -> bytes:
        """All of the state, for a snapshot."""
        return keeping.dumps({name: value for name, value in vars(self).items() if name not in _NOT_KEPT})

    def restore(self, content: bytes) -> None:
        """Become what `dump` returned. Whoever acts on the state must have checked who made the snapshot: it may say anything."""
        vars(self).update(keeping.loads(content))

    def begin(self, content: bytes) -> None:
        """
        Become the state after entries that were archived: `content` is what was kept for that, see `remediation.core.ground`.

        Raises:
            JournalTooNew: it can't be read.

        """
        self.reset()
        size, incidents, others = ground.load(content)
        self.position = size - 1
        vars(self).update(others)
        for incident in incidents:
            self.incidents[incident.id] = incident
            self._hold(incident)
            self._crowd(incident).begin(incident)
            if incident.approval is not None and not incident.approval.answered:
                self.approvals[incident.approval.id] = incident.id

    def loaded(self) -> None:
        """What follows is news: listeners are told."""
        self._live = True

    def apply(self, record: Record) -> None:
        """Take in the next entry."""
        head, entry = record.head, record.entry
        self.position = head.seq
        if entry is None:
            return
        at = self._milliseconds(head.time)
        stream = head.stream
        if stream.startswith("incident/"):
            self._apply_incident(record, at)
        elif stream.startswith("runbook/"):
            name = stream.removeprefix("runbook/")
            self.runbooks[name] = evolve_runbook(self.runbooks.get(name), entry, at=at, seq=head.seq)
            if isinstance(entry, RunbookQuarantined):
                # Whoever trusted it did not know of this yet.
                self.grants = {id_: grant for id_, grant in self.grants.items() if grant.runbook != name}
        elif isinstance(entry, HostStarted):
            self.instances[entry.instance] = entry
        elif isinstance(entry, HostStopped):
            self.instances.pop(entry.instance, None)
        elif isinstance(entry, PauseStarted):
            self.pauses = pausing.added(self.pauses, entry, at)
        elif isinstance(entry, PauseEnded):
            self.pauses = ()
        elif isinstance(entry, TrustGranted | TrustRevoked) and stream.startswith("trust/"):
            evolve_grants(self.grants, entry)
        elif isinstance(entry, PayloadErased) and self._keep is not None:
            self._erase(head.correlation or "")

    # -- questions -----------------------------------------------------------------------------------------------------

    def open_or_held(self, fingerprint: str) -> Incident | None:
        """The incident that takes further reports of `fingerprint`."""
        found = self.by_fingerprint.get(fingerprint)
        return self.incidents[found] if found is not None else None

    def open_incidents(self) -> Iterator[Incident]:
        """Incidents that are not settled, oldest first."""
        return (self.incidents[id_] for id_ in list(self.by_fingerprint.values()) if self.incidents[id_].open)

    def paused(self, now: int) -> str:
        """Reason of the pause in force at `now` (milliseconds); empty for none."""
        return pausing.reason_of(self.pause(now))

    def pause(self, now: int) -> PauseStarted | None:
        """What the pauses in force at `now` (milliseconds) come to, as one: see `pausing.in_force`."""
        return pausing.in_force(self.pauses, now) if self.pauses else None

    def may_have_forgotten(self, fingerprint: str) -> bool:
        """Whether an incident of `fingerprint` may have been forgotten here; if not, none was."""
        return all(self.forgotten[byte] & bit for byte, bit in _bits(fingerprint))

    # -- folding -------------------------------------------------------------------------------------------------------

    def _milliseconds(self, time: str) -> int:
        # Entries of one commit share their time; parsing it once is a third of folding.
        if time != self._second[0]:
            self._second = (time, epoch_ms(parse_timestamp(time)))
        return self._second[1]

    def _apply_incident(self, record: Record, at: int) -> None:
        head, entry = record.head, record.entry
        id_ = id_of(head.stream)
        incident = self.incidents.get(id_)
        if incident is None:
            if not isinstance(entry, DegradationReported):
                return  # forgotten: settled long ago
            incident = opened(entry, stream=head.stream, seq=head.seq, at=at)
            self._hold(incident)
            self._crowd(incident).open += 1
            self.tallies.take(None, incident, entry, at=at)
        elif entry is not None:
            was = incident
            incident = evolve(incident, entry, at=at)
            if isinstance(entry, IncidentSettled):
                self._settle(was, incident, at)
            elif isinstance(entry, IncidentReopened):
                self._reopen(incident)
            elif isinstance(entry, AttemptFinished):
                learn(self.runbooks, incident, entry, at=at)
            elif isinstance(entry, AttemptPlanned):
                observe(self.runbooks, entry)
            incident = self._consent(was, incident, record)
            self.tallies.take(was, incident, entry, at=at)
        self.incidents[id_] = incident
        if incident.dirty:
            self.fenced[incident.event.subject] = incident.id
        if self._live:
            for listener in self.listeners:
                listener(incident, record)

    def _consent(self, was: Incident, incident: Incident, record: Record) -> Incident:
        if isinstance(record.entry, ApprovalRequested) and incident.approval is not None:
            incident = changed(incident, approval=changed(incident.approval, requested_seq=record.seq))
        if was.approval is not incident.approval:
            if was.approval is not None:
                self.approvals.pop(was.approval.id, None)
            if incident.approval is not None and not incident.approval.answered:
                self.approvals[incident.approval.id] = incident.id
        return incident

    def _hold(self, incident: Incident) -> None:
        self.by_fingerprint[incident.fingerprint] = incident.id

    def _crowd(self, incident: Incident) -> Crowd:
        return self.by_code.setdefault(incident.event.code, Crowd())

    def _let_go(self, incident: Incident) -> None:
        if self.by_fingerprint.get(incident.fingerprint) == incident.id:
            del self.by_fingerprint[incident.fingerprint]

    def _settle(self, was: Incident, incident: Incident, at: int) -> None:
        crowd = self._crowd(incident)
        crowd.settle(was, incident, at)
        if crowd.nobody:
            del self.by_code[incident.event.code]
        if not incident.held:
            self._let_go(incident)
            if self.fenced.get(incident.event.subject) == incident.id and not incident.dirty:
                del self.fenced[incident.event.subject]
            self._settled[incident.id] = None
        if was.open:
            last = incident.attempts[-1] if incident.attempts else None
            # One that somebody else mended, or that went away by itself, was healed by no runbook.
            healed = last is not None and last.outcome == "healed" and incident.status is Status.RESOLVED
            level = last.level.value if last is not None else ""
            heal = PastHeal(incident.id, at, incident.status.value, incident.runbook if healed else "", level)
            if any(attempt.acted for attempt in incident.attempts):
                self.touched.pop(incident.event.subject, None)
                self.touched[incident.event.subject] = (incident.id, at)
            self.past[incident.fingerprint] = (*self.past.pop(incident.fingerprint, ())[-7:], heal)
        self._forget()

    def _reopen(self, incident: Incident) -> None:
        self._settled.pop(incident.id, None)
        self._crowd(incident).reopen(incident)
        if incident.fingerprint not in self.by_fingerprint:
            self._hold(incident)
        if self.fenced.get(incident.event.subject) == incident.id:
            del self.fenced[incident.event.subject]

    def _erase(self, id_: str) -> None:
        """Forget an incident of which something was erased, as if it were settled long ago: its stream says what remains."""
        if id_ in self._settled:
            del self._settled[id_]
            incident = self.incidents.pop(id_)
            if self.touched.get(incident.event.subject, ("", 0))[0] == id_:
                del self.touched[incident.event.subject]

    def _forget(self) -> None:
        if self._keep is None:
            return
        while len(self._settled) > self._keep:
            id_, _ = self._settled.popitem(last=False)
            self.incidents.pop(id_, None)
        while len(self.touched) > 8 * self._keep:
            self.touched.popitem(last=False)
        while len(self.past) > 8 * self._keep:
            fingerprint, _ = self.past.popitem(last=False)
            for byte, bit in _bits(fingerprint):
                self.forgotten[byte] |= bit


def _bits(fingerprint: str) -> Iterator[tuple[int, int]]:
    """Three positions of a Bloom filter of 2**23 bits, from the 64 bits of the fingerprint."""
    value = int(fingerprint, 16)
    for shift in (0, 20, 41):
        place = (value >> shift) & ((1 << 23) - 1)
        yield place >> 3, 1 << (place & 7)
