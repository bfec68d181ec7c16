"""
Eight whole hosts on one home at each limit: counted from the journal afterwards, none is exceeded by even one, and all that was held
back is resumed, or told to people.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.appending import Writers
from tests.support.ground import in_memory
from tests.support.hosts import asked
from tests.support.racing_limits import RACES, Ring

from remediation import DegradationEvent, Incident, Reporter
from remediation.bootstrap import initialise, open_reader
from remediation.coordination.lock_file import holders
from remediation.coordination.machine_lock import FILE
from remediation.core.state import HostState
from remediation.core.tallies import STORM_SUBJECT, Group
from remediation.model.base import epoch_ms, parse_timestamp
from remediation.model.entries import AttemptPlanned, IncidentWaiting, PauseStarted, Record
from remediation.settings import Home
from remediation.stores.auditing import verify_journal

pytestmark = pytest.mark.crash
HOSTS = 8
PATIENCE = 150.0


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


class Finished:
    """What the journal says when a race is over."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.state = HostState(keep_settled=None)
        for record in records:
            self.state.apply(record)

    @property
    def incidents(self) -> list[Incident]:
        return list(self.state.incidents.values())

    def statuses(self) -> Counter[str]:
        return Counter(incident.status.value for incident in self.incidents)

    def begun(self) -> list[tuple[Record, AttemptPlanned]]:
        """Each change: an attempt's first plan that was allowed to act."""
        planned = [(record, record.entry) for record in self.records if isinstance(record.entry, AttemptPlanned)]
        return [(record, entry) for record, entry in planned if entry.gate.decision == "proceed" and entry.plan.stage == 0]

    def before(self) -> Iterator[tuple[HostState, Record]]:
        """Each change, with the state right before it."""
        state, begun = HostState(keep_settled=None), {record.seq for record, _ in self.begun()}
        for record in self.records:
            if record.seq in begun:
                yield state, record
            state.apply(record)


def at(record: Record) -> int:
    return epoch_ms(parse_timestamp(record.head.time))


def read(home: Home) -> Finished:
    async def everything() -> list[Record]:
        async with open_reader(home) as reader:
            return [record async for record in reader.read()]

    return Finished(asyncio.run(everything()))


@contextmanager
def raced(
    writers: Writers, name: str, over: Callable[[Finished], bool], meanwhile: Callable[[Path, Home], None] = lambda *_: None
) -> Iterator[Finished]:
    """Eight hosts until it is `over`; yields what the journal says once all have stopped."""
    with in_memory("limits") as base:
        ring = Ring(base, name)
        settings = ring.boot().settings
        home = settings.home
        initialise(settings)
        ring.break_all()
        events = ring.events()
        began = time.monotonic()
        running = [writers.start("limited", base=str(base), name=name) for _ in range(HOSTS)]
        try:
            reporter = Reporter(home.root)
            for event in () if ring.race.native else events:
                reporter.report(event)
            meanwhile(base, home)
            while not over(finished := read(home)):
                if time.monotonic() > began + PATIENCE:
                    held = list(holders(home.locks / FILE))
                    told = [(item.id, item.status, item.phase, item.wait, item.reason) for item in finished.incidents if item.open]
                    raise AssertionError(f"not over; held: {held}; open: {told}")
                time.sleep(0.15)
        finally:
            ring.stop.touch()
            ended = [writer.wait() for writer in running]
        assert ended == [0] * HOSTS
        finished = read(home)
        shares = Counter(entry.instance for _, entry in finished.begun())
        print(
            f"{name}: {len(events)} reports, {len(finished.begun())} changes, {time.monotonic() - began:.1f} s, {sorted(shares.values())}"
        )
        yield finished
        assert verify_journal(home.journal, own=home.verifier_keys.read_text().split()).ok


def all_settled(count: int) -> Callable[[Finished], bool]:
    return lambda finished: len(finished.incidents) == count and not any(incident.open for incident in finished.incidents)


def waits(finished: Finished, why: str) -> int:
    return sum(isinstance(record.entry, IncidentWaiting) and record.entry.why == why for record in finished.records)


def test_changes_an_hour_are_never_exceeded_and_one_incident_beyond_is_told_and_the_rest_waits(writers: Writers) -> None:
    race = RACES["changes_per_hour"]

    def over(finished: Finished) -> bool:
        done = [item for item in finished.incidents if not item.open or item.wait is not None]
        return len(done) == race.subjects and bool(finished.state.pauses)

    with raced(writers, "changes_per_hour", over) as finished:
        assert len(finished.begun()) == 5
        assert finished.statuses()["resolved"] == 5
        told = [item for item in finished.incidents if item.status == "escalated"]
        assert len(told) == 1, [item.reason for item in told]
        assert told[0].held
        waiting = [item.wait for item in finished.incidents if item.open]
        assert {wait.why for wait in waiting if wait is not None} == {"pause"}
        assert len(waiting) == race.subjects - 6
        assert sum(isinstance(record.entry, PauseStarted) for record in finished.records) == 1


def test_the_window_of_a_runbook_is_never_exceeded_and_all_have_their_turn(writers: Writers) -> None:
    count = RACES["runbook_changes"].subjects
    with raced(writers, "runbook_changes", all_settled(count)) as finished:
        assert finished.statuses() == {"resolved": count}
        seconds = [at(record) // 1000 for record, _ in finished.begun()]
        assert len(seconds) == count
        for second in seconds:
            assert sum(second - 2 < other <= second for other in seconds) <= 4
        assert waits(finished, "limit")


@pytest.mark.parametrize("name", ["concurrency_per_runbook", "concurrency_machine"])
def test_no_more_attempts_act_at_a_time_than_allowed_and_all_have_their_turn(writers: Writers, name: str) -> None:
    count = RACES[name].subjects
    with raced(writers, name, all_settled(count)) as finished:
        assert finished.statuses() == {"resolved": count}
        for state, record in finished.before():
            acting = list(state.tallies.acting.values())
            if name == "concurrency_per_runbook":
                assert acting.count(record.entry.runbook) < 2
            else:
                assert len(acting) < 2
        assert waits(finished, "limit")


def test_no_incident_has_an_attempt_beyond_its_cap(writers: Writers) -> None:
    count = RACES["attempts_per_incident"].subjects
    with raced(writers, "attempts_per_incident", all_settled(count)) as finished:
        tries = Counter(record.head.stream for record, _ in finished.begun())
        assert tries
        assert max(tries.values()) == 2
        assert all(incident.held for incident in finished.incidents), "people were told"


def test_a_subject_is_left_alone_for_its_cooldown_and_then_served(writers: Writers) -> None:
    race = RACES["cooldown"]
    with raced(writers, "cooldown", all_settled(race.subjects * race.of_each)) as finished:
        assert finished.statuses() == {"resolved": race.subjects * race.of_each}
        for state, record in finished.before():
            incident = state.incidents[record.head.correlation or ""]
            _, touched = state.touched.get(incident.event.subject, ("", 0))
            assert at(record) >= touched + 1000


def test_below_the_quorum_of_its_group_nothing_is_acted_on_and_it_goes_on_when_others_are_well(writers: Writers) -> None:
    sick: list[str] = []

    def meanwhile(base: Path, home: Home) -> None:
        ring = Ring(base, "groups")
        group = Group(name="files", subjects=tuple(ring.subject(number) for number in range(6)), min_healthy=4)
        sick.extend(group.subjects)
        Reporter(home.root).report(DegradationEvent(code="UNKNOWN", subsystem="test", subject=ring.subject(5)))
        end = time.monotonic() + PATIENCE
        while True:
            finished = read(home)
            unknown = [item for item in finished.incidents if item.event.code == "UNKNOWN" and item.held]
            others = [item for item in finished.incidents if item.event.code != "UNKNOWN"]
            if unknown and len(others) == 2 and all(not item.open or item.wait is not None for item in others):
                break
            assert time.monotonic() < end
            time.sleep(0.1)
        asked(base, "close", {"incident": unknown[0].id, "reason": "it is well again"})

    with raced(writers, "groups", all_settled(3), meanwhile) as finished:
        group = Group(name="files", subjects=tuple(sick), min_healthy=4)
        for state, record in finished.before():
            subject = state.incidents[record.head.correlation or ""].event.subject
            assert not state.tallies.below_quorum([group], subject)
        assert finished.statuses()["resolved"] == 2


def test_a_storm_never_opens_one_more_incident_than_its_cap(writers: Writers) -> None:
    def over(finished: Finished) -> bool:
        return all_settled(6)(finished)

    with raced(writers, "storm_subjects", over) as finished:
        state = HostState(keep_settled=None)
        most = 0
        for record in finished.records:
            state.apply(record)
            most = max(most, sum(item.open and item.event.subject != STORM_SUBJECT for item in state.incidents.values()))
        assert most == 5
        storms = [item for item in finished.incidents if item.event.subject == STORM_SUBJECT]
        assert len(storms) == 1
        assert storms[0].held, "people were told"
        assert finished.statuses() == {"resolved": 5, "escalated": 1}
