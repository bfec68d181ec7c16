"""``journal archive``: move the oldest entries to a file that proves itself, and bring them back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home

if TYPE_CHECKING:
    from remediation.bootstrap.archiving import Archived
    from remediation.settings import Settings


def archive(
    *,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", metavar="SEQ|WHEN", help="A position, a date such as 2030-01-31, or an age such as 90d.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The folder for the file and its blobs.", show_default=False)
    ] = None,
    restore: Annotated[
        list[Path] | None,
        typer.Option(
            "--restore",
            metavar="FILE",
            help="Bring all archived entries back from this file; again for each further one, in order.",
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Move the oldest entries out of the journal, to a file that proves itself.

    Moved is what nothing needs any more: entries of at least a day, before the first incident that is open, held, or remembered by a
    limit, in steps of 256. The file is written and verified before anything is removed; files that effects kept are copied beside it,
    into blobs/. What stays: the hashes that prove the rest, and the state. The journal still verifies, proves and heals.

    Needs the signing key; may run beside a host. Keep the file as you would the journal: it holds the content of entries.

    \b
    Examples:
      remediation journal archive --before 90d --out /backup/journal
      remediation journal verify /backup/journal/journal-1f2e3d4c5b6a-0-8192.jsonl --vkey VKEY
      remediation journal verify --with-archive /backup/journal/journal-1f2e3d4c5b6a-0-8192.jsonl
      remediation journal archive --restore /backup/journal/journal-1f2e3d4c5b6a-0-8192.jsonl
    """
    import asyncio

    from remediation.settings import Settings

    place = existing_home(home)
    if restore:
        if before is not None or out is not None:
            output.fail("--restore goes with neither --before nor --out", output.ExitCode.WRONG_USE)
        number = asyncio.run(_restore(Settings.of(place), restore))
        if json:
            output.say_json({"restored": number})
        else:
            output.say(f"{number} entries are back in the journal; the files are not needed by it any more")
        return
    if before is None or out is None:
        output.fail("say what to archive and where to: --before and --out", output.ExitCode.WRONG_USE)
    settings = Settings.of(place)
    _show(asyncio.run(_archive(settings, before, out)), json)


async def _archive(settings: Settings, before: str, out: Path) -> Archived:
    from remediation.bootstrap import open_journal
    from remediation.bootstrap.archiving import Archiver
    from remediation.core.standing import Standing
    from remediation.journal.lock import locked
    from remediation.model.base import milliseconds
    from remediation.ports.clock import SystemClock

    standing, clock = Standing(), SystemClock()
    with locked(settings.home.root / "retention.lock"):
        journal = await open_journal(settings.home, clock, folds=[standing])
        try:
            until = _position(settings, before, journal.size)
            cooldown = milliseconds(settings.limits.cooldown)
            archiver = Archiver(settings.home, journal, standing, clock, host=settings.host.id, cooldown_ms=cooldown)
            return await archiver.archive(until, out)
        finally:
            await journal.close()


async def _restore(settings: Settings, files: list[Path]) -> int:
    from remediation.bootstrap import open_journal
    from remediation.bootstrap.bringing_back import bring_back
    from remediation.journal.lock import locked
    from remediation.ports.clock import SystemClock

    with locked(settings.home.root / "retention.lock"):
        journal = await open_journal(settings.home, SystemClock())
        try:
            return await bring_back(settings.home, journal, files)
        except OSError as error:
            output.fail(f"{error.filename or files[0]} can't be read: {error.strerror}", output.ExitCode.WRONG_USE)
        finally:
            await journal.close()


def _position(settings: Settings, text: str, size: int) -> int:
    from remediation.model.base import parse_duration, timestamp
    from remediation.stores.parts import Parts

    if re.fullmatch("[0-9]{1,15}", text):
        return int(text)
    try:
        moment = datetime.now(UTC) - parse_duration(text)
    except (ValueError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            output.fail(
                f"--before {text}: neither a position, nor a date such as 2030-01-31, nor an age such as 90d",
                output.ExitCode.WRONG_USE,
            )
    with Parts(settings.home.journal) as log:
        return log.first_since(timestamp(moment.astimezone(UTC)), size)


def _show(done: Archived, json: bool) -> None:
    if json:
        output.say_json(
            {
                "path": str(done.path),
                "first": done.first,
                "before": done.before,
                "sha256": done.sha256,
                "blobs": done.blobs,
                "held_back_by": done.held_back.incident if done.held_back else None,
            }
        )
        return
    output.say_facts(
        {
            "archived": f"entries {done.first} to {done.before - 1}",
            "file": done.path,
            "sha256": done.sha256,
            "blobs": f"{done.blobs} beside it" if done.blobs else "none",
        }
    )
    if done.held_back is not None:
        output.note(f"More could not be archived: incident {done.held_back.incident} is still needed: {done.held_back.reason}")
