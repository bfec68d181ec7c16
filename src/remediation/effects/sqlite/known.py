"""What is known of a database from when it was healthy, and which backups of it there are."""

from __future__ import annotations

import glob
import itertools
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from remediation.effects.sqlite.children import SUFFIXES, Examination, SchemaEntry, side
from remediation.model.base import Frozen

TABLES_TOLD = 150
_MOST_PATHS = 10_000


class LastGood(Frozen):
    """The facts of the last check that found nothing. Fields are empty where they were not known."""

    at: int = 0
    """Milliseconds since 1970 UTC; 0 for never."""
    rows: dict[str, int] = Field(default_factory=dict)
    """Row counts by table; not necessarily of all tables (at most 150), none for a database that is too large to be counted."""
    size: int = 0
    page_size: int | None = None
    auto_vacuum: int | None = None
    encoding: str | None = None
    journal_mode: str | None = None
    user_version: int | None = None
    application_id: int | None = None
    schema_version: int | None = None
    """Changes whenever the schema does; missing if `schema_entries` are."""
    schema_entries: tuple[SchemaEntry, ...] = ()
    """The schema; none if it is longer than 16,384 characters."""

    @classmethod
    def of(cls, found: Examination, at: int) -> LastGood:
        """The facts of a good check at `at`."""
        counted = [(name, count) for name, count in found.rows if count is not None] if found.counted else []
        largest = sorted(counted, key=lambda pair: -pair[1])[:TABLES_TOLD]
        return cls(
            at=at,
            rows=dict(sorted(largest)),
            size=found.size,
            page_size=found.page_size,
            auto_vacuum=found.auto_vacuum,
            encoding=found.encoding,
            journal_mode=found.journal_mode,
            user_version=found.user_version,
            application_id=found.application_id,
            schema_version=found.schema_version,
            schema_entries=found.schema_entries,
        )

    @classmethod
    def loaded(cls, value: Any) -> LastGood:
        """From JSON text or evidence; empty where that makes no sense."""
        try:
            return cls.model_validate_json(value) if isinstance(value, bytes | str) else cls.model_validate(value)
        except ValidationError:
            return cls()


class Backup(Frozen):
    """A file that a pattern found; whether it is any good, or of this database at all, is not said."""

    path: str
    size: int
    modified_at: int
    """Milliseconds since 1970 UTC."""


def backups(patterns: Iterable[str], database: Path) -> list[Backup]:
    """
    The regular, non-empty files that match absolute glob patterns (``**`` included), newest first; never the database itself, its
    side files, or the side files of backups.
    """
    own = {os.path.realpath(side(database, suffix)) for suffix in SUFFIXES}
    found: dict[str, Backup] = {}
    for pattern in patterns:
        for name in itertools.islice(glob.iglob(pattern, recursive=True), _MOST_PATHS):
            real = os.path.realpath(name)
            try:
                told = os.stat(real)
            except OSError:
                continue
            is_side = any(real.endswith(suffix) and os.path.exists(real.removesuffix(suffix)) for suffix in SUFFIXES[1:])
            if stat.S_ISREG(told.st_mode) and told.st_size and real not in own and not is_side:
                found[real] = Backup(path=real, size=told.st_size, modified_at=told.st_mtime_ns // 1_000_000)
    return sorted(found.values(), key=lambda backup: (-backup.modified_at, backup.path))
