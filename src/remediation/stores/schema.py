"""The tables of a journal, as ``schema.sql`` makes them, and what differs from them in a database that says it is one."""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import re
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from remediation.errors import JournalDamaged, JournalTooNew

APPLICATION_ID = 0x52454D44  # "REMD"
FORMAT = 1
_NEVER = 1000
"""A format that no release will ever write: whoever reads such a number reads damage."""
NEVER_ARCHIVED = "it knows how long archived streams were, and nothing was archived"
"""What is wrong where the table `archived_stream` has rows and `archive` has none: streams would go on from any number."""
SELECT = "SELECT type || ' ' || name, sql FROM sqlite_schema"


def refuse_format(path: Path, application: int, version: int) -> None:
    """
    Refuse a database that is not a journal in the format of this release, by its ``application_id`` and ``user_version``.

    Raises:
        JournalTooNew: a newer release wrote it.
        JournalDamaged: no release did.

    """
    if application != APPLICATION_ID:
        raise JournalDamaged(f"{path} is a SQLite database, but not a journal of remediation")
    if FORMAT < version < _NEVER:
        raise JournalTooNew(f"{path} is in format {version}, this release reads {FORMAT}; upgrade remediation")
    if version != FORMAT:
        raise JournalDamaged(f"{path} says that it is in format {version}, which no release ever wrote")


@functools.cache
def statements() -> str:
    """The SQL that makes them."""
    return importlib.resources.files("remediation.stores").joinpath("schema.sql").read_text("utf-8")


def faults(rows: Iterable[tuple[str, str | None]]) -> list[str]:
    """
    What differs. A trigger, say, or a view in the place of a table would have a part in what is read and written.

    Args:
        rows: What `SELECT` finds in the database.

    """
    wanted, found = _wanted(), {what: _plain(sql) for what, sql in rows}
    other = [what for what in found.keys() & wanted.keys() if found[what] != wanted[what]]
    return [
        *(f"it has the {what}, which no journal has" for what in sorted(found.keys() - wanted.keys())),
        *(f"it lacks the {what}" for what in sorted(wanted.keys() - found.keys())),
        *(f"its {what} is not that of a journal" for what in sorted(other)),
    ]


@functools.cache
def _wanted() -> Mapping[str, str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(statements())
        return {what: _plain(sql) for what, sql in connection.execute(SELECT)}


def _plain(sql: str | None) -> str:
    """A statement without comments and line breaks: those may change from release to release."""
    return " ".join(re.sub(r"--[^\n]*", " ", sql or "").split())
