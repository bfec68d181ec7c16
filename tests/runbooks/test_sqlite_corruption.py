"""Corrupt databases of thousands of rows, healed: what is kept, what is said to be lost, and what is left alone."""

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import sqlite_databases as databases
from tests.support.sqlite_healing import Heal, report
from tests.support.world import EffectWorld, tree

from remediation.effects.sqlite import children
from remediation.effects.sqlite.known import LastGood
from remediation.errors import EffectConflict, OutsideRoots
from remediation.model.events import Provenance
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Radius, Reversibility
from remediation.runbooks.sqlite_corruption import SqliteCorruption


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    return EffectWorld(tmp_path)


@pytest.fixture(params=[False, True], ids=["rollback", "wal"])
def wal(request: pytest.FixtureRequest) -> bool:
    return request.param


def last_good(path: Path) -> dict[str, object]:
    return {
        "at": 1_700_000_000_000,
        "rows": databases.counts(path),
        "size": path.stat().st_size,
        "page_size": 4096,
        "auto_vacuum": 0,
        "encoding": "UTF-8",
        "journal_mode": databases.pragma(path, "journal_mode"),
        "user_version": 12,
        "application_id": 4711,
    }


def in_order(plan: PlanRecord) -> list[str]:
    return [item.effect.kind for item in plan.effects]


# -- damage of which nothing is lost


@pytest.mark.parametrize("damage", [databases.break_index, databases.break_header], ids=["index", "header"])
async def test_damage_beside_the_rows_is_healed_without_loss(damage: Callable[[Path], None], wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    path.chmod(0o600)
    good, rows, schema = last_good(path), databases.rows(path), databases.schema(path)
    damage(path)
    heal = Heal(world, report(path, last_good=good))
    verdict = await heal.through()
    assert verdict.status == "healthy"
    assert verdict.reason.endswith("nothing was lost")
    assert heal.finding.confidence >= 90
    [plan] = heal.stages
    assert (plan.reversibility, plan.radius, plan.loses, plan.tags) == (Reversibility.REVERSIBLE, Radius.PROCESS, "", ())
    assert in_order(plan) == ["sqlite.replace", "sqlite.write-check"]
    assert databases.rows(path) == rows
    assert databases.schema(path) == schema
    assert databases.pragma(path, "integrity_check") == "ok"
    assert databases.pragma(path, "journal_mode") == ("wal" if wal else "delete")
    assert (databases.pragma(path, "user_version"), databases.pragma(path, "application_id")) == (12, 4711)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert os.listdir(world.root) == ["app.db"]


async def test_the_triggers_views_and_counters_work_again(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("INSERT INTO orders (id, customer, total, memo) VALUES (90000, 1, 1, 'x')")
    database.execute("DELETE FROM orders WHERE id = 90000")
    database.close()
    good = last_good(path)
    databases.break_index(path)
    await Heal(world, report(path, last_good=good)).through()
    database = sqlite3.connect(path, isolation_level=None)
    assert database.execute("SELECT count(*) FROM rich").fetchone() == (800,)
    assert database.execute("INSERT INTO orders (customer, total) VALUES (1, 1) RETURNING id").fetchone() == (90001,)
    with pytest.raises(sqlite3.IntegrityError, match="negative; not allowed"):
        database.execute("INSERT INTO orders (customer, total) VALUES (1, -1)")
    database.close()


async def test_what_was_committed_to_a_wal_that_a_crash_left_is_kept(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=True)
    databases.break_index(path)
    databases.leave_wal(path, 'database.execute("INSERT INTO blob VALUES (randomblob(500000))")')
    assert "-wal" in databases.sides(path)
    heal = Heal(world, report(path))
    verdict = await heal.through()
    assert verdict.reason.endswith("nothing was lost")
    assert databases.counts(path)["blob"] == 201
    assert [item.split(" ")[2] for item in verdict.evidence[1:]] == ["database", "-wal", "-shm"]


async def test_what_a_hot_journal_would_take_back_is_taken_back(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    rows = databases.rows(path)
    databases.break_index(path)
    work = 'database.execute("PRAGMA cache_size = 2"); database.execute("BEGIN"); database.execute("UPDATE blob SET data = 1")'
    databases.leave_wal(path, work)
    assert set(databases.sides(path)) == {"", "-journal"}
    await Heal(world, report(path)).through()
    assert databases.rows(path) == rows
    assert os.listdir(world.root) == ["app.db"]


# -- damage that costs rows


DAMAGE: dict[str, Callable[[Path], None]] = {
    "rubbish in a leaf": lambda path: databases.flip_leaf(path, "orders"),
    "a zeroed leaf": lambda path: databases.zero_leaf(path, "orders", 40),
    "the first and the last leaf": lambda path: databases.zero_leaf(path, "orders", 0, -1),
    "leaves here and there": lambda path: databases.zero_leaf(path, "orders", 5, 6, 30, 90),
    "without rowid": lambda path: databases.zero_leaf(path, "setting", 1),
    "cut off": databases.truncate,
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_rows_that_can_be_read_are_kept_and_the_others_are_told(damage: str, wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    good, before = last_good(path), databases.rows(path)
    DAMAGE[damage](path)
    heal = Heal(world, report(path, last_good=good))
    verdict = await heal.through()
    after = databases.rows(path)
    lost = {name: len(rows) - len(after[name]) for name, rows in before.items()}
    assert sum(lost.values()) > 0
    assert all(set(after[name]) <= set(rows) for name, rows in before.items()), "no row was made up"
    assert [name for name, count in lost.items() if count] in (["orders"], ["setting"], ["blob"])
    [name] = [name for name, count in lost.items() if count]
    # Nothing but the pages that were damaged: a leaf holds at most 60 orders.
    assert lost[name] < {"orders": 4 * 60, "setting": 250, "blob": 120}[name]
    assert verdict.status == "healthy"
    assert f"{lost[name]} of {name}" in verdict.reason
    [plan] = heal.stages
    assert plan.reversibility is Reversibility.PARTIAL
    assert plan.tags == ("data-loss",)
    assert f"lost: {plan.loses}" in verdict.reason
    assert databases.pragma(path, "integrity_check") == "ok"


async def test_reverting_brings_the_damaged_files_back(wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    databases.zero_leaf(path, "orders", 40)
    if wal:
        databases.leave_wal(path, 'database.execute("INSERT INTO blob VALUES (1)")')
    before = tree(world.root)
    heal = Heal(world, report(path))
    await heal.through()
    assert set(tree(world.root)) == {"app.db"}
    await heal.revert()
    after = tree(world.root)
    # Whoever opens a database first after a crash writes to its -shm; no content lies in it.
    assert (after.keys(), after.pop("app.db-shm", None) is None) == (before.keys(), before.pop("app.db-shm", None) is None)
    assert after == before
    assert heal.reverted == ["sqlite.write-check", "sqlite.replace"]


# -- backups


def backup_of(path: Path, name: str, age: int = 3600) -> Path:
    folder = path.parent / "backups"
    folder.mkdir(exist_ok=True)
    taken = folder / name
    shutil.copyfile(path, taken)
    modified = path.stat().st_mtime - age
    os.utime(taken, (modified, modified))
    return taken


def with_backups(path: Path, good: dict[str, object] | None = None) -> dict[str, object]:
    return {"backups": [str(path.parent / "backups" / "*.db")]} | ({"last_good": good} if good else {})


async def test_a_backup_that_keeps_more_is_taken_and_what_it_lacks_is_told(wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    backup_of(path, "app-1.db")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("INSERT INTO setting VALUES ('new', 1)")
    database.execute("UPDATE orders SET total = -1 WHERE id IN (7, 8, 9)")
    database.close()
    good = last_good(path)
    databases.zero_leaf(path, "orders", *range(20, 60))
    heal = Heal(world, report(path, **with_backups(path, good)))
    verdict = await heal.through()
    assert databases.counts(path) == {"blob": 200, "customer": 800, "orders": 6000, "setting": 400}
    assert databases.pragma(path, "journal_mode") == ("wal" if wal else "delete")
    assert verdict.status == "healthy"
    assert "what was changed since the backup of" in verdict.reason
    assert "setting: 1 rows of the damaged database are not in the backup" in verdict.evidence[0]
    assert "orders: 3 rows of the damaged database are different there" in verdict.evidence[0]
    [plan] = heal.stages
    assert plan.tags == ("data-loss",)
    assert heal.finding.confidence < 80


async def test_a_salvage_that_keeps_more_is_taken_and_what_only_the_backup_has_is_told(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", orders=3000)
    backup_of(path, "app-1.db")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN")
    database.executemany("INSERT INTO orders (customer, total) VALUES (1, ?)", [(i,) for i in range(3000)])
    database.execute("COMMIT")
    database.close()
    databases.zero_leaf(path, "orders", 3)
    heal = Heal(world, report(path, **with_backups(path)))
    verdict = await heal.through()
    lost = 6000 - databases.counts(path)["orders"]
    assert 0 < lost < 60
    assert f"orders: the backup has {lost} rows that the salvage lacks" in verdict.evidence[0]
    assert f"at least {lost} that the backup has" in heal.stages[0].loses


async def test_a_backup_is_lossless_only_if_nothing_was_committed_since(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    good = last_good(path)
    backup_of(path, "app-1.db")
    databases.zero_leaf(path, "orders", 20)
    heal = Heal(world, report(path, **with_backups(path, good)))
    await heal.decide()
    plan = await heal.plan()
    assert (plan.loses, plan.reversibility) == ("", Reversibility.REVERSIBLE)
    assert "nothing was committed since" in plan.summary
    await heal.apply()
    assert (await heal.verify()).reason.endswith("nothing was lost")
    assert databases.counts(path) == good["rows"]


async def test_a_backup_that_sqlite_made_is_not_lossless_and_the_plan_says_why(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    good = last_good(path)
    (path.parent / "backups").mkdir()
    database, copy = sqlite3.connect(path), sqlite3.connect(path.parent / "backups" / "app-1.db")
    database.backup(copy)
    copy.close()
    database.close()
    databases.zero_leaf(path, "orders", 20)
    heal = Heal(world, report(path, **with_backups(path, good)))
    await heal.decide()
    plan = await heal.plan()
    assert plan.summary.startswith("chosen: the backup")
    assert "a backup that SQLite made has one of its own" in plan.summary
    assert plan.loses.endswith("it can't be shown that nothing was changed since")
    assert plan.tags == ("data-loss",)


async def test_an_update_since_the_backup_is_never_taken_for_nothing(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    good = last_good(path)
    backup_of(path, "app-1.db")
    database = sqlite3.connect(path, isolation_level=None)
    row = databases.pages_of(path, "orders").index(databases.pages_of(path, "orders")[20]) * 46
    database.execute("UPDATE orders SET total = 1e9 WHERE id = ?", (row,))
    database.close()
    databases.zero_leaf(path, "orders", *range(15, 26))
    heal = Heal(world, report(path, **with_backups(path, good)))
    await heal.decide()
    plan = await heal.plan()
    assert "backup" in plan.summary
    assert plan.reversibility is Reversibility.PARTIAL


async def test_the_newest_good_backup_of_this_database_is_found(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    wanted = backup_of(path, "good.db", age=500)
    backup_of(path, "older.db", age=9000)
    databases.zero_leaf(backup_of(path, "damaged.db", age=100), "orders", 3)
    (path.parent / "backups" / "empty.db").touch()
    (path.parent / "backups" / "text.db").write_text("no database " * 100)
    other = backup_of(path, "other-application.db", age=50)
    database = sqlite3.connect(other, isolation_level=None)
    database.execute("PRAGMA application_id = 99")
    database.close()
    stranger = path.parent / "backups" / "stranger.db"
    database = sqlite3.connect(stranger, isolation_level=None)
    database.executescript("CREATE TABLE stranger (a); INSERT INTO stranger VALUES (1)")
    database.close()
    databases.zero_leaf(path, "orders", *range(20, 60))
    before = tree(path.parent / "backups")
    heal = Heal(world, report(path, **with_backups(path)))
    finding = await heal.decide()
    told = "\n".join(finding.evidence)
    assert f"chosen: the backup {wanted} of" in told
    assert "damaged.db of" in told
    assert "belongs to another application (99, not 4711)" in told
    assert "stranger.db" in told
    assert "none of the tables of this database" in told
    assert tree(path.parent / "backups") == before


async def test_a_backup_restores_what_can_not_be_salvaged_at_all(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    backup_of(path, "app-1.db")
    good = last_good(path)
    databases.overwrite(path, 0, bytes(200_000))
    heal = Heal(world, report(path, **with_backups(path, good)))
    verdict = await heal.through()
    assert databases.counts(path) == good["rows"]
    assert "nothing could be salvaged" in verdict.evidence[0]
    assert heal.stages[0].tags == ("data-loss",)


async def test_a_database_that_was_cut_to_nothing_is_restored(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    backup_of(path, "app-1.db")
    good = last_good(path)
    os.truncate(path, 0)
    await Heal(world, report(path, **with_backups(path, good))).through()
    assert databases.counts(path) == good["rows"]


async def test_without_salvage_and_backup_it_is_left_to_people(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.overwrite(path, 0, bytes(200_000))
    before = tree(world.root)
    heal = Heal(world, report(path, last_good={"at": 1, "rows": {"orders": 6000}}))
    finding = await heal.decide()
    assert not finding.applicable
    assert finding.reason == "nothing can be salvaged, and there is no good backup"
    assert tree(world.root) == before
    escalation = await heal.escalation()
    assert "corrupt" in escalation.title
    assert any("howtocorrupt" in action for action in escalation.actions)
    assert any("If there is a good backup" in action for action in escalation.actions)
    assert not any(action.startswith("Stop what uses") for action in escalation.actions)


@pytest.mark.parametrize("works", [True, False])
async def test_dot_recover_is_advised_only_where_it_works(works: bool, world: EffectWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = world.base / "bin" / "sqlite3"
    shell.parent.mkdir()
    shell.write_text(f"#!/bin/sh\necho 'BEGIN;'\nexit {0 if works else 1}\n")
    shell.chmod(0o755)
    monkeypatch.setenv("PATH", str(shell.parent), prepend=os.pathsep)
    path = databases.make(world.root / "app.db", orders=10)
    databases.overwrite(path, 0, bytes(200_000))
    heal = Heal(world, report(path, last_good={"at": 1, "rows": {"orders": 6000}}))
    await heal.decide()
    [hand] = [action for action in (await heal.escalation()).actions if "by hand" in action]
    assert ("sqlite3 copy.db .recover | sqlite3 new.db" in hand) is works
    assert "Check that new.db passes integrity_check and holds your rows before you replace anything" in hand


async def test_the_escalation_names_what_stands_in_the_way_and_nothing_else(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.zero_leaf(path, "orders", 3)
    with databases.holder(path):
        used = Heal(world, report(path))
        await used.decide()
        told = " ".join((await used.escalation()).actions)
    assert "Stop what uses" in told
    assert "promote" not in told
    ready = Heal(world, report(path))
    await ready.decide()
    await ready.plan()
    told = " ".join((await ready.escalation()).actions)
    assert "Stop what uses" not in told.replace("then stop", "")
    assert "remediation runbooks promote sqlite-corruption" in told
    assert "remediation incident reopen i-1" in told


async def test_evidence_of_a_stranger_names_no_backup(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    backup_of(path, "poisoned.db")
    databases.overwrite(path, 0, bytes(200_000))
    for provenance in (Provenance.EXPLICIT, Provenance.FREE_TEXT):
        heal = Heal(world, report(path, **with_backups(path)), provenance=provenance)
        assert not (await heal.decide()).applicable
        shutil.rmtree(heal.scratch)


async def test_an_explicit_report_uses_the_backups_of_the_options(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    backup_of(path, "app-1.db")
    databases.zero_leaf(path, "orders", *range(20, 60))
    options = {"databases": [{"path": str(path), "backups": [str(path.parent / "backups" / "app-*.db")]}]}
    heal = Heal(world, report(path), options=options, provenance=Provenance.EXPLICIT)
    await heal.through()
    assert databases.counts(path)["orders"] == 6000


async def test_backups_named_for_all_databases_must_prove_that_they_are_of_this_one(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    backup_of(path, "app-1.db")
    options = {"backups": [str(path.parent / "backups" / "app-*.db")]}
    databases.zero_leaf(path, "orders", *range(20, 60))
    heal = Heal(world, report(path), options=options, provenance=Provenance.EXPLICIT)
    assert any("chosen: the backup" in line for line in (await heal.decide()).evidence)
    shutil.rmtree(heal.scratch)
    databases.overwrite(path, 100, bytes(200_000))
    heal = Heal(world, report(path), options=options, provenance=Provenance.EXPLICIT)
    finding = await heal.decide()
    assert not finding.applicable
    assert any("nothing shows that it is a backup of this database" in line for line in finding.evidence)


# -- what is left alone


async def test_a_healthy_database_is_left_alone(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    finding = await Heal(world, report(path)).decide()
    assert (finding.applicable, finding.reason) == (False, "the database is healthy now")


async def test_a_file_that_never_was_a_database_is_left_alone(world: EffectWorld) -> None:
    path = world.root / "notes.txt"
    path.write_text("remember the milk\n" * 100)
    finding = await Heal(world, report(path), provenance=Provenance.EXPLICIT).decide()
    assert not finding.applicable
    assert "nothing shows that it ever was one" in finding.reason


async def test_a_missing_or_locked_or_unreadable_database_is_left_alone(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    assert "no database" in (await Heal(world, report(world.root / "none.db")).decide()).reason
    (world.root / "folder.db").mkdir()
    assert "can't be told" in (await Heal(world, report(world.root / "folder.db")).decide()).reason
    with databases.holder(path, 'database.execute("BEGIN EXCLUSIVE")'):
        assert "locked" in (await Heal(world, report(path)).decide()).reason


@pytest.mark.parametrize("where", ["a link", "a folder that is a link", "outside"])
async def test_a_subject_through_a_link_or_outside_the_roots_is_declined(where: str, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    (world.root / "link.db").symlink_to(path)
    (world.root / "folder").symlink_to(world.root)
    outside = databases.make(world.base / "outside.db", orders=10)
    subject = {"a link": world.root / "link.db", "a folder that is a link": world.root / "folder" / "app.db", "outside": outside}[
        where
    ]
    with pytest.raises(OutsideRoots):
        await Heal(world, report(subject)).decide()


async def test_while_a_process_has_it_open_it_is_left_alone_and_the_process_is_named(wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    databases.break_index(path)
    with databases.holder(path) as process:
        finding = await Heal(world, report(path)).decide()
    assert not finding.applicable
    assert f"open in {process.pid} (" in finding.reason


async def test_a_lock_that_is_gone_a_moment_later_is_no_reason_to_decline(
    world: EffectWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    seen = [(4711,), (4711,)]
    real = children.lock_holders

    async def locked(*args: object, **options: object) -> tuple[int, ...]:
        return seen.pop() if seen else await real(*args, **options)

    monkeypatch.setattr(children, "lock_holders", locked)
    assert (await Heal(world, report(path)).decide()).applicable
    seen += [(0,)] * 9
    assert "locked by a process in another container" in (await Heal(world, report(path)).decide()).reason


async def test_a_process_that_opens_it_after_the_plan_stops_the_replacement(wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    databases.break_index(path)
    before = databases.sides(path)[""]
    heal = Heal(world, report(path))
    await heal.decide()
    await heal.plan()
    with databases.holder(path) as process, pytest.raises(EffectConflict, match=f"open in {process.pid} "):
        await heal.apply()
    assert databases.sides(path)[""] == before


async def test_a_write_after_the_plan_stops_the_replacement(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    heal = Heal(world, report(path))
    await heal.decide()
    await heal.plan()
    databases.leave_wal(path, 'database.execute("INSERT INTO setting VALUES (1, 1)")')
    before = databases.sides(path)
    with pytest.raises(EffectConflict):
        await heal.apply()
    assert databases.sides(path) == before


async def test_a_write_between_precondition_and_action_is_salvaged_too(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    heal = Heal(world, report(path))
    await heal.decide()
    databases.leave_wal(path, 'database.execute("INSERT INTO setting VALUES (1, 1)")')
    await heal.plan()
    await heal.apply()
    assert (await heal.verify()).status == "healthy"
    assert databases.counts(path)["setting"] == 401


# -- verification


async def test_a_database_that_breaks_again_is_no_success(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    heal = Heal(world, report(path))
    await heal.decide()
    await heal.plan()
    await heal.apply()
    good = path.read_bytes()
    databases.zero_leaf(path, "orders", 3)
    assert (await heal.verify()).status == "failed"
    path.unlink()
    assert (await heal.verify()).status == "failed"
    path.write_bytes(good)
    databases.pragma(path, "journal_mode = WAL")
    verdict = await heal.verify()
    assert (verdict.status, verdict.reason) == ("failed", "the journal mode is wal, and was delete")


async def test_a_lost_receipt_is_no_success(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    heal = Heal(world, report(path))
    await heal.decide()
    await heal.plan()
    await heal.apply()
    heal.facts.receipts = heal.facts.receipts[:1]
    assert (await heal.verify()).status == "inconclusive"


async def test_a_process_that_opened_the_old_file_in_the_last_moment_is_named(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    heal = Heal(world, report(path))
    await heal.decide()
    await heal.plan()
    await heal.apply()
    receipt = heal.facts.receipts[0]
    late = json.dumps(json.loads(receipt.output) | {"late": ["123 (app)"]})
    heal.facts.receipts = (receipt.model_copy(update={"output": late}), *heal.facts.receipts[1:])
    verdict = await heal.verify()
    assert verdict.status == "inconclusive"
    assert "123 (app) opened the damaged file" in verdict.reason


def test_it_declares_what_it_may_do() -> None:
    spec = SqliteCorruption.spec
    assert (spec.id, spec.handles[0].code, spec.level, spec.reversibility) == (
        "sqlite-corruption",
        "SQLITE_CORRUPT",
        "patch",
        "partial",
    )


# -- a damaged schema


async def test_a_lost_schema_is_taken_from_the_last_good_check(wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    before, schema = databases.rows(path), databases.schema(path)
    good = await remembered(path, world)
    databases.overwrite(path, 100, random.Random(1).randbytes(300))
    heal = Heal(world, report(path, last_good=good))
    verdict = await heal.through()
    assert "the schema was taken from the last good check; it was not changed since" in heal.finding.evidence
    assert databases.rows(path) == before
    assert databases.schema(path) == schema
    assert verdict.status == "healthy"
    assert heal.stages[0].tags == ("data-loss",)


async def test_a_schema_that_was_changed_since_is_not_taken(wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    good = await remembered(path, world)
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("DROP TABLE blob; CREATE TABLE other (a); INSERT INTO other VALUES ('not a blob')")
    database.close()
    databases.overwrite(path, 100, random.Random(1).randbytes(300))
    finding = await Heal(world, report(path, last_good=good)).decide()
    assert not finding.applicable
    assert finding.reason == "nothing can be salvaged, and there is no good backup"


async def remembered(path: Path, world: EffectWorld) -> dict[str, object]:
    """What the sentinel would remember."""
    return LastGood.of(await children.check(world.run, path, seconds=20), 1).model_dump(mode="json")
