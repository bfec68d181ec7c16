"""head.note only ever grows, is whole or the old one, and stands before anything leaves the process."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.journals import (
    audit,
    checkpoint_sizes,
    entries_of,
    file_size_limit,
    head_size,
    home_settings,
    make_home,
    opened,
    parts_of,
    until,
)
from tests.support.sample_log import new_signer
from tests.support.written_journal import remediation

from remediation.bootstrap import initialise, open_journal
from remediation.errors import JournalDamaged, JournalRolledBack, JournalUnavailable
from remediation.journal.head import HeadNote
from remediation.keys import SigningKey
from remediation.ports.clock import SystemClock
from remediation.proof import Checkpoint
from remediation.settings import Home

SIGNER = new_signer()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def note(size: int) -> str:
    return Checkpoint(SIGNER.key.name, size, bytes(32)).sign([SIGNER])


@given(sizes=st.lists(st.integers(0, 20), max_size=12))
def test_the_head_is_the_largest_that_was_ever_written(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    path = tmp_path_factory.mktemp("keys") / "head.note"
    assert HeadNote(path).size() == -1
    one, other = HeadNote(path), HeadNote(path)
    for number, size in enumerate(sizes):
        (one if number % 2 else other).advance(note(size))
        assert one.size() == other.size() == HeadNote(path).size() == max(sizes[: number + 1])
    assert [entry.name for entry in path.parent.iterdir()] in ([], ["head.note"])


def test_a_disk_that_is_full_leaves_the_old_head(tmp_path: Path) -> None:
    """A write may be cut short without an error, so that half a note would be renamed over the whole one."""
    path = tmp_path / "head.note"
    head = HeadNote(path)
    head.advance(note(1))
    with file_size_limit(60), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        head.advance(note(2))
    assert path.read_text() == note(1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["head.note"]
    head.advance(note(2))
    assert head.size() == 2


def test_a_head_written_by_others_is_noticed_however_fast_they_are(tmp_path: Path) -> None:
    """Inodes are reused and file times are coarse: neither tells whether a file is still the same."""
    path = tmp_path / "head.note"
    one, other = HeadNote(path), HeadNote(path)
    for size in range(10, 400, 3):
        one.advance(note(size))
        assert one.size() == size
        other.advance(note(size + 1))
        other.advance(note(size + 2))
        one.advance(note(size + 1))
        assert HeadNote(path).size() == size + 2


async def test_publishing_returns_only_notes_that_head_note_covers(home: Home) -> None:
    async with opened(home) as journal:
        for number in range(5):
            await journal.append("s", entries_of(number))
            published = await journal.publish()
            assert head_size(home) == number + 1
            assert home.head_note.read_text() == published
        assert await journal.publish() == published


async def test_head_note_follows_the_commits_within_a_second_or_so(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        assert head_size(home) <= 1
        await until(lambda: head_size(home) == 1)


async def test_head_note_follows_the_first_commit_of_a_process_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed in its first second would leave no head at all of what it acknowledged."""
    monkeypatch.setattr("remediation.journal.journal.HEAD_PACE", 3600.0)
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        await until(lambda: head_size(home) == 1)
        await journal.append("s", entries_of(2))
        assert head_size(home) == 1


ACKNOWLEDGING = """
import asyncio, os, sys
from pathlib import Path
from remediation.bootstrap import open_journal
from remediation.model.entries import PauseEnded
from remediation.ports.clock import SystemClock
from remediation.settings import Home

async def work():
    journal = await open_journal(Home(Path(sys.argv[1]), Path(sys.argv[2])), SystemClock())
    for number in range(40):
        await journal.append("s", [PauseEnded(by="test", reason=str(number))])
        print(number, flush=True)
    await asyncio.sleep(3600)

asyncio.run(work())
"""


@pytest.mark.parametrize("taken", ["the whole write-ahead log", "its end"])
async def test_what_a_killed_process_acknowledged_can_not_be_taken_away_unnoticed(home: Home, taken: str) -> None:
    command = [sys.executable, "-c", ACKNOWLEDGING, str(home.root), str(home.keys)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writing:
        assert writing.stdout is not None
        acknowledged = [next(writing.stdout) for _ in range(40)]
        writing.kill()
    wal = home.journal.with_name("journal.sqlite3-wal")
    assert wal.stat().st_size > 0
    home.config.write_text(f'[host]\nid = "atlas"\n[keys]\ndir = "{home.keys}"\n')
    if taken == "its end":
        os.truncate(wal, wal.stat().st_size * 3 // 4)
    else:
        wal.unlink()
    home.journal.with_name("journal.sqlite3-shm").unlink(missing_ok=True)
    ran = remediation("--home", str(home.root), "journal", "verify", "--json")
    assert ran.status == 4, ran.out
    assert json.loads(ran.out)["size"] < len(acknowledged)
    assert "40" in json.loads(ran.out)["problems"][0]["message"]
    with pytest.raises(JournalRolledBack, match="but 40 were signed and made known"):
        await open_journal(home, SystemClock())


async def test_the_number_of_acknowledged_entries_is_believed_for_this_log_only_and_if_it_is_one(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2, 3))
        origin = journal.origin
    acknowledged = home.keys / "head.note.acknowledged"
    assert acknowledged.read_text() == f"{3:020} {origin}\n"
    for content in (
        b"",
        b"\x00" * 60,
        f"{9:020} {origin}x\n".encode(),
        b"9",
        f"{'9' * 3}\xff {origin}\n".encode(),
        b"-9 " + origin.encode(),
    ):
        acknowledged.write_bytes(content)
        async with opened(home) as journal:
            assert journal.size == 3
    acknowledged.unlink()
    acknowledged.mkdir()
    async with opened(home) as journal:
        await journal.append("s", entries_of(4))


async def test_closing_leaves_head_note_at_the_end_of_the_log(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(*range(7)))
    assert head_size(home) == len(audit(home)) == 7


async def test_every_checkpoint_that_was_published_is_kept(home: Home) -> None:
    published = set()
    async with opened(home) as journal:

        async def publish_on() -> None:
            while True:
                await journal.publish()
                published.add(head_size(home))
                await asyncio.sleep(0)

        publishing = asyncio.create_task(publish_on())
        for number in range(300):
            await journal.append("s", entries_of(number))
        publishing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await publishing
    assert len(published) > 20
    assert published <= set(checkpoint_sizes(home))
    audit(home)


async def test_heads_never_shrink_while_two_journals_publish(home: Home) -> None:
    sizes: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            sizes.append(head_size(home))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        async with opened(home) as one, opened(home) as other:

            async def work(journal) -> None:
                for number in range(40):
                    await journal.append("s", entries_of(number))
                    await journal.publish()

            await asyncio.gather(work(one), work(other), work(one), work(other))
    finally:
        stop.set()
        watcher.join()
    assert sizes == sorted(sizes)
    assert len(audit(home)) == head_size(home) == 160


async def test_a_missing_head_is_refused_although_all_else_is_there(home: Home) -> None:
    home.head_note.unlink()
    with pytest.raises(JournalRolledBack, match="recover"):
        await open_journal(home, SystemClock())


def test_a_missing_head_is_never_made_anew_beside_a_journal(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.head_note.unlink()
    with pytest.raises(JournalRolledBack):
        initialise(home_settings(tmp_path))
    assert not home.head_note.exists()


async def test_a_head_that_is_ahead_of_the_database_is_a_roll_back(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    copy = shutil.copy(home.journal, home.journal.with_suffix(".copy"))
    async with opened(home) as journal:
        await journal.append("s", entries_of(2))
    os.replace(copy, home.journal)
    with pytest.raises(JournalRolledBack, match=r"has 1 entries, but 2 were signed"):
        await open_journal(home, SystemClock())
    with pytest.raises(JournalRolledBack, match=r"has 1 entries, but 2 were signed"):
        await open_journal(home, SystemClock())


async def test_a_head_of_another_history_of_this_log_is_refused(home: Home) -> None:
    tree, _ = parts_of(home)
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2))
    home.head_note.write_text(Checkpoint(tree.origin, 1, bytes(32)).sign([SigningKey.load(home.signing_key).signer(tree.origin)]))
    with pytest.raises(JournalDamaged, match="another history"):
        await open_journal(home, SystemClock())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe\x00" * 30, id="not UTF-8"),
        pytest.param(b"hello\nworld\n", id="no note"),
        pytest.param(b"atlas/remediation/0\n0\n\n", id="no signature"),
        pytest.param(note(0).encode(), id="another log and key"),
        pytest.param(note(0).encode()[:-20], id="cut off"),
        pytest.param(b"x" * 10_000_000, id="10 MB"),
    ],
)
async def test_a_head_that_is_none_is_damage_and_says_so(home: Home, content: bytes) -> None:
    home.head_note.write_bytes(content)
    with pytest.raises(JournalDamaged, match=r"head\.note|checkpoint is not signed"):
        await open_journal(home, SystemClock())


async def test_a_head_with_our_name_but_a_strange_signature_is_refused(home: Home) -> None:
    stranger = new_signer(parts_of(home)[0].origin)
    home.head_note.write_text(Checkpoint(stranger.key.name, 0, bytes(32)).sign([stranger]))
    with pytest.raises(JournalDamaged):
        await open_journal(home, SystemClock())


async def test_a_head_that_spoils_while_the_journal_is_open_ends_neither_its_writer_nor_its_close(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        await journal.publish()
        good = home.head_note.read_bytes()
        home.head_note.write_bytes(b"nonsense")
        with contextlib.suppress(JournalDamaged, JournalUnavailable):
            await journal.append("s", entries_of(2))
        with pytest.raises(JournalDamaged):
            await journal.publish()
        home.head_note.write_bytes(good)
        await journal.append("s", entries_of(3), event_id="again")
        home.head_note.write_bytes(b"nonsense")
    home.head_note.write_bytes(good)
    assert len(audit(home)) >= 2


async def test_a_folder_in_place_of_the_head_is_no_roll_back(home: Home) -> None:
    home.head_note.unlink()
    home.head_note.mkdir()
    with pytest.raises(JournalUnavailable, match=r"head\.note"):
        await open_journal(home, SystemClock())
