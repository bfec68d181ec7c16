"""``journal tail``: the newest entries, of all or of some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home

if TYPE_CHECKING:
    from remediation.model.entries import Record
    from remediation.settings.home import Home


def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the newest entries to begin with.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with each new entry, until interrupted.")] = False,
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream", metavar="NAME", help="Only of this stream; with a / at its end: of all that begin so.", show_default=False
        ),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only of this type. May be repeated.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help='Only from this time on, or from so long ago ("2h").', show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only from before this time.", show_default=False)
    ] = None,
    correlation: Annotated[
        str | None,
        typer.Option("--correlation", metavar="ID", help="Only what belongs to this, such as an incident.", show_default=False),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Show the newest entries.

    With --json, one JSON object a line.

    \b
    Examples:
      remediation journal tail -n 5
      remediation journal tail --since 2h --type attempt.finished --type incident.settled
      remediation journal tail --follow --json | jq .type
    """
    from remediation.cli import moments, reading
    from remediation.model.entries import entry_types

    for name in set(types or ()) - entry_types().keys():
        output.note(f"no entry of this release is of the type {name}; docs/specs/entry-types.md lists them")
    wanted = {
        "stream": stream,
        "types": tuple(types or ()),
        "since": moments.past("--since", since),
        "until": moments.past("--until", until),
        "correlation": correlation,
    }
    reading.run(_tail(existing_home(home), lines, wanted, follow=follow, json=json))


async def _tail(home: Home, lines: int, wanted: dict[str, Any], *, follow: bool, json: bool) -> None:
    import asyncio

    from remediation.cli import reading
    from remediation.journal.reading import POLL

    async with reading.open_journal(home) as journal:
        size, _ = await journal.head()
        newest = await journal.newest(lines, **wanted)
        for record in newest:
            _say(record, json=json)
        after = max(size - 1, newest[-1].seq if newest else -1)
        while follow:
            output.flush()
            size, _ = await journal.head()
            async for record in journal.read(after=after, **wanted):
                _say(record, json=json)
                output.flush()
                after = record.seq
            # What was there and was not wanted need not be looked at again.
            after = max(after, size - 1)
            await asyncio.sleep(POLL)


def _say(record: Record, *, json: bool) -> None:
    import dataclasses

    entry = record.entry
    body = None if entry is None else entry.model_dump(mode="json", exclude_defaults=True)
    if json:
        output.say_json({**dataclasses.asdict(record.head), "body": body})
        return
    from json import dumps

    from remediation.model.text import capped

    said = "(erased)" if body is None else capped(dumps(body, ensure_ascii=False), 400)
    output.say(f"{record.seq}  {record.head.time}  {record.head.type}  {record.head.stream}\n    {said}".replace("\r", ""))
