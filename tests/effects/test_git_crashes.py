"""Commits when the host is killed between any two steps: completed or taken back, with a clean working tree either way."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.crashing import Crasher
from tests.support.world import EffectWorld, prepare, tree

from remediation.effects import GitCommit
from remediation.errors import EffectConflict
from remediation.model.plan import Probe

KEY = "attempt:0:0"
STRIDE = int(os.environ.get("REMEDIATION_TEST_STRIDE", "5"))
"""Every fifth step is tried, beginning with another one in each test; 1 tries all, in a minute or two."""


@pytest.fixture(scope="module")
def crasher() -> Iterator[Crasher]:
    with Crasher() as made:
        yield made


def git(world: EffectWorld, *words: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(world.base), "GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0"}
    words = ("-c", "user.name=P", "-c", "user.email=p@x", *words)
    done = subprocess.run(["git", *words], cwd=world.root / "site", env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = EffectWorld(tmp_path_factory.mktemp("template"))
    site = world.root / "site"
    site.mkdir()
    git(world, "init", "-q", "-b", "main")
    (site / "page").write_text("one\n")
    (site / "old").write_text("old\n")
    git(world, "add", ".")
    git(world, "commit", "-qm", "First")
    return world.base


def fresh(template: Path, base: Path) -> EffectWorld:
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(template, base, symlinks=True)
    return EffectWorld(base, key=KEY)


def effect_for(world: EffectWorld, **fields: str) -> GitCommit:
    files = {"page": "two\n", "new/page": "new\n"}
    return GitCommit(repository=world.root / "site", files=files, deletes=["old"], message="Mend", **fields)


def clean(world: EffectWorld) -> bool:
    return git(world, "status", "--porcelain") == "" and not list((world.root / "site").rglob("*remediation*"))


def files(world: EffectWorld) -> dict[str, tuple]:
    return {name: value[:4] for name, value in tree(world.root / "site").items() if not name.startswith(".git")}


async def test_a_killed_apply_is_completed_by_the_next_one(tmp_path: Path, crasher: Crasher, template: Path) -> None:
    steps, seen = 0 % STRIDE, set()
    while True:
        world = fresh(template, tmp_path / "world")
        effect = effect_for(world)
        prepared = await prepare(effect, world)
        said = crasher.run("apply", effect, prepared, world.base, key=KEY, stop=steps)
        assert said["error"] == ""
        found = await effect.probe(world, prepared)
        seen.add(found)
        if found is Probe.APPLIED:
            assert clean(world)
        else:
            assert found is Probe.NOT_APPLIED
            await effect.apply(world, prepared)
        assert git(world, "rev-parse", "HEAD").strip() == prepared.commit
        assert await effect.probe(world, prepared) is Probe.APPLIED
        assert clean(world), steps
        if not said["killed"]:
            break
        steps += STRIDE
    assert steps > 40
    assert seen == {Probe.APPLIED, Probe.NOT_APPLIED}


async def test_a_killed_apply_is_taken_back_by_a_revert(tmp_path: Path, crasher: Crasher, template: Path) -> None:
    steps = 1 % STRIDE
    while True:
        world = fresh(template, tmp_path / "world")
        before = files(world)
        effect = effect_for(world)
        prepared = await prepare(effect, world)
        said = crasher.run("apply", effect, prepared, world.base, key=KEY, stop=steps)
        await effect.revert(world, prepared, None)
        assert files(world) == before
        assert clean(world), steps
        assert git(world, "rev-list", "--count", "HEAD").strip() in {"1", "3"}
        assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
        if not said["killed"]:
            break
        steps += STRIDE
    assert steps > 40


async def test_a_killed_revert_is_completed_by_the_next_one(tmp_path: Path, crasher: Crasher, template: Path) -> None:
    steps = 2 % STRIDE
    while True:
        world = fresh(template, tmp_path / "world")
        before = files(world)
        effect = effect_for(world)
        prepared = await prepare(effect, world)
        await effect.apply(world, prepared)
        said = crasher.run("revert", effect, prepared, world.base, key=KEY, stop=steps)
        assert said["error"] == ""
        await effect.revert(world, prepared, None)
        assert files(world) == before
        assert clean(world), steps
        assert git(world, "log", "--format=%s").splitlines() == ['Revert "Mend"', "Mend", "First"]
        if not said["killed"]:
            break
        steps += STRIDE
    assert steps > 40


async def test_a_killed_commit_to_another_branch_happened_or_did_not(tmp_path: Path, crasher: Crasher, template: Path) -> None:
    steps = 3 % STRIDE
    while True:
        world = fresh(template, tmp_path / "world")
        effect = effect_for(world, branch="side")
        prepared = await prepare(effect, world)
        said = crasher.run("apply", effect, prepared, world.base, key=KEY, stop=steps)
        if await effect.probe(world, prepared) is Probe.NOT_APPLIED:
            assert git(world, "branch", "--list", "side") == ""
            await effect.apply(world, prepared)
        assert git(world, "rev-parse", "side").strip() == prepared.commit
        assert clean(world)
        if not said["killed"]:
            break
        steps += STRIDE
    assert steps >= 5


async def test_while_a_killed_apply_waits_to_be_settled_git_lets_nobody_commit_here(
    tmp_path: Path, crasher: Crasher, template: Path
) -> None:
    world = fresh(template, tmp_path / "world")
    effect = effect_for(world)
    prepared = await prepare(effect, world)
    total = crasher.run("apply", effect, prepared, world.base, key=KEY)["steps"]
    world = fresh(template, tmp_path / "world")
    prepared = await prepare(effect, world)
    crasher.run("apply", effect, prepared, world.base, key=KEY, stop=total // 2)
    with pytest.raises(subprocess.CalledProcessError):
        git(world, "commit", "-q", "--allow-empty", "-m", "Theirs")
    await effect.apply(world, prepared)
    git(world, "commit", "-q", "--allow-empty", "-m", "Theirs")
    assert clean(world)


async def test_what_somebody_changed_after_the_kill_is_left_alone_until_they_settle_it(
    tmp_path: Path, crasher: Crasher, template: Path
) -> None:
    world = fresh(template, tmp_path / "world")
    effect = effect_for(world)
    prepared = await prepare(effect, world)
    stop = crasher.run("apply", effect, prepared, world.base, key=KEY)["steps"] // 2
    world = fresh(template, tmp_path / "world")
    prepared = await prepare(effect, world)
    crasher.run("apply", effect, prepared, world.base, key=KEY, stop=stop)
    (world.root / "site" / "page").write_text("mine\n")
    assert await effect.probe(world, prepared) is Probe.UNKNOWN
    with pytest.raises(EffectConflict):
        await effect.revert(world, prepared, None)
    assert (world.root / "site" / "page").read_text() == "mine\n"
    (world.root / "site" / "page").write_text("one\n")
    await effect.revert(world, prepared, None)
    assert clean(world)


async def test_what_somebody_staged_after_removing_the_lock_by_hand_is_kept(
    tmp_path: Path, crasher: Crasher, template: Path
) -> None:
    world = fresh(template, tmp_path / "world")
    effect = effect_for(world)
    prepared = await prepare(effect, world)
    steps = 40
    while True:
        world = fresh(template, tmp_path / "world")
        prepared = await prepare(effect, world)
        said = crasher.run("apply", effect, prepared, world.base, key=KEY, stop=steps)
        assert said["killed"], "it was never seen between the commit point and the end"
        if git(world, "rev-parse", "HEAD").strip() == prepared.commit:
            break
        steps += 1
    site = world.root / "site"
    (site / ".git" / "index.lock").unlink()
    (site / "mine").write_text("mine")
    git(world, "add", "mine")
    await effect.apply(world, prepared)
    assert git(world, "status", "--porcelain") == "A  mine\n"
    assert await effect.probe(world, prepared) is Probe.APPLIED
