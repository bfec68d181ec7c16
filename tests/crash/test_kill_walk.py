"""kill -9 between any two steps of a heal: whatever the step, the next host ends the incident and keeps every promise."""

import asyncio
import os
import random

import pytest
from tests.support import killing_scene as scene
from tests.support.killing import Killer, seeds

from remediation.bootstrap import open_reader
from remediation.stores.auditing import verify_journal

pytestmark = pytest.mark.crash
ROUNDS = int(os.environ.get("REMEDIATION_CRASH_ROUNDS", "20"))
"""Random rounds of each kind; 300 for a release."""
STRIDE = int(os.environ.get("REMEDIATION_TEST_STRIDE", "9"))
"""Every how many-th call of the file system is tried; 1 for a release."""


@pytest.fixture(scope="module")
def killer():
    with Killer() as running:
        yield running


def _check(base, scenario, run):
    """Everything that must hold after a host was let run to its end."""
    assert not run["killed"]
    assert run["error"] == ""
    found = scene.state(base)
    message = scene.told({"run": run, "found": found})
    assert len(run["incidents"]) == 1, message
    (incident,) = run["incidents"]
    assert incident["status"] != "open", message
    # No *once* effect ran twice, nor was one undone twice; the control saw one key at most.
    assert found["log"].count("ran") <= 1, message
    assert found["log"].count("undone") <= 1, message
    assert len(found["calls"]) <= 1, message
    # Files are exactly as before or as after, and nothing lies about.
    assert found["config"] in {"old", "new"}, message
    assert found["stale"] in {"999999", None}, message
    assert not found["others"], message
    assert not found["scratch"], message
    assert not found["inbox"], message
    if incident["status"] == "resolved":
        assert (found["config"], found["stale"], found["log"], len(found["calls"])) == ("new", None, ["ran"], 1), message
    elif scenario == "revert":
        assert incident["status"] in {"heal_failed", "escalated"}, message
        if incident["status"] == "heal_failed" and not incident["dirty"]:
            assert (found["config"], found["stale"]) == ("old", "999999"), message
            assert (base / "work" / "stale").stat().st_mtime == 1_700_000_000
    else:
        # Only an effect that can't be observed may keep a heal from its end: it is then never run again.
        assert incident["status"] == "escalated", message
        assert "can't be known" in incident["reason"] or "uncertain" in incident["reason"], message
    assert asyncio.run(_verified(base)), message


async def _verified(base):
    home = scene.settings(base).home
    own = [home.verifier_keys.read_text().split()[0]]
    verdict = verify_journal(home.journal, own=own)
    verification = await verdict if asyncio.iscoroutine(verdict) else verdict
    async with open_reader(home) as reader:
        size, _ = await reader.head()
    return verification.ok and verification.size == size


def _steps(killer, tmp_path, scenario, *, fine=False):
    base = tmp_path / "unharmed"
    base.mkdir()
    scene.make(base, scenario)
    run = killer.run(base, fine=fine)
    _check(base, scenario, run)
    assert run["incidents"][0]["status"] == ("heal_failed" if scenario == "revert" else "resolved")
    return run["steps"]


@pytest.mark.parametrize("scenario", scene.SCENARIOS)
def test_a_host_killed_at_any_step_is_followed_by_one_that_ends_the_incident(killer, tmp_path, scenario):
    steps = _steps(killer, tmp_path, scenario)
    assert steps > 20
    _walk(killer, tmp_path, scenario, range(steps), steps, fine=False)


@pytest.mark.parametrize("scenario", scene.SCENARIOS)
def test_a_host_killed_between_calls_of_the_file_system_is_followed_by_one_that_ends_the_incident(killer, tmp_path, scenario):
    steps = _steps(killer, tmp_path, scenario, fine=True)
    assert steps > 60
    _walk(killer, tmp_path, scenario, range(1, steps, STRIDE), steps, fine=True)


def _walk(killer, tmp_path, scenario, stops, steps, *, fine):
    for stop in stops:
        base = tmp_path / str(stop)
        base.mkdir()
        scene.make(base, scenario)
        run = killer.run(base, stop=stop, fine=fine)
        # The number of steps varies by a few, since the head is also written by the clock.
        assert run["killed"] or stop > steps - 8
        _check(base, scenario, killer.run(base) if run["killed"] else run)


@pytest.mark.parametrize("seed", seeds(ROUNDS))
def test_a_host_killed_while_it_recovers_is_followed_by_one_that_ends_the_incident(killer, tmp_path, seed):
    chance = random.Random(seed)
    scenario = chance.choice(scene.SCENARIOS)
    scene.make(tmp_path, scenario)
    killer.run(tmp_path, stop=chance.randrange(80))
    killer.run(tmp_path, stop=chance.randrange(40))
    _check(tmp_path, scenario, killer.run(tmp_path))


@pytest.mark.parametrize("seed", seeds(ROUNDS))
def test_a_host_killed_at_any_time_is_followed_by_one_that_ends_the_incident(killer, tmp_path, seed):
    chance = random.Random(seed)
    scenario = chance.choice(scene.SCENARIOS)
    scene.make(tmp_path, scenario)
    for _ in range(chance.randrange(1, 4)):
        killer.run(tmp_path, after=chance.uniform(0.005, 0.25))
    _check(tmp_path, scenario, killer.run(tmp_path))
