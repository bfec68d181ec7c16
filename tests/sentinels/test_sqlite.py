"""The SQLite sentinel on real databases: what it reports, with which evidence, and that it stays out of the way."""

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from tests.support import sqlite_databases as databases
from tests.support.watching import RealWatch

from remediation.effects.sqlite.known import backups
from remediation.errors import ProcessError, RemediationError
from remediation.sentinels.sqlite import CORRUPT, MISSING, SqliteOptions, SqliteSentinel


@pytest.fixture
def watch(tmp_path: Path) -> RealWatch:
    base = tmp_path / "app"
    base.mkdir()
    return RealWatch(base=base, state=tmp_path / "state")


def sentinel(watch: RealWatch, **options: object) -> SqliteSentinel:
    return SqliteSentinel(SqliteOptions(**({"path": "app.db", "recheck": 0} | options)), watch.base)


async def test_a_healthy_database_is_cleared_and_nothing_is_left_beside_it(watch: RealWatch) -> None:
    databases.make(watch.base / "app.db", wal=True)
    await watch.checked(sentinel(watch))
    assert watch.reports == []
    assert watch.cleared == [CORRUPT, MISSING]
    assert os.listdir(watch.base) == ["app.db"]


async def test_damage_is_reported_with_what_was_known_before(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db")
    (watch.base / "backups").mkdir()
    for day, name in enumerate(["app-1.db", "app-2.db"]):
        databases.make(watch.base / "backups" / name, orders=10)
        os.utime(watch.base / "backups" / name, (day + 1, day + 1))
    watched = sentinel(watch, backups=["backups/app-*.db"])
    await watch.checked(watched)
    before = databases.counts(path)
    databases.zero_leaf(path, "orders", 5)
    await watch.checked(watched)
    [event] = watch.reports
    assert (event.code, event.subsystem, event.subject, event.severity) == (CORRUPT, "sqlite", str(path), "P1")
    assert event.evidence["findings"]
    assert event.evidence["readable"] == databases.counts_where_readable(path)
    assert event.evidence["readable"]["orders"] is None
    assert event.evidence["last_good"]["rows"] == before
    assert event.evidence["last_good"]["user_version"] == 12
    assert event.evidence["backups"] == [str(watch.base / "backups" / "app-*.db")]
    assert event.evidence["newest_backup"]["path"] == str(watch.base / "backups" / "app-2.db")
    assert event.tainted == ()


async def test_each_check_reports_while_it_is_damaged_and_clears_when_it_is_whole_again(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db")
    good = path.read_bytes()
    watched = sentinel(watch)
    databases.break_header(path)
    await watch.checked(watched)
    await watch.checked(watched)
    assert watch.codes() == [CORRUPT, CORRUPT]
    assert watch.reports[0].fingerprint == watch.reports[1].fingerprint
    assert watch.cleared == []
    path.write_bytes(good)
    await watch.checked(watched)
    assert watch.cleared == [CORRUPT, MISSING]


@pytest.mark.parametrize("damage", ["flip_leaf", "zero_leaf", "break_index", "break_header", "truncate", "cut to nothing"])
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
async def test_each_kind_of_damage_is_seen(damage: str, wal: bool, watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db", wal=wal)
    watched = sentinel(watch)
    await watch.checked(watched)
    {
        "flip_leaf": lambda: databases.flip_leaf(path, "orders"),
        "zero_leaf": lambda: databases.zero_leaf(path, "orders", 4),
        "break_index": lambda: databases.break_index(path),
        "break_header": lambda: databases.break_header(path),
        "truncate": lambda: databases.truncate(path),
        "cut to nothing": lambda: os.truncate(path, 0),
    }[damage]()
    await watch.checked(watched)
    assert watch.codes() == [CORRUPT]
    assert os.listdir(watch.base) == ["app.db"]


async def test_an_empty_file_that_never_held_anything_is_healthy(watch: RealWatch) -> None:
    (watch.base / "app.db").touch()
    await watch.checked(sentinel(watch))
    assert watch.reports == []


async def test_a_garbage_wal_is_what_sqlite_takes_it_for_and_stays(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db", wal=True)
    wal = path.with_name("app.db-wal")
    wal.write_bytes(b"garbage" * 1000)
    await watch.checked(sentinel(watch))
    assert watch.reports == []
    assert wal.read_bytes() == b"garbage" * 1000
    assert sorted(os.listdir(watch.base)) == ["app.db", "app.db-wal"]


async def test_a_database_that_is_gone_is_reported_as_missing(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db", orders=10)
    watched = sentinel(watch)
    await watch.checked(watched)
    path.unlink()
    await watch.checked(watched)
    assert watch.codes() == [MISSING]
    assert "was there at" in watch.reports[0].summary
    assert watch.reports[0].evidence["last_good"]["rows"]["orders"] == 10
    assert os.listdir(watch.base) == []


async def test_a_path_at_which_there_never_was_a_database_is_questioned(watch: RealWatch) -> None:
    await watch.checked(sentinel(watch, path="typo.db"))
    assert watch.codes() == [MISSING]
    assert "is the path right?" in watch.reports[0].summary


async def test_a_locked_database_is_no_degradation(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db")
    with databases.holder(path, 'database.execute("BEGIN EXCLUSIVE")'):
        await watch.checked(sentinel(watch, timeout="4s"))
    assert (watch.reports, watch.cleared) == ([], [])


async def test_a_database_that_can_not_be_read_makes_the_check_fail(watch: RealWatch) -> None:
    (watch.base / "app.db").mkdir()
    with pytest.raises(RemediationError, match="can't be checked"):
        await watch.checked(sentinel(watch))
    assert watch.reports == []


async def test_a_check_that_takes_too_long_fails(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db")
    real = watch.run

    async def slow(argv: list[str], *, timeout: float) -> object:
        return await real(["sleep", "60"], timeout=min(timeout, 0.2))

    watch.run = slow  # type: ignore[method-assign]
    with pytest.raises(ProcessError):
        await watch.checked(sentinel(watch))
    assert path.exists()


async def test_a_database_that_did_not_change_is_not_read_again_before_its_time(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db", orders=10)
    os.utime(path, (10**9, 10**9))
    watched = sentinel(watch, recheck="10m")
    await watch.checked(watched)
    await watch.checked(watched)
    assert watch.ran == 1
    watch.clock.advance(minutes=11)
    await watch.checked(watched)
    assert watch.ran == 2
    databases.zero_leaf(path, "orders", 0)
    await watch.checked(watched)
    assert watch.codes() == [CORRUPT]
    await watch.checked(watched)
    assert watch.ran == 4


async def test_a_database_that_changed_a_moment_ago_is_read_again(watch: RealWatch) -> None:
    databases.make(watch.base / "app.db", orders=10)
    watched = sentinel(watch, recheck="10m")
    await watch.checked(watched)
    await watch.checked(watched)
    assert watch.ran == 2


async def test_what_is_remembered_is_only_a_cache(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db", orders=10)
    watched = sentinel(watch)
    await watch.checked(watched)
    for file in watch.state.iterdir():
        file.write_text("rubbish")
    databases.break_header(path)
    await watch.checked(watched)
    assert "last_good" not in watch.reports[0].evidence


async def test_writers_go_on_while_it_is_checked(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db", wal=True)
    writer = sqlite3.connect(path, isolation_level=None, timeout=5)
    watched = sentinel(watch)
    checks = asyncio.ensure_future(asyncio.wait_for(_checks(watch, watched, 5), 60))
    written = 0
    while not checks.done():
        writer.execute("INSERT INTO blob VALUES (?)", (b"x" * 500,))
        written += 1
        await asyncio.sleep(0.001)
    await checks
    writer.close()
    assert written > 5
    assert watch.reports == []


async def _checks(watch: RealWatch, watched: SqliteSentinel, times: int) -> None:
    for _ in range(times):
        await watch.checked(watched)


async def test_a_process_that_has_the_database_open_keeps_its_locks(watch: RealWatch) -> None:
    path = databases.make(watch.base / "app.db")
    own = sqlite3.connect(path, isolation_level=None)
    own.execute("BEGIN IMMEDIATE")
    await watch.checked(sentinel(watch))
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    own.close()
    other.close()


def test_what_it_watches_may_be_changed_by_runbooks(watch: RealWatch) -> None:
    (watch.base / "real").mkdir()
    databases.make(watch.base / "real" / "app-7.db", orders=1)
    (watch.base / "app.db").symlink_to("real/app-7.db")
    real = watch.base / "real" / "app-7.db"
    assert list(sentinel(watch).roots()) == [
        watch.base / "app.db",
        real,
        real.with_name("app-7.db-wal"),
        real.with_name("app-7.db-shm"),
        real.with_name("app-7.db-journal"),
    ]


def test_backups_are_the_newest_first_and_never_the_database_or_side_files(tmp_path: Path) -> None:
    for age, name in enumerate(["app.db", "app-3.db", "app-2.db", "app-2.db-wal", "app-1.db", "app.db-wal"]):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (10**9 - age, 10**9 - age))
    (tmp_path / "app-4.db").touch()
    (tmp_path / "app-link.db").symlink_to("app-1.db")
    (tmp_path / "app-folder.db").mkdir()
    found = backups([str(tmp_path / "app*"), str(tmp_path / "**/app-1*")], tmp_path / "app.db")
    assert [Path(backup.path).name for backup in found] == ["app-3.db", "app-2.db", "app-1.db"]


def test_it_is_named_after_its_path_and_checks_as_often_as_configured(watch: RealWatch) -> None:
    watched = sentinel(watch, every="5s", timeout="20s")
    assert watched.name == "sqlite:app.db"
    assert watched.timeout == 30
    now = watch.clock.now()
    assert (watched.next_check(now) - now).total_seconds() == 5
