"""``journal export``: hand the ledger to others."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, existing_home
from remediation.settings.home import Home


class Format(StrEnum):
    """What ``--format`` takes."""

    JSONL = "jsonl"
    CLOUDEVENTS = "cloudevents"
    TLOG_TILES = "tlog-tiles"


def export(
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Write to this file (tlog-tiles: folder), whole or not at all, readable by you only.",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to write; see above.")] = Format.JSONL,
    home: HomeOption = None,
) -> None:
    """
    Write the journal for auditors, archives and pipelines.

    \b
    Formats:
      jsonl        JSON Lines: all that a verifier needs but the key. The file proves itself with
                   `remediation journal verify FILE --vkey VKEY`, on any machine and without a home.
                   It holds the content of every entry: treat it like the journal.
      cloudevents  one CloudEvent 1.0 a line, for event pipelines; proves nothing.
      tlog-tiles   a folder of static files (C2SP tlog-tiles), to be published: any transparency-log
                   tool can check it. Holds no contents, only their digests.

    \b
    Examples:
      remediation journal export --out journal.jsonl
      remediation journal export --format cloudevents | jq .type
      remediation journal export --format tlog-tiles --out /srv/www/log
    """
    import asyncio

    from remediation.settings import Settings
    from remediation.stores.auditing import export_cloudevents, export_journal
    from remediation.stores.publishing import export_tiles

    if format_ is Format.TLOG_TILES and out is None:
        output.fail("--format tlog-tiles writes a folder: name it with --out", output.ExitCode.WRONG_USE)
    place = Settings.of(existing_home(home)).home
    head = asyncio.run(_published_head(place))
    vkeys = place.verifier_keys.read_text("utf-8").split()
    if format_ is Format.TLOG_TILES and out is not None:
        with _folder(out) as folder:
            number = export_tiles(place.journal, head, folder)
    else:
        with _sink(out) as write:
            if format_ is Format.CLOUDEVENTS:
                number = export_cloudevents(place.journal, head, write)
            else:
                number = export_journal(place.journal, head, vkeys, write)
    if out is not None:
        output.note(f"{number} entries of {vkeys[0].partition('+')[0]} in {out}")


async def _published_head(home: Home) -> str:
    """
    The newest signed head, once ``head.note`` knows it: no other one may leave the process.

    Raises:
        JournalDamaged: it is not signed by the home's key.
        JournalRolledBack: head.note is missing.

    """
    from remediation.bootstrap import open_reader
    from remediation.errors import JournalDamaged
    from remediation.journal.head import HeadNote
    from remediation.journal.lock import WriterLock
    from remediation.proof import NoteError, VerifierKey, open_checkpoint

    head = HeadNote(home.head_note)
    head.read()
    keys = [VerifierKey.parse(vkey) for vkey in home.verifier_keys.read_text("utf-8").split()]
    lock = WriterLock(home.journal_lock)
    lock.open()
    try:
        await lock.acquire()
        async with open_reader(home) as journal:
            _, newest = await journal.head()
        try:
            open_checkpoint(newest, keys, origin=keys[0].name)
        except NoteError as error:
            raise JournalDamaged(
                f"the newest head is not signed by this home's key: {error}; run `remediation journal verify`"
            ) from error
        head.advance(newest)
        return head.read()
    finally:
        lock.close()


@contextlib.contextmanager
def _sink(out: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Standard output, or a file that appears under its name when it is whole."""
    if out is None:
        yield output.write_bytes
        sys.stdout.buffer.flush()
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, out)
    except OSError as error:
        output.fail(f"{out} can't be written: {error.strerror}")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A new folder that appears under its name when it is whole."""
    if out.exists():
        output.fail(f"{out} is there already; name a new folder", output.ExitCode.WRONG_USE)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        os.rename(temporary, out)
    except OSError as error:
        output.fail(f"{out} can't be written: {error.strerror}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
