"""What people ask of the host from another process: close or reopen an incident, pause, resume, panic. Needs no key."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from remediation.cli import moments, output
from remediation.cli.options import HomeOption, JsonOption, existing_home
from remediation.settings.home import Home

_PATIENCE = 5.0
"""Seconds that a command waits for a running host to do what was asked."""

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is journaled.")]
IncidentId = Annotated[str, typer.Argument(metavar="ID", help="The incident's id, or a beginning of it that no other has.")]


def register(app: typer.Typer) -> None:
    """Add the commands for the whole host."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("panic")(panic)


def close(incident: IncidentId, *, reason: ReasonOption = "", home: HomeOption = None, json: JsonOption = False) -> None:
    """
    Close an incident: you have dealt with it.

    A held incident lets go of its subject; the next degradation is a new incident.

    \b
    Example:
      remediation incident close 4f1c2a90 --reason "restored from the backup of Monday"
    """
    _about_incident("close", incident, reason, home, json)


def reopen(incident: IncidentId, *, reason: ReasonOption = "", home: HomeOption = None, json: JsonOption = False) -> None:
    """
    Open an incident again: the runbooks are to try anew.

    \b
    Example:
      remediation incident reopen 4f1c2a90 --reason "the disk has been replaced"
    """
    _about_incident("reopen", incident, reason, home, json)


def pause(
    *,
    reason: ReasonOption = "",
    until: Annotated[
        str,
        typer.Option(
            "--until", metavar="WHEN", help='A time such as 2030-01-31T18:00Z, or a duration such as "2h". Default: until resumed.'
        ),
    ] = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Stop healing. Reports are still taken in, and wait.

    An attempt that is under way ends first. A pause never shortens or softens another one: to do that, `resume` first.

    \b
    Example:
      remediation pause --until 2h --reason "migration of the database"
    """
    _ask(
        existing_home(home),
        "pause",
        {"reason": reason, "until": moments.coming("--until", until) if until else 0, "panic": False},
        json,
    )


def panic(
    *,
    reason: ReasonOption = "",
    revert: Annotated[
        bool, typer.Option("--revert", help="Take back what attempts that this stops in the middle have done; they are over then.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Stop at once, even within an attempt.

    Not even the next effect of an attempt under way is applied, and nothing is taken back: it goes on where it was stopped when
    `remediation resume` ends the panic. With `--revert`, also given later, it is undone instead, and people are told. What was applied
    whole is verified as always.

    \b
    Example:
      remediation panic --revert --reason "it deletes what it should not"
    """
    _ask(existing_home(home), "pause", {"reason": reason or "panic", "until": 0, "panic": True, "revert": revert}, json)


def resume(*, reason: ReasonOption = "", home: HomeOption = None, json: JsonOption = False) -> None:
    """End a pause: what waited is looked at, at once."""
    _ask(existing_home(home), "resume", {"reason": reason}, json)


def _about_incident(kind: str, incident: str, reason: str, home: str | None, json: bool) -> None:
    from remediation.cli import reading
    from remediation.core.incident import id_of

    place = existing_home(home)
    records = reading.run(reading.incident_records(place, incident))
    _ask(place, kind, {"incident": id_of(records[0].head.stream), "reason": reason}, json)


def _ask(home: Home, kind: str, document: dict[str, Any], json: bool) -> None:
    """Leave a request in the inbox, and say what became of it."""
    id_, state, running = leave(home, kind, document)
    if json:
        output.say_json({"id": id_, "state": state})
    elif state == "done":
        output.say("done")
    elif state == "waiting":
        output.say("asked; it is done when a host runs" if not running else "asked; the host has not taken it in yet")
    if state.startswith("refused"):
        output.fail(f"the host refused: {state.removeprefix('refused: ')}")


def leave(home: Home, kind: str, document: dict[str, Any]) -> tuple[str, str, bool]:
    """
    Leave a request in the inbox, and wait a moment for a running host to carry it out.

    Returns:
        The request's id; ``done``, ``waiting`` or ``refused: …``; and whether a host runs.

    """
    from remediation.cli import reading
    from remediation.journal.inbox import Inbox

    running = reading.run(reading.running_host(home)) is not None
    id_ = Inbox(home.inbox).put(kind, document, at=round(time.time() * 1000))
    return id_, _await(home, id_) if running else "waiting", running


def _await(home: Home, id_: str) -> str:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if not list(home.inbox.glob(f"*-{id_}.json")):
            # It is put aside first, and the reason written then.
            refused = list((home.inbox / "rejected").glob(f"*-{id_}.json"))
            if not refused:
                return "done"
            reason = _reason(refused[0])
            if reason:
                return f"refused: {reason}"
        time.sleep(0.05)
    return "waiting"


def _reason(refused: Path) -> str:
    try:
        return refused.with_name(f"{refused.name}.reason").read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
