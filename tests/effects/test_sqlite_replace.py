"""Replacing a database with its side files as one effect: all or nothing, and back, also when killed between any two steps."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import sqlite_databases as databases
from tests.support.sqlite_crashing import Crasher
from tests.support.world import EffectWorld, carry_out, prepare, stored, tree

from remediation.coordination.processes import run_process
from remediation.effects.sqlite import children
from remediation.effects.sqlite.replace import DamagedFile, ReplaceDatabase
from remediation.effects.sqlite.write_check import CheckDatabaseWrite
from remediation.errors import EffectConflict, EffectError, EffectRefused, OutsideRoots
from remediation.model.plan import Probe
from remediation.ports.effect import Prepared

SMALL = 300


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    return EffectWorld(tmp_path)


def damaged(world: EffectWorld, *, wal: bool = False) -> Path:
    """A database with everything beside it that SQLite may leave: in WAL mode -wal and -shm, else a hot -journal."""
    path = databases.make(world.root / "app.db", wal=wal, orders=SMALL)
    path.chmod(0o640)
    work = 'database.execute("PRAGMA cache_size = 2"); database.execute("BEGIN"); database.execute("UPDATE orders SET memo = memo || id")'
    databases.leave_wal(path, 'database.execute("DELETE FROM orders WHERE id = 1")' if wal else work)
    assert set(databases.sides(path)) == ({"", "-wal", "-shm"} if wal else {"", "-journal"})
    databases.zero_leaf(path, "customer", 2)
    return path


async def effect_on(path: Path, world: EffectWorld, *, wal: bool = False) -> ReplaceDatabase:
    fresh = databases.make(world.base / "fresh.db", wal=wal, orders=SMALL - 7)
    kept = tuple(
        [
            DamagedFile(suffix=suffix, blob=await world.blobs.put_file(path.with_name(path.name + suffix)))
            for suffix in databases.sides(path)
        ]
    )
    return ReplaceDatabase(path=path, content=await world.blobs.put_file(fresh), damaged=kept, origin="7 rows fewer")


@pytest.fixture(params=[False, True], ids=["rollback", "wal"])
def wal(request: pytest.FixtureRequest) -> bool:
    return request.param


async def test_the_new_database_stands_alone_with_the_old_owner_and_mode(wal: bool, world: EffectWorld) -> None:
    path = damaged(world, wal=wal)
    old = databases.sides(path)
    effect = await effect_on(path, world, wal=wal)
    prepared, output = await carry_out(effect, world)
    assert set(databases.sides(path)) == {""}
    assert path.stat().st_mode & 0o7777 == 0o640
    assert databases.counts(path)["orders"] == SMALL - 7
    assert await effect.probe(world, prepared) is Probe.APPLIED
    assert {suffix: Path(kept).read_bytes() for suffix, kept in output.kept} == old
    assert output.late == ()
    assert [name for name in os.listdir(world.root) if name != "app.db"] == []


async def test_reverting_restores_all_files_byte_for_byte(wal: bool, world: EffectWorld) -> None:
    path = damaged(world, wal=wal)
    before = tree(world.root)
    effect = await effect_on(path, world, wal=wal)
    prepared, output = await carry_out(effect, world)
    await effect.revert(world, prepared, output)
    assert tree(world.root) == before
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    await effect.revert(world, prepared, None)
    assert tree(world.root) == before


async def test_a_write_check_in_between_does_not_keep_it_from_being_reverted(wal: bool, world: EffectWorld) -> None:
    path = damaged(world, wal=wal)
    before = tree(world.root)
    effect = await effect_on(path, world, wal=wal)
    prepared, output = await carry_out(effect, world)
    rows = databases.rows(path)
    _, checked = await carry_out(CheckDatabaseWrite(path=path), world)
    assert checked.counter_after == checked.counter_before + 1
    assert checked.journal_mode == ("wal" if wal else "delete")
    assert dict(checked.rows) == databases.counts(path)
    assert databases.rows(path) == rows
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, output)
    assert tree(world.root) == before


async def test_a_database_that_was_written_to_since_is_not_reverted(wal: bool, world: EffectWorld) -> None:
    path = damaged(world, wal=wal)
    effect = await effect_on(path, world, wal=wal)
    prepared, output = await carry_out(effect, world)
    databases.leave_wal(path, 'database.execute("DELETE FROM orders WHERE id = 9")')
    after = databases.sides(path)
    with pytest.raises(EffectConflict, match="written to since"):
        await effect.revert(world, prepared, output)
    assert databases.sides(path) == after
    assert await effect.probe(world, prepared) is Probe.UNKNOWN


async def test_it_is_refused_while_somebody_has_it_open(wal: bool, world: EffectWorld) -> None:
    path = damaged(world, wal=wal)
    effect = await effect_on(path, world, wal=wal)
    prepared = await prepare(effect, world)
    before = databases.sides(path)
    with path.open("rb"):
        with pytest.raises(EffectConflict, match=f"open in {os.getpid()} "):
            await effect.apply(world, prepared)
    assert databases.sides(path) == before


async def test_a_process_that_holds_the_old_file_afterwards_is_named(world: EffectWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    path = damaged(world)
    effect = await effect_on(path, world)
    prepared = await prepare(effect, world)
    monkeypatch.setattr(ReplaceDatabase, "_wait_until_closed", _not_at_all)
    with path.open("rb"):
        output = await effect.apply(world, prepared)
    assert [told.split(" ")[0] for told in output.late] == [str(os.getpid())]


async def _not_at_all(*_: object) -> None:
    """As if the process had come right after the look."""


async def test_reverting_is_refused_while_somebody_has_it_open(world: EffectWorld) -> None:
    path = damaged(world)
    effect = await effect_on(path, world)
    prepared, output = await carry_out(effect, world)
    after = databases.sides(path)
    with databases.holder(path) as process, pytest.raises(EffectConflict, match=f"open in {process.pid} "):
        await effect.revert(world, prepared, output)
    assert databases.sides(path) == after


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
async def test_files_that_changed_since_they_were_kept_are_left_alone(suffix: str, world: EffectWorld) -> None:
    path = damaged(world, wal=suffix != "-journal")
    effect = await effect_on(path, world)
    prepared = await prepare(effect, world)
    with path.with_name(path.name + suffix).open("ab") as file:
        file.write(b"more")
    before = databases.sides(path)
    with pytest.raises(EffectConflict):
        await effect.prepare(world)
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)
    assert databases.sides(path) == before


async def test_another_shared_memory_file_is_no_change(world: EffectWorld) -> None:
    path = damaged(world, wal=True)
    effect = await effect_on(path, world, wal=True)
    prepared = await prepare(effect, world)
    databases.overwrite(path.with_name("app.db-shm"), 0, b"rubbish")
    await effect.prepare(world)
    await effect.apply(world, prepared)
    assert set(databases.sides(path)) == {""}


async def test_a_link_or_a_place_outside_the_roots_is_refused(world: EffectWorld) -> None:
    path = damaged(world)
    effect = await effect_on(path, world)
    (world.root / "link.db").symlink_to(path)
    for elsewhere in (world.root / "link.db", world.base / "fresh.db"):
        with pytest.raises(OutsideRoots):
            await effect.model_copy(update={"path": elsewhere}).prepare(world)


async def test_a_database_with_a_second_name_is_refused(world: EffectWorld) -> None:
    path = damaged(world)
    effect = await effect_on(path, world)
    os.link(path, world.root / "second.db")
    with pytest.raises(EffectRefused, match="several names"):
        await effect.prepare(world)


async def test_a_blob_that_is_gone_or_damaged_stops_it_before_anything_is_changed(world: EffectWorld) -> None:
    path = damaged(world)
    before = databases.sides(path)
    effect = await effect_on(path, world)
    prepared = await prepare(effect, world)
    blob = world.blobs.path(effect.content)
    blob.chmod(0o600)
    databases.overwrite(blob, 5000, b"rubbish")
    with pytest.raises(EffectError):
        await effect.prepare(world)
    with pytest.raises(EffectError):
        await effect.apply(world, prepared)
    assert databases.sides(path)[""] == before[""]
    await effect.revert(world, prepared, None)
    assert databases.sides(path) == before
    world.blobs.path(effect.damaged[0].blob).unlink()
    with pytest.raises(EffectError, match="missing"):
        await effect.prepare(world)


async def test_a_write_that_does_not_work_is_told(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", orders=SMALL)
    with databases.holder(path, 'database.execute("BEGIN IMMEDIATE")'), pytest.raises(EffectError, match="locked"):
        await CheckDatabaseWrite(path=path).apply(world, Prepared())


# -- killed between two steps

KEY = "attempt:0:0"


@pytest.fixture(scope="module")
def crasher() -> Iterator[Crasher]:
    with Crasher() as made:
        yield made


async def fresh(base: Path, *, wal: bool) -> tuple[EffectWorld, ReplaceDatabase, Prepared]:
    shutil.rmtree(base, ignore_errors=True)
    world = EffectWorld(base, key=KEY)
    effect = await effect_on(damaged(world, wal=wal), world, wal=wal)
    return world, effect, await prepare(effect, world)


def no_strange_log(sides: dict[str, bytes], old: dict[str, bytes]) -> bool:
    """Whether no database stands beside a log that was written for another one."""
    return sides.get("") == old[""] or not {"-wal", "-journal"} & set(sides)


@pytest.mark.crash
async def test_killed_at_any_step_it_can_be_finished_or_taken_back(wal: bool, crasher: Crasher, tmp_path: Path) -> None:
    base = tmp_path / "world"
    world, effect, prepared = await fresh(base, wal=wal)
    image, old = tree(world.root), databases.sides(effect.path)
    shutil.copytree(base, tmp_path / "image")
    steps = crasher.run("apply", effect, prepared, base, key=KEY)["steps"]
    assert steps > 10
    for stop in range(steps):
        for then in ("apply", "revert"):
            shutil.rmtree(base)
            shutil.copytree(tmp_path / "image", base)
            assert crasher.run("apply", effect, prepared, base, key=KEY, stop=stop)["killed"]
            assert no_strange_log(databases.sides(effect.path), old), stop
            said = await effect.probe(world, prepared)
            assert said in (Probe.APPLIED, Probe.NOT_APPLIED), stop
            if then == "apply":
                if said is Probe.NOT_APPLIED:
                    await stored(effect).apply(world, prepared)
                assert await effect.probe(world, prepared) is Probe.APPLIED
                assert list(databases.sides(effect.path)) == [""]
                assert os.listdir(world.root) == ["app.db"]
            else:
                await effect.revert(world, prepared, None)
                now = tree(world.root)
                assert {name: entry[:4] for name, entry in now.items()} == {name: entry[:4] for name, entry in image.items()}, stop


@pytest.mark.crash
async def test_killed_at_any_step_of_the_way_back_it_can_be_taken_back(wal: bool, crasher: Crasher, tmp_path: Path) -> None:
    base = tmp_path / "world"
    world, effect, prepared = await fresh(base, wal=wal)
    image, old = tree(world.root), databases.sides(effect.path)
    await effect.apply(world, prepared)
    shutil.copytree(base, tmp_path / "image")
    steps = crasher.run("revert", effect, prepared, base, key=KEY)["steps"]
    assert steps > 10
    for stop in range(steps):
        shutil.rmtree(base)
        shutil.copytree(tmp_path / "image", base)
        assert crasher.run("revert", effect, prepared, base, key=KEY, stop=stop)["killed"]
        assert no_strange_log(databases.sides(effect.path), old), stop
        await effect.revert(world, prepared, None)
        now = tree(world.root)
        assert {name: entry[:4] for name, entry in now.items()} == {name: entry[:4] for name, entry in image.items()}, stop


async def test_a_digest_tells_missing_files_by_their_absence(tmp_path: Path) -> None:
    assert await children.digest(run_process, tmp_path / "app.db", seconds=20) == {}
