"""Looking at a database: what is told, and that no trace is left."""

import os
import sqlite3
from pathlib import Path

import pytest
from tests.support import sqlite_databases as databases

from remediation.coordination.processes import run_process
from remediation.effects.sqlite import children
from remediation.effects.sqlite import holders as looking
from remediation.effects.sqlite.children import Examination
from remediation.effects.sqlite.holders import holders


async def look(path: Path, **options: object) -> Examination:
    return await children.check(run_process, path, **({"seconds": 20} | options))


@pytest.fixture(params=[False, True], ids=["rollback", "wal"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return databases.make(tmp_path / "app's ?#%.db", wal=request.param)


async def test_a_good_database_is_ok_and_counted_and_left_without_a_trace(database: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in database.parent.iterdir()}
    found = await look(database)
    assert (found.state, found.counted, found.user_version, found.application_id) == ("ok", True, 12, 4711)
    assert dict(found.rows) == databases.counts(database)
    assert {path: path.stat().st_mtime_ns for path in database.parent.iterdir()} == before


async def test_a_database_in_use_is_seen_as_it_is_committed(tmp_path: Path) -> None:
    database = databases.make(tmp_path / "app.db", wal=True)
    work = 'database.execute("DELETE FROM orders WHERE id <= 100")'
    with databases.holder(database, work):
        names = sorted(os.listdir(tmp_path))
        assert dict((await look(database)).rows)["orders"] == databases.ORDERS - 100
        assert sorted(os.listdir(tmp_path)) == names == ["app.db", "app.db-shm", "app.db-wal"]


async def test_the_schema_of_a_good_database_is_told_unless_it_is_long(tmp_path: Path) -> None:
    database = databases.make(tmp_path / "app.db", wal=True)
    work = 'database.execute("CREATE TABLE more (a)")'
    with databases.holder(database, work):
        found = await look(database)
    assert {entry[:4] for entry in found.schema_entries if entry[3]} == {entry for entry in databases.schema(database) if entry[3]}
    assert found.schema_version == databases.pragma(database, "schema_version")
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(f"CREATE TABLE long (a DEFAULT '{'x' * 16_384}')")
    connection.close()
    long = await look(database)
    assert (long.state, long.schema_entries, long.schema_version) == ("ok", (), None)


async def test_a_wal_that_a_crash_left_counts_and_stays_as_it_is(tmp_path: Path) -> None:
    database = databases.make(tmp_path / "app.db", wal=True)
    databases.leave_wal(database, 'database.execute("DELETE FROM orders WHERE id <= 100")')
    (tmp_path / "app.db-shm").unlink()
    before = databases.sides(database)
    assert set(before) == {"", "-wal"}
    assert dict((await look(database)).rows)["orders"] == databases.ORDERS - 100
    assert databases.sides(database) == before


async def test_a_hot_journal_is_not_damage(tmp_path: Path) -> None:
    database = databases.make(tmp_path / "app.db")
    work = 'database.execute("PRAGMA cache_size = 2"); database.execute("BEGIN"); database.execute("UPDATE orders SET memo = memo || id")'
    databases.leave_wal(database, work)
    before = databases.sides(database)
    assert set(before) == {"", "-journal"}
    found = await look(database)
    assert (found.state, dict(found.rows)["orders"]) == ("ok", databases.ORDERS)
    assert databases.sides(database) == before


async def test_damage_is_told_with_what_can_still_be_read(database: Path) -> None:
    databases.zero_leaf(database, "orders", 3)
    found = await look(database)
    assert found.state == "corrupt"
    assert found.findings
    assert dict(found.rows) == databases.counts_where_readable(database)


@pytest.mark.parametrize("content", [b"", b"no database at all " * 100])
async def test_an_empty_file_is_an_empty_database_and_any_other_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.write_bytes(content)
    assert (await look(path)).state == ("corrupt" if content else "ok")
    assert os.listdir(tmp_path) == ["app.db"]


async def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    assert (await look(tmp_path / "app.db")).state == "missing"
    assert os.listdir(tmp_path) == []


async def test_what_is_no_file_is_unreadable(tmp_path: Path) -> None:
    assert (await look(tmp_path)).state == "unreadable"
    os.mkfifo(tmp_path / "pipe")
    assert (await look(tmp_path / "pipe")).state == "unreadable"


async def test_a_database_that_is_locked_is_busy_and_not_damaged(tmp_path: Path) -> None:
    database = databases.make(tmp_path / "app.db")
    with databases.holder(database, 'database.execute("BEGIN EXCLUSIVE")'):
        assert (await look(database, seconds=1)).state == "busy"


async def test_a_schema_of_a_newer_sqlite_is_not_damage(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "app.db", orders=10)
    database = sqlite3.connect(path)
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE blob (data BLOB) FUTURE' WHERE name = 'blob'")
    database.commit()
    database.close()
    found = await look(path)
    assert (found.state, "does not understand" in found.reason) == ("unreadable", True)


async def test_a_database_that_is_too_large_is_not_counted(tmp_path: Path) -> None:
    found = await look(databases.make(tmp_path / "app.db"), count_below=1000)
    assert (found.state, found.counted, found.rows) == ("ok", False, ())


async def test_locks_of_others_are_told_by_the_kernel(tmp_path: Path) -> None:
    database = databases.make(tmp_path / "app.db", wal=True)
    assert await children.lock_holders(run_process, database) == ()
    with databases.holder(database) as process:
        assert await children.lock_holders(run_process, database) == (process.pid,)


async def test_whoever_has_the_database_or_a_side_file_open_is_found(tmp_path: Path) -> None:
    database = databases.make(tmp_path / "app.db", wal=True)
    assert holders(database).found == ()
    with databases.holder(database) as process:
        assert [holder.pid for holder in holders(database).others] == [process.pid]
    with (tmp_path / "app.db-wal").open("w"):
        assert [holder.pid for holder in holders(database).others] == [os.getpid()]


@pytest.mark.parametrize(
    ("owner", "mode", "hidden", "hidden_root"),
    [("its owner", 0o600, 1, 0), ("another", 0o644, 0, 0), ("another", 0o664, 1, 0), ("root", 0o666, 0, 1)],
)
async def test_processes_that_can_not_be_looked_into_count_if_they_could_write(
    owner: str, mode: int, hidden: int, hidden_root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = databases.make(tmp_path / "app.db", orders=1)
    os.chmod(database, mode)
    real = looking._open_files
    uid = {"its owner": max(1, os.getuid()), "another": os.getuid() + 1, "root": 0}[owner]
    if owner == "its owner" and os.getuid() == 0:
        os.chown(database, 1, -1)
    with databases.holder(database) as process:

        def refused(pid: int, but: int) -> set[tuple[int, int]]:
            if pid == process.pid:
                raise PermissionError
            return real(pid, but)

        monkeypatch.setattr(looking, "_open_files", refused)
        monkeypatch.setattr(looking, "_owner", lambda pid: uid)
        found = holders(database)
    assert (found.found, found.hidden, found.hidden_root) == ((), hidden, hidden_root)


async def test_a_commit_of_nothing_leaves_the_content_and_is_seen(database: Path) -> None:
    before = await children.digest(run_process, database, seconds=20)
    rows = databases.rows(database)
    written = await children.write(run_process, database, seconds=20)
    after = await children.digest(run_process, database, seconds=20)
    assert (await look(database)).counter == written.counter + 1
    assert set(after) == {""}
    assert before[""].content == after[""].content
    assert before[""].sha256 != after[""].sha256
    assert databases.rows(database) == rows
