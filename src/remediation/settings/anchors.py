"""The tables ``[[anchors.file]]``, ``[[anchors.command]]`` and ``[[anchors.git]]``: where signed heads are kept outside the home."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, field_validator

from remediation.model.base import Duration, Frozen

_REF = re.compile(r"refs/(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/\.|\.$))[A-Za-z0-9._/@{}+-]*[A-Za-z0-9_+-]")


class AnchorTable(Frozen):
    """What all anchors have."""

    every: Duration = timedelta(minutes=1)
    """The pause between two heads at least; 1 s or more."""
    timeout: Duration = timedelta(seconds=30)
    """How long one call may take; 1 s to 10 min."""
    name: str = Field(default="", max_length=200)
    """Its name in messages. Default: its kind and what it writes to."""

    @field_validator("every")
    @classmethod
    def _paced(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=1):
            raise ValueError("must be at least 1 s")
        return value

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(minutes=10):
            raise ValueError("must be 1 s to 10 min")
        return value


class FileAnchorTable(AnchorTable):
    """``[[anchors.file]]``: heads are kept in a file on another path."""

    path: Path
    """The file; its folder must exist, and belongs on another disk or machine."""
    history: StrictBool = False
    """Append every head as a line, instead of replacing the last one."""


class CommandAnchorTable(AnchorTable):
    """``[[anchors.command]]``: a command gets each head on its standard input."""

    command: tuple[str, ...] = Field(min_length=1)
    """A program and its arguments; run in the folder of the settings file, without a shell."""


class GitAnchorTable(AnchorTable):
    """``[[anchors.git]]``: heads are committed to a ref of a repository."""

    repository: Path
    """A working tree or a bare repository, which exists."""
    ref: str = "refs/remediation/heads"
    """The ref that names the newest commit; one for each host."""
    remote: str = ""
    """A remote's name or address that the ref is pushed to, and read back from. Empty: none."""

    @field_validator("ref")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _REF.fullmatch(value):
            raise ValueError("must be the full name of a git ref, such as refs/remediation/heads")
        return value

    @field_validator("remote")
    @classmethod
    def _no_option(cls, value: str) -> str:
        if value.startswith(("-", "ext::")):
            raise ValueError("must be the name or address of a remote")
        return value


def _as_tables(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("is one table; write its header with two brackets, [[…]]")  # noqa: TRY004 - pydantic takes ValueError
    return value


class Anchors(Frozen):
    """``[[anchors.…]]``: where the journal's signed heads are kept outside the home."""

    file: Annotated[tuple[FileAnchorTable, ...], BeforeValidator(_as_tables)] = ()
    """Files on another path."""
    command: Annotated[tuple[CommandAnchorTable, ...], BeforeValidator(_as_tables)] = ()
    """Commands that take a head."""
    git: Annotated[tuple[GitAnchorTable, ...], BeforeValidator(_as_tables)] = ()
    """Refs of git repositories."""

    def resolved(self, absolute: Callable[[Path], Path]) -> Anchors:
        """The same with the paths that `absolute` makes of them."""
        files = tuple(table.model_copy(update={"path": absolute(table.path)}) for table in self.file)
        gits = tuple(table.model_copy(update={"repository": absolute(table.repository)}) for table in self.git)
        return self.model_copy(update={"file": files, "git": gits})
