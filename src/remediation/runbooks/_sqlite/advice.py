"""What people are told to do about a corrupt database that was left to them."""

from __future__ import annotations

from remediation.authoring import ProcessError, RemediationContext
from remediation.model.text import printable
from remediation.runbooks._advice import consent

OPEN, LOCKED = "open in", "locked by"
"""How findings say that somebody uses it."""
ESTIMATE = "what can be had is an estimate"
NOTHING = "nothing can be salvaged, and there is no good backup"
_TRIAL_SECONDS = 10


def what_is_missing(ctx: RemediationContext, runbook: str) -> str:
    """What would let the runbook do it; empty if nothing is known to."""
    if ready := consent(ctx, runbook):
        return ready
    finding, path = ctx.finding, printable(ctx.event.subject)
    if finding is None or OPEN in finding.reason or LOCKED in finding.reason or any(ESTIMATE in line for line in finding.evidence):
        return f"Stop what uses {path}, or name a control or unit for it in this runbook's options; then reopen the incident."
    if finding.reason == NOTHING:
        return f"If there is a good backup, name it for {path} in this runbook's options (`backups`); then reopen the incident."
    return ""


async def by_hand(ctx: RemediationContext) -> str:
    """How a person salvages: SQLite's ``.recover`` is named only where it works."""
    path = printable(ctx.event.subject)
    check = "Check that new.db passes integrity_check and holds your rows before you replace anything"
    replace = f"then stop what uses {path}, replace it, and delete its -wal and -shm"
    if await _recovers(ctx):
        return f"Or by hand, on a copy with its -wal: sqlite3 copy.db .recover | sqlite3 new.db. {check}; {replace}."
    return (
        "Or by hand, on a copy with its -wal, with a sqlite3 shell that has .recover: none here has one that works, and what they print "
        f"makes an empty database. {check}; {replace}."
    )


async def _recovers(ctx: RemediationContext) -> bool:
    try:
        tried = await ctx.run(("sqlite3", "-batch", "-init", "/dev/null", ":memory:", ".recover"), timeout=_TRIAL_SECONDS)
    except ProcessError:
        return False
    return tried.exit_code == 0
