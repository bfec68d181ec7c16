"""kill -9 between every two steps of a heal, and again while it recovers: nothing acknowledged is lost, no promise broken, nothing left."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from tests.support import aftermath
from tests.support.ground import in_memory
from tests.support.heals import Scene
from tests.support.killing import Killer
from tests.support.rounds import SEED, WORKERS, rounds, sample

from remediation.core.incident import Incident
from remediation.settings import Home

pytestmark = pytest.mark.crash

KINDS = ("one", "stages", "failing", "spoilt")


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
    with in_memory("kill") as folder:
        yield folder


def fresh(killer: Killer, ground: Path, kind: str, name: str) -> Path:
    """A new world of this kind, copied from one that is made once."""
    base, template = ground / name, ground / f"template-{kind}-{id(killer)}"
    if not template.exists():
        killer.make(template, kind)
    shutil.copytree(template, base, symlinks=True)
    return base


def all_is_well(base: Path, kind: str, told: list[str]) -> Incident:
    """Raise AssertionError unless everything that was promised holds; returns the first incident."""
    scene = Scene(base, kind)
    home = Home(base / "home", base / "keys")
    incidents = aftermath.incidents_of(home)
    aftermath.everything_ended(incidents, told)
    first = incidents[0]
    uncertain = any(attempt.uncertain for attempt in first.attempts)
    scene.each_effect_kept_its_promise(first.status.value, dirty=first.dirty, uncertain=uncertain)
    aftermath.the_journal_verifies(home)
    aftermath.nothing_is_left(base)
    return first


def recovered(killer: Killer, base: Path, kind: str, told: str) -> list[str]:
    """Have another host settle everything; the reporter whose report was not acknowledged reports again."""
    second = killer.run(base, kind, report=not told)
    assert not second["error"], second["error"]
    assert not second["killed"]
    return [incident for incident in (told, second["told"]) if incident]


# -- the walk ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_any_step_the_next_host_finishes(ground: Path, killers: SimpleQueue[Killer], kind: str) -> None:
    killer = killers.get()
    whole = killer.run(fresh(killer, ground, kind, f"{kind}-whole"), kind, report=True)
    killers.put(killer)
    assert not whole["error"], whole["error"]
    all_is_well(ground / f"{kind}-whole", kind, [whole["told"]])
    ends: set[str] = set()

    def one(killer: Killer, stop: int) -> None:
        base = fresh(killer, ground, kind, f"{kind}-{stop}")
        first = killer.run(base, kind, report=True, stop=stop)
        assert first["killed"] or stop >= whole["steps"] - 3, first
        assert not first["error"], first["error"]
        told = recovered(killer, base, kind, first["told"])
        try:
            ends.add(all_is_well(base, kind, told).status.value)
        except AssertionError as error:
            raise AssertionError(f"killed at step {stop} ({whole['trail'][stop]}): {error}") from error
        shutil.rmtree(base)

    aftermath.in_parallel(killers, WORKERS, one, sample(range(whole["steps"]), 24, kind))
    assert ends <= {"heal_failed" if kind in ("failing", "spoilt") else "resolved", "escalated"}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_it_recovers_the_third_host_finishes(ground: Path, killers: SimpleQueue[Killer], kind: str) -> None:
    randomness = random.Random(f"{SEED}/{kind}")
    stops = [(randomness.randrange(30, 190), randomness.randrange(0, 90)) for _ in range(24)]

    def one(killer: Killer, stops: tuple[int, int]) -> None:
        base = fresh(killer, ground, kind, f"{kind}-again-{stops[0]}-{stops[1]}")
        first = killer.run(base, kind, report=True, stop=stops[0])
        second = killer.run(base, kind, report=not first["told"], stop=stops[1])
        assert not second["error"], second["error"]
        told = [incident for incident in (first["told"], second["told"]) if incident]
        told += recovered(killer, base, kind, first["told"] or second["told"])
        all_is_well(base, kind, told)
        shutil.rmtree(base)

    aftermath.in_parallel(killers, WORKERS, one, sample(stops, 8, f"{kind}/again"))


def test_killed_from_outside_at_random_times_the_last_host_finishes(ground: Path, killers: SimpleQueue[Killer]) -> None:
    randomness = random.Random(SEED)
    items = [
        (number, randomness.choice(KINDS), [randomness.uniform(0.005, 0.35) for _ in range(randomness.randrange(1, 4))])
        for number in range(rounds(16))
    ]

    def one(killer: Killer, item: tuple[int, str, list[float]]) -> None:
        number, kind, times = item
        base = fresh(killer, ground, kind, f"outside-{number}")
        told: list[str] = []
        for after in times:
            ran = killer.run(base, kind, report=not told, after=after)
            assert not ran["error"], ran["error"]
            told += [ran["told"]] if ran["told"] else []
        told += recovered(killer, base, kind, told[0] if told else "")
        all_is_well(base, kind, told)
        shutil.rmtree(base)

    aftermath.in_parallel(killers, WORKERS, one, items)
