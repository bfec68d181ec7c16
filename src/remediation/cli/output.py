"""
How commands speak: tables on terminals, plain text elsewhere, JSON on request, and the exit code.

Everything that is shown passes through here: foreign text is made harmless (`remediation.model.text`), and none of it is ever taken
for rich's markup. JSON is written in ASCII, so that it can't move a cursor either.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NoReturn, TextIO

import typer

from remediation.errors import ConfigurationError, JournalDamaged, JournalRolledBack, RemediationError
from remediation.model.text import printable


class ExitCode(IntEnum):
    """What a command's end means."""

    OK = 0
    NO = 1
    """The answer is no, or it could not be done."""
    WRONG_USE = 2
    TAMPERING = 3
    ROLLED_BACK = 4
    INCOMPLETE = 5
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""
    NOBODY_READS = 141
    """128 + SIGPIPE, as shells have it."""


_STYLES = {
    "resolved": "green",
    "ok": "green",
    "live": "green",
    "escalated": "yellow",
    "warning": "yellow",
    "open": "cyan",
    "heal_failed": "red",
    "problem": "red",
    "degraded": "yellow",
    "quarantined": "red",
    "P0": "bold red",
    "P1": "red",
}
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def code_of(error: RemediationError) -> ExitCode:
    """The exit code that stands for an error."""
    if isinstance(error, JournalRolledBack):
        return ExitCode.ROLLED_BACK
    if isinstance(error, JournalDamaged):
        return ExitCode.TAMPERING
    if isinstance(error, ConfigurationError):
        return ExitCode.WRONG_USE
    return ExitCode.NO


def fail(message: str, code: ExitCode = ExitCode.NO) -> NoReturn:
    """End the command with a message for people."""
    complain(message)
    raise typer.Exit(code)


def complain(message: str) -> None:
    """Say what is wrong, on standard error."""
    note(f"remediation: {message}")


def note(message: str) -> None:
    """Say what people want to know and programs don't, on standard error."""
    # Where both go to one place, what was said first stands first.
    _flush(sys.stdout)
    _write(sys.stderr, f"{printable(message, newlines=True)}\n")


def say(text: str = "") -> None:
    """Print text of one or more lines."""
    _write(sys.stdout, f"{printable(text, newlines=True)}\n")


def say_json(document: Any) -> None:
    """Print a JSON document: one line into a pipe, indented on a terminal."""
    indent = 2 if is_terminal(sys.stdout) else None
    _write(sys.stdout, json.dumps(document, indent=indent, ensure_ascii=True) + "\n")


def say_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one pair a line."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        _write(sys.stdout, f"{name:<{width}}  {printable(str(value))}\n")


def say_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, nothing: str) -> None:
    """
    Print a table: columns separated by at least two spaces. On a terminal, they are made to fit (`remediation.cli.tables`), or else each
    row becomes a record, one ``name: value`` a line.

    Args:
        columns: Their names.
        rows: Cells; `None` is an empty one.
        nothing: What to say instead of a table without rows.

    """
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if not cells:
        note(nothing)
    elif is_terminal(sys.stdout):
        _draw(columns, cells)
    else:
        table = [[name.upper() for name in columns], *cells]
        widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
        for row in table:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            _write(sys.stdout, line.rstrip() + "\n")


def say_diff(text: str, *, indent: str = "    ") -> None:
    """Print a unified diff, in colours on a terminal that wants them."""
    lines = [indent + line for line in printable(text.rstrip("\n"), newlines=True).split("\n")]
    if not is_terminal(sys.stdout):
        _write(sys.stdout, "".join(f"{line}\n" for line in lines))
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text("\n").join(Text(line, style=_DIFF_STYLES.get(line[len(indent) : len(indent) + 1], "")) for line in lines)
    _guarded(lambda: Console(file=sys.stdout, highlight=False).print(shown, soft_wrap=True))


def say_bytes(content: bytes) -> None:
    """Write `content` to standard output as it is: for programs, never for text that people only look at."""
    if sys.stdout is not None:
        _flush(sys.stdout)
        _guarded(lambda: (sys.stdout.buffer.write(content), sys.stdout.buffer.flush()))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal that can do more than print lines."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def flush() -> None:
    """Hand everything on to whoever reads; ends the process quietly when nobody does."""
    _flush(sys.stdout)
    _flush(sys.stderr)


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    from remediation.cli import tables

    console = Console(file=sys.stdout, highlight=False)
    rows = [[Text(cell, style=_STYLES.get(cell.partition(",")[0], "")) for cell in row] for row in cells]
    widths = tables.widths(columns, cells, console.width)
    if widths is not None:
        _guarded(lambda: console.print(tables.drawn(columns, rows, widths)))
        return
    names = max(len(name) for name in columns)
    for number, row in enumerate(rows):
        if number:
            _guarded(console.print)
        for name, cell in zip(columns, row, strict=True):
            if cell:
                line = Text.assemble((f"{name}:".ljust(names + 2), "bold"), cell)
                # In full, and in one piece for whoever copies it: a terminal breaks lines by itself.
                _guarded(lambda line=line: console.print(line, soft_wrap=True))


def _write(stream: TextIO | None, text: str) -> None:
    # A stream that the shell closed (`>&-`) is None.
    if stream is not None:
        _guarded(lambda: stream.write(text))


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        _guarded(stream.flush)


def _guarded(action: Any) -> None:
    try:
        action()
    except BrokenPipeError:
        # Python would complain when it flushes at exit; nobody is there to read that.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os._exit(ExitCode.NOBODY_READS)
