"""Durations as people write them, moments as the journal writes them, identifiers that don't repeat."""

import datetime as dt
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediation.model.base import (
    Frozen,
    Severity,
    epoch_ms,
    from_epoch_ms,
    milliseconds,
    new_id,
    parse_duration,
    parse_timestamp,
    timestamp,
)

moments = st.datetimes(min_value=dt.datetime(1, 1, 3), max_value=dt.datetime(9999, 12, 29), timezones=st.timezones())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("2h", 7200),
        ("7d", 604_800),
        ("250ms", 0.25),
        ("0s", 0),
        ("1.5h", 5400),
        (" 30 s ", 30),
        ("5", 5),
        (5, 5),
        (0.25, 0.25),
        (dt.timedelta(minutes=1), 60),
    ],
)
def test_a_duration_is_what_people_mean(text: Any, seconds: float) -> None:
    assert parse_duration(text) == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "-5s",
        "5 weeks",
        "1h30m",
        "5S",
        "1e3s",
        "inf",
        "nan",
        -1,
        -0.001,
        math.nan,
        math.inf,
        -math.inf,
        True,
        None,
        [],
        b"5s",
        "9" * 5000 + "d",
        10**400,
        1e300,
        dt.timedelta(seconds=-1),
        "5s\n5s",
        "٥s" * 2,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_duration_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|finite|NaN|integer"):
        parse_duration(value)


@given(st.one_of(st.text(max_size=20), st.floats(), st.integers(), st.none()))
def test_nothing_else_raises_anything_else(value: Any) -> None:
    try:
        assert parse_duration(value) >= dt.timedelta(0)
    except ValueError:
        pass


@given(moments)
def test_a_moment_is_written_in_one_form_and_read_back_to_the_millisecond(moment: dt.datetime) -> None:
    text = timestamp(moment)
    assert len(text) == 24
    assert text.endswith("Z")
    back = parse_timestamp(text)
    assert back.tzinfo is dt.UTC
    assert dt.timedelta(0) <= moment - back < dt.timedelta(milliseconds=1)
    assert timestamp(back) == text


@given(st.integers(epoch_ms(dt.datetime(1, 1, 1, tzinfo=dt.UTC)), epoch_ms(dt.datetime(9999, 12, 31, tzinfo=dt.UTC))))
def test_milliseconds_since_1970_are_exact_in_both_directions(value: int) -> None:
    assert epoch_ms(from_epoch_ms(value)) == value


@pytest.mark.parametrize("value", [2**52, 2**53 - 1, 2**63, 10**30, -(2**52), -(2**53), -(10**30)])
def test_a_moment_outside_every_calendar_is_its_end_and_never_an_error(value: int) -> None:
    """Somebody may ask for a pause until then; what was journaled must be shown for ever."""
    assert timestamp(from_epoch_ms(value)) in ("9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00.000Z")


@given(st.integers(0, 10**15))
def test_durations_in_entries_are_whole_milliseconds(value: int) -> None:
    assert milliseconds(dt.timedelta(milliseconds=value)) == value


def test_ids_are_long_and_never_the_same() -> None:
    ids = {new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(id_) == 32 and set(id_) <= set("0123456789abcdef") for id_ in ids)


def test_severities_are_ordered_by_urgency() -> None:
    assert Severity.P0.worse_than(Severity.P1)
    assert not Severity.P2.worse_than(Severity.P2)
    assert not Severity.P3.worse_than(Severity.P0)


def test_values_are_frozen_closed_and_silent_about_what_they_refuse() -> None:
    class Value(Frozen):
        number: int

    value = Value(number=1)
    with pytest.raises(ValidationError):
        value.number = 2
    with pytest.raises(ValidationError):
        Value(number=1, other=2)
    with pytest.raises(ValidationError) as refused:
        Value(number="hunter2")
    assert "hunter2" not in str(refused.value)
