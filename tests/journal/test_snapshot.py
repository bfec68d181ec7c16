"""A snapshot is a cache: it spares reading the journal when it fits in every respect, and changes nothing when it doesn't."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.journals import Seen, audit, entries_of, file_size_limit, make_home, opened, parts_of

from remediation.journal import IntentJournal
from remediation.journal.folding import Folds
from remediation.journal.lock import WriterLock
from remediation.journal.snapshot import Snapshot, SnapshotFile, glance
from remediation.journal.store import Row
from remediation.keys import SigningKey
from remediation.model.entries import PauseEnded, Record
from remediation.ports.clock import SystemClock
from remediation.proof import TileMissing
from remediation.settings import Home
from remediation.stores.sqlite import SqliteJournalStore

KEY = bytes(range(32))


class Words:
    """A fold whose state is the list of what was said."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.applied = self.loads = 0
        self.spoilt = ""

    def apply(self, record: Record) -> None:
        assert record.seq == len(self.words)
        self.applied += 1
        self.words.append(record.entry.reason if isinstance(record.entry, PauseEnded) else "")

    def reset(self) -> None:
        self.words = []

    def loaded(self) -> None:
        self.loads += 1

    def dump(self) -> bytes:
        if self.spoilt == "dump":
            raise RuntimeError("can't be dumped")
        return json.dumps(self.words).encode()

    def restore(self, content: bytes) -> None:
        self.words = ["half", "restored"]
        if self.spoilt == "restore":
            raise KeyError("of another time")
        self.words = json.loads(content)


def snapshots(home: Home, schema: bytes = b"1") -> SnapshotFile:
    return SnapshotFile(home.root / "snapshot.bin", SigningKey.load(home.signing_key).derive("snapshot"), schema)


async def open_kept(home: Home, words: Words, *, schema: bytes = b"1") -> IntentJournal:
    tree, head = parts_of(home)
    return await IntentJournal.open(
        SqliteJournalStore(home.journal),
        tree,
        WriterLock(home.journal_lock),
        head,
        SystemClock(),
        actor="tester",
        folds=Folds((words,), words, snapshots(home, schema)),
    )


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    """A home with five entries and their snapshot."""
    home = make_home(tmp_path)
    journal = await open_kept(home, Words())
    await journal.append("s", entries_of(*range(5)))
    await journal.close()
    return home


async def reopened(home: Home, words: Words | None = None, *, schema: bytes = b"1") -> Words:
    words = words or Words()
    await (await open_kept(home, words, schema=schema)).close()
    assert words.loads == 1
    return words


async def test_a_snapshot_spares_reading_what_it_holds(home: Home) -> None:
    words = await reopened(home)
    assert words.words == ["0", "1", "2", "3", "4"]
    assert words.applied == 0


async def test_what_came_after_it_is_read(home: Home) -> None:
    old = (home.root / "snapshot.bin").read_bytes()
    async with opened(home) as journal:
        await journal.append("s", entries_of(5, 6))
    (home.root / "snapshot.bin").write_bytes(old)
    words = await reopened(home)
    assert words.words == ["0", "1", "2", "3", "4", "5", "6"]
    assert words.applied == 2


async def test_the_journal_goes_on_from_it_and_closes_with_a_new_one(home: Home) -> None:
    journal = await open_kept(home, Words())
    await journal.append("s", entries_of(5), expected=5)
    await journal.close()
    words = await reopened(home)
    assert (len(words.words), words.applied) == (6, 0)
    assert len(audit(home)) == 6


async def test_a_snapshot_of_other_code_is_not_believed(home: Home) -> None:
    assert (await reopened(home, schema=b"2")).applied == 5


async def test_a_snapshot_of_another_log_is_not_believed(home: Home, tmp_path: Path) -> None:
    """Even one that this key made: the same key, the same size, another history."""
    other = make_home(tmp_path / "other")
    os.replace(home.signing_key, other.signing_key)
    shutil.copy(other.signing_key, home.signing_key)
    home.signing_key.chmod(0o600)
    found = snapshots(home).load()
    assert found is not None
    snapshots(home).store(Snapshot(5, bytes(32), b'["lies"]'))
    words = await reopened(home)
    assert (words.words[0], words.applied) == ("0", 5)


async def test_a_snapshot_that_is_ahead_of_the_log_is_not_believed(home: Home) -> None:
    snapshots(home).store(Snapshot(9, bytes(32), b'["lies"]'))
    assert (await reopened(home)).applied == 5


async def test_a_snapshot_of_a_strange_key_is_not_believed(home: Home) -> None:
    found = snapshots(home).load()
    assert found is not None
    SnapshotFile(home.root / "snapshot.bin", KEY, b"1").store(Snapshot(found.size, found.root, b'["lies"]'))
    assert (await reopened(home)).applied == 5


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_snapshot_is_believed(tmp_path: Path, data: st.DataObject) -> None:
    file = SnapshotFile(tmp_path / "snapshot.bin", KEY, b"schema")
    file.store(Snapshot(7, bytes(32), b"content"))
    assert file.load() == Snapshot(7, bytes(32), b"content")
    good = (tmp_path / "snapshot.bin").read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    bad = {
        "flip": good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :],
        "cut": good[:at],
        "insert": good[:at] + b"x" + good[at:],
        "drop": good[:at] + good[at + 1 :],
    }[change]
    (tmp_path / "snapshot.bin").write_bytes(bad)
    assert bad == good or file.load() is None


@pytest.mark.parametrize("other", [(b"key" * 11)[:32], KEY])
def test_length_and_content_of_the_schema_can_not_be_mixed_up(tmp_path: Path, other: bytes) -> None:
    SnapshotFile(tmp_path / "s", KEY, b"ab").store(Snapshot(1, bytes(32), b"c"))
    assert SnapshotFile(tmp_path / "s", other, b"a").load() is None
    assert SnapshotFile(tmp_path / "s", other, b"").load() is None


@pytest.mark.parametrize("content", [b"", b"garbage", b"remediation-snapshot/1\n", b"\xff" * 10_000])
async def test_what_is_no_snapshot_is_ignored(home: Home, content: bytes) -> None:
    (home.root / "snapshot.bin").write_bytes(content)
    assert (await reopened(home)).applied == 5
    assert (await reopened(home)).applied == 0


async def test_a_folder_or_a_missing_file_in_its_place_is_ignored(home: Home) -> None:
    (home.root / "snapshot.bin").unlink()
    (home.root / "snapshot.bin").mkdir()
    assert (await reopened(home)).applied == 5
    (home.root / "snapshot.bin").rmdir()
    assert (await reopened(home)).applied == 5
    assert (await reopened(home)).applied == 0


async def test_a_state_that_can_not_be_restored_is_folded_anew_from_nothing(home: Home) -> None:
    words = Words()
    words.spoilt = "restore"
    assert (await reopened(home, words)).words == ["0", "1", "2", "3", "4"]


async def test_a_state_that_can_not_be_kept_costs_time_and_nothing_else(home: Home) -> None:
    (home.root / "snapshot.bin").unlink()
    words = Words()
    words.spoilt = "dump"
    await reopened(home, words)
    assert (await reopened(home)).applied == 5


async def test_a_full_disk_keeps_the_old_snapshot_and_the_journal_closes(home: Home) -> None:
    journal = await open_kept(home, Words())
    await journal.append("s", entries_of("x" * 50_000))
    await journal.publish()
    old = (home.root / "snapshot.bin").read_bytes()
    with file_size_limit(40_000):
        await journal.close()
    assert (home.root / "snapshot.bin").read_bytes() == old
    assert not [path for path in home.root.iterdir() if path.name.startswith(".snapshot")]
    assert (await reopened(home)).applied == 1


async def test_two_folds_are_both_complete_since_a_snapshot_of_one_spares_nothing(home: Home) -> None:
    tree, head = parts_of(home)
    words, seen = Words(), Seen()
    journal = await IntentJournal.open(
        SqliteJournalStore(home.journal),
        tree,
        WriterLock(home.journal_lock),
        head,
        SystemClock(),
        actor="tester",
        folds=Folds((words, seen), words, snapshots(home)),
    )
    await journal.close()
    assert len(words.words) == len(seen.records) == 5


async def test_a_tree_that_can_not_prove_the_snapshot_makes_it_worthless_and_no_more() -> None:
    """A tile that only an old size needs may be gone; the journal itself is proved without it."""
    words = Words()

    class Kept(SnapshotFile):
        def load(self) -> Snapshot:
            return Snapshot(2, bytes(32), b'["lies", "lies"]')

    async def rows(after: int) -> AsyncIterator[Row]:
        assert after == -1
        for row in ():
            yield row

    async def root_at(size: int) -> bytes:
        raise TileMissing("gone")

    await Folds((words,), words, Kept(Path("unused"), KEY, b"")).rebuild(2, root_at, rows)
    assert words.words == []


async def test_a_failed_commit_never_gets_into_a_snapshot(home: Home) -> None:
    journal = await open_kept(home, Words())
    with file_size_limit(10_000):
        for _ in range(2):
            with pytest.raises(Exception, match="can't be used"):
                await journal.append("s", entries_of("phantom" * 5000))
        await journal.close()
    words = await reopened(home)
    assert words.words == ["0", "1", "2", "3", "4"]
    assert len(audit(home)) == 5


async def test_who_only_looks_takes_a_whole_snapshot_of_this_code_without_its_mac(home: Home) -> None:
    found = glance(home.snapshot, b"1")
    assert found is not None
    assert found == snapshots(home).load()
    assert glance(home.snapshot, b"2") is None
    content = home.snapshot.read_bytes()
    home.snapshot.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert glance(home.snapshot, b"1") is None
    home.snapshot.write_bytes(content[:60])
    assert glance(home.snapshot, b"1") is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_snapshot_that_others_may_write_is_not_looked_at(home: Home, mode: int) -> None:
    home.snapshot.chmod(mode)
    assert glance(home.snapshot, b"1") is None


def test_no_snapshot_is_none(tmp_path: Path) -> None:
    assert glance(tmp_path / "snapshot.bin", b"1") is None
