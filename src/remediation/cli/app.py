"""The commands by name, and what happens around each of them: errors, interrupts, exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import remediation
from remediation.cli import (
    approvals,
    demo,
    doctor,
    incidents,
    init,
    journal,
    keys,
    output,
    report,
    requests,
    run,
    runbooks,
    secrets,
    trust,
    watchdog,
)
from remediation.cli.options import HomeOption
from remediation.errors import RemediationError

app = typer.Typer(
    name="remediation",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help reads the same on a terminal, in a pipe and in the documentation, and starts faster.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _version(value: bool) -> None:
    if value:
        output.say(f"remediation {remediation.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    home: HomeOption = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """
    A long-running host heals itself, and proves afterwards what it did.

    \b
    Begin with:
      remediation init                      make a home in .remediation
      remediation doctor                    see what is missing
      remediation run                       be the host, until SIGTERM
      remediation report --code QUEUE_STUCK --subsystem mail --subject outbox
      remediation incidents                 what happened
      remediation incident show ID          all about one of them
      remediation approvals                 what waits for a person's consent
      remediation journal verify            prove that nothing was altered

    \b
    Exit codes: 0 fine, 1 the answer is no, 2 wrong use or settings, 3 tampering,
    4 rolled back, 5 incomplete.
    """


# In the order in which `--help` lists them; groups come last.
init.register(app)
run.register(app)
watchdog.register(app)
report.register(app)
incidents.register(app)
approvals.register(app)
requests.register(app)
doctor.register(app)
demo.register(app)
runbooks.register(app)
trust.register(app)
journal.register(app)
keys.register(app)
secrets.register(app)


def main() -> None:
    """The command ``remediation``: runs `sys.argv` and exits."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # What the terminal can't show is escaped rather than an error.
            stream.reconfigure(errors="backslashreplace")
    code: str | int | None
    try:
        app(prog_name="remediation")
        code = output.ExitCode.OK
    except SystemExit as end:
        code = end.code
    except RemediationError as error:
        output.complain(str(error))
        code = output.code_of(error)
    except KeyboardInterrupt:
        output.complain("interrupted")
        code = output.ExitCode.INTERRUPTED
    except Exception as error:
        # A fault of ours: short for people, whole in a file for the report about it.
        output.complain(f"internal error: {type(error).__name__}: {error}\n{_details()}")
        code = output.ExitCode.NO
    output.flush()
    raise SystemExit(code)


def _details() -> str:
    """Where the traceback of the present exception is kept. It shows no values of variables."""
    if os.environ.get("REMEDIATION_TRACEBACK"):
        return traceback.format_exc()
    state = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))
    path = state / "remediation" / "last-error.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(traceback.format_exc(), "utf-8", "backslashreplace")
    except OSError:
        return "Set REMEDIATION_TRACEBACK=1 and do it again to see where; please report it."
    return f"Where it happened stands in {path}; please report it."
