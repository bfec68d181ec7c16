"""``journal export``: hand the ledger to others."""

from __future__ import annotations

import contextlib
import os
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


def export(
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write to this file, readable by you only, whole or not at all.", show_default=False
        ),
    ] = None,
    format_: Annotated[
        Format,
        typer.Option(
            "--format", help="jsonl: all that a verifier needs but the key. cloudevents: for event pipelines; proves nothing."
        ),
    ] = Format.JSONL,
    home: HomeOption = None,
) -> None:
    """
    Write the journal as JSON Lines, for auditors, archives and pipelines.

    The file proves itself with `remediation journal verify FILE --vkey VKEY`, on any machine and without a home. It holds the content
    of every entry: treat it like the journal. With --format cloudevents, each line is an entry as a CloudEvent 1.0 instead.

    \b
    Examples:
      remediation journal export --out journal.jsonl
      remediation journal export | gzip > journal.jsonl.gz
      remediation journal export --format cloudevents | jq .type
    """
    import asyncio

    from remediation.settings import Settings
    from remediation.stores.auditing import export_cloudevents, export_journal

    place = Settings.of(existing_home(home)).home
    head = asyncio.run(_published_head(place))
    vkeys = place.verifier_keys.read_text("utf-8").split()
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
