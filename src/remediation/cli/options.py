"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from remediation.settings.home import Home

_HOME = "remediation.home"


def _remember(context: typer.Context, value: str | None) -> str | None:
    """``--home`` counts wherever it stands on the line; the innermost one wins."""
    if value is not None:
        if not value.strip():
            # Most likely a variable that is not set: the working directory is not what was meant.
            raise typer.BadParameter("it is empty; name a folder, or leave the option out", ctx=context, param_hint="--home")
        context.meta[_HOME] = value
    found: str | None = context.meta.get(_HOME)
    return found


HomeOption = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        callback=_remember,
        help="The host's home. Default: $REMEDIATION_HOME, else .remediation in this folder.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


def existing_home(option: str | None) -> Home:
    """
    The home that the command line, the environment or the working directory names.

    Raises:
        ConfigurationError: there is none.

    """
    home = Home.locate(option)
    home.require()
    return home
