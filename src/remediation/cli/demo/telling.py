"""What the audience sees: headings, what happens, and the journal's entries as they come."""

from __future__ import annotations

import sys
import time
from typing import Any

from remediation.cli import output
from remediation.core.state import HostState
from remediation.model.entries import (
    AttemptFinished,
    AttemptPlanned,
    DegradationReported,
    EffectReverted,
    HostStarted,
    IncidentOpened,
    IncidentSettled,
    IncidentWaiting,
    Record,
    VerificationStarted,
)
from remediation.model.text import printable

_COLOURS = {"title": "\033[1;36m", "act": "\033[1m", "dim": "\033[2m", "good": "\033[32m", "bad": "\033[31m", "note": "\033[33m"}
_DIFF = {"+": "good", "-": "bad", "@": "note"}
DIFF_LINES = 24


class Teller:
    """Writes to standard output as things happen; colours on a terminal only."""

    def __init__(self) -> None:
        self._colours = output.is_terminal(sys.stdout)
        self._begun = time.monotonic()
        self.shown = 0

    def title(self, text: str) -> None:
        """A heading."""
        self._line("", "")
        self._line(f"== {text} ==", "title")

    def act(self, text: str) -> None:
        """Something that the demo does."""
        self._line(f"» {text}", "act")

    def result(self, text: str, *, good: bool = True) -> None:
        """Something that was seen."""
        self._line(f"  {'✓' if good else '✗'} {text}", "good" if good else "bad")

    def plain(self, text: str, indent: str = "    ") -> None:
        """Text of one or more lines, such as a command's output."""
        for line in text.rstrip("\n").split("\n"):
            self._line(indent + line, "")

    def entry(self, record: Record, state: HostState) -> None:
        """One entry of the journal, as it comes."""
        self.shown += 1
        told = _told(record.entry)
        if told is None:
            return
        self._line(f"  {time.monotonic() - self._begun:6.2f}s  #{record.seq:<3} {record.head.type:<21} {told}", "")
        if isinstance(record.entry, AttemptPlanned):
            for effect in record.entry.plan.effects:
                self._line(f"{'':16}effect: {effect.line}", "")
                self._diff(effect.diff)

    def _diff(self, diff: str) -> None:
        lines = diff.splitlines()
        for line in lines[:DIFF_LINES]:
            self._line(f"{'':18}{line}", _DIFF.get(line[:1], "dim"))
        if len(lines) > DIFF_LINES:
            self._line(f"{'':18}… {len(lines) - DIFF_LINES} more lines", "dim")

    def _line(self, text: str, style: str) -> None:
        text = printable(text)
        if self._colours and style:
            sys.stdout.write(f"{_COLOURS[style]}{text}\033[0m\n")
        else:
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _told(entry: Any) -> str | None:
    """One line about an entry, or `None` for those that the audience need not see."""
    match entry:
        case HostStarted():
            return f"instance {entry.instance}, pid {entry.pid}, profile {entry.profile}"
        case DegradationReported():
            return f"{entry.event.code} of {entry.event.subject} ({entry.provenance.value}): {entry.event.summary[:90]}"
        case IncidentOpened():
            return f"runbooks that match: {', '.join(entry.ladder) or 'none'}"
        case AttemptPlanned():
            why = "; ".join(f"{item.row}: {item.reason}" for item in entry.gate.reasons)
            return f"{entry.runbook}, confidence {entry.finding.confidence} → gate: {entry.gate.decision} ({why})"
        case VerificationStarted():
            return f"applied; first verdict: {entry.verdict.status} {entry.verdict.reason}"
        case IncidentWaiting():
            return f"waits: {entry.reason}"
        case AttemptFinished():
            return f"{entry.outcome}: {entry.reason}"
        case EffectReverted():
            return f"undone: {entry.key}"
        case IncidentSettled():
            return f"{entry.status}: {entry.reason}"
    return None
