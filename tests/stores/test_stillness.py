"""Whoever looks into a journal that stands still leaves no trace, and sees one moment of it, also beside a writer."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediation.errors import JournalUnavailable
from remediation.stores.stillness import while_still

WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA wal_autocheckpoint = 20")
for number in range(1, 1_000_000):
    database.execute("BEGIN")
    database.execute("UPDATE t SET a = ?, filler = zeroblob(4000)", (number,))
    database.execute("COMMIT")
    if number == 50:
        print("ready", flush=True)
"""


def traces(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of each file, but the lock's."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.suffix != ".lock"
    }


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "journal.sqlite3"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE t (a INTEGER, b INTEGER, filler BLOB)")
        made.executemany("INSERT INTO t VALUES (0, ?, zeroblob(4000))", [(n,) for n in range(30)])
    return path


@contextlib.contextmanager
def killed_writer(path: Path) -> Iterator[None]:
    """As a host leaves it that was killed: the newest commits are in the write-ahead log only."""
    code = "import os, sqlite3, sys\nd = sqlite3.connect(sys.argv[1], isolation_level=None)\nd.execute('UPDATE t SET a = 7')\nos._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.with_name(path.name + "-wal").stat().st_size > 0
    yield


def values(path: Path, immutable: bool) -> set[int]:
    address = f"{path.as_uri()}?{'immutable=1' if immutable else 'mode=rw'}"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        return {a for (a,) in connection.execute("SELECT a FROM t")}


def test_a_database_with_nothing_beside_it_is_looked_at_where_it_is(database: Path) -> None:
    before = traces(database.parent)
    assert while_still(database, lambda path, immutable: (path, immutable, values(path, immutable))) == (database, True, {0})
    assert traces(database.parent) == before


def test_a_write_ahead_log_that_was_left_over_is_read_and_stays_as_it_is(database: Path) -> None:
    with killed_writer(database):
        before = traces(database.parent)
        assert while_still(database, values) == {7}
        assert traces(database.parent) == before
        assert set(before) == {database.name, f"{database.name}-wal", f"{database.name}-shm"}


def test_the_copy_is_private_and_gone_afterwards(database: Path) -> None:
    with killed_writer(database):
        seen: list[Path] = []

        def look(path: Path, immutable: bool) -> None:
            assert not immutable
            assert path.parent.stat().st_mode & 0o077 == 0
            seen.append(path)

        while_still(database, look)
        assert not seen[0].parent.exists()
        with pytest.raises(ZeroDivisionError):
            while_still(database, lambda path, _: (seen.append(path), 1 / 0))
        assert not seen[1].parent.exists()


def test_a_rollback_journal_that_sqlite_would_play_back_is_part_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    code = (
        "import os, sqlite3, sys\nd = sqlite3.connect(sys.argv[1], isolation_level=None)\nd.execute('CREATE TABLE t (a)')\n"
        "d.execute('INSERT INTO t VALUES (1)')\nd.execute('PRAGMA cache_size = 1')\nd.execute('BEGIN')\n"
        "d.execute('UPDATE t SET a = 2')\n"
        "d.executemany('INSERT INTO t VALUES (?)', [('x' * 9000,)] * 50)\nos._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.with_name(path.name + "-journal").stat().st_size > 0
    before = traces(tmp_path)
    assert while_still(path, values) == {1}
    assert traces(tmp_path) == before


@pytest.mark.parametrize("lock", [True, False])
def test_beside_a_writer_one_moment_is_seen(database: Path, lock: bool) -> None:
    """Every commit sets all rows to one number: a copy that was torn would show two, or a damaged database."""
    if lock:
        code = WRITER.replace('    database.execute("BEGIN")', '    fcntl.flock(lock, 2)\n    database.execute("BEGIN")')
        code = code.replace("    if number", "    fcntl.flock(lock, 8)\n    if number")
        code = f"import fcntl\nlock = open({str(database.with_name('journal.lock'))!r}, 'w')\n{code}"
    else:
        code = WRITER.replace("    if number", "    import time; time.sleep(1.0)\n    if number").replace("== 50", "== 2")
    with subprocess.Popen([sys.executable, "-c", code, str(database)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            last = 0
            for _ in range(10 if lock else 3):
                (number,) = while_still(database, values)
                assert number >= last
                last = number
        finally:
            writer.kill()
    assert last > 0


def test_a_lock_that_is_held_for_long_does_not_hold_up_the_look(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remediation.stores.stillness.LOCK_SECONDS", 0.05)
    with killed_writer(database), database.with_name("journal.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert while_still(database, values) == {7}


def test_a_database_that_never_stands_still_and_can_not_be_locked_is_said_to_be_so(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remediation.stores import stillness

    copy = stillness._copy

    def copied_while_somebody_writes(path: Path, to: Path, lock: Path) -> bool:
        sure = copy(path, to, lock)
        os.utime(path)
        return sure

    monkeypatch.setattr(stillness, "_copy", copied_while_somebody_writes)
    with killed_writer(database), pytest.raises(JournalUnavailable, match="run this as the journal's owner"):
        while_still(database, values)


def test_no_room_for_a_copy_is_said_with_what_to_do(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tempfile.gettempdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with killed_writer(database), pytest.raises(JournalUnavailable, match="TMPDIR"):
        while_still(database, values)


@pytest.mark.parametrize("kind", ["missing", "folder", "dangling"])
def test_what_is_no_file_is_said_to_be_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(JournalUnavailable):
        while_still(path, values)
