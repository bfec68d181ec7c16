"""Which checkpoints are kept (format v1, section 5): the newest, what was published, and one an hour; the rest is thinned out."""

import datetime as dt
from pathlib import Path

import pytest
from tests.support.journals import audit, checkpoint_sizes, entries_of, head_size, make_home, opened

from remediation.settings import Home


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.moment = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)

    def now(self) -> dt.datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.moment += dt.timedelta(seconds=seconds)

    def pass_by(self, **time: float) -> None:
        self.moment += dt.timedelta(**time)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


async def test_of_many_commits_the_newest_checkpoint_and_the_published_ones_stay(home: Home) -> None:
    async with opened(home) as journal:
        for number in range(30):
            await journal.append("s", entries_of(number))
            if number == 9:
                await journal.publish()
        sizes = checkpoint_sizes(home)
        assert {0, 10, 30} <= set(sizes)
        # The head is written once a second too, so that one or the other may have been published by itself.
        assert len(sizes) < 10
    assert len(audit(home)) == 30


async def test_one_checkpoint_an_hour_stays(home: Home) -> None:
    clock = SetClock()
    async with opened(home, clock=clock) as journal:
        last = []
        for hour in range(5):
            for number in range(8):
                await journal.append("s", entries_of(f"{hour} {number}"))
                clock.pass_by(minutes=7)
            last.append(journal.size)
            clock.pass_by(minutes=4)
    assert set(last) <= set(checkpoint_sizes(home))
    assert len(checkpoint_sizes(home)) < 20
    audit(home)


async def test_a_clock_that_jumps_back_and_forth_loses_no_hour_and_no_entry(home: Home) -> None:
    clock = SetClock()
    async with opened(home, clock=clock) as journal:
        for number in range(20):
            await journal.append("s", entries_of(number), expected=number)
            clock.pass_by(days=(-1) ** number * 400)
    assert len(audit(home)) == 20


@pytest.mark.parametrize("year", [1, 1969, 9999])
async def test_a_clock_that_is_far_off_is_no_reason_to_stop(home: Home, year: int) -> None:
    clock = SetClock()
    clock.moment = dt.datetime(year, 6, 15, tzinfo=dt.UTC)
    async with opened(home, clock=clock) as journal:
        await journal.append("s", entries_of(1))
    (row,) = audit(home)
    assert row.time == f"{year:04d}-06-15T00:00:00.000Z"


async def test_each_stored_checkpoint_proves_its_prefix_after_many_hosts(home: Home) -> None:
    for turn in range(4):
        async with opened(home) as one, opened(home) as other:
            for number in range(5):
                await one.append("s", entries_of(f"{turn} {number}"))
                await other.append("s", entries_of(f"{turn} {number}"))
    assert head_size(home) == len(audit(home)) == 40
    assert checkpoint_sizes(home)[-1] == 40


@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 513, 1024])
async def test_tiles_are_right_around_their_borders_in_one_commit_and_in_many(tmp_path: Path, size: int) -> None:
    one, many = make_home(tmp_path / "one"), make_home(tmp_path / "many")
    async with opened(one) as journal:
        await journal.append("s", entries_of(*range(size)))
    async with opened(many) as journal:
        for start in range(0, size, 100):
            await journal.append("s", entries_of(*range(start, min(start + 100, size))))
    async with opened(many) as journal:
        await journal.append("s", entries_of("after"))
    assert (len(audit(one)), len(audit(many))) == (size, size + 1)


async def test_a_tree_of_three_levels_is_restored_and_grown(home: Home) -> None:
    size = 256 * 256 - 3
    async with opened(home) as journal:
        for start in range(0, size, 8192):
            await journal.append("s", entries_of(*range(start, min(start + 8192, size))))
    for number in range(3):
        async with opened(home) as journal:
            await journal.append("s", entries_of(number, number))
    assert len(audit(home)) == size + 6
