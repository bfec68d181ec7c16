"""kill -9 between every two steps of a heal, and again while it recovers: nothing acknowledged is lost, no promise broken, nothing left."""

import asyncio
import os
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from tests.support.heals import Scene
from tests.support.killing import Killer

from remediation.bootstrap import open_reader
from remediation.core.incident import Incident
from remediation.core.state import HostState
from remediation.settings import Home
from remediation.stores.auditing import verify_journal

pytestmark = pytest.mark.crash

KINDS = ("one", "stages", "failing", "spoilt")
SEED = int(os.environ.get("REMEDIATION_CRASH_SEED", "20300101"))
ROUNDS = int(os.environ.get("REMEDIATION_CRASH_ROUNDS", "100"))
WORKERS = 2


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
    """Where worlds are made: in memory, as a killed process loses nothing that it handed to the kernel."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="kill-", dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def fresh(killer: Killer, ground: Path, kind: str, name: str) -> Path:
    """A new world of this kind, copied from one that is made once."""
    base, template = ground / name, ground / f"template-{kind}-{id(killer)}"
    if not template.exists():
        killer.make(template, kind)
    shutil.copytree(template, base, symlinks=True)
    return base


def in_parallel(killers: SimpleQueue[Killer], work: Callable[[Killer, Any], None], items: list[Any]) -> None:
    """Do `work` for each item; what failed is told together."""
    problems: list[str] = []

    def one(item: Any) -> None:
        killer = killers.get()
        try:
            work(killer, item)
        except Exception:
            problems.append(f"--- {item}\n{traceback.format_exc()[-1800:]}")
        finally:
            killers.put(killer)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, items))
    assert not problems, f"{len(problems)} of {len(items)} went wrong:\n" + "\n".join(problems[:6])


# -- what must be true afterwards -------------------------------------------------------------------------------------------------


def incidents_of(home: Home) -> list[Incident]:
    """All incidents, as their entries tell them."""

    async def read() -> list[Incident]:
        state = HostState(keep_settled=None)
        async with open_reader(home) as reader:
            async for record in reader.read():
                state.apply(record)
        return sorted(state.incidents.values(), key=lambda incident: incident.opened_seq)

    return asyncio.run(read())


def all_is_well(base: Path, kind: str, told: list[str]) -> Incident:
    """Raise AssertionError unless everything that was promised holds; returns the first incident."""
    scene = Scene(base, kind)
    home = Home(base / "home", base / "keys")
    incidents = incidents_of(home)
    assert incidents
    assert not [incident for incident in incidents if incident.open]
    known = {incident.id for incident in incidents}
    assert set(told) <= known, f"acknowledged, and lost: {set(told) - known}"
    first = incidents[0]
    uncertain = any(attempt.uncertain for attempt in first.attempts)
    scene.each_effect_kept_its_promise(first.status.value, dirty=first.dirty, uncertain=uncertain)
    vkeys = home.verifier_keys.read_text().split()
    verified = verify_journal(home.journal, vkeys=vkeys, known_head=home.head_note.read_text())
    assert verified.ok, verified
    nothing_is_left(base)
    return first


def nothing_is_left(base: Path) -> None:
    """Locks, scratch and temporary files of killed hosts are gone once another one has stopped."""
    home = base / "home"
    assert {path.name for path in (home / "locks").iterdir()} <= {"machine.lock"}
    assert not list((home / "scratch").iterdir())
    assert not list((home / "blobs" / "incoming").iterdir())
    assert not [path for path in (home / "inbox").rglob("*") if path.is_file()]
    assert {path.name for path in (base / "keys").iterdir()} <= {"head.note", "signing.key", "signing.vkey", "rotation.lock"}
    assert {path.name for path in home.iterdir() if path.is_file()} <= {
        "journal.sqlite3",
        "journal.lock",
        "snapshot.bin",
        ".gitignore",
    }


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

    in_parallel(killers, one, list(range(whole["steps"])))
    assert ends == {"heal_failed" if kind in ("failing", "spoilt") else "resolved", "escalated"}


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

    in_parallel(killers, one, stops)


def test_killed_from_outside_at_random_times_the_last_host_finishes(ground: Path, killers: SimpleQueue[Killer]) -> None:
    randomness = random.Random(SEED)
    rounds = [
        (number, randomness.choice(KINDS), [randomness.uniform(0.005, 0.35) for _ in range(randomness.randrange(1, 4))])
        for number in range(ROUNDS)
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

    in_parallel(killers, one, rounds)
