"""
What the runbook for volatile paths is made of: the trusted facts of a job, the search for lost content, the rewriting of a script,
the trial of a change, and the message of its commit.

This package must not change anything outside of the attempt's scratch folder.
"""

from __future__ import annotations

from collections.abc import Sequence

from remediation.errors import RemediationError


class CanNotHeal(RemediationError):
    """The runbook must leave this to people: `reason` says why in one line, `evidence` what was found on the way."""

    def __init__(self, reason: str, evidence: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.evidence = tuple(evidence)
