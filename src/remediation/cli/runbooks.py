"""``runbooks``: what is registered, in which state, with its record."""

from __future__ import annotations

import typer

from remediation.cli import lifecycle, output, replay
from remediation.cli.options import HomeOption, JsonOption, existing_home


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command("list")(list_)
    group.command("show")(show)
    group.command("replay")(replay.replay)
    group.command("promote")(lifecycle.promote)
    group.command("quarantine")(lifecycle.quarantine)
    group.command("release")(lifecycle.release)
    app.add_typer(group, name="runbooks")


def _group(context: typer.Context, home: HomeOption = None, json: JsonOption = False) -> None:
    """
    The runbooks, their states and their records.

    A runbook that is `registered` or `quarantined` observes: its plans are recorded and shown, and nothing is applied. A `live` one
    may act, as far as the gate lets it. `promote` makes it live, or in remediation.toml: [runbooks."ID"] state = "live".

    Lists them if no command is named.
    """
    if context.invoked_subcommand is None:
        list_(home, json)


def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """
    List runbooks, their states, and how often they healed.

    As the journal knows them: a new runbook is listed once a host has started with it.
    """
    from remediation.cli import reading, runbook_story

    state = reading.run(reading.host_state(existing_home(home)))
    found = [record for _, record in sorted(state.runbooks.items())]
    if json:
        output.say_json([runbook_story.document(record) for record in found])
        return
    columns = ["id", "state", "attempts", "healed", "failed", "inconclusive", "withheld", "median", "faults", "why"]
    rows = [
        [
            record.id,
            record.state,
            record.attempts,
            record.healed,
            record.failed,
            record.inconclusive,
            record.withheld,
            None if record.median_ms is None else runbook_story.duration(record.median_ms),
            record.faults,
            record.why,
        ]
        for record in found
    ]
    output.say_table(columns, rows, nothing="no runbooks; a host that starts registers its own")


def show(runbook: lifecycle.RunbookId, *, home: HomeOption = None, json: JsonOption = False) -> None:
    """
    Show a runbook: its state and who or what brought it there, its record, what it declares, who trusts it, what it still needs.

    \b
    Example:
      remediation runbooks show stale-lock-file
    """
    import time

    from remediation.cli import reading, runbook_story
    from remediation.engine.trusting import standing
    from remediation.settings import Settings

    settings = Settings.of(existing_home(home))
    state = reading.run(reading.host_state(settings.home))
    record = state.runbooks.get(runbook)
    if record is None:
        output.fail(f"no runbook {runbook} is known here; `remediation runbooks` lists them")
    grants = tuple(grant for grant in standing(state, round(time.time() * 1000)) if grant.runbook == record.id)
    told = runbook_story.Told(record, settings, grants)
    if json:
        output.say_json(runbook_story.whole(told))
    else:
        runbook_story.say(told)
