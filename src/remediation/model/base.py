"""What every value shares: frozen, closed, silent about its input when it is refused."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Frozen(BaseModel):
    """An immutable value. Unknown fields are refused; validation errors don't repeat the input."""

    # What validates a model is made when the first one is: no program needs all of them, and making them was a third of a start.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


class Severity(StrEnum):
    """How bad, by triage class: P0 (everything stops) to P3 (can wait)."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"

    def worse_than(self, other: Severity) -> bool:
        """Whether this severity is more urgent than `other`."""
        return self.value < other.value


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MOMENT = -62_135_596_800_000
_LAST_MOMENT = 253_402_300_799_999
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def parse_duration(value: Any) -> timedelta:
    """
    A duration from ``"30s"``, ``"10m"``, ``"2h"``, ``"7d"``, ``"250ms"``, or a number of seconds.

    Raises:
        ValueError: anything else, or a negative duration.

    """
    try:
        if isinstance(value, timedelta):
            result = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            result = timedelta(seconds=value)
        elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
            result = timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])
        else:
            raise ValueError('not a duration: write "30s", "10m", "2h", "7d", or a number of seconds')
    except OverflowError as error:
        raise ValueError("a duration of more than 999999999 days can't be told") from error
    if result < timedelta(0):
        raise ValueError("a duration can't be negative")
    return result


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A `timedelta` that accepts what people write in configuration; see `parse_duration`."""


def milliseconds(duration: timedelta) -> int:
    """`duration` in whole milliseconds, the unit of every duration in the journal."""
    return round(duration.total_seconds() * 1000)


def new_id() -> str:
    """A random identifier: 128 bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def timestamp(moment: datetime) -> str:
    """`moment` as journal time: UTC, three decimals, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def parse_timestamp(text: str) -> datetime:
    """
    The aware UTC datetime of a journal time.

    Raises:
        ValueError: not of that form.

    """
    return datetime.fromisoformat(text).astimezone(UTC)


def epoch_ms(moment: datetime) -> int:
    """`moment` as whole milliseconds since 1970-01-01 UTC."""
    return round(moment.timestamp() * 1000)


def from_epoch_ms(value: int) -> datetime:
    """The aware UTC datetime of milliseconds since 1970-01-01 UTC; for what lies outside the years 1 to 9999, the nearest that does not."""
    return _EPOCH + timedelta(milliseconds=min(max(value, _FIRST_MOMENT), _LAST_MOMENT))
