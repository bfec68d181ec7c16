"""Reading by stream, type, time and correlation: exactly what is asked for, and never by looking at the whole table."""

import asyncio
import itertools
import random
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.journals import entries_of, make_home, opened

from remediation.bootstrap import open_reader
from remediation.journal.selection import EVERYTHING, Selection
from remediation.model.base import parse_timestamp
from remediation.model.entries import HostStopped, Record
from remediation.settings import Home
from remediation.stores import queries, schema

STREAMS = ("host", "incident/aa/1", "incident/aa/2", "incident/bb/1", 's/"quoted"', "s/ü")
CORRELATIONS = (None, "aa-1", "bb-1", "other", 'say "a","id":"b', "ünï\\code", ',"correlation":"aa-1')
TYPES = ("host.stopped", "pause.ended")
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
FIELDS = {
    "stream": (None, *STREAMS, "incident/", "incident/aa/", "s/", "nothing", "nothing/"),
    "types": ((), TYPES[:1], TYPES[1:], TYPES, ("nobody.knows",)),
    "since": (None, FIRST, FIRST + timedelta(seconds=7), FIRST + timedelta(days=9)),
    "until": (None, FIRST, FIRST + timedelta(seconds=11), FIRST + timedelta(days=9)),
    "correlation": (*CORRELATIONS, "nobody-knows"),
}
SELECTIONS = [
    Selection.of(**dict(zip(FIELDS, values, strict=True)))
    for values in itertools.product(
        (None, "a", "a/"), ((), ("x",), ("x", "y")), (None, FIRST), (None, FIRST + timedelta(days=1)), (None, "x-y")
    )
]


class Wandering:
    """A clock that goes back now and then."""

    def __init__(self) -> None:
        self._steps = random.Random(4)

    def now(self) -> datetime:
        return FIRST + timedelta(seconds=self._steps.randrange(20))

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three hundred entries of all kinds."""
    made = make_home(tmp_path_factory.mktemp("home"))
    chance = random.Random(3)

    async def write() -> None:
        async with opened(made, clock=Wandering()) as journal:
            for number in range(300):
                entries = [HostStopped(instance="x", reason="done")] if chance.random() < 0.3 else entries_of(number)
                await journal.append(chance.choice(STREAMS), entries, correlation=chance.choice(CORRELATIONS))

    asyncio.run(write())
    return made


def holds(record: Record, *, stream=None, types=(), since=None, until=None, correlation=None) -> bool:
    """What a reader means, without any SQL."""
    head = record.head
    at = parse_timestamp(head.time)
    return (
        (stream is None or (head.stream.startswith(stream) if stream.endswith("/") else head.stream == stream))
        and (not types or head.type in types)
        and (since is None or at >= since)
        and (until is None or at < until)
        and (correlation is None or head.correlation == correlation)
    )


@given(
    wanted=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FIELDS.items()}),
    after=st.integers(-2, 310),
    limit=st.one_of(st.none(), st.integers(0, 40)),
    near=st.booleans(),
)
def test_a_reader_gets_what_it_asks_for_in_the_order_of_the_log(home: Home, wanted, after, limit, near) -> None:
    async def read() -> None:
        async with open_reader(home) as reader:
            everything = [record async for record in reader.read()]
            expected = [record.seq for record in everything if holds(record, **wanted)]
            assert [record.seq for record in await reader.newest(limit or 7, **wanted)] == expected[-(limit or 7) :]
            found = [record.seq async for record in reader.read(after=after, limit=limit, **wanted)]
            assert found == [seq for seq in expected if seq > after][:limit]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "NEAR", 4096 if near else -1)
        asyncio.run(read())


def test_many_positions_are_read_in_portions(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remediation.journal.reading._POSITIONS", 7)
    monkeypatch.setattr("remediation.journal.reading.PAGE", 3)
    monkeypatch.setattr(queries, "NEAR", -1)

    async def read() -> None:
        async with open_reader(home) as reader:
            everything = [record async for record in reader.read()]
            for limit in (0, 1, 6, 7, 8, 14, 50, None):
                found = [record.seq async for record in reader.read(stream="incident/", types=TYPES, limit=limit)]
                assert found == [each.seq for each in everything if holds(each, stream="incident/")][:limit]

    asyncio.run(read())


async def test_a_moment_is_one_in_any_time_zone_and_none_without(home: Home) -> None:
    there = (FIRST + timedelta(seconds=7)).astimezone(timezone(timedelta(hours=-9)))
    async with open_reader(home) as reader:
        here = [record.seq async for record in reader.read(since=FIRST + timedelta(seconds=7))]
        assert [record.seq async for record in reader.read(since=there)] == here
        with pytest.raises(ValueError, match="time zone"):
            [record async for record in reader.read(until=datetime(2026, 3, 1))]


@pytest.fixture
def empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema.statements())
    return connection


def plan(connection: sqlite3.Connection, query: queries.Query) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.values)]


@pytest.mark.parametrize("wanted", SELECTIONS, ids=str)
def test_no_query_scans_the_table(empty: sqlite3.Connection, wanted: Selection) -> None:
    found = [queries.positions(5, 10, wanted, near=near, newest=newest) for near in (False, True) for newest in (False, True)]
    for query in (*found, queries.page(5, 10, wanted)):
        steps = [] if query is None else plan(empty, query)
        assert not [step for step in steps if step.startswith("SCAN") and step != "SCAN known"], wanted
    assert not [step for step in plan(empty, queries.Query(queries.at(3), (1, 2, 3))) if step.startswith("SCAN")]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Selection(stream="a", types=("x",), since="2026"), "(stream=?"),
        (Selection(stream="a/"), "COVERING INDEX sqlite_autoindex_entry_2"),
        (Selection(stream="a/", types=("x", "y")), "entry_type_time (type=?"),
        (Selection(since="2026", until="2027"), "COVERING INDEX entry_type_time (type=? AND time>? AND time<?)"),
        (Selection(correlation="x-y", since="2026", types=("x",)), "entry_correlation (<expr>=?)"),
    ],
    ids=str,
)
def test_the_index_is_the_one_that_leads_to_the_fewest(empty: sqlite3.Connection, wanted: Selection, index: str) -> None:
    assert [step for step in plan(empty, queries.positions(-1, 10, wanted)) if index in step]


def test_all_entries_and_one_stream_lie_in_order_already(empty: sqlite3.Connection) -> None:
    for wanted in (EVERYTHING, Selection(stream="a"), Selection(stream="a", types=("x",), until="2026")):
        query = queries.page(5, 10, wanted)
        assert query is not None
        assert not [step for step in plan(empty, query) if "TEMP B-TREE" in step]


def test_the_schema_holds_the_index_that_the_queries_ask_for() -> None:
    assert queries.CORRELATION_INDEX in schema.statements()


def test_an_incident_s_own_entries_take_no_room_in_the_index_of_correlations(home: Home) -> None:
    with sqlite3.connect(f"file:{home.journal}?mode=ro", uri=True) as connection:
        listed = connection.execute(
            queries.CORRELATION_INDEX.partition(" WHERE ")[2].rstrip(";").join(("SELECT DISTINCT stream FROM entry WHERE ", ""))
        ).fetchall()
        everything = connection.execute("SELECT leaf, stream FROM entry").fetchall()
    own = {("incident/aa/1", '"correlation":"aa-1"'), ("incident/bb/1", '"correlation":"bb-1"')}
    assert all(any(text.encode() in leaf and name == stream for leaf, name in everything) for stream, text in own)
    assert listed
    connection.close()


def test_what_an_index_leads_to_is_checked_against_the_leaf(home: Home, tmp_path: Path) -> None:
    import shutil

    from remediation.errors import JournalDamaged

    shutil.copytree(home.root, tmp_path / "home")
    spoilt = Home(tmp_path / "home")
    with sqlite3.connect(spoilt.journal) as connection:
        connection.execute("UPDATE entry SET type = 'approval.granted' WHERE seq = 5")
    connection.close()

    async def read() -> None:
        async with open_reader(spoilt) as reader:
            with pytest.raises(JournalDamaged, match="contradict"):
                [record async for record in reader.read(types=["approval.granted"])]

    asyncio.run(read())
