"""Options of the runbook, and which of all that is said about backups is trusted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from remediation.effects.sqlite.known import LastGood
from remediation.model.base import Frozen
from remediation.model.events import DegradationEvent, Provenance

_TRUSTED = (Provenance.NATIVE, Provenance.SENTINEL)
"""Anybody who may report could otherwise name a poisoned backup."""


class Around(Frozen):
    """What is known of a database beside itself: its backups, and how its users are made to let go of it."""

    backups: tuple[str, ...] = ()
    """Absolute glob patterns of backup files (whole SQLite databases)."""
    quiesce: str = ""
    """A control of the host that makes every process close the database; it is called with ``path=``, and returns when they have."""
    resume: str = ""
    """The control that lets them open it again, called with ``path=``. Each should be registered with the other as its undo."""
    unit: str = ""
    """Instead of controls: a systemd unit that is stopped and started."""

    @field_validator("backups")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not os.path.isabs(pattern):
                raise ValueError(f"{pattern!r} must be an absolute pattern, such as /srv/app/backups/app-*.db")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Around:
        if bool(self.quiesce) != bool(self.resume):
            raise ValueError("quiesce and resume belong together: name both controls, or neither")
        if self.unit and self.quiesce:
            raise ValueError("name either a unit or the controls quiesce and resume, not both")
        return self

    @property
    def declared(self) -> bool:
        """Whether the operator said how to make processes let go of it."""
        return bool(self.unit or self.quiesce)


class DatabaseOptions(Around):
    """The same for one database."""

    path: str
    """Absolute."""

    @field_validator("path")
    @classmethod
    def _one(cls, value: str) -> str:
        if not os.path.isabs(value):
            raise ValueError(f"{value!r} must be an absolute path")
        return os.path.normpath(value)


class SqliteCorruptionOptions(Around):
    """``[runbooks."sqlite-corruption".options]``: for all databases, unless one has an entry of its own."""

    databases: tuple[DatabaseOptions, ...] = ()


class Known(Frozen):
    """What the runbook goes by for one database."""

    around: Around
    specific: tuple[str, ...]
    """Patterns of backups that were named for this very database."""
    general: tuple[str, ...]
    """Patterns that were named for all databases: what they find must prove that it belongs to this one."""
    before: LastGood

    @property
    def patterns(self) -> tuple[str, ...]:
        """All patterns."""
        return (*self.specific, *self.general)


def known(options: SqliteCorruptionOptions, event: DegradationEvent, provenance: Provenance, path: Path) -> Known:
    """
    What is known of the database at `path`.

    Evidence counts only if a sentinel or the embedding host reported it, and not where it is tainted.
    """
    own = next((item for item in options.databases if item.path in (str(path), event.subject)), None)
    trusted = event.evidence if provenance in _TRUSTED else {}
    specific = [*(own.backups if own else ()), *_patterns(trusted.get("backups") if "backups" not in event.tainted else None)]
    general = () if own is not None and own.backups else options.backups
    before = LastGood.loaded(trusted["last_good"]) if "last_good" in trusted and "last_good" not in event.tainted else LastGood()
    around = own if own is not None and own.declared else options
    return Known(around=around, specific=tuple(dict.fromkeys(specific)), general=general, before=before)


def _patterns(value: Any) -> list[str]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, str) and os.path.isabs(item)]
