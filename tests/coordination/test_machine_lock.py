"""Locks of subjects and hosts (ADR 0003): one holder at a time over all processes, given back by the kernel, and inherited by children."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.crashing import ROOT

from remediation.coordination.locks import HostLock, alive
from remediation.coordination.machine_lock import MachineLock
from remediation.ports.clock import SystemClock

ROUNDS = 200
PATIENCE = 30.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


@pytest.fixture
def locks(tmp_path: Path) -> MachineLock:
    return MachineLock(tmp_path, SystemClock())


def forked(work: Callable[[], None]) -> int:
    """A process that does `work`; ends with 0, or 1 when it raises."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def held_by(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts processes that hold a subject's lock until they are killed, perhaps with a child that inherited it."""
    started: list[int] = []

    def hold(subject: str, *, child: bool = False, inherits: bool = True) -> int:
        marker = tmp_path / f"held-{len(started)}"

        def work() -> None:
            lock = MachineLock(tmp_path, SystemClock()).try_acquire(subject)
            assert lock is not None
            said = "held"
            if child:
                keep = lock.descriptors if inherits else ()
                said = str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=keep).pid)
            marker.with_suffix(".tmp").write_text(said)
            marker.with_suffix(".tmp").rename(marker)
            signal.pause()

        pid = forked(work)
        started.append(pid)
        until(marker.exists)
        if child:
            started.append(int(marker.read_text()))
        return pid

    hold.started = started  # type: ignore[attr-defined]
    yield hold
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def test_a_lock_has_one_holder_within_a_process_too(locks: MachineLock) -> None:
    one = locks.try_acquire("subject")
    assert one is not None
    assert locks.try_acquire("subject") is None
    other = locks.try_acquire("another")
    assert other is not None
    one.release()
    again = locks.try_acquire("subject")
    assert again is not None
    for lock in (other, again):
        lock.release()
        lock.release()


def test_whoever_asks_in_vain_takes_nothing_from_the_holder(locks: MachineLock, held_by: Callable[..., int]) -> None:
    """With classic record locks, closing any descriptor of the file would drop the locks of the whole process."""
    one = locks.try_acquire("one")
    assert one is not None
    for _ in range(20):
        assert locks.try_acquire("one") is None
    assert ended(forked(lambda: _assert_taken(locks, "one"))) == 0
    one.release()
    assert ended(forked(lambda: _assert_free(locks, "one"))) == 0


def _assert_taken(locks: MachineLock, subject: str) -> None:
    assert locks.try_acquire(subject) is None


def _assert_free(locks: MachineLock, subject: str) -> None:
    assert locks.try_acquire(subject) is not None


def test_the_kernel_gives_the_lock_of_a_killed_process_back_at_once(locks: MachineLock, held_by: Callable[..., int]) -> None:
    for _ in range(10):
        pid = held_by("subject")
        assert locks.try_acquire("subject") is None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        lock = locks.try_acquire("subject")
        assert lock is not None
        lock.release()


def test_a_lock_outlives_a_killed_holder_until_its_children_are_gone(locks: MachineLock, held_by: Callable[..., int]) -> None:
    holder = held_by("subject", child=True)
    child = held_by.started[-1]  # type: ignore[attr-defined]
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert locks.try_acquire("subject") is None
    assert locks.try_acquire("another subject of the same host") is not None
    os.kill(child, signal.SIGKILL)
    until(lambda: (lock := locks.try_acquire("subject")) is not None and (lock.release() or True))


def test_a_child_that_did_not_get_the_lock_keeps_nothing(locks: MachineLock, held_by: Callable[..., int]) -> None:
    holder = held_by("subject", child=True, inherits=False)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    lock = locks.try_acquire("subject")
    assert lock is not None
    lock.release()


def test_a_release_while_a_child_runs_leaves_the_subject_locked(locks: MachineLock) -> None:
    lock = locks.try_acquire("subject")
    assert lock is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=lock.descriptors)
    lock.release()
    assert locks.try_acquire("subject") is None
    child.communicate(b"\n")
    until(lambda: (again := locks.try_acquire("subject")) is not None and (again.release() or True))


@pytest.mark.parametrize("processes", [2, 8])
def test_racing_processes_never_hold_one_lock_at_once(tmp_path: Path, processes: int) -> None:
    """
    Each round is one turn in the critical section, which fails if somebody else is in it: a file that must not be there, and a counter
    that is read and written without any other care.
    """
    (tmp_path / "counter").write_text("0")
    turns = ROUNDS // processes

    def race() -> None:
        locks = MachineLock(tmp_path, SystemClock())
        for _ in range(turns):
            until(lambda: _turn(locks, tmp_path))

    racers = [forked(race) for _ in range(processes)]
    assert [ended(pid) for pid in racers] == [0] * processes
    assert int((tmp_path / "counter").read_text()) == turns * processes == ROUNDS


def _turn(locks: MachineLock, folder: Path) -> bool:
    lock = locks.try_acquire("the one")
    if lock is None:
        return False
    try:
        inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        os._exit(2)
    count = int((folder / "counter").read_text())
    os.sched_yield()
    (folder / "counter").write_text(str(count + 1))
    os.close(inside)
    os.unlink(folder / "inside")
    lock.release()
    return True


def test_racers_that_are_killed_inside_leave_the_lock_to_the_others(tmp_path: Path) -> None:
    def race() -> None:
        locks = MachineLock(tmp_path, SystemClock())
        while True:
            lock = locks.try_acquire("the one")
            if lock is not None:
                os.write(log, f"{os.getpid()}\n".encode())
                lock.release()

    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    racers = {forked(race) for _ in range(3)}
    for _ in range(10):
        size = os.fstat(log).st_size
        until(lambda size=size: os.fstat(log).st_size > size)
        victim = racers.pop()
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        racers.add(forked(race))
    size = os.fstat(log).st_size
    until(lambda: os.fstat(log).st_size > size)
    for pid in racers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(log)


def test_many_subjects_share_one_file_and_leave_nothing_behind(tmp_path: Path, locks: MachineLock) -> None:
    held = [locks.try_acquire(f"subject {number}") for number in range(200)]
    assert all(held)
    assert [path.name for path in tmp_path.iterdir()] == ["machine.lock"]
    for lock in held:
        assert lock is not None
        lock.release()
    assert (tmp_path / "machine.lock").stat().st_size <= 1024 * 1024


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path, locks: MachineLock) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "machine.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        locks.try_acquire("subject")


# -- children past their deadline ------------------------------------------------------------------------------------------------


def test_children_of_a_killed_host_are_ended_once_they_are_past_their_deadline(tmp_path: Path, locks: MachineLock) -> None:
    for late in (False, True):
        deadline = SystemClock().monotonic() + (-1 if late else 600)
        script = f"""
import subprocess, sys, os
from pathlib import Path
from remediation.coordination.machine_lock import MachineLock
from remediation.ports.clock import SystemClock
lock = MachineLock(Path({str(tmp_path)!r}), SystemClock()).try_acquire("subject")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=lock.descriptors, start_new_session=True, stdout=subprocess.DEVNULL)
lock.record_child(child.pid, {deadline})
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
        ran = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        child = int(ran.stdout)
        locks.end_orphans("another subject")
        locks.end_orphans("subject")
        if late:
            until(lambda: (lock := locks.try_acquire("subject")) is not None and (lock.release() or True))
        else:
            assert locks.try_acquire("subject") is None
            os.kill(child, signal.SIGKILL)
            until(lambda: (lock := locks.try_acquire("subject")) is not None and (lock.release() or True))
    locks.forget_children()
    assert [path.name for path in tmp_path.iterdir()] == ["machine.lock"]


def test_a_child_that_a_killed_host_had_no_time_to_note_is_ended_all_the_same(tmp_path: Path, locks: MachineLock) -> None:
    for late in (False, True):
        deadline = SystemClock().monotonic() + (-1 if late else 600)
        script = f"""
import subprocess, sys, os
from pathlib import Path
from remediation.coordination.machine_lock import MachineLock
from remediation.ports.clock import SystemClock
lock = MachineLock(Path({str(tmp_path)!r}), SystemClock()).try_acquire("subject")
marked = os.environ | lock.expect_child({deadline})
child = subprocess.Popen(["sleep", "60"], pass_fds=lock.descriptors, start_new_session=True, stdout=subprocess.DEVNULL, env=marked)
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
        ran = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        locks.end_orphans("another subject")
        locks.end_orphans("subject")
        if late:
            until(lambda: (lock := locks.try_acquire("subject")) is not None and (lock.release() or True))
        else:
            assert locks.try_acquire("subject") is None
            os.kill(int(ran.stdout), signal.SIGKILL)
            until(lambda: (lock := locks.try_acquire("subject")) is not None and (lock.release() or True))


def test_a_child_that_is_noted_is_expected_no_more(tmp_path: Path, locks: MachineLock) -> None:
    lock = locks.try_acquire("subject")
    assert lock is not None
    lock.expect_child(5.0)
    lock.record_child(os.getpid(), 5.0)
    (note,) = tmp_path.glob("children-*")
    assert json.loads(note.read_text())["expected"] == []
    lock.expect_child(6.0)
    assert json.loads(note.read_text())["expected"] == [6.0]
    lock.release()
    assert not list(tmp_path.glob("children-*"))


def test_children_of_a_living_host_are_left_alone(locks: MachineLock) -> None:
    lock = locks.try_acquire("subject")
    assert lock is not None
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=lock.descriptors, start_new_session=True
    )
    lock.record_child(child.pid, SystemClock().monotonic() - 1)
    locks.end_orphans("subject")
    assert child.poll() is None
    child.communicate(b"\n")
    assert child.returncode == 0
    lock.release()


# -- the locks of hosts ----------------------------------------------------------------------------------------------------------


def test_a_host_is_alive_until_it_and_its_children_are_gone(tmp_path: Path) -> None:
    read, write = os.pipe()

    def host() -> None:
        lock = HostLock(tmp_path, "abc")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(lock.descriptor,))
        os.write(write, str(child.pid).encode())
        signal.pause()

    path = tmp_path / "host-abc.lock"
    assert not alive(path)
    pid = forked(host)
    child = int(os.read(read, 20))
    assert alive(path)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert alive(path)
    os.kill(child, signal.SIGKILL)
    until(lambda: not alive(path))
    assert not path.exists()


async def test_whoever_looks_never_takes_a_starting_host_its_lock_file_away(tmp_path: Path) -> None:
    """`alive` removes files that nobody holds; a host that made its file, but has not locked it yet, starts over."""
    path = tmp_path / "host-abc.lock"
    stop = asyncio.Event()

    def look() -> None:
        while not stop.is_set():
            alive(path)

    looking = asyncio.create_task(asyncio.to_thread(look))
    try:
        for _ in range(300):
            lock = await asyncio.to_thread(HostLock, tmp_path, "abc")
            assert os.path.samestat(os.fstat(lock.descriptor), os.stat(path))
            lock.release()
    finally:
        stop.set()
        await looking
