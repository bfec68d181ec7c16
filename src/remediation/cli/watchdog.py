"""``watchdog``: watches the hosts of a home from outside, and runs a command when they fall silent."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from remediation.cli import output
from remediation.cli.options import HomeOption, existing_home

_REST = "remediation.watchdog.command"


class _RestIsCommand(TyperCommand):
    """Everything behind ``--command`` is the command, whatever it looks like."""

    # Its context is typer's own class or click's, by typer's version.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--command" in args:
            place = args.index("--command")
            ctx.meta[_REST] = tuple(args[place + 1 :])
            args = [*args[:place], "--command", args[place + 1] if args[place + 1 :] else ""]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watchdog", cls=_RestIsCommand)(watchdog)


def watchdog(
    context: typer.Context,
    *,
    after: Annotated[str, typer.Option("--after", metavar="DURATION", help="How long a host may be silent.")] = "30s",
    once: Annotated[bool, typer.Option("--once", help="Look once, and exit with 1 if the hosts are not well.")] = False,
    command: Annotated[
        str | None,
        typer.Option(
            "--command", metavar="ARG...", help="What to run; stands last, and takes the rest of the line.", show_default=False
        ),
    ] = None,
    home: HomeOption = None,
    json: Annotated[bool, typer.Option("--json", help="Tell what happens in JSON, one object a line.")] = False,
) -> None:
    """
    Watch the hosts of a home from outside, and run a command when they fall silent.

    A host beats as long as its event loop runs and its journal can be written, also when it has nothing to do. The command runs when
    a host that is there does not beat, or none is there, for longer than --after; again after two, four, eight times as long, at most
    an hour, until the hosts are well. It is run directly, without a shell, with what is wrong as JSON on its standard input; it is
    ended after a minute. Changes of the clock and a suspended machine make no silence.

    Runs until SIGTERM or Ctrl-C, and needs no key. Stop it before you stop the host.

    \b
    Examples:
      remediation watchdog --after 30s --command systemctl restart my-host.service
      remediation watchdog --once
    """
    import asyncio

    from remediation.cli import watching

    place = existing_home(home)
    argv = context.meta.get(_REST, ())
    watch = watching.Watch(
        place, after=watching.seconds("--after", after), argv=watching.runnable(argv) if command is not None else (), json=json
    )
    well = asyncio.run(watch.once() if once else watch.until_stopped())
    if not well:
        raise typer.Exit(output.ExitCode.NO)
