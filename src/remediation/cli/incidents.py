"""``incidents``, and ``incident show``: what happened."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import output, requests
from remediation.cli.options import HomeOption, JsonOption, existing_home

if TYPE_CHECKING:
    from remediation.core.incident import Incident

NEWEST = 1000
"""Incidents that are listed if nobody says how many."""


class StatusOption(StrEnum):
    """What ``--status`` takes."""

    OPEN = "open"
    RESOLVED = "resolved"
    ESCALATED = "escalated"
    HEAL_FAILED = "heal_failed"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("incidents")(incidents)
    group = typer.Typer(no_args_is_help=True, help="One incident: show, close, reopen it.", rich_markup_mode=None)
    group.callback()(_group)
    group.command("show")(show)
    group.command("close")(requests.close)
    group.command("reopen")(requests.reopen)
    app.add_typer(group, name="incident")


def _group(home: HomeOption = None) -> None:
    """One incident: show, close, reopen it."""


def incidents(
    *,
    status: Annotated[StatusOption | None, typer.Option("--status", help="Only incidents that stand so.")] = None,
    code: Annotated[str | None, typer.Option("--code", help="Only incidents of this code.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help='Only those opened since then, or since so long ago ("2h").', show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Only the newest N.")] = NEWEST,
    everything: Annotated[bool, typer.Option("--all", help="All of them: reads the whole journal.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    List incidents, the newest first.

    Works without key and without a running host.

    \b
    Examples:
      remediation incidents --status open
      remediation incidents --since 24h --limit 20
      remediation incidents --json | jq '.[] | select(.severity == "P0")'
    """
    from remediation.cli import moments, reading
    from remediation.model.base import epoch_ms

    place, begin = existing_home(home), moments.past("--since", since)

    def wanted_(incident: Incident) -> bool:
        named = code is None or incident.event.code == code
        return (
            named
            and (status is None or str(incident.status) == status)
            and (begin is None or incident.opened_at >= epoch_ms(begin))
        )

    if everything:
        found = [incident for incident in reading.run(reading.incidents(place)) if wanted_(incident)]
    elif status is StatusOption.OPEN:
        # However long ago they were opened.
        found = [incident for incident in reversed(reading.run(reading.host_state(place)).incidents.values()) if wanted_(incident)]
    else:
        found = reading.run(reading.newest_incidents(place, limit + 1, wanted_, begin))
    if len(found) > limit and not everything:
        output.note(f"these are the newest {limit}; --limit and --all list more")
        found = found[:limit]
    wanted = [reading.incident_document(incident) for incident in found]
    if json:
        output.say_json(wanted)
        return
    if (waiting := len(reading.untaken(place))) and reading.run(reading.running_host(place)) is None:
        said = "1 report waits" if waiting == 1 else f"{waiting} reports wait"
        output.note(f"{said} in the inbox, not yet taken in: no host runs; `remediation run` does it, or `remediation run --once`")
    output.say_table(
        ["id", "status", "severity", "code", "subject", "runbook", "opened"],
        [
            [
                item["id"],
                _shown(item),
                item["severity"],
                item["code"],
                item["subject"],
                item["runbook"],
                item["opened_at"][:19] + "Z",
            ]
            for item in wanted
        ],
        nothing="no incidents",
    )


def _shown(item: dict[str, object]) -> str:
    marks = [str(item["status"]) if item["status"] != "open" else f"open, {item['phase']}"]
    if item["waits_for"]:
        marks[0] += f": {item['waits_for']}" + (f" until {str(item['waits_until'])[:19]}Z" if item["waits_until"] else "")
    marks += [mark for mark in ("held", "dirty") if item[mark]]
    marks += ["plan withheld"] if item["withheld"] else []
    return ", ".join(marks)


def show(
    incident: requests.IncidentId,
    *,
    home: HomeOption = None,
    json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Answer in Markdown, for tickets and wikis.")] = False,
) -> None:
    """
    Show one incident's post-mortem: what was seen, considered, decided, done and verified, and what is left to do.

    It is made from the journal's entries alone, without key and without a running host.

    \b
    Examples:
      remediation incident show 4f1c
      remediation incident show 4f1c2a90b7d3e815-09aa31bc --markdown > postmortem.md
    """
    from remediation.cli import postmortem, postmortem_text, reading

    if json and markdown:
        output.fail("choose one of --json and --markdown", output.ExitCode.WRONG_USE)
    document = postmortem.post_mortem(reading.run(reading.incident_records(existing_home(home), incident)))
    if json:
        output.say_json(document)
    elif markdown:
        output.say(postmortem_text.as_markdown(document).rstrip("\n"))
    else:
        output.say(postmortem_text.as_text(document).rstrip("\n"))
