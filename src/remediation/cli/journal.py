"""``journal verify|export|prove|tail|recover``: the ledger itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from remediation.cli import output
from remediation.cli.erase import erase
from remediation.cli.export import export
from remediation.cli.options import HomeOption, JsonOption, existing_home
from remediation.cli.prove import prove
from remediation.cli.recover import recover
from remediation.cli.verify import verify


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command("verify")(verify)
    group.command("export")(export)
    group.command("prove")(prove)
    group.command("tail")(tail)
    group.command("recover")(recover)
    group.command("erase")(erase)
    app.add_typer(group, name="journal")


def _group(home: HomeOption = None) -> None:
    """The signed journal: verify, export, watch it."""


def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the newest entries to begin with.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with each new entry, until interrupted.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Show the newest entries.

    With --json, one JSON object a line.

    \b
    Examples:
      remediation journal tail -n 5
      remediation journal tail --follow --json | jq .type
    """
    from remediation.cli import reading

    reading.run(_tail(existing_home(home), lines, follow, json))


async def _tail(home: Any, lines: int, follow: bool, json: bool) -> None:
    from remediation.cli import reading

    async with reading.open_journal(home) as journal:
        size, _ = await journal.head()
        after = size - lines - 1
        records = journal.follow(after=after) if follow else journal.read(after=after, limit=lines)
        async for record in records:
            _say_entry(record, json)
            if follow:
                output.flush()


def _say_entry(record: Any, json: bool) -> None:
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
