"""
Hosts that are killed, told to stop, or put to sleep on every way that a heal can take: asked about, watched for a while, held back,
stopped by a panic, folded into a storm, escalated. What was promised holds, every incident ends, and people hear of it.
"""

import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from tests.support import aftermath
from tests.support.ground import in_memory
from tests.support.killing import NEVER, Killer
from tests.support.paths import ASKING, KINDS, Detour, ends
from tests.support.rounds import SEED, WORKERS, rounds, sample

pytestmark = pytest.mark.crash
STOPS_WITHIN = 8.0
"""Seconds of real time from SIGTERM to the end of the process, on a busy machine."""


@pytest.fixture(scope="module")
def killers() -> Iterator[SimpleQueue[Killer]]:
    queue: SimpleQueue[Killer] = SimpleQueue()
    made = [Killer().__enter__() for _ in range(WORKERS)]
    for killer in made:
        queue.put(killer)
    yield queue
    for killer in made:
        killer.__exit__()


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    with in_memory("paths") as folder:
        yield folder


class Round:
    """One world, its hosts one after the other, and whose reports they acknowledged."""

    def __init__(self, killer: Killer, ground: Path, kind: str) -> None:
        self.base = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=ground)) / "base"
        self.kind = kind
        self.detour = Detour(self.base, kind)
        self.told: dict[str, str] = {}
        self._killer = killer
        killer.make(self.base, kind)

    def host(self, **how: Any) -> dict[str, Any]:
        """Run a host. Whoever has no acknowledgement yet, reports to it."""
        missing = [name for name in self.detour.subjects if name not in self.told]
        ran = self._killer.run(self.base, self.kind, report=missing, **how)
        assert not ran["error"], f"{ran['error']}\n{(self.base / 'log').read_text()[-1500:]}"
        self.told |= ran["acknowledged"]
        return ran

    def finished(self) -> list[Any]:
        """Have a last host settle everything, and look whether all is well; returns the incidents."""
        ran = self.host()
        assert not ran["killed"]
        records = aftermath.records_of(self.detour.home)
        incidents = list(aftermath.folded(records).incidents.values())
        aftermath.everything_ended(incidents, self.told.values())
        aftermath.settled_once(records)
        aftermath.consent_was_used_once_and_for_its_plan(records, always_asked=self.kind in ASKING)
        self.detour.promises_were_kept(incidents)
        aftermath.the_journal_verifies(self.detour.home)
        aftermath.nothing_is_left(self.base)
        assert all(incident.status.value in ends(self.kind, incident) for incident in incidents)
        shutil.rmtree(self.base.parent)
        return incidents


def whole(killers: SimpleQueue[Killer], ground: Path, kind: str) -> list[str]:
    """The steps of a host that nobody disturbs."""
    killer = killers.get()
    try:
        one = Round(killer, ground, kind)
        trail: list[str] = one.host()["trail"]
        one.finished()
    finally:
        killers.put(killer)
    return trail


def walk(killers: SimpleQueue[Killer], ground: Path, kind: str, by: int, number: int) -> Counter[str]:
    trail = whole(killers, ground, kind)
    found: Counter[str] = Counter()

    def one(killer: Killer, stop: int) -> None:
        this = Round(killer, ground, kind)
        ran = this.host(stop=stop, by=by)
        try:
            assert ran["took"] < STOPS_WITHIN, f"it took {ran['took']:.1f} s to stop"
            found.update(incident.status.value for incident in this.finished())
        except AssertionError as error:
            where = trail[stop] if stop < len(trail) else "the end"
            raise AssertionError(f"{signal.Signals(by).name} at step {stop} ({where}): {error}") from error

    aftermath.in_parallel(killers, WORKERS, one, sample(range(len(trail)), number, f"{kind}/{by}"))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_any_step_of_any_path_the_next_host_finishes(ground: Path, killers: SimpleQueue[Killer], kind: str) -> None:
    walk(killers, ground, kind, signal.SIGKILL, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_told_to_stop_before_any_step_it_stops_in_time_and_the_next_host_finishes(
    ground: Path, killers: SimpleQueue[Killer], kind: str
) -> None:
    walk(killers, ground, kind, signal.SIGTERM, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_put_to_sleep_before_any_step_it_goes_on_when_it_wakes(ground: Path, killers: SimpleQueue[Killer], kind: str) -> None:
    walk(killers, ground, kind, signal.SIGSTOP, 2)


@pytest.mark.parametrize("kind", ASKING)
def test_an_answer_that_came_while_no_host_ran_is_taken_in_once_whenever_the_next_one_is_killed(
    ground: Path, killers: SimpleQueue[Killer], kind: str
) -> None:
    used: Counter[bool] = Counter()

    def one(killer: Killer, stops: tuple[int, int]) -> None:
        this = Round(killer, ground, kind)
        this.host(stop=stops[0], answers=False)
        if (this.base / "home" / "journal.sqlite3").exists() and (this.base / "keys" / "head.note").exists():
            used[bool(this.detour.answer_while_it_is_down())] += 1
        this.host(stop=stops[1])
        this.finished()

    points = sample(range(160), 6, f"{kind}/down")
    aftermath.in_parallel(killers, WORKERS, one, [(NEVER, stop) for stop in points])
    assert used == {True: len(points)}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_again_and_again_while_it_recovers_the_last_host_finishes(
    ground: Path, killers: SimpleQueue[Killer], kind: str
) -> None:
    randomness = random.Random(f"{SEED}/{kind}/again")
    stops = [[randomness.randrange(20, 220) for _ in range(randomness.randrange(2, 4))] for _ in range(rounds(18) // len(KINDS))]

    def one(killer: Killer, stops: list[int]) -> None:
        this = Round(killer, ground, kind)
        for stop in stops:
            this.host(stop=stop, by=randomness.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        this.finished()

    aftermath.in_parallel(killers, WORKERS, one, stops)
