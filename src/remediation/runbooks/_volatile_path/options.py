"""The options of the runbook, ``[runbooks."volatile-path".options]``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from remediation.effects.fields import AbsolutePath
from remediation.model.base import Duration, Frozen
from remediation.model.schedule import LOCAL, Schedule

OUT = "{out}"
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_Argument = Annotated[str, StringConstraints(min_length=1)]


class KnownJob(Frozen):
    """A job that the operator vouches for, so that a failure of it that a program or person reported can be healed."""

    command: tuple[_Argument, ...] = Field(min_length=1)
    cwd: AbsolutePath
    env: dict[str, str] = Field(default_factory=dict)
    timeout: Duration = timedelta(minutes=10)
    every: Duration | None = None
    """Its schedule, if it has one: then the heal waits for the next scheduled run to be reported as cleared."""
    cron: str = ""
    timezone: str = LOCAL

    @model_validator(mode="after")
    def _scheduled(self) -> Self:
        self.schedule()
        return self

    def schedule(self) -> Schedule | None:
        """When it is due, if it has a schedule."""
        if self.every is None and not self.cron:
            return None
        return Schedule(every=self.every, cron=self.cron, timezone=self.timezone)


class VolatilePathOptions(Frozen):
    """What the operator knows better than the runbook."""

    volatile: tuple[AbsolutePath, ...] = Field(default=("/tmp", "/var/tmp", "/dev/shm", "/run"), validate_default=True)  # noqa: S108 - what it is about
    """Folders that the system cleans away; $TMPDIR is added."""
    folder: str = "resources"
    """Where recovered content is kept: a folder of this name beside the script."""
    content: dict[str, AbsolutePath] = Field(default_factory=dict)
    """By missing path: the file that holds its content. It goes before everything that is searched."""
    regenerate: dict[str, tuple[_Argument, ...]] = Field(default_factory=dict)
    """By missing path: a command that writes its content to the file that ``{out}`` stands for. It runs in a scratch clone of the
    repository, and before everything that is searched but `content`."""
    backups: tuple[str, ...] = ()
    """Absolute globs; among the files that match, those named like the missing one, the newest of each glob. ``{name}`` stands for
    its name."""
    jobs: dict[str, KnownJob] = Field(default_factory=dict)
    """Jobs by name that may be healed when something else than this host's own sentinel reports them."""
    largest: int = Field(default=4 * 1024 * 1024, ge=1)
    """In bytes; larger content is not put into a repository."""

    @field_validator("folder")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _FOLDER.fullmatch(value):
            raise ValueError("must be the name of one folder: letters, digits, '_', '-' and '.'")
        return value

    @field_validator("backups")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for glob in value:
            if not glob.startswith("/") or ".." in glob.split("/"):
                raise ValueError(f"{glob!r} must be an absolute path without '..'")
        return value

    @field_validator("regenerate")
    @classmethod
    def _says_where(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for path, argv in value.items():
            if not any(OUT in argument for argument in argv):
                raise ValueError(f"the command for {path!r} must say where it writes: put {OUT} into one of its arguments")
        return value
