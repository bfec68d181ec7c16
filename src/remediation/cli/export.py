"""``journal export``: hand the ledger to others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, existing_home
from remediation.settings.home import Home

if TYPE_CHECKING:
    from remediation.stores.exporting import Encoder, Selection
    from remediation.stores.exporting.records import Progress
    from remediation.stores.publishing import Published


class Format(StrEnum):
    """What ``--format`` takes."""

    JSONL = "jsonl"
    CLOUDEVENTS = "cloudevents"
    OTLP = "otlp"
    OCSF = "ocsf"
    TLOG_TILES = "tlog-tiles"


def export(
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Write to this file, whole or not at all, readable by you only (tlog-tiles: this folder).",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to write; see above.")] = Format.JSONL,
    after: Annotated[
        int | None, typer.Option("--after", metavar="SEQ", min=-1, help="Only what follows this entry.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help='Begin with the first entry of this time or later, such as 2030-01-31T18:00Z, or "24h" for a day ago.',
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """
    Write the journal for auditors, archives and pipelines. Needs no private key, and may be run beside the host.

    \b
    Formats:
      jsonl        JSON Lines: all that a verifier needs but the key. The file proves itself with
                   `remediation journal verify FILE --vkey VKEY`, on any machine and without a home.
                   It holds the content of every entry: treat it like the journal.
      cloudevents  one CloudEvent 1.0 a line, for event pipelines.
      otlp         OpenTelemetry logs (OTLP/JSON), for the collector's otlpjsonfile receiver.
      ocsf         one OCSF 1.3 Remediation Activity a line, for SIEMs.
      tlog-tiles   a folder of static files (C2SP tlog-tiles), to be published: any transparency-log
                   tool can check it. Holds no contents, only their digests. Again into the same
                   folder, it adds what is new, and mends what was damaged.

    The records of cloudevents, otlp and ocsf carry position and leaf hash of their entry, and prove nothing by themselves:
    `remediation journal prove SEQ` does. With --after or --since, jsonl writes a part, which proves nothing either.

    \b
    Examples:
      remediation journal export --out journal.jsonl
      remediation journal export --format cloudevents --since 24h | jq .type
      remediation journal export --format ocsf --after "$LAST" --out today.ocsf.jsonl
      remediation journal export --format tlog-tiles --out /srv/www/log
    """
    from remediation.cli.heads import published_head
    from remediation.settings import Settings

    if format_ is Format.TLOG_TILES and out is None:
        output.fail("--format tlog-tiles writes a folder: name it with --out", output.ExitCode.WRONG_USE)
    if format_ is Format.TLOG_TILES and (after is not None or since is not None):
        output.fail("a published log is whole, and goes on by itself: leave --after and --since out", output.ExitCode.WRONG_USE)
    selection = _selection(after, since)
    place = Settings.of(existing_home(home)).home
    head = published_head(place)
    published = None
    with _progress(out) as progress:
        if format_ is Format.TLOG_TILES and out is not None:
            published = _publish(place, head, out, progress)
            number = published.entries
        else:
            number = _write(place, head, format_, out, selection, progress)
    if out is not None:
        what = "new entries" if published is not None else "entries"
        output.note(f"{number} {what} of {head.partition(chr(10))[0]} in {out}")
    if published is not None and published.mendings:
        more = published.mendings - len(published.mended)
        names = ", ".join([*published.mended, *([f"and {more} more"] if more else [])])
        output.note(f"{published.mendings} files there were damaged or missing, and are mended: {names}")


def _publish(place: Home, head: str, folder: Path, progress: Progress | None) -> Published:
    import asyncio

    from remediation.bootstrap.keys import read_epochs
    from remediation.stores.publishing import export_tiles

    keys = asyncio.run(read_epochs(place)).keys
    try:
        return export_tiles(place.journal, head, folder, keys=keys, progress=progress)
    except OSError as error:
        output.fail(f"{error.filename or folder} can't be read or written: {error.strerror}")


def _write(place: Home, head: str, format_: Format, out: Path | None, selection: Selection, progress: Progress | None) -> int:
    from remediation.cli.sinks import sink
    from remediation.stores.exporting import CloudEvents, Ocsf, OtlpLogs, export_journal, export_records

    encoders: dict[Format, Callable[[str], Encoder]] = {
        Format.CLOUDEVENTS: CloudEvents,
        Format.OTLP: OtlpLogs,
        Format.OCSF: Ocsf,
    }
    with sink(out) as write:
        if format_ is Format.JSONL:
            vkeys = place.verifier_keys.read_text("utf-8").split()
            return export_journal(place.journal, head, vkeys, write, selection=selection, progress=progress)
        encoder = encoders[format_](head.partition("\n")[0])
        return export_records(place.journal, head, encoder, write, selection=selection, progress=progress)


def _selection(after: int | None, since: str | None) -> Selection:
    from remediation.stores.exporting import Selection

    return Selection(-1 if after is None else after, None if since is None else _moment(since))


def _moment(text: str) -> str:
    """The journal's time of a time, or of a duration before now."""
    from datetime import UTC, datetime

    from remediation.model.base import parse_duration, timestamp

    try:
        return timestamp(datetime.now(UTC) - parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        return timestamp(datetime.fromisoformat(text).astimezone())
    except (ValueError, OverflowError):
        output.fail(
            f"--since {text}: neither a time such as 2030-01-31T18:00Z nor a duration such as 24h", output.ExitCode.WRONG_USE
        )


@contextlib.contextmanager
def _progress(out: Path | None) -> Iterator[Progress | None]:
    """A bar for people who wait, on standard error; nothing where the records themselves go to the terminal, or nobody looks."""
    if not output.is_terminal(sys.stderr) or (out is None and output.is_terminal(sys.stdout)):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("exporting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
