"""
Watches SQLite databases for corruption.

| code | when |
|---|---|
| ``SQLITE_CORRUPT`` | ``PRAGMA quick_check`` finds something, or SQLite says that it is no database or malformed |
| ``SQLITE_MISSING`` | there is no file |

The check runs in a child process, read-only, and leaves no file behind. A database that is locked all the time is logged and no
degradation; one that can't be read (permissions, a failing disk, a schema of a newer SQLite) makes the check fail.

While the database is healthy, the sentinel remembers how many rows each table has (in databases up to 256 MiB), so that a report can
say how many there were, and the schema (up to 16,384 characters), by which rows are found if that is lost. A database whose files did
not change is read again only after `recheck`. What quick_check does not see: rows that are missing from an index, and values that were
changed into other valid values.

| evidence | holds |
|---|---|
| ``findings`` | what the check said, at most 20 lines |
| ``readable`` | row counts of the tables that can still be read to the end, null for the others |
| ``size``, ``journal_mode`` | of the damaged file, as far as its header tells |
| ``last_good`` | time, row counts, schema and header facts of the last good check |
| ``backups``, ``newest_backup`` | the patterns as absolute paths; the newest file that matches (unexamined) |
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import anyio.to_thread

from remediation.effects.sqlite import children
from remediation.effects.sqlite.children import SUFFIXES, Examination, side
from remediation.effects.sqlite.known import TABLES_TOLD, LastGood, backups
from remediation.errors import RemediationError
from remediation.hooks import hookimpl
from remediation.model.base import Duration, Severity, epoch_ms, from_epoch_ms
from remediation.model.events import DegradationEvent
from remediation.model.text import capped, printable, wellformed
from remediation.ports.sentinel import Sentinel, SentinelOptions, Watch

CORRUPT = "SQLITE_CORRUPT"
MISSING = "SQLITE_MISSING"
COUNTED_BELOW = 256 * 1024 * 1024
"""Bytes up to which rows are counted."""
_FILE = "last-good.json"
_SETTLED_NS = 2_000_000_000
"""A file that changed less than two seconds ago may change again with the same time stamp."""


class SqliteOptions(SentinelOptions):
    """One table of ``[[sentinels.sqlite]]``."""

    path: str
    """The database; relative to the configuration file's folder."""
    backups: tuple[str, ...] = ()
    """Glob patterns of backup files (whole SQLite databases), relative to the configuration file's folder."""
    timeout: Duration = timedelta(seconds=60)
    """How long one check may take."""
    recheck: Duration = timedelta(minutes=10)
    """How long a database whose files did not change is taken to be as it was."""
    subsystem: str = "sqlite"


class SqliteSentinel(Sentinel[SqliteOptions]):
    """Watches one database; see the module."""

    kind: ClassVar[str] = "sqlite"
    options_type = SqliteOptions

    def __init__(self, options: SqliteOptions, base: Path) -> None:
        super().__init__(options, base)
        self._path = Path(os.path.abspath(base / options.path))
        self._patterns = tuple(os.path.abspath(base / pattern) for pattern in options.backups)
        self._good: tuple[list[tuple[int, ...]], datetime] | None = None

    @property
    def name(self) -> str:
        return f"sqlite:{self.options.path}"

    @property
    def subject(self) -> str:
        """The database's absolute path: what reports name."""
        return str(self._path)

    def roots(self) -> Sequence[Path]:
        """The database and the files that SQLite keeps beside it."""
        real = Path(os.path.realpath(self._path))
        return (self._path, *(side(real, suffix) for suffix in SUFFIXES))

    @property
    def timeout(self) -> float:
        return self.options.timeout.total_seconds() + 10

    async def check(self, watch: Watch) -> None:
        """Look at the database once, and report or clear."""
        now = watch.clock.now()
        signature = self._signature()
        if self._good and self._good[0] == signature and timedelta(0) <= now - self._good[1] < self.options.recheck:
            return
        self._good = None
        found = await children.check(
            watch.run, self._path, seconds=max(0.1, self.options.timeout.total_seconds() - 2.5), count_below=COUNTED_BELOW
        )
        before = self._remembered(watch)
        emptied = found.state == "ok" and found.size == 0 and bool(before.rows)
        if found.state == "corrupt" or emptied:
            await self._report(watch, CORRUPT, now, *await anyio.to_thread.run_sync(self._damage, found, before))
        elif found.state == "missing":
            await self._report(watch, MISSING, now, *await anyio.to_thread.run_sync(self._absence, before))
        elif found.state == "ok":
            await self._is_good(watch, found, now, signature)
        elif found.state == "busy":
            watch.log.info("a database could not be checked because it is locked", path=self.subject, reason=found.reason)
        else:
            raise RemediationError(f"{printable(self.subject)} can't be checked: {printable(wellformed(found.reason))}")

    async def _is_good(self, watch: Watch, found: Examination, now: datetime, signature: list[tuple[int, ...]]) -> None:
        self._remember(watch, LastGood.of(found, epoch_ms(now)))
        if all(epoch_ms(now) * 1_000_000 - modified > _SETTLED_NS for *_, modified in signature):
            self._good = (signature, now)
        for code in (CORRUPT, MISSING):
            await watch.clear(code, self.options.subsystem, self.subject, "the database passes quick_check")

    def _damage(self, found: Examination, before: LastGood) -> tuple[str, dict[str, Any]]:
        findings = [printable(wellformed(line)) for line in found.findings] or ["the file is empty, and had tables before"]
        evidence: dict[str, Any] = {
            "findings": findings,
            "readable": dict(found.rows[:TABLES_TOLD]),
            "size": found.size,
            "journal_mode": found.journal_mode,
        }
        return f"the database is damaged: {findings[0]}", evidence | self._known(before)

    def _absence(self, before: LastGood) -> tuple[str, dict[str, Any]]:
        if not before.at:
            return "there is no database, and never was since it is watched: is the path right?", self._known(before)
        seen = from_epoch_ms(before.at).isoformat(timespec="seconds")
        return f"the database is gone; it was there at {seen}", self._known(before)

    def _known(self, before: LastGood) -> dict[str, Any]:
        evidence: dict[str, Any] = {}
        if before.at:
            evidence["last_good"] = before.model_dump(mode="json")
        if self._patterns:
            newest = backups(self._patterns, self._path)[:1]
            evidence["backups"] = list(self._patterns)
            evidence["newest_backup"] = newest[0].model_dump(mode="json") if newest else None
        return evidence

    async def _report(self, watch: Watch, code: str, at: datetime, summary: str, evidence: dict[str, Any]) -> None:
        event = DegradationEvent(
            code=code,
            subsystem=self.options.subsystem,
            subject=self.subject,
            severity=Severity.P1,
            summary=capped(summary, 500),
            evidence=evidence,
            observed_at=epoch_ms(at),
        )
        await watch.report(event)

    def _signature(self) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for suffix in SUFFIXES:
            if suffix != "-shm":
                with contextlib.suppress(OSError):
                    told = os.stat(side(self._path, suffix))
                    found.append((told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns))
        return found

    def _remembered(self, watch: Watch) -> LastGood:
        try:
            return LastGood.loaded((watch.state / _FILE).read_bytes())
        except OSError:
            return LastGood()

    def _remember(self, watch: Watch, facts: LastGood) -> None:
        """A cache: not synced, but never half a file."""
        watch.state.mkdir(parents=True, exist_ok=True)
        temporary = watch.state / f"{_FILE}.{os.getpid()}"
        temporary.write_text(facts.model_dump_json())
        temporary.replace(watch.state / _FILE)


@hookimpl
def remediation_sentinels() -> Sequence[type[Sentinel[Any]]]:
    return [SqliteSentinel]
