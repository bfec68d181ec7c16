"""Files when the host is killed between any two steps, and when somebody else writes in the very moment of a change."""

import os
import resource
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.crashing import Crasher, run_python
from tests.support.world import EffectWorld, prepare, tree

from remediation.effects import CopyFile, DeleteFile, MoveFile, WriteFile, placing, renaming
from remediation.errors import EffectConflict, EffectError
from remediation.model.plan import Probe
from remediation.ports.effect import Effect

KEY = "attempt:0:0"


@pytest.fixture(scope="module")
def crasher() -> Iterator[Crasher]:
    with Crasher() as made:
        yield made


def fresh(base: Path) -> EffectWorld:
    shutil.rmtree(base, ignore_errors=True)
    world = EffectWorld(base, key=KEY)
    old = world.root / "old"
    old.write_text("one\ntwo\n")
    old.chmod(0o640)
    os.utime(old, ns=(10**18, 10**18))
    (world.root / "other").write_text("other\n")
    return world


CHANGES: dict[str, Callable[[Path], Effect]] = {
    "replace": lambda root: WriteFile(path=root / "old", content="new\n", mode=0o600),
    "create": lambda root: WriteFile(path=root / "a" / "new", content="new\n", parents=True),
    "copy": lambda root: CopyFile(source=root / "other", path=root / "old"),
    "move": lambda root: MoveFile(source=root / "old", path=root / "a" / "moved", parents=True),
    "delete": lambda root: DeleteFile(path=root / "old"),
    "delete for good": lambda root: DeleteFile(path=root / "old", keep=False),
}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> str:
    return request.param


def left_over(world: EffectWorld) -> list[Path]:
    return list(world.root.rglob(".*.remediation"))


async def test_a_killed_apply_is_completed_by_the_next_one(tmp_path: Path, crasher: Crasher, change: str) -> None:
    steps = 0
    while True:
        world = fresh(tmp_path / "world")
        effect = CHANGES[change](world.root)
        prepared = await prepare(effect, world)
        said = crasher.run("apply", effect, prepared, world.base, key=KEY, stop=steps)
        assert said["error"] == ""
        found = await effect.probe(world, prepared)
        assert found is Probe.NOT_APPLIED or (found is Probe.APPLIED and not left_over(world))
        if found is Probe.NOT_APPLIED:
            await effect.apply(world, prepared)
        assert await effect.probe(world, prepared) is Probe.APPLIED
        assert left_over(world) == []
        if not said["killed"]:
            break
        steps += 1
    assert steps >= 3


async def test_a_killed_apply_is_taken_back_by_a_revert(tmp_path: Path, crasher: Crasher, change: str) -> None:
    steps = 0
    while True:
        world = fresh(tmp_path / "world")
        before = tree(world.root)
        effect = CHANGES[change](world.root)
        prepared = await prepare(effect, world)
        said = crasher.run("apply", effect, prepared, world.base, key=KEY, stop=steps)
        if change == "delete for good" and await effect.probe(world, prepared) is Probe.APPLIED:
            break
        await effect.revert(world, prepared, None)
        assert tree(world.root) == before
        if not said["killed"]:
            break
        steps += 1
    assert steps >= 3


async def test_a_killed_revert_is_completed_by_the_next_one(tmp_path: Path, crasher: Crasher, change: str) -> None:
    if change == "delete for good":
        change = "delete"
    steps = 0
    while True:
        world = fresh(tmp_path / "world")
        before = tree(world.root)
        effect = CHANGES[change](world.root)
        prepared = await prepare(effect, world)
        await effect.apply(world, prepared)
        said = crasher.run("revert", effect, prepared, world.base, key=KEY, stop=steps)
        assert said["error"] == ""
        await effect.revert(world, prepared, None)
        assert tree(world.root) == before
        if not said["killed"]:
            break
        steps += 1
    assert steps >= 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from(sorted(CHANGES)),
    moves=st.lists(
        st.tuples(st.sampled_from(["apply", "revert"]), st.one_of(st.just(10**6), st.integers(0, 16))), min_size=1, max_size=5
    ),
)
async def test_any_sequence_of_interrupted_steps_can_be_completed_and_taken_back(
    tmp_path_factory: pytest.TempPathFactory, crasher: Crasher, which: str, moves: list[tuple[str, int]]
) -> None:
    if which == "delete for good":
        which = "delete"
    world = fresh(tmp_path_factory.getbasetemp() / "sequences")
    before = tree(world.root)
    effect = CHANGES[which](world.root)
    prepared = await prepare(effect, world)
    for method, stop in moves:
        if method == "apply" and await effect.probe(world, prepared) is not Probe.NOT_APPLIED:
            continue  # the engine never starts an effect that is not proved absent
        said = crasher.run(method, effect, prepared, world.base, key=KEY, stop=stop)
        if method == "revert" and said["killed"]:
            await effect.revert(world, prepared, None)  # a revert that was begun is finished before anything else
        elif not said["killed"]:
            assert said["error"] == ""
    if await effect.probe(world, prepared) is Probe.NOT_APPLIED:
        await effect.apply(world, prepared)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, None)
    assert tree(world.root) == before


def between(monkeypatch: pytest.MonkeyPatch, module: object, name: str, then: Callable[[], None], at: int = 0) -> None:
    """Let `then` happen right before the call number `at` of ``module.name``."""
    real, calls = getattr(module, name), []

    def meanwhile(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == at + 1:
            then()
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, meanwhile)


def saved_by_an_editor(path: Path, text: str) -> Callable[[], None]:
    def save() -> None:
        path.with_name("editor").write_text(text)
        path.with_name("editor").rename(path)

    return save


async def test_what_an_editor_saves_between_the_check_and_an_exchange_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh(tmp_path / "world")
    effect = WriteFile(path=world.root / "old", content="new\n")
    prepared = await prepare(effect, world)
    between(monkeypatch, placing, "exchange", saved_by_an_editor(world.root / "old", "theirs\n"))
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)
    assert (world.root / "old").read_text() == "theirs\n"
    assert left_over(world) == []


async def test_what_an_editor_saves_right_before_a_deletion_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = fresh(tmp_path / "world")
    effect = DeleteFile(path=world.root / "old")
    prepared = await prepare(effect, world)
    between(monkeypatch, os, "rename", saved_by_an_editor(world.root / "old", "theirs\n"))
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)
    assert (world.root / "old").read_text() == "theirs\n"
    assert left_over(world) == []


async def test_a_link_put_in_place_of_the_file_right_before_the_change_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for effect_type, module, call in ((WriteFile, placing, "exchange"), (DeleteFile, os, "rename")):
        world = fresh(tmp_path / "world")
        old = world.root / "old"
        effect = effect_type(path=old, **({"content": "new\n"} if effect_type is WriteFile else {}))
        prepared = await prepare(effect, world)

        def swap(old: Path = old) -> None:
            old.unlink()
            old.symlink_to("other")

        with monkeypatch.context() as patch:
            between(patch, module, call, swap)
            with pytest.raises(EffectConflict):
                await effect.apply(world, prepared)
        assert os.readlink(old) == "other"
        assert (world.root / "other").read_text() == "other\n"
        assert left_over(world) == []


async def test_what_somebody_makes_right_before_a_creation_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = fresh(tmp_path / "world")
    effect = WriteFile(path=world.root / "new", content="new\n")
    prepared = await prepare(effect, world)
    between(monkeypatch, placing, "rename_new", lambda: (world.root / "new").write_text("theirs\n"))
    with pytest.raises(EffectConflict, match="meanwhile"):
        await effect.apply(world, prepared)
    assert (world.root / "new").read_text() == "theirs\n"
    assert left_over(world) == []


async def test_a_file_that_is_replaced_in_the_moment_of_a_move_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from remediation.effects import move_file

    world = fresh(tmp_path / "world")
    effect = MoveFile(source=world.root / "old", path=world.root / "moved")
    prepared = await prepare(effect, world)
    between(monkeypatch, move_file, "rename_new", saved_by_an_editor(world.root / "old", "theirs\n"))
    with pytest.raises(EffectConflict, match="put back"):
        await effect.apply(world, prepared)
    assert (world.root / "old").read_text() == "theirs\n"
    assert not (world.root / "moved").exists()


async def test_a_kill_between_displacing_a_strangers_file_and_putting_it_back_loses_nothing(tmp_path: Path) -> None:
    for effect_type in (WriteFile, DeleteFile):
        world = fresh(tmp_path / "world")
        old = world.root / "old"
        effect = effect_type(path=old, **({"content": "new\n"} if effect_type is WriteFile else {}))
        prepared = await prepare(effect, world)
        with world.roots.open_parent(old) as (parent, name):
            place = placing.Place(parent, name, KEY)
        # As such a kill leaves it: the stranger's file under the name `swap`, ours (or nothing) in its place.
        old.write_text("theirs\n")
        old.rename(world.root / place.swap)
        if effect_type is WriteFile:
            old.write_text("new\n")
            old.chmod(0o640)
        assert await effect.probe(world, prepared) is Probe.UNKNOWN
        with pytest.raises(EffectConflict):
            await effect.apply(world, prepared)
        assert old.read_text() == "theirs\n"
        assert left_over(world) == []


async def test_without_exchanges_a_last_look_comes_right_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    world = fresh(tmp_path / "world")
    before = tree(world.root)
    for name in sorted(CHANGES):
        effect = CHANGES["delete" if name == "delete for good" else name](world.root)
        prepared = await prepare(effect, world)
        await effect.apply(world, prepared)
        assert await effect.probe(world, prepared) is Probe.APPLIED
        await effect.revert(world, prepared, None)
        assert tree(world.root) == before
    effect = WriteFile(path=world.root / "old", content="new\n")
    prepared = await prepare(effect, world)
    between(monkeypatch, placing, "exchange", saved_by_an_editor(world.root / "old", "theirs\n"))
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)
    assert (world.root / "old").read_text() == "theirs\n"
    assert left_over(world) == []


async def test_without_exchanges_a_kill_between_link_and_unlink_of_a_move_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    world = fresh(tmp_path / "world")
    effect = MoveFile(source=world.root / "old", path=world.root / "moved")
    prepared = await prepare(effect, world)
    os.link(world.root / "old", world.root / "moved")
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    await effect.apply(world, prepared)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    os.link(world.root / "moved", world.root / "old")
    await effect.revert(world, prepared, None)
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    assert not (world.root / "moved").exists()


@pytest.mark.parametrize("step", ["rename", "exchange", "rename_new", "set_attributes", "fsync"])
async def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    world = fresh(tmp_path / "world")
    for path in (world.root / "old", world.root / "new"):
        effect = WriteFile(path=path, content="new\n")
        prepared = await prepare(effect, world)
        before = tree(world.root)

        def fails(*args: object, **kwargs: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os if hasattr(os, step) else placing, step, fails)
            failure = ""
            try:
                await effect.apply(world, prepared)
            except EffectError as error:
                failure = str(error)
        assert left_over(world) == []
        if step != "fsync" and failure:
            assert "Input/output error" in failure
            assert tree(world.root) == before


async def test_a_full_disk_changes_nothing_and_is_told(tmp_path: Path) -> None:
    world = fresh(tmp_path / "world")
    (world.root / "big").write_bytes(b"x" * 200_000)
    before = tree(world.root)
    effect = CopyFile(source=world.root / "big", path=world.root / "old")
    prepared = await prepare(effect, world)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    script = textwrap.dedent(
        f"""
        import asyncio, resource
        from pathlib import Path
        from remediation.effects import CopyFile
        from remediation.effects.file_change import FilePrepared
        from remediation.errors import EffectError
        from tests.support.world import EffectWorld
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        effect = CopyFile.model_validate_json({effect.model_dump_json()!r})
        prepared = FilePrepared.model_validate_json({prepared.model_dump_json()!r})
        try:
            asyncio.run(effect.apply(EffectWorld(Path({str(world.base)!r})), prepared))
        except EffectError as error:
            print(error)
        """
    )
    said = run_python(script)
    assert "File too large" in said
    assert tree(world.root) == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == (soft, hard)


async def test_the_deadline_stops_a_long_copy_before_it_changes_anything(tmp_path: Path) -> None:
    world = fresh(tmp_path / "world")
    (world.root / "big").write_bytes(b"x" * 3_000_000)
    effect = CopyFile(source=world.root / "big", path=world.root / "old")
    prepared = await prepare(effect, world)
    before = tree(world.root)
    looked: list[float] = []

    class Slow:
        def monotonic(self) -> float:
            looked.append(0)
            return world.deadline + (1 if len(looked) > 2 else -1)

    world.clock = Slow()
    with pytest.raises(EffectError, match="deadline passed while"):
        await effect.apply(world, prepared)
    assert tree(world.root) == before
