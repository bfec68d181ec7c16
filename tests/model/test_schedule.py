"""When things that repeat are due."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.model.schedule import Schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_an_interval_counts_from_the_start_of_a_run() -> None:
    schedule = Schedule(every="10m")
    assert schedule.next_after(at("2026-01-01T00:03:07")) == at("2026-01-01T00:13:07")
    assert schedule.period(at("2026-01-01T00:03:07")) == timedelta(minutes=10)


def test_cron_is_read_in_the_zone_that_is_named() -> None:
    schedule = Schedule(cron="30 6 * * MON-FRI", timezone="Europe/Vienna")
    assert schedule.next_after(at("2026-01-09T12:00")) == at("2026-01-12T05:30")
    assert schedule.next_after(at("2026-07-10T12:00")) == at("2026-07-13T04:30")
    assert schedule.period(at("2026-01-08T12:00")) == timedelta(days=3)


def test_local_is_the_zone_of_the_variable_tz(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(cron="0 12 * * *")
    monkeypatch.setenv("TZ", "America/New_York")
    assert schedule.next_after(at("2026-01-01T00:00")) == at("2026-01-01T17:00")
    monkeypatch.setenv("TZ", "")
    assert schedule.next_after(at("2026-01-01T00:00")) == at("2026-01-01T12:00")


def test_a_zone_that_the_variable_misspells_is_an_error_and_not_another_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Mars/Olympus")
    with pytest.raises(ValueError, match="the variable TZ"):
        Schedule(cron="0 12 * * *")


def test_a_run_in_the_hour_that_daylight_saving_skips_is_not_lost_and_in_the_repeated_one_not_doubled() -> None:
    schedule = Schedule(cron="30 2 * * *", timezone="Europe/Vienna")
    # 2026-03-29 has no 02:30, 2026-10-25 has two.
    for day in ("2026-03-28T12:00", "2026-10-24T12:00"):
        first = schedule.next_after(at(day))
        second = schedule.next_after(first)
        assert first - at(day) < timedelta(days=1)
        assert timedelta(hours=22) < second - first < timedelta(hours=26)


def test_seconds_can_stand_first() -> None:
    assert Schedule(cron="*/5 * * * * *", timezone="UTC").next_after(at("2026-01-01T00:00:03")) == at("2026-01-01T00:00:05")


@given(
    st.one_of(
        st.integers(100, 10**9).map(lambda ms: Schedule(every=f"{ms}ms")),
        st.integers(0, 59).map(lambda minute: Schedule(cron=f"{minute} * * * *", timezone="UTC")),
    ),
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),
)
def test_the_table_makes_the_same_schedule_again_and_what_is_next_comes_later(schedule: Schedule, moment: datetime) -> None:
    assert Schedule(**schedule.table()) == schedule
    assert schedule.next_after(moment) > moment
