"""
Two and eight whole hosts on one home, 200 degradations of one subject: each incident is acted on once, by one host at a time, and
settled once.
"""

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.appending import Writers
from tests.support.ground import in_memory
from tests.support.racing import Track

from remediation import Reporter
from remediation.bootstrap import initialise, open_reader
from remediation.core.state import HostState
from remediation.model.entries import AttemptPlanned, IncidentSettled, Record
from remediation.settings import Home
from remediation.stores.auditing import verify_journal

pytestmark = pytest.mark.crash
ROUNDS = 200
SEED = int(os.environ.get("REMEDIATION_SEED", "20261122"))
PATIENCE = 120.0


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


def records_of(home: Home) -> list[Record]:
    async def read() -> list[Record]:
        async with open_reader(home) as reader:
            return [record async for record in reader.read()]

    return asyncio.run(read())


def settled_in(home: Home) -> int:
    return sum(isinstance(record.entry, IncidentSettled) for record in records_of(home))


@pytest.mark.parametrize("hosts", [2, 8])
def test_racing_hosts_act_once_on_each_incident_and_settle_it_once(writers: Writers, hosts: int) -> None:
    with in_memory("race") as base:
        track = Track(base)
        settings = track.boot().settings
        home = settings.home
        initialise(settings)
        track.subject.write_text("it")
        began = time.monotonic()
        running = [writers.start("host", base=str(base)) for _ in range(hosts)]
        with contextlib.closing(_Everybody(track)):
            reporter = Reporter(home.root)
            with ThreadPoolExecutor(4) as reporting:
                # From several processes' worth of threads, while the hosts take in what is there.
                list(reporting.map(lambda number: reporter.report(track.event(number)), range(ROUNDS)))
            while settled_in(home) < ROUNDS:
                assert time.monotonic() < began + PATIENCE, track.times_done()
                time.sleep(0.1)
        took = time.monotonic() - began
        assert [writer.wait() for writer in running] == [0] * hosts
        records = records_of(home)
        state = HostState(keep_settled=None)
        for record in records:
            state.apply(record)
        incidents = list(state.incidents.values())
        assert len(incidents) == ROUNDS
        assert {incident.status for incident in incidents} == {"resolved"}
        assert track.times_done() == Counter({incident.id: 1 for incident in incidents})
        settlements = Counter(record.head.stream for record in records if isinstance(record.entry, IncidentSettled))
        plans = Counter(record.head.stream for record in records if isinstance(record.entry, AttemptPlanned))
        assert set(settlements.values()) == set(plans.values()) == {1}
        shares = Counter(record.entry.instance for record in records if isinstance(record.entry, AttemptPlanned))
        print(f"{hosts} hosts, {ROUNDS} incidents of one subject in {took:.1f} s; each host's share: {sorted(shares.values())}")
        assert len(shares) > 1, "nobody raced"
        vkeys = home.verifier_keys.read_text().split()
        assert verify_journal(home.journal, own=vkeys, known_head=home.head_note.read_text()).ok


def test_hosts_that_are_killed_in_a_race_leave_everything_to_the_others_and_nothing_is_done_twice(writers: Writers) -> None:
    rng = random.Random(SEED)
    rounds, kills = 60, 12
    with in_memory("race") as base:
        track = Track(base)
        settings = track.boot().settings
        home = settings.home
        initialise(settings)
        track.subject.write_text("it")
        running = [writers.start("host", base=str(base)) for _ in range(3)]
        with contextlib.closing(_Everybody(track)):
            reporter = Reporter(home.root)
            for number in range(rounds):
                reporter.report(track.event(number))
            for turn in range(1, kills + 1):
                # Each kill falls into the heals: some are done, and some are not.
                _until(lambda turn=turn: sum(track.times_done().values()) >= turn * rounds // (2 * kills))
                time.sleep(rng.random() * 0.02)
                victim = rng.randrange(len(running))
                running[victim].kill()
                running[victim] = writers.start("host", base=str(base))
            _until(lambda: settled_in(home) >= rounds)
        assert [writer.wait() for writer in running] == [0] * 3
        state = HostState(keep_settled=None)
        records = records_of(home)
        for record in records:
            state.apply(record)
        assert len(state.incidents) == rounds
        assert not [incident for incident in state.incidents.values() if incident.open]
        done = track.times_done()
        assert set(done.values()) == {1}, done
        # In doubt is who was killed between the start and the end of its command: it is never run again, and told to people.
        doubtful = [incident for incident in state.incidents.values() if incident.status != "resolved"]
        assert all(any(attempt.uncertain for attempt in incident.attempts) for incident in doubtful), doubtful
        assert {incident.id for incident in state.incidents.values()} - set(done) <= {incident.id for incident in doubtful}
        print(f"{kills} kills, {rounds} incidents, {len(doubtful)} of them in doubt")
        assert verify_journal(home.journal, own=home.verifier_keys.read_text().split()).ok


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class _Everybody:
    """Stops all hosts, also when the test fails."""

    def __init__(self, track: Track) -> None:
        self._track = track

    def close(self) -> None:
        self._track.stop.touch()
