"""The command ``demo``. What it does is in `play`, imported when it is asked for: other commands have to start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    home: Annotated[
        Path | None, typer.Option("--home", help="Where the demo's home is to be; must not exist. Default: in the scratch folder.")
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything there to look at afterwards.")] = False,
) -> None:
    """
    Break real things in a scratch folder, and see them healed and proven.

    A job loses its template, a database loses pages while the host is killed with SIGKILL in the middle of the heal, and something
    breaks that no runbook knows. Then the journal is verified, and a forged copy of it is not. Takes less than a minute.

    \b
    Examples:
      remediation demo
      remediation demo --home /tmp/demo-home --keep
    """
    from remediation.cli.demo.play import perform

    perform(home.absolute() if home is not None else None, keep=keep)
