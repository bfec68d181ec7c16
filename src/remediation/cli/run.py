"""``run``: be the host, until SIGTERM; ``run --once``: do what can be done now."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, existing_home
from remediation.cli.passphrases import ask_at_the_terminal


class ProfileOption(StrEnum):
    """What ``--profile`` takes."""

    OBSERVE = "observe"
    SUPERVISED = "supervised"
    COLLABORATIVE = "collaborative"
    AUTONOMOUS = "autonomous"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Take in the inbox, check each sentinel once, settle what can be settled, and leave.")
    ] = False,
    profile: Annotated[
        ProfileOption | None,
        typer.Option("--profile", help="Go by this profile; it must allow no more than the configured one.", show_default=False),
    ] = None,
    home: HomeOption = None,
    json: Annotated[bool, typer.Option("--json", help="The log, and the answer of --once, in JSON.")] = False,
) -> None:
    """
    Be the host: watch, heal, verify, until SIGTERM or Ctrl-C.

    Logs to standard error. Under systemd use Type=notify; WatchdogSec= is fed as long as the event loop runs and the journal can be
    written. SIGTERM, SIGINT and SIGHUP stop it, within 35 seconds whatever hangs; a second one ends it at once. Killing it at any time
    loses nothing: the next start goes on where it stopped. Settings are read at the start only.

    With --profile observe, plans are recorded with their diffs, and nothing is applied or taken back, not even what an earlier host
    left half done. Don't run it beside a host that acts: what it takes in first, it gives to people.

    With --once, incidents that wait (for an approval, a cooldown, the end of a verification) are listed and go on with the next run.

    \b
    Examples:
      remediation run
      remediation run --once --json
      remediation run --profile observe
    """
    import asyncio

    from remediation.bootstrap import RemediatorBootstrap
    from remediation.cli import hosting
    from remediation.cli.logs import configure
    from remediation.settings import Settings

    ask_at_the_terminal()
    settings = Settings.of(existing_home(home))
    if profile is not None:
        settings = settings.restrained(profile.value)
    boot = RemediatorBootstrap(settings)
    configure(sys.stderr, json=json, redactor=lambda: boot.redactor)
    if once:
        _show(asyncio.run(hosting.once(boot)), json)
    else:
        asyncio.run(hosting.until_stopped(boot))


def _show(incidents: list[dict[str, Any]], json: bool) -> None:
    if json:
        output.say_json(incidents)
        return
    rows = [
        [item["id"], item["status"], item["severity"], item["code"], item["subject"], item["runbook"], _why(item)]
        for item in incidents
    ]
    output.say_table(["id", "status", "severity", "code", "subject", "runbook", "reason"], rows, nothing="nothing to do")


def _why(item: dict[str, Any]) -> str:
    """Why it ended so, or what it waits for and until when."""
    if item["status"] != "open":
        return str(item["reason"])
    until = f"waits until {item['waits_until'][:19]}Z" if item["waits_until"] else "waits"
    return f"{until}: {item['reason']}" if item["reason"] else until
