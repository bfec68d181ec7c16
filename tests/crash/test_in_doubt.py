"""
Killed between an effect and the word about it: what can be looked at is looked at, what a receiver does once is asked for again under the
same key, and what can be neither is never done again.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import aftermath
from tests.support.heals import Scene
from tests.support.killing import NEVER, Killer

from remediation.model.entries import EffectUncertain
from remediation.settings import Home

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with Killer() as server:
        yield server


def killed_after(killer: Killer, tmp_path: Path, step: str) -> tuple[Scene, list[str]]:
    """A world in which a host was killed right after `step` for the first time; and the steps of the one that came then."""
    scenes = [Scene(tmp_path / name, "one") for name in ("whole", "killed")]
    for scene in scenes:
        killer.make(scene.base, "one")
    trail = killer.run(scenes[0].base, "one", report=True)["trail"]
    first = killer.run(scenes[1].base, "one", report=True, stop=trail.index(step))
    assert first["killed"]
    assert first["told"]
    second = killer.run(scenes[1].base, "one", report=False, stop=NEVER)
    assert not second["error"], second["error"]
    return scenes[1], second["trail"]


def receipts_of(scene: Scene) -> dict[str, str]:
    (incident,) = aftermath.incidents_of(Home(scene.base / "home", scene.base / "keys"))
    return {receipt.kind: receipt.outcome for receipt in incident.attempts[-1].receipts}


@pytest.mark.parametrize(
    ("kind", "written"), [("WriteFile", "file.write"), ("DeleteFile", "file.delete"), ("MoveFile", "file.move")]
)
def test_a_state_that_was_reached_is_found_and_not_made_again(killer: Killer, tmp_path: Path, kind: str, written: str) -> None:
    scene, trail = killed_after(killer, tmp_path, f"after {kind}.apply")
    assert f"after {kind}.probe" in trail
    assert receipts_of(scene)[written] == "found-applied"
    assert f"before {kind}.apply" not in trail


def test_a_receiver_that_does_a_thing_once_is_asked_under_the_same_key(killer: Killer, tmp_path: Path) -> None:
    scene, trail = killed_after(killer, tmp_path, "after CallHost.apply")
    assert "after CallHost.probe" in trail
    assert len(scene.receiver.keys("rung")) == 1
    assert scene.receiver.keys("unrung") == []


def test_a_command_of_which_nobody_knows_is_not_run_again_and_people_are_told(killer: Killer, tmp_path: Path) -> None:
    scene, trail = killed_after(killer, tmp_path, "after RunCommand.apply")
    assert "before RunCommand.apply" not in trail
    home = Home(scene.base / "home", scene.base / "keys")
    assert [record for record in aftermath.records_of(home) if isinstance(record.entry, EffectUncertain)]
    (incident,) = aftermath.incidents_of(home)
    assert incident.status == "escalated"
    assert len((scene.side / "said").read_text().splitlines()) == 1
