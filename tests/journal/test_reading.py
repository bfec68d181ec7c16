"""Reading and following: every entry once, in order, across pages and processes, without key and lock, while others write."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest
from tests.support.journals import Seen, audit, entries_of, file_size_limit, make_home, opened, said, texts, until

from remediation.bootstrap import open_reader
from remediation.errors import JournalDamaged, JournalUnavailable
from remediation.journal.reading import PAGE
from remediation.model.entries import HostStopped
from remediation.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


async def test_no_page_border_loses_or_repeats_an_entry(home: Home) -> None:
    size = 2 * PAGE + 7
    async with opened(home) as journal:
        await asyncio.gather(*(journal.append("even/a" if n % 2 == 0 else "odd/b", entries_of(n)) for n in range(size)))
        everything = [record.seq async for record in journal.read()]
        assert everything == list(range(journal.size))
        for limit in (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, size, size + 1):
            assert [record.seq async for record in journal.read(limit=limit)] == everything[:limit]
            assert [record.seq async for record in journal.read(after=5, limit=limit)] == everything[6:][:limit]
        assert len([0 async for _ in journal.read(stream="even/", limit=PAGE + 1)]) == min(PAGE + 1, size // 2 + 1)
        for after in (-5, -1, 0, PAGE - 1, PAGE, size - 2, size, 10**15):
            assert [record.seq async for record in journal.read(after=after)] == [seq for seq in everything if seq > after]


async def test_rows_are_given_as_stored_between_two_bounds(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(*range(PAGE + 20)))
        for after, until in ((-1, 5), (2, 5), (4, 5), (5, 5), (PAGE - 2, PAGE + 3), (PAGE, 10**9)):
            rows = [row async for row in journal.rows(after=after, until=until)]
            assert [row.seq for row in rows] == list(range(after + 1, min(until, PAGE + 20)))
        stored = {row.seq: row for row in audit(home)}
        assert all(
            (row.leaf, row.salt, row.body) == (stored[row.seq].leaf, stored[row.seq].salt, stored[row.seq].body) for row in rows
        )


async def test_a_name_that_ends_in_a_slash_stands_for_all_streams_that_begin_so(home: Home) -> None:
    streams = ["a", "a/", "a/b", "a/b/c", "a/é", "a/\U0010ffff", "a0", "a.", "A/b", "b/a/", "a//", "á/b", "%/", "_/x"]
    async with opened(home) as journal:
        for stream in streams:
            await journal.append(stream, entries_of(stream))
        for wanted in [*streams, "/", "a/b/", "a/é/", "nothing/", ""]:
            found = texts([record async for record in journal.read(stream=wanted)])
            expected = [each for each in streams if (each.startswith(wanted) if wanted.endswith("/") else each == wanted)]
            assert found == expected, wanted


async def test_a_reader_needs_neither_key_nor_lock_nor_head(home: Home, tmp_path: Path) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2))
    keyless = Home(home.root)
    home.keys.rename(tmp_path / "away")
    home.journal_lock.unlink()
    async with open_reader(keyless) as reader:
        assert texts([record async for record in reader.read()]) == ["1", "2"]
        size, note = await reader.head()
    assert (size, note.split("\n")[1]) == (2, "2")
    assert not home.journal_lock.exists()


async def test_a_reader_can_not_write(home: Home) -> None:
    async with open_reader(home) as reader:
        with pytest.raises(JournalUnavailable, match="not open for writing"):
            await reader._store.commit(None)


async def test_a_reader_that_is_closed_says_so(home: Home) -> None:
    reader = open_reader(home)
    async with reader:
        pass
    await reader.close()
    with pytest.raises(JournalUnavailable):
        await reader.head()
    with pytest.raises(JournalUnavailable):
        [record async for record in reader.read()]


async def test_a_reader_sees_whole_commits_while_others_write(home: Home) -> None:
    async with opened(home) as journal, open_reader(home) as reader:

        async def write() -> None:
            for number in range(60):
                await journal.append(f"s{number}", entries_of(number, number, number))

        writing = asyncio.create_task(write())
        sizes = []
        while not writing.done():
            records = [record async for record in reader.read()]
            sizes.append(len(records))
            assert [record.seq for record in records] == list(range(len(records)))
            size, note = await reader.head()
            assert str(size) == note.split("\n")[1]
        await writing
        assert all(size % 3 == 0 for size in sizes)
        assert sizes == sorted(sizes)


async def test_following_goes_on_with_each_new_entry_once(home: Home) -> None:
    for kind in ("journal", "reader"):
        async with opened(home) as journal, open_reader(home) as reader:
            begun = journal.size
            found: list[int] = []

            async def follow(source) -> None:
                async for record in source.follow(after=begun - 1):
                    found.append(record.seq)

            following = asyncio.create_task(follow(journal if kind == "journal" else reader))
            await asyncio.gather(*(journal.append("s", entries_of(n, n)) for n in range(300)))
            await until(lambda: len(found) >= 600)
            await journal.append("s", entries_of("last"))
            await until(lambda: len(found) >= 601)
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            assert found == list(range(begun, begun + 601))


async def test_following_also_folds_what_others_write(home: Home) -> None:
    async with opened(home, seen := Seen()) as journal, opened(home) as other:
        following = journal.follow()
        first = asyncio.ensure_future(anext(following))
        await other.append("s", entries_of("foreign"))
        assert texts([await asyncio.wait_for(first, 5)]) == ["foreign"]
        await until(lambda: texts(seen.records) == ["foreign"])
        await following.aclose()


async def test_following_ends_when_the_journal_closes(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        found: list[int] = []

        async def follow() -> None:
            async for record in journal.follow():
                found.append(record.seq)

        following = [asyncio.create_task(follow()) for _ in range(3)]
        await until(lambda: len(found) == 3)
    await asyncio.wait_for(asyncio.gather(*following), 5)


async def test_following_lasts_while_nothing_can_be_written(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        following = journal.follow()
        await anext(following)
        coming = asyncio.ensure_future(anext(following))
        with file_size_limit(1000), pytest.raises(JournalUnavailable):
            await journal.append("s", entries_of("x" * 50_000))
        await journal.append("s", entries_of(2))
        assert texts([await asyncio.wait_for(coming, 5)]) == ["2"]
        await following.aclose()


async def test_a_reader_of_a_damaged_database_says_so(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", [said("x" * 2000), HostStopped(instance="i", reason="r" * 2000)] * 300)
    content = bytearray(home.journal.read_bytes())
    content[8192 : len(content) // 2] = b"\xff" * (len(content) // 2 - 8192)
    home.journal.write_bytes(content)
    with pytest.raises(JournalDamaged):
        async with open_reader(home) as reader:
            [record async for record in reader.read()]


async def test_a_copy_that_was_taken_with_its_log_can_be_read_elsewhere(home: Home, tmp_path: Path) -> None:
    """As a backup would: the database and its write-ahead log, from a running host."""
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2, 3))
        copy = Home(tmp_path / "copy")
        copy.root.mkdir()
        for path in home.root.glob("journal.sqlite3*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, copy.root / path.name)
        async with open_reader(copy) as reader:
            assert texts([record async for record in reader.read()]) == ["1", "2", "3"]
    assert len(audit(home)) == 3
