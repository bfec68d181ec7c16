"""The keys of a ``[[jobs]]`` table."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from remediation.model.base import Duration, Frozen, Severity
from remediation.model.events import DegradationEvent
from remediation.model.schedule import LOCAL, Schedule

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,127}")
_LATEST = timedelta(minutes=10)
_SOONEST = timedelta(seconds=30)


class JobOptions(Frozen):
    """One job: what is run, when, and how long it may take."""

    name: str
    """Unique; the subject of its degradations: 1-128 letters, digits and ``_.@+-``."""
    command: tuple[str, ...] = Field(min_length=1)
    """The program and its arguments; no shell reads them."""
    cwd: Path = Path()
    """Where it runs. Default: the folder of the configuration file."""
    every: Duration | None = None
    """From the start of one run to the start of the next."""
    cron: str = ""
    """Instead of `every`: five fields as in crontab(5), or six with seconds first."""
    timezone: str = LOCAL
    """Of `cron`: ``local``, ``UTC``, or an IANA name."""
    timeout: Duration = timedelta(minutes=10)
    """A run that takes longer is ended (SIGTERM, then SIGKILL, to its process group)."""
    expect_within: Duration | None = None
    """How late a run may start before it counts as missed. Default: the schedule's period, but 30 s at least and 10 min at most."""
    env: dict[str, str] = Field(default_factory=dict)
    """Added to the environment. It stands in the journal when the job fails: no place for secrets."""
    subsystem: str = "jobs"
    severity: Severity = Severity.P2
    """Of its degradations."""

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be 1-128 letters, digits or _.@+- and begin with a letter or digit")
        return value

    @field_validator("subsystem")
    @classmethod
    def _word(cls, value: str) -> str:
        return DegradationEvent(code="JOB_FAILED", subsystem=value, subject="any").subsystem

    @field_validator("timeout")
    @classmethod
    def _some_time(cls, value: timedelta) -> timedelta:
        if not value:
            raise ValueError("must be more than nothing")
        return value

    @model_validator(mode="after")
    def _scheduled(self) -> Self:
        self.schedule()
        return self

    def schedule(self) -> Schedule:
        """When it is due."""
        return Schedule(every=self.every, cron=self.cron, timezone=self.timezone)

    def grace(self, period: timedelta) -> timedelta:
        """How late a run may start, on a schedule with this period."""
        return self.expect_within if self.expect_within is not None else min(max(period, _SOONEST), _LATEST)
