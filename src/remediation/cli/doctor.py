"""``doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import dataclasses

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption
from remediation.settings.home import Home


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(home: HomeOption = None, json: JsonOption = False) -> None:
    """
    Say what is wrong with this installation, and how to mend it.

    Changes nothing. Exits with 1 if there is a problem; warnings are none.
    """
    from remediation.cli.checks import examine

    findings = list(examine(Home.locate(home)))
    well = all(finding.level != "problem" for finding in findings)
    if json:
        output.say_json({"ok": well, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        rows = [[finding.level, finding.check, finding.message, finding.mend] for finding in findings]
        output.say_table(["level", "check", "found", "to mend it"], rows, nothing="nothing to say")
    if not well:
        raise typer.Exit(output.ExitCode.NO)
