"""Disks that are full, folders that can't be written, answers that are lost, files that are exchanged: nothing is half done."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.journals import (
    Seen,
    audit,
    entries_of,
    file_size_limit,
    make_home,
    open_with,
    opened,
    parts_of,
    said,
    texts,
)
from tests.support.sample_log import new_signer

from remediation.errors import JournalDamaged, JournalError, JournalRolledBack, JournalUnavailable
from remediation.journal import IntentJournal
from remediation.journal.store import Unit
from remediation.keys import SigningKey
from remediation.model.entries import Position
from remediation.proof import Checkpoint, Leaf, Note, leaf_hash, payload_digest, root_of
from remediation.settings import Home
from remediation.stores.sqlite import SqliteJournalStore

LARGE = "x" * 100_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def wal_size(home: Home) -> int:
    return home.journal.with_name("journal.sqlite3-wal").stat().st_size


async def append_many(journal: IntentJournal, *, size: int = 8) -> list[object]:
    """Callers that land in one batch, of which one writes much."""
    return await asyncio.gather(
        *(journal.append(f"s{n}", [said(LARGE if n == 3 else n), said(n)], event_id=f"many-{n}") for n in range(size)),
        return_exceptions=True,
    )


async def test_a_full_disk_refuses_every_caller_and_leaves_nothing_half_done(home: Home) -> None:
    async with opened(home, seen := Seen()) as journal:
        await journal.append("before", entries_of(1, 2))
        with file_size_limit(wal_size(home) + 50_000):
            for _ in range(2):
                answers = await append_many(journal)
                assert [type(answer) for answer in answers] == [JournalUnavailable] * 8
                assert all("can't be used" in str(answer) for answer in answers)
            assert texts([record async for record in journal.read()]) == ["1", "2"]
        assert len(audit(home)) == 2
        await journal.append("after", entries_of(3))
        assert texts(seen.records) == ["1", "2", "3"]
        assert [type(answer) for answer in await append_many(journal)] == [Position] * 8
        assert len(seen.records) == len(audit(home)) == 19


async def test_a_full_database_is_the_same_by_sqlite_s_own_word(home: Home) -> None:
    async with opened(home, seen := Seen()) as journal:
        await journal.append("before", entries_of(1))
        writer = journal._store._writer
        pages = await (await writer.execute("PRAGMA page_count")).fetchone()
        await writer.execute(f"PRAGMA max_page_count = {pages[0] + 10}")
        answers = await append_many(journal)
        assert [type(answer) for answer in answers] == [JournalUnavailable] * 8
        assert "full" in str(answers[0])
        # The journal is opened anew for the next batch, and with that the limit is gone.
        assert [type(answer) for answer in await append_many(journal)] == [Position] * 8
        assert len(seen.records) == len(audit(home)) == 17


class ForgetfulStore(SqliteJournalStore):
    """A disk whose answer to a COMMIT is lost, after it was done or before, the next so many times."""

    lost_after = 0
    lost_before = 0

    async def commit(self, unit: Unit) -> None:
        if self.lost_before:
            self.lost_before -= 1
            raise JournalUnavailable("the disk did not answer")
        await super().commit(unit)
        if self.lost_after:
            self.lost_after -= 1
            raise JournalUnavailable("the disk did not answer")


@pytest.mark.parametrize("done", [True, False])
async def test_an_answer_that_is_lost_is_found_again_by_the_event_id(home: Home, done: bool) -> None:
    store = ForgetfulStore(home.journal)
    journal = await open_with(home, seen := Seen(), store=store)
    try:
        await journal.append("s", entries_of("before"))
        store.lost_after, store.lost_before = (1, 0) if done else (0, 1)
        answers = await asyncio.gather(
            *(journal.append("s", entries_of(n, n), event_id=f"id-{n}") for n in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [JournalUnavailable] * 3
        await journal.refresh()
        assert len(seen.records) == journal.size == (7 if done else 1)
        again = [await journal.append("s", entries_of(n, n), event_id=f"id-{n}") for n in (2, 1, 0)]
        assert {position.seq for position in again} == {1, 3, 5}
        assert len(seen.records) == len(audit(home)) == 7
    finally:
        await journal.close()


async def test_a_fold_that_showed_what_was_not_committed_is_built_anew(home: Home) -> None:
    store = ForgetfulStore(home.journal)
    journal = await open_with(home, seen := Seen(), store=store)
    try:
        await journal.append("s", entries_of("real"))
        store.lost_before = 1
        with pytest.raises(JournalUnavailable):
            await journal.append("s", entries_of("phantom"))
        waiting = asyncio.create_task(journal.durable(1))
        with pytest.raises(JournalUnavailable):
            await asyncio.wait_for(waiting, 5)
        guarded: list[list[str]] = []
        await journal.append("s", entries_of("next"), guard=lambda: guarded.append(texts(seen.records)), expected=1)
        assert guarded == [["real"]]
        assert texts(seen.records) == ["real", "next"]
    finally:
        await journal.close()


async def test_a_commit_that_fails_is_not_forgotten_by_a_cancelled_caller(home: Home) -> None:
    store = ForgetfulStore(home.journal)
    journal = await open_with(home, store=store)
    try:
        store.lost_before = 1
        task = asyncio.create_task(journal.append("s", entries_of(1)))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, JournalUnavailable):
            await task
        assert await asyncio.wait_for(journal.append("s", entries_of(2)), 5) == Position(0, 0)
    finally:
        await journal.close()


@pytest.mark.parametrize("what", ["removed", "another journal", "an older copy", "an older copy that head.note does not know of"])
async def test_a_database_that_is_exchanged_under_a_running_host_gets_no_further_entry(
    tmp_path: Path, home: Home, what: str
) -> None:
    """SQLite goes on writing to the file that it opened, wherever that is now: what is appended there would be lost."""
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    copy = Path(shutil.copy(home.journal, tmp_path / "copy"))
    async with opened(home, seen := Seen()) as journal:
        await journal.append("s", entries_of(2))
        if what != "an older copy that head.note does not know of":
            await journal.publish()
        # Otherwise the write-ahead log, which stays behind, would make a whole log of almost any copy.
        await journal._store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        saved = home.journal.rename(tmp_path / "saved")
        if what.startswith("an older copy"):
            copy.rename(home.journal)
        elif what == "another journal":
            make_home(tmp_path / "other").journal.rename(home.journal)
        for _ in range(2):
            with pytest.raises(JournalError) as refused:
                await journal.append("s", entries_of(3))
            if what == "removed":
                assert isinstance(refused.value, JournalUnavailable)
        assert isinstance(refused.value, JournalUnavailable if what == "removed" else JournalDamaged)
        assert (type(refused.value) is JournalRolledBack) == what.startswith("an older copy")
        saved.rename(home.journal)
        assert await journal.append("s", entries_of(4)) == Position(2, 2)
        assert texts(seen.records) == ["1", "2", "4"]
    assert len(audit(home)) == 3


@pytest.mark.parametrize("what", ["removed", "another journal", "an older copy"])
async def test_nothing_goes_into_a_file_that_is_no_longer_the_journal(tmp_path: Path, home: Home, what: str) -> None:
    """While its write-ahead log is in use, SQLite does not look whether the file is still where it was."""
    async with opened(home, seen := Seen()) as journal:
        await journal.append("s", entries_of(1))
        copy = Path(shutil.copy(home.journal, tmp_path / "copy"))
        await journal.append("s", entries_of(2))
        saved = home.journal.rename(tmp_path / "saved")
        if what == "an older copy":
            copy.rename(home.journal)
        elif what == "another journal":
            make_home(tmp_path / "other").journal.rename(home.journal)
        with pytest.raises(JournalUnavailable, match="removed or exchanged"):
            await journal.append("s", entries_of(3))
        saved.rename(home.journal)
        assert await journal.append("s", entries_of(4)) == Position(2, 2)
        assert texts(seen.records) == ["1", "2", "4"]
    assert len(audit(home)) == 3


async def test_whoever_waits_for_an_entry_to_be_durable_is_told_when_its_commit_fails(home: Home) -> None:
    store = ForgetfulStore(home.journal)
    journal = await open_with(home, store=store)
    try:
        waiting = asyncio.create_task(journal.durable(0))
        await asyncio.sleep(0)
        store.lost_before = 1
        with pytest.raises(JournalUnavailable):
            await journal.append("s", entries_of(1))
        with pytest.raises(JournalUnavailable):
            await asyncio.wait_for(waiting, 5)
    finally:
        await journal.close()


async def test_a_lock_file_that_is_exchanged_lets_two_writers_in_but_never_makes_a_fork(home: Home) -> None:
    async with opened(home, Seen()) as one:
        await one.append("s", entries_of(1))
        home.journal_lock.unlink()
        async with opened(home, Seen()) as other:
            await other.append("s", entries_of(2))
            for number in range(3, 40):
                for journal in (one, other):
                    with contextlib.suppress(JournalUnavailable):
                        await journal.append("s", entries_of(number))
            await one.refresh()
        stored = [record async for record in one.read()]
    assert texts(stored)[:2] == ["1", "2"]
    assert len(audit(home)) == len(stored) >= 39


async def test_a_roll_back_while_the_host_was_down_is_never_continued(tmp_path: Path, home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    shutil.copy(home.journal, tmp_path / "copy")
    async with opened(home) as journal:
        await journal.append("s", entries_of(2))
    shutil.copy(tmp_path / "copy", home.journal)
    for _ in range(2):
        with pytest.raises(JournalRolledBack, match="recover"):
            await open_with(home)


async def test_the_log_of_another_home_is_refused_whole(tmp_path: Path, home: Home) -> None:
    shutil.copy(make_home(tmp_path / "other").journal, home.journal)
    with pytest.raises(JournalDamaged):
        await open_with(home)


def _forge_leaf(database: sqlite3.Connection) -> None:
    database.execute("UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'tester', 'forger') AS BLOB) WHERE seq = 299")


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(_forge_leaf, id="a leaf"),
        pytest.param(lambda d: d.execute("DELETE FROM entry WHERE seq = 299"), id="the last entry is gone"),
        pytest.param(lambda d: d.execute("DELETE FROM entry WHERE seq = 270"), id="an entry is gone"),
        pytest.param(lambda d: d.execute("DELETE FROM tile"), id="tiles are gone"),
        pytest.param(lambda d: d.execute("UPDATE tile SET data = zeroblob(8192)"), id="tiles are zeros"),
        pytest.param(lambda d: d.execute("UPDATE tile SET data = x'00'"), id="tiles are short"),
        pytest.param(lambda d: d.execute("DELETE FROM checkpoint"), id="checkpoints are gone"),
        pytest.param(lambda d: d.execute("DELETE FROM checkpoint WHERE size = 300"), id="the newest checkpoint is gone"),
        pytest.param(lambda d: d.execute("UPDATE checkpoint SET note = 'x'"), id="checkpoints are nonsense"),
        pytest.param(lambda d: d.execute("UPDATE checkpoint SET note = replace(note, '300', '301')"), id="a checkpoint is altered"),
    ],
)
async def test_what_the_newest_checkpoint_does_not_cover_is_refused_at_opening(
    home: Home, tamper: Callable[[sqlite3.Connection], object]
) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(*range(300)))
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        tamper(database)
    with pytest.raises(JournalDamaged):
        await open_with(home)


@pytest.mark.parametrize(
    ("sql", "said_so"),
    [
        ("UPDATE payload SET body = CAST(replace(CAST(body AS TEXT), 'somebody', 'someb0dy') AS BLOB) WHERE seq = 5", "its body"),
        ("UPDATE payload SET salt = zeroblob(32) WHERE seq = 5", "its body"),
        ("UPDATE entry SET type = 'pause.started' WHERE seq = 5", "columns"),
        ("UPDATE entry SET stream = 't', stream_seq = 0 WHERE seq = 5", "columns"),
        ("UPDATE entry SET event_id = 'x' WHERE seq = 5", "columns"),
        ("UPDATE entry SET time = '2020-01-01T00:00:00.000Z' WHERE seq = 5", "columns"),
        ("UPDATE entry SET leaf = x'' WHERE seq = 5", "leaf"),
        ("UPDATE entry SET leaf = x'ff00' WHERE seq = 5", "leaf"),
        ("UPDATE entry SET leaf = CAST('null' AS BLOB) WHERE seq = 5", "leaf"),
        ("UPDATE entry SET leaf = CAST(printf('%.*c', 60000, '[') AS BLOB) WHERE seq = 5", "leaf"),
        ("UPDATE entry SET leaf = CAST('{}' AS BLOB) WHERE seq = 5", "leaf"),
    ],
)
async def test_an_entry_that_was_altered_is_refused_when_it_is_read(home: Home, sql: str, said_so: str) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(*range(300)))
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        assert database.execute(sql).rowcount == 1
    with pytest.raises(JournalDamaged, match=f"entry 5.*{said_so}"):
        await open_with(home, Seen())
    async with opened(home) as journal:
        with pytest.raises(JournalDamaged, match=f"entry 5.*{said_so}"):
            [record async for record in journal.read()]


@pytest.mark.parametrize("note", ["none", "of a stranger", "of another root"])
async def test_what_a_stranger_writes_into_a_running_log_is_refused_and_never_continued(home: Home, note: str) -> None:
    """Whoever can write to the database can't sign, and a host believes nobody's entries without a signature."""
    async with opened(home, seen := Seen()) as journal:
        await journal.append("s", entries_of("ours"))
        tree, _ = parts_of(home)
        body = said("forged").body()
        salt = bytes(32)
        leaf = Leaf(
            tree.origin, 1, "forged", "s", 1, "pause.ended", _MOMENT, "tester", None, None, payload_digest(salt, body)
        ).encode()
        root = root_of([leaf_hash(audit(home)[0].leaf), leaf_hash(leaf)])
        own = SigningKey.load(home.signing_key).signer(tree.origin)
        signer = new_signer(tree.origin) if note == "of a stranger" else own
        forged = Checkpoint(tree.origin, 2, root if note == "of a stranger" else bytes(32)).sign([signer])
        with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
            database.execute("INSERT INTO entry VALUES (1, 'forged', 's', 1, 'pause.ended', ?, ?)", (_MOMENT, leaf))
            database.execute("INSERT INTO payload VALUES (1, ?, ?)", (salt, body))
            if note != "none":
                database.execute("INSERT INTO checkpoint VALUES (2, ?)", (forged,))
        home.journal_lock.write_text("dirty")
        for _ in range(2):
            with pytest.raises(JournalDamaged):
                await journal.append("s", entries_of("after"))
        assert "forged" not in texts(seen.records)
        with contextlib.closing(sqlite3.connect(home.journal)) as database:
            assert database.execute("SELECT max(seq) FROM entry").fetchone() == (1,)


_MOMENT = "2026-11-20T10:00:00.000Z"


async def test_a_checkpoint_of_a_strange_key_is_not_ours(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    tree, _ = parts_of(home)
    checkpoint = Checkpoint.parse(Note.parse(home.head_note.read_text()).text)
    stranger = SigningKey.create(home.keys / "stranger.key").signer(tree.origin)
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        database.execute("UPDATE checkpoint SET note = ? WHERE size = 1", (checkpoint.sign([stranger]),))
    with pytest.raises(JournalDamaged, match="not signed by this home's key"):
        await open_with(home)


async def test_the_host_of_a_strange_key_can_not_open_the_journal(tmp_path: Path, home: Home) -> None:
    other = make_home(tmp_path / "other")
    os.replace(other.signing_key, home.signing_key)
    with pytest.raises(JournalDamaged):
        await open_with(home)


async def test_a_writer_that_is_cancelled_leaves_nobody_waiting(home: Home) -> None:
    """`asyncio.run` cancels every task at its end, the writer too, while others still want to say their last word."""
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        waiting = [asyncio.create_task(journal.append("s", entries_of(n))) for n in range(5)]
        durable = asyncio.create_task(journal.durable(100))
        await asyncio.sleep(0)
        journal._tasks[0].cancel()
        for task in (*waiting, durable):
            with pytest.raises(JournalUnavailable):
                await asyncio.wait_for(task, 5)
        for late in (journal.append("s", entries_of("late")), journal.refresh()):
            with pytest.raises(JournalUnavailable):
                await asyncio.wait_for(late, 5)
        await asyncio.wait_for(journal.close(), 5)
    audit(home)
    async with opened(home) as journal:
        await journal.append("s", entries_of("after"))


def test_a_loop_that_ends_without_closing_the_journal_does_not_keep_the_process_alive(home: Home) -> None:
    from tests.support.crashing import run_python

    run_python(
        f"""
import asyncio
from pathlib import Path
from remediation.settings import Home
from tests.support.journals import entries_of, open_with

async def main():
    journal = await open_with(Home(Path({str(home.root)!r}), Path({str(home.keys)!r})))
    await journal.append("s", entries_of(1))
    asyncio.create_task(journal.append("s", entries_of(2)))

asyncio.run(main())
"""
    )
    assert len(audit(home)) in (1, 2)
