"""``runbooks replay``: what a runbook would do about degradations that were recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from remediation.cli import moments, output
from remediation.cli.options import HomeOption, JsonOption, existing_home

NEWEST = 50
"""Degradations that are replayed if nobody says how many."""


def replay(
    runbook: Annotated[str, typer.Argument(metavar="ID", help="The runbook's id; it must be installed, in whatever state.")],
    *,
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="WHEN", help='Degradations reported since then, or since so long ago ("14d").', show_default=False
        ),
    ],
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only those reported before then.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Only the newest N that the runbook matches.")] = NEWEST,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Show what a runbook would do about recorded degradations, beside what was done.

    Its matches, precondition and action, as they are installed now, are run for each, in a dry run: nothing is journaled or changed.
    They see the world as it is now, not as it was then. Ends with 0 if the runbook has a plan for at least one of them, else with 1.

    \b
    Examples:
      remediation runbooks replay volatile-path --since 14d
      remediation runbooks replay volatile-path --since 2026-01-01 --until 2026-02-01 --json
    """
    from remediation.cli import rehearsing

    place, begin, end = existing_home(home), moments.past("--since", since), moments.past("--until", until)
    if end is not None and begin is not None and end <= begin:
        output.fail("--until must be later than --since", output.ExitCode.WRONG_USE)
    rehearsing.replay(place, runbook, since=begin or datetime.min.replace(tzinfo=UTC), until=end, limit=limit, json=json)
