"""The quick way through many rows: it takes only what the careful way takes, and says the same of it."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.sample_log import ORIGIN, SampleLog

from remediation.proof import Leaf, Replay, leaf_hash, payload_digest
from remediation.proof.plain import PlainRows

_SPICE = ["", '"', "\\", "\n", "\x7f", "é", "-", "/", "incident/", "c0ffee", '","id":"', "\ud800", "0", "Z", "é"]


def log() -> SampleLog:
    made = SampleLog()
    for number in range(6):
        made.add("incident/c0ffee", note=number)
        made.add("incident/c0f-fee/1", note=number)
        made.add(f"s/{number % 2}", note=number)
    made.add("incident/a/b", note=1, leaf={"correlation": "a-b", "causation": None})
    made.add("incident/a/b", note=2, leaf={"correlation": "a/b"})
    made.add("incident/", note=3, leaf={"correlation": "a"})
    return made


ROWS = log().table()


def taken(rows: Sequence[Any], seq: int = 0) -> tuple[int, list[bytes], PlainRows]:
    plain, hashes = PlainRows(ORIGIN, whole=True), list[bytes]()
    return plain.bulk(tuple(zip(*rows, strict=True)), seq, hashes, []), hashes, plain


def test_plain_rows_are_taken_at_once() -> None:
    number, hashes, plain = taken(ROWS)
    assert number == len(ROWS)
    assert hashes == [leaf_hash(row[0] or b"") for row in ROWS]
    assert plain.streams["incident/c0ffee"] == 6


def test_correlations_that_the_stream_does_not_tell_are_noted_as_the_index_lists_them() -> None:
    """An index of `schema.sql` lists what is correlated with anything but the incident that its stream is of."""
    expected = []
    for row in ROWS:
        leaf = Leaf.parse(row[0] or b"")
        if leaf.correlation is not None and leaf.stream != "incident/" + leaf.correlation.replace("-", "/"):
            expected.append((leaf.seq, leaf.correlation))
    at_once, one_by_one = taken(ROWS)[2], PlainRows(ORIGIN, whole=True)
    assert one_by_one.take(iter(ROWS), 0, [], []) is None
    assert at_once.strays == one_by_one.strays == expected != []


@pytest.mark.parametrize("at", range(9))
def test_a_row_in_which_anything_is_missing_is_not_taken(at: int) -> None:
    rows = [list(row) for row in ROWS]
    rows[4][at] = None
    assert taken(rows)[0] == 0


def test_rows_before_one_with_an_unexpected_place_in_its_stream_are_taken() -> None:
    made = log()
    made.add("s/0", leaf={"stream_seq": 9})
    made.add("s/1")
    number, hashes, _ = taken(made.table())
    assert (number, len(hashes)) == (len(ROWS), len(ROWS))


@pytest.mark.parametrize("at", [3, 6])
def test_a_number_with_a_fraction_is_none(at: int) -> None:
    rows = [list(row) for row in ROWS[:1]]
    rows[0][at] = 0.0
    rows[0][0] = rows[0][0].replace(b'"seq":0' if at == 3 else b'"stream_seq":0', b'"seq":0.0' if at == 3 else b'"stream_seq":0.0')
    assert taken(rows)[0] == 0
    assert PlainRows(ORIGIN, whole=True).take(iter(rows), 0, [], []) is rows[0]


@st.composite
def spoiled(draw: st.DrawFn) -> list[list[Any]]:
    """Rows with something else in a few of their columns; often the same in the leaf, as an attacker would do it who has the key."""
    rows: list[list[Any]] = [list(row) for row in ROWS]
    for _ in range(draw(st.integers(1, 2))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        at = draw(st.sampled_from([0, 0, 1, 2, *range(3, 9)]))
        value = row[at]
        if isinstance(value, bytes):
            place = draw(st.integers(0, len(value)))
            other = draw(st.sampled_from([text.encode("utf-8", "surrogatepass") for text in _SPICE]) | st.binary(max_size=2))
            row[at] = value[:place] + other + value[place + draw(st.integers(0, 2)) :]
        elif isinstance(value, str):
            place = draw(st.integers(0, len(value)))
            row[at] = value[:place] + draw(st.sampled_from(_SPICE)) + value[place + draw(st.integers(0, 2)) :]
            if isinstance(row[0], bytes) and draw(st.booleans()):
                row[0] = row[0].replace(b'"' + value.encode() + b'"', b'"' + row[at].encode("utf-8", "surrogatepass") + b'"')
        else:
            row[at] = draw(st.sampled_from([value + 1, -value - 1, float(value), str(value), 10**15, 10**16]))
            if isinstance(row[0], bytes) and draw(st.booleans()):
                name = b"seq" if at == 3 else b"stream_seq"
                row[0] = row[0].replace(b'"%s":%d,' % (name, value), b'"%s":%s,' % (name, str(row[at]).encode()))
    return rows


@settings(max_examples=1000, deadline=None)
@given(spoiled())
def test_whatever_is_taken_at_once_is_what_the_format_says(rows: list[list[Any]]) -> None:
    number, hashes, _ = taken(rows)
    for row, hashed in zip(rows[:number], hashes, strict=True):
        leaf, salt, body, *columns = row
        parsed = Leaf.parse(leaf)
        assert [parsed.seq, parsed.id, parsed.stream, parsed.stream_seq, parsed.type, parsed.time] == columns
        assert parsed.origin == ORIGIN
        assert parsed.payload == payload_digest(salt, body)
        assert hashed == leaf_hash(leaf)
    many, few = Replay(ORIGIN), Replay(ORIGIN)
    if number == len(rows):
        many.feed_many([tuple(row) for row in rows], tuple(zip(*rows, strict=True)))
        few.feed([tuple(row) for row in rows])
        assert (many.size, many.streams, many.problems.listed) == (few.size, few.streams, few.problems.listed)
