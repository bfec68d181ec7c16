"""
What the runbook for volatile paths is made of: the trusted facts of a job, the search for lost content, the rewriting of a script,
the trial of a change, and the message of its commit.

This package must not change anything outside of the attempt's scratch folder. The parser of scripts is loaded by the child process that
parses (`apart`), and never by the host: `rewriting` and what it is made of are imported by `__main__` alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from remediation.errors import RemediationError


class CanNotHeal(RemediationError):
    """The runbook must leave this to people: `reason` says why in one line, `evidence` what was found on the way."""

    def __init__(self, reason: str, evidence: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.evidence = tuple(evidence)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten script."""

    source: bytes
    lines: tuple[int, ...]
    """The lines of the old text that were changed."""
    unused: tuple[str, ...] = ()
    """What nothing in the script refers to any more: names that the old expressions were made of, each with its line."""


def normal(path: str) -> str:
    """`path` without doubled slashes and dots; unchanged where ``..`` could cross a link."""
    if not path or ".." in path.split("/"):
        return path
    return re.sub("^//+", "/", os.path.normpath(path))
