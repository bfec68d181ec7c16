"""One leader at a time: over delays, jumps of the clock, reboots, crashes, and a leader that was stopped and wakes up."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.crashing import ROOT

from remediation import PrimaryAggregatorLease
from remediation.coordination.lease_file import FencedRegister, FileLeaseStore
from remediation.errors import LeaseLost, LeaseUnavailable, StaleToken
from remediation.ports.clock import SystemClock
from remediation.testing import FakeClock, eventually

SECONDS = 10.0


def lease(folder: Path, clock: FakeClock, holder: str = "a", *, boot: str = "boot 1", told: Any = None) -> PrimaryAggregatorLease:
    store = FileLeaseStore(folder / "lease", clock, boot=lambda: boot)
    return PrimaryAggregatorLease(store, clock, holder, seconds=SECONDS, told=told)


async def test_one_leads_until_its_time_is_over_and_tokens_grow(tmp_path: Path) -> None:
    clock = FakeClock()
    one, two = lease(tmp_path, clock), lease(tmp_path, clock, "b")
    assert await one.try_acquire()
    assert not await two.try_acquire()
    clock.advance(SECONDS - 0.001)
    assert one.held
    assert not await two.try_acquire()
    clock.advance(0.001)
    assert await two.try_acquire()
    assert not one.held
    assert two.token == 2
    with pytest.raises(LeaseLost):
        _ = one.token
    assert not await one.renew()


async def test_renewed_it_lasts_and_released_it_is_free_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    one, two = lease(tmp_path, clock), lease(tmp_path, clock, "b")
    assert await one.try_acquire()
    for _ in range(5):
        clock.advance(SECONDS * 0.9)
        assert await one.renew()
    await one.release()
    assert not one.held
    assert await two.try_acquire()


async def test_jumps_of_the_wall_clock_neither_extend_it_nor_end_it(tmp_path: Path) -> None:
    clock = FakeClock()
    one, two = lease(tmp_path, clock), lease(tmp_path, clock, "b")
    assert await one.try_acquire()
    clock.jump(86_400)
    assert one.held
    assert not await two.try_acquire()
    clock.jump(-2 * 86_400)
    clock.advance(SECONDS)
    assert not one.held
    assert await two.try_acquire()


async def test_a_reboot_ends_it(tmp_path: Path) -> None:
    assert await lease(tmp_path, FakeClock()).try_acquire()
    after = lease(tmp_path, FakeClock(), "b", boot="boot 2")
    assert await after.try_acquire()
    assert after.token == 2


async def test_who_leads_works_until_the_lease_is_lost_and_says_so(tmp_path: Path) -> None:
    clock, told = FakeClock(), []
    one = lease(tmp_path, clock, told=lambda event, token: told.append((event, token)))
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(token: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    leading = asyncio.create_task(one.lead(work))
    await eventually(begun.is_set)
    clock.advance(SECONDS * 3)  # as a machine that slept, or a process that was stopped
    await asyncio.wait_for(leading, 10)
    assert ended.is_set()
    assert told == [("lease.taken", 1), ("lease.lost", 1)]


async def test_what_the_work_returns_or_raises_ends_the_lead_and_frees_the_lease(tmp_path: Path) -> None:
    clock = FakeClock()
    one, two = lease(tmp_path, clock), lease(tmp_path, clock, "b")

    async def fails(token: int) -> None:
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError, match="it broke"):
        await one.lead(fails)
    assert await two.try_acquire()


async def test_a_lease_file_that_is_no_lease_gives_no_old_token_out_again(tmp_path: Path) -> None:
    (tmp_path / "lease").write_text("{}")
    with pytest.raises(LeaseUnavailable, match="restore it"):
        await lease(tmp_path, FakeClock()).try_acquire()


# -- the receiver ----------------------------------------------------------------------------------------------------------------


def test_a_register_refuses_what_is_older_than_what_it_saw_also_after_a_restart(tmp_path: Path) -> None:
    register = FencedRegister(tmp_path / "register")
    for token in (1, 1, 3):
        register.check(token)
    again = FencedRegister(tmp_path / "register")
    with pytest.raises(StaleToken, match="3 was seen"):
        again.check(2)
    again.check(3)
    assert again.highest == 3
    (tmp_path / "register").write_text("nonsense")
    with pytest.raises(LeaseUnavailable):
        again.check(4)


# -- a model ---------------------------------------------------------------------------------------------------------------------


class Slow:
    """A store whose answers take as long as they are let."""

    def __init__(self, store: FileLeaseStore) -> None:
        self._store = store

    async def _slowly(self, step: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        await _Pause()
        answer = await step(*arguments)
        await _Pause()
        return answer

    async def take(self, holder: str, seconds: float) -> Any:
        return await self._slowly(self._store.take, holder, seconds)

    async def renew(self, record: Any, seconds: float) -> Any:
        return await self._slowly(self._store.renew, record, seconds)

    async def release(self, record: Any) -> None:
        await self._slowly(self._store.release, record)


class _Pause:
    def __await__(self) -> Any:
        yield


class Leaders(RuleBasedStateMachine):
    """Three hosts whose steps take any time, crash and come again, on machines that reboot: never do two of them lead."""

    HOSTS = st.integers(0, 2)

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.boot = FakeClock(), 0
        self.leases = [self._new(number) for number in range(3)]
        self.under_way: dict[int, Any] = {}
        self.tokens: dict[int, int] = {}
        self.register = FencedRegister(Path(self.folder.name) / "register")
        self.written = 0

    def _new(self, number: int) -> PrimaryAggregatorLease:
        store = FileLeaseStore(Path(self.folder.name) / "lease", self.clock, boot=lambda: f"boot {self.boot}")
        return PrimaryAggregatorLease(Slow(store), self.clock, f"host {number}", seconds=SECONDS)

    @rule(host=HOSTS, what=st.sampled_from(["try_acquire", "try_acquire", "renew", "release"]))
    def begin(self, host: int, what: str) -> None:
        if host not in self.under_way:
            self.under_way[host] = getattr(self.leases[host], what)()
            self.go_on(host)

    @rule(host=HOSTS)
    def go_on(self, host: int) -> None:
        step = self.under_way.get(host)
        if step is not None:
            try:
                step.send(None)
            except StopIteration:
                del self.under_way[host]

    @rule(seconds=st.sampled_from([0.001, 1.0, SECONDS / 2, SECONDS - 0.001, SECONDS]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.integers(-100_000, 100_000))
    def jump(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule(host=HOSTS)
    def crash(self, host: int) -> None:
        if step := self.under_way.pop(host, None):
            step.close()
        self.leases[host] = self._new(host)

    @rule()
    def reboot(self) -> None:
        self.boot += 1
        for host in range(3):
            self.crash(host)

    @rule(host=HOSTS)
    def write_late(self, host: int) -> None:
        """With the last token this host ever had, whether it leads or not."""
        token = self.tokens.get(host, 0)
        try:
            self.register.check(token)
        except StaleToken:
            assert token < self.written
        else:
            assert token >= self.written
            self.written = token

    @invariant()
    def one_leads(self) -> None:
        leading = [(host, item.token) for host, item in enumerate(getattr(self, "leases", [])) if item.held]
        assert len(leading) <= 1
        for host, token in leading:
            others = [known for other, known in self.tokens.items() if other != host]
            assert all(token > known for known in others) or self.tokens.get(host) == token
            self.tokens[host] = token
            assert token >= max(self.tokens.values()), "an old token leads"

    def teardown(self) -> None:
        for step in getattr(self, "under_way", {}).values():
            step.close()
        if hasattr(self, "folder"):
            self.folder.cleanup()


Leaders.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLeaders = Leaders.TestCase


# -- real processes --------------------------------------------------------------------------------------------------------------

_HOST = """
import asyncio, sys, time
from pathlib import Path
from remediation import PrimaryAggregatorLease
from remediation.coordination.lease_file import FencedRegister, FileLeaseStore
from remediation.errors import StaleToken
from remediation.ports.clock import SystemClock

folder, name = Path(sys.argv[1]), sys.argv[2]
clock = SystemClock()
register = FencedRegister(folder / "register")

def say(*words):
    with open(folder / f"said-{name}", "a") as file:
        print(*words, file=file)

async def work(token):
    say("leads", token)
    try:
        while True:
            # Writes on without looking: only the receiver can tell that its time is over.
            try:
                with register.admitted(token):
                    with open(folder / "written", "a") as file:
                        print(token, file=file)
            except StaleToken:
                say("refused", token)
            await asyncio.sleep(0.02)
    finally:
        try:
            register.check(token)
            say("late write admitted", token)
        except StaleToken:
            say("late write refused", token)

async def main():
    store = FileLeaseStore(folder / "lease", clock)
    lease = PrimaryAggregatorLease(store, clock, name, seconds=1.0, told=say)
    await lease.lead(work)

asyncio.run(main())
"""


def nobody_is_inside(*paths: Path) -> bool:
    try:
        for path in paths:
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_a_stopped_leader_that_wakes_up_can_not_write_and_stops_by_itself(tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", _HOST, str(tmp_path), name], env=os.environ | {"PYTHONPATH": str(ROOT / "src")}
        )

    def said(name: str) -> list[str]:
        path = tmp_path / f"said-{name}"
        return path.read_text().splitlines() if path.exists() else []

    def written() -> list[int]:
        path = tmp_path / "written"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def until(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, (said("one"), said("two"), written()[-5:])
            time.sleep(0.01)

    one = start("one")
    two = None
    try:
        until(lambda: len(written()) > 3)
        # Not while it holds a lock of the files itself: that is a stopped host of another kind.
        while True:
            os.kill(one.pid, signal.SIGSTOP)
            if nobody_is_inside(tmp_path / "register.lock", tmp_path / "lease.lock"):
                break
            os.kill(one.pid, signal.SIGCONT)
            time.sleep(0.005)
        first = written()[-1]
        two = start("two")
        until(lambda: max(written()) > first)
        count = len([token for token in written() if token == first])
        os.kill(one.pid, signal.SIGCONT)
        assert one.wait(60) == 0
        assert f"lease.lost {first}" in said("one")
        assert f"late write refused {first}" in said("one")
        assert len([token for token in written() if token == first]) == count
        assert written() == sorted(written())
    finally:
        for process in (one, two):
            if process is not None:
                process.kill()
                process.wait()


async def test_a_killed_leader_is_followed_within_the_time_of_the_lease(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOST, str(tmp_path), "one"], env=os.environ | {"PYTHONPATH": str(ROOT / "src")}
    )
    try:
        await eventually(lambda: (tmp_path / "written").exists(), within=60)
    finally:
        process.kill()
        process.wait()
    began = time.monotonic()
    mine = PrimaryAggregatorLease(FileLeaseStore(tmp_path / "lease", SystemClock()), SystemClock(), "next", seconds=1.0)
    while not await mine.try_acquire():
        assert time.monotonic() < began + 30
        await asyncio.sleep(0.02)
    assert mine.token > 1
