"""Shows the parts of a story at once, with its diffs in colour where there are colours."""

from __future__ import annotations

from collections.abc import Iterable

from remediation.cli import output
from remediation.cli.postmortem_text import Block, Heading, Item, Part
from remediation.model.text import printable


def say(parts: Iterable[Part]) -> None:
    """Print `parts` for people."""
    for part in parts:
        match part:
            case Heading(1, text):
                output.say(f"{printable(text)}\n{'=' * min(len(printable(text)), 100)}")
            case Heading(_, text):
                output.say(f"\n{printable(text)}")
            case Item(label, text):
                # One line, whatever it holds: else a stranger's text could look like one of ours.
                output.say(f"  {label}: {printable(text)}" if label else f"  {printable(text)}")
            case Block(text):
                output.say_diff(text)
