"""A journal is made whole or not at all, and opened only if it is one of ours, of this format, on a disk that can be trusted."""

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.appending import Writers
from tests.support.journals import Seen, audit, entries_of, home_settings, make_home, open_with, opened, said, texts

from remediation.bootstrap import initialise, open_reader
from remediation.errors import JournalDamaged, JournalTooNew, JournalUnavailable, RemediationError
from remediation.journal import IntentJournal
from remediation.model.entries import Entry, PauseEnded
from remediation.model.entries import base as entries_base
from remediation.settings import Home
from remediation.stores.sqlite import create

NOBODY = 65534


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


async def can_be_used(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of("fine"))
    audit(home)


async def test_a_new_journal_is_empty_signed_and_private(home: Home) -> None:
    assert audit(home) == []
    assert home.journal.stat().st_mode & 0o077 == 0
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        assert database.execute("PRAGMA application_id").fetchone() == (0x52454D44,)
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        kinds = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'")}
    assert len(kinds) == 7
    assert all("STRICT" in sql for sql in kinds)
    assert sorted(path.name for path in home.root.iterdir() if "journal" in path.name) == ["journal.lock", "journal.sqlite3"]


async def test_making_it_again_changes_nothing(tmp_path: Path, home: Home) -> None:
    async with opened(home) as journal:
        origin = journal.origin
        await journal.append("s", entries_of(1))
    assert initialise(home_settings(tmp_path)) == origin
    async with opened(home) as journal:
        await journal.append("s", entries_of(2))
    assert len(audit(home)) == 2


def test_a_journal_is_never_overwritten(home: Home) -> None:
    before = home.journal.read_bytes()
    with pytest.raises(JournalUnavailable, match="never overwritten"):
        create(home.journal, home.head_note.read_text())
    assert home.journal.read_bytes() == before


def test_a_folder_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="can't create the journal"):
        create(tmp_path / "missing" / "journal.sqlite3", "note")


@pytest.mark.crash
async def test_a_kill_between_any_two_steps_of_the_making_is_mended_by_making_it_again(tmp_path: Path, writers: Writers) -> None:
    stop = 0
    while True:
        folder = tmp_path / str(stop)
        folder.mkdir()
        killed = writers.start("initialise", folder=str(folder), stop=stop).wait() != 0
        initialise(home_settings(folder))
        await can_be_used(home_settings(folder).home)
        if not killed:
            break
        stop += 1
    assert stop > 15


@pytest.mark.crash
async def test_eight_processes_that_make_one_home_make_one_journal(tmp_path: Path, writers: Writers) -> None:
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        starting = [writers.start("initialise", folder=str(folder), out=str(folder / f"origin-{n}")) for n in range(8)]
        assert [writer.wait() for writer in starting] == [0] * 8
        assert len({(folder / f"origin-{n}").read_text() for n in range(8)}) == 1
        await can_be_used(home_settings(folder).home)


@pytest.mark.parametrize("how", ["appending", "reading"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        pytest.param(None, JournalUnavailable, id="missing"),
        pytest.param(b"", JournalDamaged, id="empty"),
        pytest.param(b"garbage" * 1000, JournalDamaged, id="garbage"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 5000, JournalDamaged, id="almost SQLite"),
    ],
)
async def test_what_is_no_database_is_refused(home: Home, content: bytes | None, kind: type[Exception], how: str) -> None:
    home.journal.unlink()
    if content is not None:
        home.journal.write_bytes(content)
    with pytest.raises(kind):
        await _open(home, how)
    assert (home.journal.read_bytes() if content is not None else None) == content


async def _open(home: Home, how: str) -> None:
    if how == "appending":
        await open_with(home)
        return
    async with open_reader(home) as reader:
        await reader.head()


@pytest.mark.parametrize("how", ["appending", "reading"])
async def test_a_foreign_database_is_refused_and_left_alone(home: Home, how: str) -> None:
    home.journal.unlink()
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        database.execute("CREATE TABLE mine (a)")
    before = home.journal.read_bytes()
    with pytest.raises(JournalDamaged, match="not a journal of remediation"):
        await _open(home, how)
    assert home.journal.read_bytes() == before


@pytest.mark.parametrize("how", ["appending", "reading"])
@pytest.mark.parametrize(("version", "kind"), [(2, JournalTooNew), (99, JournalTooNew), (0, JournalDamaged), (-1, JournalDamaged)])
async def test_another_format_is_refused(home: Home, version: int, kind: type[Exception], how: str) -> None:
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(kind):
        await _open(home, how)


async def test_a_running_host_writes_nothing_into_a_journal_that_a_newer_release_has_taken_over(home: Home) -> None:
    async with opened(home, seen := Seen()) as journal:
        await journal.append("s", entries_of(1))
        with contextlib.closing(sqlite3.connect(home.journal)) as database:
            database.execute("PRAGMA user_version = 2")
        for _ in range(2):
            with pytest.raises(JournalTooNew, match="upgrade"):
                await journal.append("s", entries_of(2))
        with contextlib.closing(sqlite3.connect(home.journal)) as database:
            database.execute("PRAGMA user_version = 1")
        await journal.append("s", entries_of(3))
        assert texts(seen.records) == ["1", "3"]
    assert len(audit(home)) == 2


async def test_a_folder_in_place_of_the_database_is_refused(home: Home) -> None:
    home.journal.unlink()
    home.journal.mkdir()
    with pytest.raises(JournalUnavailable):
        await open_with(home)


async def test_a_database_in_another_mode_is_brought_back_to_wal(home: Home) -> None:
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        assert database.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    async with opened(home) as journal:
        assert await _pragma(journal, "journal_mode") == "wal"
        assert await _pragma(journal, "synchronous") == 2
        await journal.append("s", entries_of(1))


async def _pragma(journal: IntentJournal, name: str) -> object:
    cursor = await journal._store._writer.execute(f"PRAGMA {name}")
    return (await cursor.fetchone())[0]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="journal-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _as_somebody(writers: Writers, home: Home, folder: Path) -> dict[str, str]:
    out = folder / "out"
    out.touch()
    uid = NOBODY if os.geteuid() == 0 else None
    if uid is not None:
        for path in (home.root, *home.root.rglob("*"), home.keys, *home.keys.rglob("*"), out):
            os.chown(path, uid, uid)
    assert writers.start("attempt", uid=uid, home=str(home.root), keys=str(home.keys), out=str(out)).wait() == 0
    return json.loads(out.read_text())


async def test_a_home_that_can_not_be_written_says_so_and_can_still_be_read(writers: Writers, shared: Path) -> None:
    home = make_home(shared)
    await can_be_used(home)
    for path, mode in ((home.journal, 0o400), (home.journal_lock, 0o400), (home.root, 0o500)):
        path.chmod(mode)
    said = _as_somebody(writers, home, shared)
    home.root.chmod(0o700)
    assert said["append"].startswith("JournalUnavailable: the writer lock")
    assert said["read"].startswith(("1", "JournalUnavailable"))


async def test_a_database_that_can_not_be_written_says_so(writers: Writers, shared: Path) -> None:
    home = make_home(shared)
    await can_be_used(home)
    home.journal.chmod(0o400)
    said = _as_somebody(writers, home, shared)
    assert said["append"].startswith("JournalUnavailable")
    assert said["read"].startswith(("1", "JournalUnavailable"))


async def test_a_head_that_can_not_be_read_is_unavailable_and_no_roll_back(writers: Writers, shared: Path) -> None:
    home = make_home(shared)
    home.head_note.chmod(0)
    said = _as_somebody(writers, home, shared)
    assert said["append"].startswith("JournalUnavailable")
    assert "head.note" in said["append"]
    assert said["read"] == "0"


async def test_keys_that_can_not_be_written_stop_publishing_but_not_appending(writers: Writers, shared: Path) -> None:
    home = make_home(shared)
    home.keys.chmod(0o500)
    assert _as_somebody(writers, home, shared)["append"] == "done"
    home.keys.chmod(0o700)
    assert len(audit(home)) == 1


class Strange(Entry):
    """An entry of a release to come."""

    type = "strange.thing"
    what: str


# It can be written, but this release does not know it: nor must any other test of this process.
del entries_base._TYPES["strange.thing"]


async def test_an_entry_of_an_unknown_type_is_a_newer_journal(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", [said(1), Strange(what="is this")])
        with pytest.raises(JournalTooNew, match=r"strange\.thing.*upgrade"):
            [record async for record in journal.read()]
    with pytest.raises(JournalTooNew):
        await open_with(home, Seen())
    assert len(audit(home)) == 2


async def test_an_entry_of_an_unknown_version_or_field_is_a_newer_journal(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(home) as journal:
        monkeypatch.setattr(PauseEnded, "v", 2)
        await journal.append("s", entries_of(1))
        monkeypatch.setattr(PauseEnded, "v", 1)
        with pytest.raises(JournalTooNew, match="version 2"):
            [record async for record in journal.read()]


async def test_a_running_host_that_meets_a_newer_entry_stops_and_says_why(home: Home) -> None:
    async with opened(home, seen := Seen()) as old, opened(home) as new:
        await old.append("s", entries_of(1))
        await new.append("s", [Strange(what="is this")])
        for _ in range(3):
            with pytest.raises(JournalTooNew):
                await old.append("s", entries_of(2))
        assert texts(seen.records) == ["1"]


async def test_a_body_that_is_gone_without_an_entry_that_says_so_is_damage(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2, 3), event_id="once")
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        database.execute("DELETE FROM payload WHERE seq = 1")
    with pytest.raises(JournalDamaged, match="entry 1: its body is gone"):
        await open_with(home, Seen())


async def test_every_refusal_is_one_of_ours(home: Home) -> None:
    home.signing_key.unlink()
    with pytest.raises(RemediationError):
        await open_with(home)
