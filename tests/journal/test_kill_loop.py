"""
One home, killed again and again while many callers append: after each kill every acknowledged append is there, and the next one works.

Rounds by default: 200; ``REMEDIATION_CRASH_ROUNDS`` sets another number.
"""

import asyncio
import itertools
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.appending import Acknowledged, Writers, acknowledged, text_of
from tests.support.ground import in_memory
from tests.support.journals import Stored, audit, entries_of, head_size, make_home, opened

from remediation.journal.encoding import derived_id
from remediation.model.entries import decode
from remediation.settings import Home

pytestmark = pytest.mark.crash
SEED = int(os.environ.get("REMEDIATION_SEED", "20261121"))
ROUNDS = int(os.environ.get("REMEDIATION_CRASH_ROUNDS", "0")) or 200
HOMES = 8
"""The rounds are spread over as many homes, so that auditing a log does not get slower and slower."""


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


def _text(row: Stored) -> str:
    assert row.body is not None
    return getattr(decode(row.type, row.body), "reason", "")


def _stored_quickly(home: Home, acks: list[Acknowledged]) -> int:
    """Each acknowledged append stands where it was said; how many entries there are. Signatures are for `audit`."""
    with sqlite3.connect(home.journal) as database:
        ids = dict(database.execute("SELECT seq, event_id FROM entry"))
    database.close()
    assert sorted(ids) == list(range(len(ids)))
    for ack in acks:
        assert [ids.get(ack.seq + index) for index in range(ack.entries)] == [derived_id(ack.id, i) for i in range(ack.entries)]
    return len(ids)


def _all_whole(home: Home, acks: list[Acknowledged]) -> int:
    rows = audit(home)
    assert head_size(home) <= len(rows)
    for ack in acks:
        for index in range(ack.entries):
            assert _text(rows[ack.seq + index]) == text_of(ack.id, index, ack.entries)
    ours = [words for row in rows if len(words := _text(row).split()) == 3]
    for append, parts in itertools.groupby(ours, key=lambda words: words[0]):
        stored = list(parts)
        assert [int(index) for _, index, _ in stored] == list(range(int(stored[0][2]))), f"{append} is torn apart"
    return len(rows)


async def _next_append_works(home: Home) -> None:
    async with opened(home) as journal:
        size = journal.size
        assert (await journal.append("after", entries_of("after"))).seq == size


def test_a_host_that_is_killed_again_and_again_loses_nothing_that_it_acknowledged(writers: Writers) -> None:
    rng = random.Random(SEED)
    began = time.monotonic()
    entries = acknowledgements = early = 0
    with in_memory("loop") as folder:
        for number in range(HOMES):
            home = make_home(folder / str(number))
            acks: list[Acknowledged] = []
            rounds = ROUNDS // HOMES
            for turn in range(rounds):
                out = folder / f"{number}-{turn}"
                callers = rng.choice((1, 8, 64))
                writer = writers.start("append", home=str(home.root), keys=str(home.keys), out=str(out), callers=callers, seed=turn)
                if rng.random() < 0.85:
                    _wait_for(out)
                time.sleep(rng.random() ** 2 * 0.06)
                writer.kill()
                told = acknowledged(out)
                early += not told
                acks += told
                _stored_quickly(home, acks)
                if turn % 5 == 4 or turn == rounds - 1:
                    _all_whole(home, acks)
                    asyncio.run(_next_append_works(home))
            entries += _all_whole(home, acks)
            acknowledgements += len(acks)
    print(
        f"{ROUNDS} kills ({early} before the first acknowledgement), {acknowledgements} acknowledged appends, "
        f"{entries} entries, {time.monotonic() - began:.0f} s; seed {SEED}"
    )
    assert acknowledgements > 10 * ROUNDS


def _wait_for(out: Path) -> None:
    end = time.monotonic() + 30
    while not (out.exists() and out.stat().st_size):
        assert time.monotonic() < end
        time.sleep(0.001)
