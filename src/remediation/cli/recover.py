"""``journal recover``: a new log where the old one can't be continued."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home


def recover(
    *,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the record. Default: what is wrong with the journal.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new signing key: the old one is lost. It is put aside if it is there.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Start a new log, if the journal is damaged, behind its known head, or has lost that head.

    First try to bring the newer files back: what is lost stays lost. The new log's first entry names the newest signed head of the
    old one. The old files are kept in the home's folder `lost`. Incidents that were open or held are carried over as far as they can
    be read; the host is paused until `remediation resume`. The log gets a new name and with that a new public key to hand out.

    Refused while a host runs, and when the journal is healthy. When it was interrupted, do it again: it goes on.

    \b
    Examples:
      remediation journal recover --reason "the disk lost its last writes"
      remediation journal recover --yes --json
    """
    from remediation.bootstrap.recovering import recover as do_it
    from remediation.bootstrap.recovering import unfinished, why_lost
    from remediation.settings import Settings

    settings = Settings.of(existing_home(home))
    place = settings.home
    if not unfinished(place):
        found = why_lost(place)
        if not found:
            output.fail("the journal is healthy: it is verified, and continues its known head; nothing was changed")
        output.note(f"What is wrong: {found}")
    if not yes:
        _ask(place.root.as_posix())
    done = do_it(place, settings.host.id, reason=reason, new_key=new_key)
    if json:
        output.say_json({**dataclasses.asdict(done), "kept": str(done.kept)})
        return
    head = done.old_head.split("\n")[1] if done.old_head else "unknown"
    output.say_facts(
        {
            "journal": done.origin,
            "public key": done.vkey,
            "continues": f"{done.proven} entries are proven of {head} that were signed",
            "old files": done.kept,
            "incidents": f"{done.open_again} open again, {done.held} for you to look at",
        }
    )
    output.note("Hand out the new public key, and keep the old one for what is in the old files.")
    output.note("The host is paused: see `remediation incidents`, then `remediation resume`.")


def _ask(home: str) -> None:
    if not sys.stdin.isatty():
        output.fail(f"this starts a new log in {home}: say --yes, or do it on a terminal", output.ExitCode.WRONG_USE)
    typer.confirm(f"Start a new log in {home}, and put the old files aside?", abort=True, err=True)
