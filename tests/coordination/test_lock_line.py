"""The line of those who wait for a lock, its fencing number, and who holds it: over processes that are killed and stopped."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.crashing import ROOT

from remediation.coordination import lock_file
from remediation.coordination.machine_lock import FILE, PASSED_OVER, MachineLock
from remediation.ports.clock import SystemClock
from remediation.ports.locking import Claim, Holder

ROUNDS = 200
PATIENCE = 20.0
NAME = "the one"


@pytest.fixture
def locks(tmp_path: Path) -> MachineLock:
    return MachineLock(tmp_path, SystemClock())


class Crowd:
    """Processes that are gone at the end of a test."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def start(self, work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        self.pids.append(pid)
        return pid

    def ended(self, pid: int) -> int:
        self.pids.remove(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.ended(pid)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    for pid in list(made.pids):
        made.kill(pid)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


async def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.002)


def waiting(folder: Path) -> int:
    """How many places in the line are taken."""
    descriptor = lock_file.opened(folder / FILE)
    try:
        first = lock_file.offset_of(lock_file.digest_of(NAME))
        return sum(lock_file.locked(descriptor, first + place) for place in range(1, lock_file.PLACES + 1))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("processes", [2, 8])
def test_nobody_starves_and_nobody_is_in_at_once_and_each_number_is_larger(tmp_path: Path, crowd: Crowd, processes: int) -> None:
    """
    Each of 200 turns writes a line while it is in; whoever leaves comes again at once. Lines can't interleave but by two being in at
    once, which the file that must not be there tells too.
    """
    log = tmp_path / "log"
    log.touch()

    def race() -> None:
        async def turns() -> None:
            locks = MachineLock(tmp_path, SystemClock())
            (tmp_path / f"ready-{os.getpid()}").touch()
            await eventually((tmp_path / "go").exists)
            while True:
                held = await locks.acquire(NAME, within=PATIENCE)
                assert held is not None
                os.close(os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL))
                done = len(log.read_text().splitlines())
                if done < ROUNDS:
                    with log.open("a") as file:
                        file.write(f"{os.getpid()} {held.number}\n")
                os.unlink(tmp_path / "inside")
                held.release()
                if done >= ROUNDS:
                    return

        asyncio.run(turns())

    racers = [crowd.start(race) for _ in range(processes)]
    until(lambda: len(list(tmp_path.glob("ready-*"))) == processes)
    began = time.monotonic()
    (tmp_path / "go").touch()
    assert [crowd.ended(pid) for pid in racers] == [0] * processes
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == ROUNDS
    numbers = [int(number) for _, number in lines]
    assert all(later > earlier for earlier, later in itertools.pairwise(numbers))
    shares = Counter(pid for pid, _ in lines)
    print(f"{processes} processes, {ROUNDS} turns in {time.monotonic() - began:.1f} s; shares {sorted(shares.values())}")
    assert len(shares) == processes
    assert min(shares.values()) >= ROUNDS / processes / 10


async def test_those_in_line_are_served_in_order_and_nobody_is_let_in_before(tmp_path: Path, locks: MachineLock) -> None:
    held = locks.try_acquire(NAME)
    assert held is not None
    served: list[int] = []

    async def one(number: int) -> None:
        got = await locks.acquire(NAME, within=PATIENCE)
        assert got is not None
        assert locks.try_acquire(NAME) is None
        served.append(number)
        got.release()

    line = []
    for number in range(lock_file.PLACES):
        line.append(asyncio.create_task(one(number)))
        await eventually(lambda number=number: waiting(tmp_path) == number + 1)
        await asyncio.sleep(0)
    held.release()
    assert locks.try_acquire(NAME) is None, "it is free, and others were there first"
    await asyncio.gather(*line)
    assert served == list(range(lock_file.PLACES))
    again = locks.try_acquire(NAME)
    assert again is not None
    again.release()
    assert waiting(tmp_path) == 0


async def test_whoever_waits_in_vain_or_is_cancelled_leaves_the_line(tmp_path: Path, locks: MachineLock) -> None:
    held = locks.try_acquire(NAME)
    assert held is not None
    began = time.monotonic()
    assert await locks.acquire(NAME, within=0.05) is None
    assert 0.05 <= time.monotonic() - began < 5
    task = asyncio.create_task(locks.acquire(NAME, within=PATIENCE))
    await eventually(lambda: waiting(tmp_path) == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert waiting(tmp_path) == 0
    held.release()


def test_one_in_line_who_is_killed_leaves_it_and_one_who_is_stopped_loses_its_turn(
    tmp_path: Path, locks: MachineLock, crowd: Crowd
) -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        held = locks.try_acquire(NAME)
        assert held is not None

        def wait(inherited: tuple[int, ...] = held.descriptors) -> None:
            for descriptor in inherited:
                os.close(descriptor)
            asyncio.run(MachineLock(tmp_path, SystemClock()).acquire(NAME, within=PATIENCE))

        pid = crowd.start(wait)
        until(lambda: waiting(tmp_path) == 1)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            crowd.ended(pid)
        held.release()
        began = time.monotonic()
        until(lambda: (again := locks.try_acquire(NAME)) is not None and (again.release() or True))
        if number == signal.SIGSTOP:
            assert PASSED_OVER * 0.9 < time.monotonic() - began < PASSED_OVER + 5
            os.kill(pid, signal.SIGCONT)
            assert crowd.ended(pid) == 0


# -- the number ------------------------------------------------------------------------------------------------------------------


def test_the_number_grows_over_holders_that_are_killed_and_over_restarts(tmp_path: Path, crowd: Crowd) -> None:
    numbers = []
    for _ in range(10):
        said = tmp_path / "said"
        said.unlink(missing_ok=True)

        def hold(said: Path = said) -> None:
            held = MachineLock(tmp_path, SystemClock()).try_acquire(NAME)
            assert held is not None
            said.with_suffix(".tmp").write_text(str(held.number))
            said.with_suffix(".tmp").rename(said)
            signal.pause()

        pid = crowd.start(hold)
        until(said.exists)
        numbers.append(int(said.read_text()))
        crowd.kill(pid)
    assert numbers == sorted(set(numbers))


def test_the_number_grows_over_a_power_cut_that_undoes_what_was_not_synced(tmp_path: Path) -> None:
    path = tmp_path / FILE
    descriptor = lock_file.opened(path)
    assert lock_file.next_number(descriptor, path, "boot 1") == 1
    synced = path.read_bytes()
    last = [lock_file.next_number(descriptor, path, "boot 1") for _ in range(1000)][-1]
    assert last == 1001
    os.close(descriptor)
    path.write_bytes(synced)
    descriptor = lock_file.opened(path)
    after = lock_file.next_number(descriptor, path, "boot 2")
    assert after > last
    assert lock_file.next_number(descriptor, path, "boot 2") == after + 1
    os.close(descriptor)


def test_a_bound_that_is_used_up_is_moved_before_a_number_beyond_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / FILE
    descriptor = lock_file.opened(path)
    bound = 1 + lock_file._STEP
    lock_file.next_number(descriptor, path, "boot 1")
    os.pwrite(descriptor, lock_file._NUMBER.pack(bound - 1), 0)
    assert lock_file.next_number(descriptor, path, "boot 1") == bound
    assert lock_file.next_number(descriptor, path, "boot 1") == bound + 1
    _, moved, _ = lock_file._HEADER.unpack(os.pread(descriptor, lock_file._HEADER.size, 0))
    assert moved > bound + 1
    os.close(descriptor)


def test_whoever_was_stopped_while_taking_a_number_makes_others_wait_and_block_for_a_moment_only(
    tmp_path: Path, locks: MachineLock
) -> None:
    descriptor = lock_file.opened(tmp_path / FILE)
    assert lock_file.lock(descriptor, 0)
    began = time.monotonic()
    assert locks.try_acquire(NAME) is None
    assert time.monotonic() - began < 2
    os.close(descriptor)
    held = locks.try_acquire(NAME)
    assert held is not None
    held.release()


# -- who holds it ----------------------------------------------------------------------------------------------------------------


def test_the_holder_is_shown_until_the_lock_is_free(tmp_path: Path, locks: MachineLock) -> None:
    assert locks.holder(NAME) is None
    held = locks.try_acquire(NAME, Claim("host-1", "incident-1"))
    assert held is not None
    held.tell("attempt-1")
    shown = MachineLock(tmp_path, SystemClock()).holder(NAME)
    assert shown == Holder(held.number, os.getpid(), shown.since, Claim("host-1", "incident-1", "attempt-1")) if shown else False
    assert abs(shown.since / 1000 - time.time()) < 60
    assert list(lock_file.holders(tmp_path / FILE)) == [shown]
    held.release()
    assert locks.holder(NAME) is None
    assert list(lock_file.holders(tmp_path / FILE)) == []
    assert list(lock_file.holders(tmp_path / "none")) == []


def test_a_dead_holder_is_shown_while_its_child_keeps_the_lock(tmp_path: Path, locks: MachineLock) -> None:
    script = f"""
import os, subprocess, sys
from pathlib import Path
from remediation.coordination.machine_lock import MachineLock
from remediation.ports.clock import SystemClock
from remediation.ports.locking import Claim
held = MachineLock(Path({str(tmp_path)!r}), SystemClock()).try_acquire({NAME!r}, Claim("dead", "incident-1"))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=held.descriptors, stdout=subprocess.DEVNULL)
print(os.getpid(), child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    pid, child = (int(part) for part in ran.stdout.split())
    assert locks.try_acquire(NAME, Claim("other")) is None
    shown = locks.holder(NAME)
    assert shown is not None
    assert (shown.pid, shown.claim.instance, shown.claim.incident) == (pid, "dead", "incident-1")
    os.kill(child, signal.SIGKILL)
    until(lambda: locks.holder(NAME) is None)


def test_texts_that_are_too_long_are_cut_and_two_locks_at_one_record_are_never_confused(locks: MachineLock) -> None:
    held = locks.try_acquire(NAME, Claim("ü" * 500, "i" * 500))
    assert held is not None
    held.tell("a" * 500)
    shown = locks.holder(NAME)
    assert shown is not None
    assert shown.claim.incident == "i" * 96
    for number in range(3000):
        other = locks.try_acquire(f"other {number}", Claim("other"))
        assert other is not None
        other.release()
    seen = locks.holder(NAME)
    assert seen is None or seen == shown
    held.release()


def test_a_joined_lock_is_inherited_and_released_with_the_other(locks: MachineLock) -> None:
    one, two = locks.try_acquire("one"), locks.try_acquire("two")
    assert one is not None
    assert two is not None
    one.join(two)
    assert len(set(one.descriptors)) == 2
    one.release()
    assert one.descriptors == ()
    again = locks.try_acquire("two")
    assert again is not None
    again.release()
