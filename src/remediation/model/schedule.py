"""
When something that repeats is due: an interval or a cron expression, as a value.

Cron expressions have five fields (crontab(5)), or six with seconds first. They are read by `cronsim`, which follows Debian's cron
where daylight saving time skips or repeats an hour.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import model_validator

from remediation.model.base import Duration, Frozen, milliseconds
from remediation.model.text import printable

LOCAL = "local"
_LOCALTIME = "/etc/localtime"


class Schedule(Frozen):
    """Exactly one of `every` and `cron`."""

    every: Duration | None = None
    """From the start of one run to the start of the next; at least 100 ms."""
    cron: str = ""
    timezone: str = LOCAL
    """For `cron`: a name of the IANA database, ``UTC``, or ``local``: that of the variable TZ, else of /etc/localtime, else UTC."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if (self.every is None) == (not self.cron):
            raise ValueError('needs exactly one of every = "10m" and cron = "*/10 * * * *"')
        if self.every is not None and self.every < timedelta(milliseconds=100):
            raise ValueError("every must be at least 100 ms")
        if self.cron:
            try:
                self.next_after(datetime.now(UTC))
            except (CronSimError, StopIteration) as error:
                why = str(error) or "it never comes"
                raise ValueError(
                    f"{printable(self.cron)!r} is no cron expression ({why}); write minute, hour, day of month, month, day of week"
                ) from error
        return self

    def next_after(self, moment: datetime) -> datetime:
        """The first due time after `moment` (aware), in UTC. For `every`: `moment` is the start of a run."""
        if self.every is not None:
            return moment.astimezone(UTC) + self.every
        return next(CronSim(self.cron, moment.astimezone(zone(self.timezone)))).astimezone(UTC)

    def period(self, moment: datetime) -> timedelta:
        """The time from the first to the second due time after `moment`."""
        if self.every is not None:
            return self.every
        first = self.next_after(moment)
        return self.next_after(first) - first

    def table(self) -> dict[str, str]:
        """The schedule as it would stand in a configuration file; ``Schedule(**table)`` makes it again."""
        if self.every is not None:
            return {"every": f"{milliseconds(self.every)}ms"}
        return {"cron": self.cron, "timezone": self.timezone}

    def __str__(self) -> str:
        return f"every {self.every}" if self.every is not None else f"at {self.cron} ({self.timezone} time)"


def zone(name: str) -> tzinfo:
    """
    The time zone `name`; see `Schedule.timezone`.

    Raises:
        ValueError: this machine doesn't know it.

    """
    if name == "UTC":
        return UTC
    wanted = os.environ.get("TZ") if name == LOCAL else name
    if wanted is None:
        try:
            with open(_LOCALTIME, "rb") as file:
                return ZoneInfo.from_file(file)
        except (OSError, ValueError):
            return UTC
    try:
        return ZoneInfo(wanted.removeprefix(":")) if wanted else UTC
    except (OSError, ValueError, LookupError) as error:
        where = "the variable TZ" if name == LOCAL else "timezone"
        raise ValueError(
            f'{printable(wanted)!r} ({where}) is no time zone that this machine knows; write timezone = "Europe/Vienna" or "UTC"'
        ) from error
