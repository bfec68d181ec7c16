"""``runbooks``: what is registered, in which state, with its record."""

from __future__ import annotations

from typing import Any

import typer

from remediation.cli import output, replay
from remediation.cli.options import HomeOption, JsonOption, existing_home


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command("list")(list_)
    group.command("replay")(replay.replay)
    app.add_typer(group, name="runbooks")


def _group(context: typer.Context, home: HomeOption = None, json: JsonOption = False) -> None:
    """
    The runbooks, their states and their records.

    A runbook that is `registered` or `quarantined` observes: its plans are recorded and shown, and nothing is applied. A `live` one
    may act, as far as the gate lets it. In remediation.toml: [runbooks."ID"] state = "live".

    Lists them if no command is named.
    """
    if context.invoked_subcommand is None:
        list_(home, json)


def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """
    List runbooks, their states, and how often they healed.

    As the journal knows them: a new runbook is listed once a host has started with it.
    """
    from remediation.cli import reading

    state = reading.run(reading.host_state(existing_home(home)))
    found = [_document(record) for _, record in sorted(state.runbooks.items())]
    if json:
        output.say_json(found)
        return
    columns = ["id", "state", "attempts", "healed", "failed", "inconclusive", "faults", "why"]
    output.say_table(
        columns, [[item[name] for name in columns] for item in found], nothing="no runbooks; a host that starts registers its own"
    )


def _document(record: Any) -> dict[str, Any]:
    import json

    from remediation.model.base import from_epoch_ms, timestamp

    return {
        "id": record.id,
        "state": record.state,
        "why": record.why,
        "since": timestamp(from_epoch_ms(record.changed_at)) if record.changed_at else None,
        "plugin": record.plugin,
        "code_digest": record.code_digest,
        "attempts": record.attempts,
        "healed": record.healed,
        "failed": record.failed,
        "inconclusive": record.inconclusive,
        "faults": record.faults,
        "last_fault": record.last_fault,
        "spec": json.loads(record.spec) if record.spec else None,
    }
