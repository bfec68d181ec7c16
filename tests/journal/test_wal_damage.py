"""
A journal whose files were cut or altered after a crash: what is provable is opened, or nothing is.

Never is a log opened that is shorter than its known head, never is it continued into another history, and what is wrong in what was
opened is found by verification. Each outcome is one of four, and each is seen.
"""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from tests.support.ground import in_memory
from tests.support.journals import Seen, audit, entries_of, make_home, open_with, opened, said

from remediation.bootstrap import open_reader
from remediation.bootstrap.recovering import recover, why_lost
from remediation.errors import JournalDamaged, JournalError
from remediation.model.entries import Record
from remediation.proof import Checkpoint, Note, claimed_size, leaf_hash, root_of
from remediation.settings import Home
from remediation.stores.auditing import verify_journal

ROUNDS = int(os.environ.get("REMEDIATION_CRASH_ROUNDS", "0")) or 80
LOOSE = settings(
    max_examples=ROUNDS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Crashed:
    """A home as a host left it that was killed: half of its entries in the database, the rest in the write-ahead log."""

    folder: Path
    leaves: tuple[bytes, ...] = field(repr=False)
    published: int
    """Entries that head.note knows of."""
    sizes: tuple[int, ...] = field(repr=False)
    """Of the log, after each commit."""

    def copy(self, to: Path) -> Home:
        shutil.copytree(self.folder, to)
        return Home(to / "home", to / "keys")


async def _crash(folder: Path, *, publish_last: bool) -> Crashed:
    home = make_home(folder / "live")
    sizes = [0]
    journal = await open_with(home)

    async def more(commits: int) -> None:
        for number in range(commits):
            await journal.append(
                f"s{number % 3}", [said("x" * random.Random(number).randrange(900)) for _ in range(1 + number % 4)]
            )
            sizes.append(journal.size)

    await more(24)
    await journal._store._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    await more(8)
    await journal.publish()
    if not publish_last:
        # Nobody knows of these yet; a second later head.note would.
        journal._publish_on = None  # type: ignore[assignment, method-assign]
        for task in journal._tasks[1:]:
            task.cancel()
        await more(6)
    # By another process: closing a descriptor of these files here would drop SQLite's locks on them.
    copy = folder / "crashed"
    subprocess.run(["cp", "-a", str(folder / "live"), str(copy)], check=True)
    published = claimed_size((copy / "keys" / "head.note").read_text())
    leaves = tuple([row.leaf async for row in journal.rows()])
    await journal.close()
    for name in ("journal.sqlite3-shm",):
        (copy / "home" / name).unlink()
    return Crashed(copy, leaves, published, tuple(sizes))


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    with in_memory("damage") as folder:
        yield folder


@pytest.fixture(scope="module")
def known(ground: Path) -> Crashed:
    found = asyncio.run(_crash(ground / "known", publish_last=True))
    assert found.published == len(found.leaves)
    return found


@pytest.fixture(scope="module")
def unknown(ground: Path) -> Crashed:
    """As a power cut leaves it: what was acknowledged is written beside head.note, and never synchronised."""
    found = asyncio.run(_crash(ground / "unknown", publish_last=False))
    (found.folder / "keys" / "head.note.acknowledged").unlink()
    assert found.published < len(found.leaves)
    return found


@pytest.fixture(params=["known", "unknown"], ids=["all is known", "the last commits are not known yet"])
def crashed(request: pytest.FixtureRequest, known: Crashed, unknown: Crashed) -> Crashed:
    return known if request.param == "known" else unknown


OUTCOMES = ("whole", "shorter, but not than what is known", "opened, and verification finds the damage", "refused")


async def outcome_of(home: Home, crashed: Crashed) -> str:
    """How it ends when a host opens the journal and goes on; raises if that is not one of the good ends."""
    try:
        journal = await open_with(home)
    except JournalError:
        # Refused once is refused for ever: nothing was changed that would make it look well the next time.
        with pytest.raises(JournalError):
            await open_with(home)
        return "refused"
    try:
        size = journal.size
        assert crashed.published <= size <= len(crashed.leaves), "shorter than what was known, or longer than what was"
        assert size in crashed.sizes, "half a commit"
        await journal.append("s0", entries_of("after"))
        note = await journal.publish()
        new = [row.leaf async for row in journal.rows(after=size - 1)]
    except JournalError:
        return "refused"
    finally:
        await journal.close()
    assert len(new) == 1
    head = Checkpoint.parse(Note.parse(note).text)
    hashes = [leaf_hash(leaf) for leaf in (*crashed.leaves[:size], *new)]
    assert (head.size, head.root) == (size + 1, root_of(hashes)), "another history was signed"
    vkeys = home.verifier_keys.read_text().split()
    verdict = None
    try:
        verdict = verify_journal(home.journal, own=vkeys, known_head=home.head_note.read_text())
    except JournalDamaged:
        return OUTCOMES[2]
    if not verdict.ok:
        return OUTCOMES[2]
    assert [row.leaf for row in audit(home)] == [*crashed.leaves[:size], *new]
    return OUTCOMES[0] if size == len(crashed.leaves) else OUTCOMES[1]


def _damaged(crashed: Crashed, folder: Path, damage: Callable[[Home], object]) -> str:
    home = crashed.copy(folder)
    damage(home)
    outcome = asyncio.run(outcome_of(home, crashed))
    if outcome == "refused":
        assert why_lost(home), "a journal that is refused is one that can be recovered"
        if next(refusals) % 4 == 0:
            assert recover(home, "atlas").proven <= len(crashed.leaves)
            assert audit(home)[0].type == "journal.recovered"
    shutil.rmtree(folder)
    return outcome


def _flip(path: Path, at: float, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


def _cut(path: Path, at: float) -> None:
    os.truncate(path, int(at * path.stat().st_size))


def _zero(path: Path, at: float, size: int) -> None:
    content = bytearray(path.read_bytes())
    start = int(at * (len(content) - 1))
    content[start : start + size] = bytes(min(size, len(content) - start))
    path.write_bytes(content)


def wal(home: Home) -> Path:
    return home.journal.with_name("journal.sqlite3-wal")


numbers, refusals = itertools.count(), itertools.count()
places = st.floats(0, 1, allow_nan=False)


@LOOSE
@given(st.sampled_from(["cut", "flip", "zeros"]), places, st.integers(0, 7), st.sampled_from([1, 24, 512, 4096]))
def test_a_write_ahead_log_that_was_cut_or_altered_anywhere(
    crashed: Crashed, ground: Path, how: str, at: float, bit: int, size: int
) -> None:
    def damage(home: Home) -> None:
        if how == "cut":
            _cut(wal(home), at)
        elif how == "flip":
            _flip(wal(home), at, bit)
        else:
            _zero(wal(home), at, size)

    outcome = _damaged(crashed, ground / str(next(numbers)), damage)
    event(outcome)
    # SQLite's own checksums end the log at the first frame that is not what was written.
    assert outcome != "opened, and verification finds the damage"


@LOOSE
@given(st.sampled_from(["cut", "flip", "zeros"]), places, st.integers(0, 7), st.sampled_from([1, 24, 512, 4096]))
def test_a_database_file_that_was_cut_or_altered_anywhere(
    crashed: Crashed, ground: Path, how: str, at: float, bit: int, size: int
) -> None:
    def damage(home: Home) -> None:
        if how == "cut":
            _cut(home.journal, at)
        elif how == "flip":
            _flip(home.journal, at, bit)
        else:
            _zero(home.journal, at, size)

    event(_damaged(crashed, ground / str(next(numbers)), damage))


@pytest.mark.parametrize(
    ("damage", "outcome"),
    [
        (lambda home: None, "whole"),
        (lambda home: _cut(wal(home), 0.99), "shorter, but not than what is known"),
        (lambda home: _cut(wal(home), 0.1), "refused"),
        (lambda home: _flip_text(home, b'"reason":"xxx', 11), "opened, and verification finds the damage"),
    ],
)
def test_each_outcome_is_seen(unknown: Crashed, ground: Path, damage: Callable[[Home], object], outcome: str) -> None:
    assert _damaged(unknown, ground / "each", damage) == outcome


def _flip_text(home: Home, text: bytes, at: int) -> None:
    content = bytearray(home.journal.read_bytes())
    content[content.index(text) + at] ^= 1
    home.journal.write_bytes(content)


@pytest.mark.parametrize("what", ["removed", "of another journal", "of an earlier moment", "with something behind it", "empty"])
def test_a_write_ahead_log_that_does_not_belong_to_the_database(crashed: Crashed, ground: Path, what: str) -> None:
    home = crashed.copy(ground / "none")
    shutil.rmtree(ground / "none")
    if what == "of another journal":
        other = asyncio.run(_crash(ground / f"other-{next(numbers)}", publish_last=True)).folder / "home/journal.sqlite3-wal"

    def damage(home: Home) -> None:
        if what == "removed":
            wal(home).unlink()
        elif what == "empty":
            os.truncate(wal(home), 0)
        elif what == "of another journal":
            shutil.copy(other, wal(home))
        elif what == "of an earlier moment":
            _cut(wal(home), 0.5)
        else:
            with wal(home).open("ab") as file:
                file.write(os.urandom(5000))

    outcome = _damaged(crashed, ground / f"copy-{next(numbers)}", damage)
    assert outcome == ("whole" if what == "with something behind it" else "refused"), home


def test_the_index_of_the_write_ahead_log_is_never_believed_after_a_crash(crashed: Crashed, ground: Path) -> None:
    def damage(home: Home) -> None:
        home.journal.with_name("journal.sqlite3-shm").write_bytes(os.urandom(32768))

    assert _damaged(crashed, ground / f"copy-{next(numbers)}", damage) == "whole"


async def test_a_reader_sees_the_same_prefix_or_an_error(crashed: Crashed, ground: Path) -> None:
    """Readers check no head, and show nothing that was not written."""
    for number in range(12):
        home = crashed.copy(ground / f"reader-{next(numbers)}")
        _cut(wal(home), number / 12)
        records: list[Record] = []
        try:
            async with open_reader(home) as reader:
                records = [record async for record in reader.read()]
                leaves = [row.leaf async for row in reader.rows()]
        except JournalError:
            continue
        assert tuple(leaves) == crashed.leaves[: len(records)]
        assert len(records) in crashed.sizes


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entry SET leaf = NULL WHERE seq = 79",
        "UPDATE entry SET leaf = 5 WHERE seq = 79",
        "UPDATE entry SET leaf = CAST(leaf AS TEXT) WHERE seq = 79",
        "UPDATE entry SET leaf = CAST(leaf AS TEXT) WHERE seq = 7",
        "UPDATE entry SET stream = CAST(x'ff' AS TEXT) WHERE seq = 7",
        "UPDATE entry SET type = 5 WHERE seq = 7",
        "UPDATE entry SET stream_seq = 'x' WHERE seq = 7",
        "UPDATE payload SET body = CAST(body AS TEXT) WHERE seq = 7",
        "UPDATE payload SET body = 5 WHERE seq = 7",
        "UPDATE payload SET salt = 'x' WHERE seq = 7",
        "UPDATE checkpoint SET note = 5",
        "UPDATE checkpoint SET note = CAST(note AS BLOB) || x'ff'",
        "UPDATE checkpoint SET note = CAST(x'ff' AS TEXT)",
    ],
)
async def test_a_value_of_another_kind_is_damage_and_no_defect_of_ours(crashed: Crashed, ground: Path, sql: str) -> None:
    """Which kind a value is of stands in the file too, where a flipped bit changes it in spite of the table's definition."""
    home = crashed.copy(ground / f"copy-{next(numbers)}")
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_schema SET sql = replace(replace(sql, 'STRICT', ''), 'NOT NULL', '') WHERE type = 'table'")
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        last = database.execute("SELECT max(seq) FROM entry").fetchone()[0]
        assert database.execute(sql.replace("79", str(last))).rowcount
    with pytest.raises(JournalDamaged):
        await open_with(home, Seen())


async def test_an_undamaged_copy_is_whole(crashed: Crashed, ground: Path) -> None:
    home = crashed.copy(ground / f"copy-{next(numbers)}")
    async with opened(home) as journal:
        assert journal.size == len(crashed.leaves)
