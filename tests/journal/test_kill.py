"""Processes that append are killed at any moment: what they acknowledged is there, and nothing is half there."""

import asyncio
import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.appending import Acknowledged, Writer, Writers, acknowledged, text_of
from tests.support.journals import Seen, Stored, audit, entries_of, head_size, make_home, opened, texts, until

from remediation.journal.encoding import derived_id
from remediation.model.entries import decode
from remediation.settings import Home

pytestmark = pytest.mark.crash
SEED = int(os.environ.get("REMEDIATION_SEED", "20261120"))


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


def place(home: Home) -> dict[str, str]:
    return {"home": str(home.root), "keys": str(home.keys)}


def said_in(row: Stored) -> str:
    assert row.body is not None
    return getattr(decode(row.type, row.body), "reason", "")


def check_all_is_there(home: Home, acks: list[Acknowledged]) -> list[Stored]:
    """The log is proved, each acknowledged append stands where it was said, and each append is there as a whole or not at all."""
    rows = audit(home)
    assert head_size(home) <= len(rows)
    for ack in acks:
        for index in range(ack.entries):
            row = rows[ack.seq + index]
            assert (row.id, said_in(row)) == (derived_id(ack.id, index), text_of(ack.id, index, ack.entries))
    ours = [said_in(row).split() for row in rows if len(said_in(row).split()) == 3]
    for append, parts in itertools.groupby(ours, key=lambda words: words[0]):
        stored = list(parts)
        assert [int(index) for _, index, _ in stored] == list(range(int(stored[0][2]))), f"{append} is torn apart"
    return rows


async def next_append_works(home: Home) -> None:
    async with opened(home, seen := Seen()) as journal:
        await journal.append("after", entries_of("after"))
        assert len(seen.records) == journal.size


async def test_a_kill_between_any_two_steps_of_an_append_loses_nothing_that_was_acknowledged(
    tmp_path: Path, writers: Writers
) -> None:
    """Steps of opening, of the lock and its hint, of each statement of the transaction, of head.note, of closing."""
    home = make_home(tmp_path)
    out = tmp_path / "out"
    for stop in itertools.count():
        status = writers.start("once", **place(home), out=str(out), text=f"stop-{stop}", stop=stop).wait()
        check_all_is_there(home, acknowledged(out))
        await next_append_works(home)
        if status == 0:
            break
        assert status == -9
    assert stop > 30
    assert acknowledged(out)[-1].id == f"stop-{stop}"


async def test_one_writer_is_killed_again_and_again(tmp_path: Path, writers: Writers) -> None:
    rng = random.Random(SEED)
    lost_answers = total = 0
    for number in range(12):
        home = make_home(tmp_path / str(number))
        for turn in range(9):
            out = tmp_path / f"{number}-{turn}"
            writer = writers.start("append", **place(home), out=str(out), callers=rng.choice((1, 8, 40)), seed=turn)
            if rng.random() < 0.9:
                await until(lambda out=out: out.exists() and out.stat().st_size > 0)
            time.sleep(rng.random() * 0.06)
            writer.kill()
            acks = [ack for earlier in range(turn + 1) for ack in acknowledged(tmp_path / f"{number}-{earlier}")]
            if turn % 3 == 2:
                rows = check_all_is_there(home, acks)
                lost_answers += len(rows) - sum(ack.entries for ack in acks) - turn // 3
                total += len(rows)
                await next_append_works(home)
    assert total > 1000
    assert lost_answers >= 0


@pytest.mark.parametrize("processes", [2, 8])
async def test_several_writers_are_killed_while_the_others_go_on(tmp_path: Path, writers: Writers, processes: int) -> None:
    rng = random.Random(SEED + processes)
    home = make_home(tmp_path)
    outs: list[Path] = []

    def start() -> tuple[Writer, Path]:
        out = tmp_path / f"out-{len(outs)}"
        outs.append(out)
        return writers.start("append", **place(home), out=str(out), callers=rng.choice((1, 6)), seed=len(outs)), out

    running = [start() for _ in range(processes)]
    for _ in range(24 // processes + 6):
        await asyncio.sleep(rng.random() * 0.15)
        victim = rng.randrange(processes)
        running[victim][0].kill()
        running[victim] = start()
    # Nobody starves: each gets its turn, however many want it.
    await until(lambda: all(out.exists() and out.stat().st_size > 0 for _, out in running))
    for writer, _ in running:
        writer.kill()
    rows = check_all_is_there(home, [ack for out in outs for ack in acknowledged(out)])
    assert len(rows) > 50
    assert sum(bool(acknowledged(out)) for out in outs) >= processes
    await next_append_works(home)


async def test_writers_that_end_in_order_have_everything_stored_once(tmp_path: Path, writers: Writers) -> None:
    home = make_home(tmp_path)
    outs = [tmp_path / f"out-{n}" for n in range(4)]
    running = [
        writers.start("append", **place(home), out=str(out), callers=5, seed=seed, limit=20) for seed, out in enumerate(outs)
    ]
    assert [writer.wait() for writer in running] == [0] * 4
    acks = [ack for out in outs for ack in acknowledged(out)]
    assert len(acks) == 400
    assert len(check_all_is_there(home, acks)) == sum(ack.entries for ack in acks) == head_size(home)


async def test_a_guard_holds_over_all_processes(tmp_path: Path, writers: Writers) -> None:
    """Each guard sees all entries before its own, whoever wrote them: together they take exactly as many as there are."""
    home = make_home(tmp_path)
    running = [writers.start("tokens", **place(home), callers=4, cap=100) for _ in range(6)]
    await asyncio.sleep(0.15)
    running[0].kill()
    assert [writer.wait() for writer in running[1:]] == [0] * 5
    assert [said_in(row) for row in audit(home)] == ["token"] * 100


async def test_entries_of_another_process_are_followed_and_folded_soon(tmp_path: Path, writers: Writers) -> None:
    home = make_home(tmp_path)
    out = tmp_path / "seen"
    count = 40
    follower = writers.start("follow", **place(home), out=str(out), count=count)
    await until(lambda: out.exists() and out.stat().st_size > 0)
    written = {}
    async with opened(home) as journal:
        for number in range(count):
            position = await journal.append("s", entries_of(number))
            written[position.seq] = time.monotonic()
            await asyncio.sleep(0.005)
    assert follower.wait() == 0
    seen = [line.split() for line in out.read_text().splitlines()[1:]]
    assert [int(seq) for seq, _ in seen] == list(range(count))
    late = sorted(float(when) - written[int(seq)] for seq, when in seen)
    print(f"an entry of another process is seen after {late[count // 2] * 1000:.0f} ms (at most {late[-1] * 1000:.0f} ms)")
    assert late[-1] < 10


async def test_a_host_folds_what_others_wrote_before_its_own_next_entry(tmp_path: Path, writers: Writers) -> None:
    home = make_home(tmp_path)
    async with opened(home, seen := Seen()) as journal:
        for turn in range(5):
            out = tmp_path / f"out-{turn}"
            assert writers.start("append", **place(home), out=str(out), callers=2, seed=turn, limit=3).wait() == 0
            before = len(audit(home))
            shown: list[int] = []
            await journal.append("own", entries_of("own"), guard=lambda shown=shown: shown.append(len(seen.records)), expected=turn)
            assert shown == [before]
        assert texts(seen.records).count("own") == 5


async def test_a_crash_between_commit_and_hint_is_noticed_by_the_next_writer(tmp_path: Path, writers: Writers) -> None:
    """The hint in the lock file says `dirty` then, and everybody looks into the database."""
    home = make_home(tmp_path)
    out = tmp_path / "out"
    async with opened(home, seen := Seen()) as journal:
        await journal.append("s", entries_of(1))
        hints = set()
        for stop in itertools.count():
            status = writers.start("once", **place(home), out=str(out), text=f"stop-{stop}", stop=stop).wait()
            stored = len(audit(home))
            hint = home.journal_lock.read_text().strip()
            hints.add(hint if hint == "dirty" else "")
            assert hint in (str(stored), "dirty")
            await journal.refresh()
            assert len(seen.records) == journal.size == stored
            assert home.journal_lock.read_text().strip() == str(stored)
            if status == 0:
                break
        assert hints == {"dirty", ""}
        check_all_is_there(home, acknowledged(out))
