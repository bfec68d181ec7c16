"""The tables of how much a host may do, and of what trust beyond the profile has to be earned by."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, StrictInt, model_validator

from remediation.model.base import Duration, Frozen


class GroupTable(Frozen):
    """``[[limits.groups]]``: subjects of which some must stay healthy, whatever is done to the others."""

    name: str = Field(min_length=1)
    """For people."""
    subjects: Annotated[tuple[str, ...], Field(min_length=3)]
    """The subjects of degradations, at least three, exactly as they are reported."""
    min_healthy: StrictInt = Field(ge=1)
    """How many others must be without an open or held incident before one of them is acted on."""

    @model_validator(mode="after")
    def _possible(self) -> GroupTable:
        if len(set(self.subjects)) != len(self.subjects):
            raise ValueError("names a subject twice")
        if self.min_healthy >= len(self.subjects):
            raise ValueError(f"min_healthy = {self.min_healthy} leaves none of {len(self.subjects)} subjects that may be acted on")
        return self


class Limits(Frozen):
    """``[limits]``: how much the host may do. All hosts of one home share these limits."""

    attempts_per_incident: StrictInt = Field(default=3, ge=1, le=100)
    """Attempts before an incident is given to people."""
    cooldown: Duration = timedelta(minutes=5)
    """Pause after an incident has settled before the same subject is acted on again."""
    changes_per_hour: StrictInt = Field(default=20, ge=1)
    """Plans applied in any hour; the first one more goes to people, and pauses the rest for an hour."""
    runbook_changes: StrictInt = Field(default=10, ge=1)
    """Plans of one runbook applied in any `runbook_window`; more wait."""
    runbook_window: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=1))] = timedelta(hours=1)
    """See `runbook_changes`; a day at most."""
    concurrency: StrictInt = Field(default=16, ge=1, le=1024)
    """Subjects that are healed at a time, by one host."""
    concurrency_per_runbook: StrictInt = Field(default=16, ge=1, le=1024)
    """Attempts of one runbook that act at a time, over all hosts of the home; more wait."""
    concurrency_machine: StrictInt = Field(default=4, ge=1, le=1024)
    """Attempts of runbooks that may reach the machine that act at a time, over all hosts of the home; more wait."""
    concurrency_fleet: StrictInt = Field(default=1, ge=1, le=1024)
    """The same for runbooks that may reach the fleet."""
    storm_subjects: StrictInt = Field(default=100, ge=2)
    """Open incidents of one code; the next subjects fold into one storm incident, and nothing new is begun for that code."""
    storm_exit: Duration = timedelta(minutes=10)
    """How long nothing beyond the cap must have been heard of until the storm is over."""
    groups: tuple[GroupTable, ...] = ()
    """See ``[[limits.groups]]``."""


class Trust(Frozen):
    """``[trust]``: trust beyond the profile."""

    earn_after: StrictInt = Field(default=0, ge=0)
    """Under ``collaborative``: verified heals without a failure after which a runbook may also reach the machine. 0: never."""
