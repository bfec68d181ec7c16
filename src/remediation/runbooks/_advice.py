"""What built-in runbooks tell people in the same words."""

from __future__ import annotations

from remediation.authoring import RemediationContext


def consent(ctx: RemediationContext, runbook: str) -> str:
    """What to do if the runbook had a plan, and nothing but leave to apply it was missing; empty if that was not so."""
    if ctx.plan is None or ctx.receipts:
        return ""
    incident = ctx.incident.id
    return (
        f"A plan was ready, and was not allowed: `remediation incident show {incident}` shows it. Make the runbook live "
        f"(`remediation runbooks promote {runbook}`, or `state` in its settings), or say who may consent (`[approvals]`), whichever "
        f"was missing; then `remediation incident reopen {incident}`."
    )
