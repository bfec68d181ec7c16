"""Several processes at once append to one journal and follow it: no gap, no fork, no lost wake-up, and idle followers rest."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.appending import Writers, acknowledged
from tests.support.ground import in_memory
from tests.support.journals import audit, entries_of, make_home, opened, said, until

from remediation.bootstrap import open_reader
from remediation.settings import Home

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


@pytest.fixture
def home() -> Iterator[Home]:
    with in_memory("many") as folder:
        yield make_home(folder)


def place(home: Home) -> dict[str, str]:
    return {"home": str(home.root), "keys": str(home.keys)}


def seen_in(out: Path) -> list[tuple[int, float]]:
    lines = out.read_text().split("\n")[:-1]
    return [(int(seq), float(when)) for seq, when in (line.split() for line in lines[1:])]


async def test_all_followers_see_every_entry_of_all_writers_once_and_in_order(home: Home, writers: Writers) -> None:
    """Three writers of their own processes, this one, two following hosts, and one reader without a key."""
    folder = home.root.parent
    appends, others = 60, 3
    outs = [folder / f"out-{number}" for number in range(others)]
    running = [
        writers.start("append", **place(home), out=str(out), callers=3, seed=seed, limit=appends // 3)
        for seed, out in enumerate(outs)
    ]
    followed = [folder / f"followed-{number}" for number in range(2)]
    following = [writers.start("follow_until", **place(home), out=str(out), word="the end") for out in followed]
    read = folder / "read"
    reading = writers.start("read_until", **place(home), out=str(read), word="the end")
    async with opened(home) as journal:
        for number in range(40):
            await journal.append("own", entries_of(number))
        for writer in running:
            assert await asyncio.to_thread(writer.wait) == 0
        await journal.append("own", [said("the end")])
        size = journal.size
        for follower in (*following, reading):
            assert await asyncio.to_thread(follower.wait) == 0
    rows = audit(home)
    assert len(rows) == size == 41 + sum(ack.entries for out in outs for ack in acknowledged(out))
    for out in (*followed, read):
        assert [seq for seq, _ in seen_in(out)] == list(range(size))


async def test_an_entry_of_another_process_is_seen_within_a_tenth_of_a_second(home: Home, writers: Writers) -> None:
    """By a host that follows, and by a reader without a key. The figures are of a busy machine: the bound is on the median."""
    folder = home.root.parent
    outs = {job: folder / job for job in ("follow_until", "read_until")}
    running = [writers.start(job, **place(home), out=str(out), word="the end") for job, out in outs.items()]
    for out in outs.values():
        await until(lambda out=out: out.exists() and out.stat().st_size > 0)
    written = {}
    async with opened(home) as journal:
        for number in range(60):
            # The CPU clocks of processes agree: CLOCK_MONOTONIC is the machine's.
            position = await journal.append("s", entries_of(number))
            written[position.seq] = time.monotonic()
            await asyncio.sleep(0.013)
        await journal.append("s", [said("the end")])
        for follower in running:
            assert await asyncio.to_thread(follower.wait) == 0
    for job, out in outs.items():
        late = sorted(when - written[seq] for seq, when in seen_in(out) if seq in written)
        assert len(late) == 60
        print(f"{job}: p50 {late[30] * 1000:.0f} ms, p99 {late[-1] * 1000:.0f} ms")
        assert statistics.median(late) < 0.1
        assert late[-1] < 5


async def test_followers_and_hosts_that_have_nothing_to_do_use_next_to_no_processor_time(home: Home, writers: Writers) -> None:
    folder = home.root.parent
    outs = {job: folder / job for job in ("follow_until", "read_until")}
    running = {job: writers.start(job, **place(home), out=str(out), word="the end") for job, out in outs.items()}
    for out in outs.values():
        await until(lambda out=out: out.exists() and out.stat().st_size > 0)
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        await until(lambda: all(len(out.read_text().split("\n")) == 3 for out in outs.values()))
        used = {job: _cpu(writer.pid) for job, writer in running.items()}
        own = time.process_time()
        began = time.monotonic()
        while time.monotonic() < began + 2.0:
            await asyncio.sleep(0.2)
        passed = time.monotonic() - began
        shares = {job: (_cpu(writer.pid) - used[job]) / passed for job, writer in running.items()}
        shares["a journal that is open"] = (time.process_time() - own) / passed
        await journal.append("s", [said("the end")])
        for follower in running.values():
            assert await asyncio.to_thread(follower.wait) == 0
    print(", ".join(f"{job}: {share:.1%} of a processor" for job, share in shares.items()))
    assert max(shares.values()) < 0.1


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def test_a_follower_misses_nothing_that_is_committed_while_it_reads(home: Home) -> None:
    """Each entry is followed up by the next one only after it was seen: a wake-up that is lost would stop everything."""
    async with opened(home) as one, opened(home) as two, open_reader(home) as reader:
        seen: asyncio.Queue[int] = asyncio.Queue()

        async def follow(source: object) -> None:
            async for record in source.follow():  # type: ignore[attr-defined]
                await seen.put(record.seq)

        following = [asyncio.create_task(follow(source)) for source in (one, two, reader)]
        async with asyncio.timeout(60):
            for number in range(30):
                await (one, two)[number % 2].append("s", entries_of(number))
                assert [await seen.get() for _ in following] == [number] * 3
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


def test_commands_report_while_hosts_append(home: Home, writers: Writers) -> None:
    """The inbox takes messages from any process while others write the journal: nothing in it is lost or half there."""
    folder = home.root.parent
    busy = writers.start("append", **place(home), out=str(folder / "busy"), callers=8, seed=1)
    outs = [folder / f"put-{number}" for number in range(8)]
    putting = [writers.start("put", path=str(home.inbox), out=str(out)) for out in outs]
    assert [writer.wait() for writer in putting] == [0] * 8
    busy.kill()
    ids = {out.read_text() for out in outs}
    left = [json.loads(path.read_text()) for path in home.inbox.glob("*.json")]
    assert len(ids) == 8 == len(left)
    audit(home)
    assert len(os.listdir(home.inbox)) >= 8
