"""One writer at a time, over tasks, journals and processes; the hint in the lock file never outruns the log."""

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.journals import Seen, audit, entries_of, make_home, opened, texts, until

from remediation.errors import JournalUnavailable
from remediation.journal.lock import WriterLock, locked
from remediation.settings import Home


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.lock"


@pytest.fixture
def lock(path: Path) -> Iterator[WriterLock]:
    made = WriterLock(path)
    made.open()
    yield made
    made.close()


def is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


async def test_it_is_held_from_acquire_to_release(lock: WriterLock, path: Path) -> None:
    assert not is_held(path)
    await lock.acquire()
    assert is_held(path)
    lock.release()
    assert not is_held(path)


async def test_tasks_of_one_process_exclude_each_other_though_they_share_the_descriptor(lock: WriterLock) -> None:
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            await lock.acquire()
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            lock.release()

    await asyncio.gather(*(work() for _ in range(8)))
    assert most == 1


async def test_two_locks_on_one_file_exclude_each_other(lock: WriterLock, path: Path) -> None:
    other = WriterLock(path)
    other.open()
    await lock.acquire()
    waiting = asyncio.create_task(other.acquire())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    lock.release()
    await asyncio.wait_for(waiting, 5)
    other.release()
    other.close()


async def test_a_caller_that_is_cancelled_while_it_waits_gives_the_lock_back(lock: WriterLock, path: Path) -> None:
    with locked(path):
        waiting = [asyncio.create_task(lock.acquire()) for _ in range(3)]
        await asyncio.sleep(0.02)
        for task in waiting:
            task.cancel()
    done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert all(isinstance(each, asyncio.CancelledError) for each in done)
    assert not is_held(path)
    await asyncio.wait_for(lock.acquire(), 5)
    lock.release()


async def test_a_process_that_dies_lets_go_of_it(lock: WriterLock, path: Path) -> None:
    script = (
        "import fcntl, os, sys, time\n"
        "d = os.open(sys.argv[1], os.O_RDWR)\nfcntl.flock(d, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    waiting = asyncio.create_task(lock.acquire())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    process.kill()
    process.communicate()
    await asyncio.wait_for(waiting, 5)
    lock.release()


async def test_children_do_not_inherit_it(lock: WriterLock, path: Path) -> None:
    await lock.acquire()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    lock.release()
    lock.close()
    assert not is_held(path)
    child.communicate(b"\n")


def test_the_blocking_way_excludes_too(path: Path) -> None:
    order: list[str] = []
    with locked(path):
        thread = threading.Thread(target=lambda: _enter(path, order))
        thread.start()
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def _enter(path: Path, order: list[str]) -> None:
    with locked(path):
        order.append("second")


@pytest.mark.parametrize("size", [0, 1, 10**15])
def test_the_hint_is_read_back(lock: WriterLock, size: int) -> None:
    lock.mark(10**18)
    lock.mark(size)
    assert lock.size_hint() == size
    lock.mark(None)
    assert lock.size_hint() is None


@pytest.mark.parametrize("content", [b"", b"dirty", b"-5", b"garbage", b"\xff\xfe", b"5 5", b"9" * 5000, "²".encode()])
def test_a_hint_that_is_none_is_no_hint(lock: WriterLock, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert lock.size_hint() in (None, int("9" * 20))


async def test_a_closed_or_impossible_lock_says_so(tmp_path: Path, path: Path) -> None:
    closed = WriterLock(path)
    with pytest.raises(JournalUnavailable):
        await closed.acquire()
    with pytest.raises(JournalUnavailable, match="can't be opened"):
        WriterLock(tmp_path / "missing" / "journal.lock").open()
    with pytest.raises(JournalUnavailable), locked(tmp_path / "missing" / "journal.lock"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalUnavailable):
        WriterLock(tmp_path / "folder").open()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.mark.parametrize("hint", [b"0".ljust(20), b"999".ljust(20), b"dirty".ljust(20), b"", b"garbage", b"\xff" * 20])
async def test_a_hint_that_lies_costs_a_look_and_nothing_else(home: Home, hint: bytes) -> None:
    async with opened(home, seen := Seen()) as one, opened(home, Seen()) as other:
        await one.append("s", entries_of(1))
        await other.append("s", entries_of(2))
        home.journal_lock.write_bytes(hint)
        await one.append("s", entries_of(3), expected=2)
        home.journal_lock.write_bytes(hint)
        await other.append("s", entries_of(4), expected=3)
        await one.refresh()
        assert texts(seen.records) == ["1", "2", "3", "4"]
    audit(home)


async def test_a_hint_of_the_own_size_that_is_wrong_never_makes_a_fork(home: Home) -> None:
    """Another program may have written to the file; the database itself is asked inside each commit."""
    async with opened(home, seen := Seen()) as one, opened(home, Seen()) as other:
        await one.append("s", entries_of(1))
        await other.append("s", entries_of(2))
        home.journal_lock.write_bytes(b"1".ljust(20))
        with pytest.raises(JournalUnavailable, match="moved on"):
            await one.append("s", entries_of("x"))
        await one.append("s", entries_of(3), expected=2)
        assert texts(seen.records) == ["1", "2", "3"]
    audit(home)


async def test_a_journal_that_waits_for_the_lock_does_not_hold_up_its_event_loop(home: Home) -> None:
    async with opened(home) as journal:
        with locked(home.journal_lock):
            waiting = asyncio.create_task(journal.append("s", entries_of(1)))
            turns = 0
            for _ in range(20):
                await asyncio.sleep(0.001)
                turns += 1
            assert not waiting.done()
        await asyncio.wait_for(waiting, 5)
        assert turns == 20


async def test_a_lock_that_was_removed_is_made_anew_by_the_next_host(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    home.journal_lock.unlink()
    async with opened(home) as journal:
        await journal.append("s", entries_of(2))
    await until(home.journal_lock.exists)
    assert len(audit(home)) == 2
