"""
Salvaging: copies the damaged database and its backups into scratch, and finds out what can be had from them.

Nothing outside of scratch is changed. Scratch must hold about five times the database.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread

from remediation.context import RemediationContext
from remediation.effects.sqlite import children
from remediation.effects.sqlite.children import SUFFIXES, FileDigest, Header
from remediation.effects.sqlite.known import Backup, LastGood, backups
from remediation.errors import EffectError, ProcessError
from remediation.model.base import Frozen, from_epoch_ms
from remediation.model.text import printable, wellformed
from remediation.runbooks._sqlite.choice import Candidate, Choice, Difference, better, choose
from remediation.runbooks._sqlite.options import Known

_MOST_BACKUPS = 10
_TRIES = 3
_SPARE = 3.0
"""Seconds of a step that are left for what comes after its last child."""
_REPORT = "salvage.json"
_PROGRAMS = "remediation.runbooks._sqlite"


class CanNotHeal(EffectError):
    """The runbook must leave this to people; the message says why."""


class Salvage(Frozen):
    """What was found, for one state of the damaged files."""

    files: dict[str, str]
    """SHA-256 of the damaged files in scratch, by suffix, without the ``-shm``."""
    damage: tuple[str, ...]
    """What was seen on the way, for people."""
    choice: Choice | None

    def fits(self, files: dict[str, FileDigest]) -> bool:
        """Whether the files are still those that this was found for."""
        return self.files == {suffix: item.sha256 for suffix, item in files.items() if suffix != "-shm"}


class Salvager:
    """Salvages one database within the time that is left of a step."""

    def __init__(self, ctx: RemediationContext, path: Path, known: Known) -> None:
        self._ctx = ctx
        self._path = path
        self._known = known
        self._folder = ctx.scratch / "salvage"
        self._notes: list[str] = []
        self._schema_whole = True

    def file(self, candidate: Candidate) -> Path:
        """Where a candidate lies."""
        return self._folder / candidate.file

    def damaged(self, suffix: str = "") -> Path:
        """A kept copy of the damaged file, byte for byte."""
        return self._folder / f"damaged{suffix}"

    async def salvage(self, *, moving: bool = False) -> Salvage:
        """
        Everything that can be had, as far as the time allows; what an earlier step of this attempt found is used if it still fits.

        Args:
            moving: Somebody may be writing, and the result is an estimate; else files that change are an error.

        Raises:
            CanNotHeal: the files change all the time.
            EffectError, ProcessError: a child failed, or took too long.

        """
        now = await children.digest(self._ctx.run, self._path, seconds=self._left())
        with contextlib.suppress(OSError, ValueError):
            earlier = Salvage.model_validate_json((self._folder / _REPORT).read_bytes())
            if earlier.fits(now):
                return earlier
        await anyio.to_thread.run_sync(self._start_anew)
        files = await self._copy_damaged(moving=moving)
        salvages, header = await self._from_damaged(files)
        best = better(salvages)
        backup = await self._backup(header, best)
        differences = await self._compared(best, backup) if best and backup else []
        choice = choose(best, backup, differences, self._known.before)
        found = Salvage(
            files={suffix: item.sha256 for suffix, item in files.items() if suffix != "-shm"},
            damage=tuple(self._notes),
            choice=choice,
        )
        (self._folder / _REPORT).write_text(found.model_dump_json())
        return found

    # -- the damaged database

    def _start_anew(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)

    async def _copy_damaged(self, *, moving: bool) -> dict[str, FileDigest]:
        for _ in range(_TRIES):
            for suffix in SUFFIXES:
                self.damaged(suffix).unlink(missing_ok=True)
            if (await self._copy(self._path, "damaged", SUFFIXES))["stable"] or moving:
                return await children.digest(self._ctx.run, self.damaged(), seconds=self._left())
        raise CanNotHeal(f"{printable(str(self._path))} is being written all the time; declare a quiesce control or a unit for it")

    async def _from_damaged(self, files: dict[str, FileDigest]) -> tuple[list[Candidate], Header]:
        header = await children.header(self._ctx.run, self.damaged(), seconds=self._left())
        await self._copy(self.damaged(), "work", ("", "-wal", "-journal"))
        mended = await self._mend("work")
        settings = self._settings(header, mended)
        unsure = "the header was replaced, and with it the list of free pages" if mended["mended"] else ""
        found = [await self._walk("work", "walked", settings, "a salvage row by row", unsure=unsure)]
        if not (found[0] and found[0].whole):
            found.append(await self._recover(settings))
            if "-wal" in files and files["-wal"].size:
                await self._copy(self.damaged(), "main", ("",))
                await self._mend("main")
                salvaged = await self._walk(
                    "main",
                    "walked-main",
                    settings,
                    "a salvage without the write-ahead log",
                    unsure="pages may be older than others without the write-ahead log",
                    whole=False,
                )
                found.append(salvaged)
        for name in ("work", "main"):
            for suffix in SUFFIXES:
                (self._folder / f"{name}{suffix}").unlink(missing_ok=True)
        return [item for item in found if item is not None], header

    async def _mend(self, name: str) -> dict[str, Any]:
        before = self._known.before
        asked = {"path": str(self._folder / name), "page_size": before.page_size, "encoding": before.encoding}
        mended = await self._ask("copies", "mend", asked)
        if mended["mended"]:
            self._notes.append("the header made no sense, and was replaced in a copy to read the rest")
        elif not mended["readable"]:
            self._notes.append("the schema can't be read")
        return mended

    def _settings(self, header: Header, mended: dict[str, Any]) -> dict[str, Any]:
        """What the header says, or said at the last good check."""
        source: Header | LastGood = self._known.before if mended["mended"] or not header.magic else header
        settings = {
            name: getattr(source, name) for name in ("page_size", "encoding", "auto_vacuum", "user_version", "application_id")
        }
        if mended["mended"]:
            settings["page_size"] = mended["page_size"]
            if self._known.before.user_version is None:
                self._notes.append("user_version and application_id were in the header, and are not known")
        return settings

    async def _walk(
        self, source: str, target: str, settings: dict[str, Any], told: str, *, unsure: str, whole: bool = True
    ) -> Candidate | None:
        before = self._known.before
        asked = {
            "source": str(self._folder / source),
            "target": str(self._folder / target),
            "settings": settings,
            "unsure": unsure,
            "schema": before.schema_entries,
            "schema_version": before.schema_version,
        }
        answer = await self._ask("walk", "walk", asked | {"seconds": self._left() * 0.6})
        for table in answer["tables"]:
            if not table["clean"]:
                self._notes.append(
                    f"{table['name']}: {table['kept']} rows could be read, then: {table['error'] or 'some are damaged'}"
                )
        self._notes += [
            f"{name}: {count} rows lay on pages that only a damaged page referred to, and fit no other table"
            for name, count in answer["taken"].items()
            if count
        ]
        if answer["left"]:
            self._notes.append(
                f"{answer['left']} rows lie on pages that no intact page refers to, and are left out: {answer['left_why']}"
            )
        if answer["schema_remembered"]:
            self._notes.append("the schema was taken from the last good check; it was not changed since")
        if answer["schema_error"]:
            self._notes.append(f"the schema can't be read to its end: {answer['schema_error']}")
        if answer["expired"]:
            self._notes.append("the time was too short to read everything")
        self._schema_whole = not answer["schema_error"]
        return await self._finished(
            target,
            told,
            whole=whole and settings.get("user_version") is not None and bool(answer["whole"]),
            schema_whole=self._schema_whole,
            problems=answer["problems"],
        )

    async def _recover(self, settings: dict[str, Any]) -> Candidate | None:
        asked = {"source": str(self._folder / "work"), "target": str(self._folder / "recovered"), "settings": settings}
        try:
            answer = await self._ask("recover", "recover", asked, share=0.6)
        except ProcessError as error:
            self._notes.append(f"SQLite's .recover was ended: {error}")
            return None
        if not answer["done"]:
            self._notes.append(f"SQLite's own .recover was of no use: {answer['reason']}")
            return None
        if answer["unattributed"]:
            self._notes.append(f"SQLite's .recover found {answer['unattributed']} rows that belong to no table any more")
        return await self._finished(
            "recovered",
            "a salvage by SQLite's .recover",
            problems=answer["problems"],
            unattributed=answer["unattributed"],
            schema_whole=self._schema_whole,
        )

    async def _finished(
        self,
        name: str,
        told: str,
        *,
        kind: Literal["salvage", "backup"] = "salvage",
        whole: bool = False,
        schema_whole: bool = True,
        unattributed: int = 0,
        problems: Sequence[str] = (),
    ) -> Candidate | None:
        """The candidate, if it is a sound database; what is wrong is noted."""
        if problems:
            self._notes += [f"{told}: {problem}" for problem in problems]
            return None
        finished = await self._ask("copies", "finish", {"path": str(self._folder / name), "journal_mode": self.journal_mode()})
        if finished["findings"]:
            self._notes.append(f"{told} is no sound database: {finished['findings'][0]}")
            return None
        found = await children.check(self._ctx.run, self._folder / name, seconds=self._left())
        rows = {table: count for table, count in found.rows if count is not None}
        notes = (f"{finished['orphans']} rows refer to rows that are not there",) if finished["orphans"] else ()
        return Candidate(
            kind=kind,
            file=name,
            told=told,
            rows=rows,
            whole=whole,
            schema_whole=schema_whole,
            unattributed=unattributed,
            notes=notes,
        )

    def journal_mode(self) -> str:
        """``wal`` or ``delete``: what the damaged database is in, as far as that can be told."""
        head = self.damaged().open("rb").read(20) if self.damaged().exists() else b""
        if head.startswith(b"SQLite format 3\0") and len(head) == 20:
            return "wal" if head[18] == 2 else "delete"
        return self._known.before.journal_mode or ("wal" if self.damaged("-wal").exists() else "delete")

    # -- the backups

    async def _backup(self, header: Header, best: Candidate | None) -> Candidate | None:
        """The newest backup that is sound and of this database."""
        found = await anyio.to_thread.run_sync(backups, self._known.patterns, self._path)
        specific = {item.path for item in await anyio.to_thread.run_sync(backups, self._known.specific, self._path)}
        for index, item in enumerate(found[:_MOST_BACKUPS]):
            taken = await self._examined(item, f"backup-{index}", header)
            if taken is None:
                continue
            why = _no_kin(taken, header, best, self._known.before, named=item.path in specific)
            if not why:
                return taken[0]
            self._notes.append(f"{_shown(item)} is left alone: {why}")
        return None

    async def _examined(self, item: Backup, name: str, header: Header) -> tuple[Candidate, Header] | None:
        if not (await self._copy(Path(item.path), name, ("", "-wal", "-journal")))["stable"]:
            self._notes.append(f"{_shown(item)} is being written")
            return None
        raw = await children.check(self._ctx.run, self._folder / name, seconds=self._left() / 2, count_below=0)
        if raw.state != "ok" or not raw.magic:
            self._notes.append(f"{_shown(item)} is no good: {printable(wellformed(raw.reason)) or 'it is empty'}")
            return None
        alone = not self.damaged("-wal").exists() and not self.damaged("-journal").exists()
        same = alone and header.magic and raw.journal_mode == header.journal_mode == "delete" and raw.counter == header.counter
        taken = await self._finished(name, f"the backup {_shown(item)}", kind="backup")
        if taken is None:
            return None
        return taken.model_copy(update={"made_at": item.modified_at, "unchanged_since": same}), raw

    async def _compared(self, salvage: Candidate, backup: Candidate) -> list[Difference]:
        asked = {"left": str(self._folder / salvage.file), "right": str(self._folder / backup.file), "seconds": self._left() * 0.8}
        answer = await self._ask("compare", "compare", asked)
        return [Difference.model_validate(item) for item in answer["tables"]]

    # -- children

    async def _copy(self, source: Path, name: str, suffixes: tuple[str, ...]) -> dict[str, Any]:
        asked = {"source": str(source), "target": str(self._folder / name), "suffixes": list(suffixes)}
        return await self._ask("copies", "copy", asked)

    async def _ask(self, program: str, command: str, asked: dict[str, Any], *, share: float = 1.0) -> dict[str, Any]:
        seconds = self._left() * share
        return await children.ask(self._ctx.run, command, asked, timeout=seconds, program=f"{_PROGRAMS}.{program}")

    def _left(self) -> float:
        return max(1.0, self._ctx.seconds_left - _SPARE)


def _no_kin(taken: tuple[Candidate, Header], header: Header, best: Candidate | None, before: LastGood, *, named: bool) -> str:
    """Why a backup is not one of this database; empty if it may be."""
    backup, raw = taken
    expected = header.application_id if header.magic else before.application_id
    if expected and raw.application_id and raw.application_id != expected:
        return f"it belongs to another application ({raw.application_id}, not {expected})"
    tables = set(best.rows) if best is not None and best.rows else set(before.rows)
    if tables and not tables & set(backup.rows):
        return "it has none of the tables of this database"
    if not tables and not named:
        return "nothing shows that it is a backup of this database; name it for this database in the options"
    return ""


def _shown(item: Backup) -> str:
    at = from_epoch_ms(item.modified_at).isoformat(timespec="seconds")
    return f"{printable(wellformed(item.path))} of {at}"
