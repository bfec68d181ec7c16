"""
Proposing: what one runbook finds and plans. Nothing is decided, journaled or applied here.

A host that decides and a rehearsal take the same steps, so that what is rehearsed is what would be done.
"""

from __future__ import annotations

from collections.abc import Sequence

from remediation.context import Facts, IncidentView, PriorAttempt, RemediationContext
from remediation.core.incident import Incident
from remediation.core.limits import PastHeal
from remediation.engine import carrying
from remediation.engine.lending import Loan
from remediation.engine.registry import Registered
from remediation.engine.steps import StepFault, bounded, call_step, describe_error
from remediation.errors import RemediationError
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Finding, Wait


class Unprepared(RemediationError):
    """A plan can't be prepared; the message says why. Nothing was changed."""


def context_of(incident: Incident, registered: Registered, loan: Loan, past: Sequence[PastHeal]) -> RemediationContext:
    """The context of an attempt of `registered` at `incident`; `past`: the heals of the fingerprint that came before."""
    spec = registered.spec
    view = IncidentView(
        id=incident.id,
        severity=incident.severity,
        provenance=incident.provenance,
        opened_at=incident.opened_at,
        reports=incident.reports,
    )
    bound = {"incident": incident.id, "code": incident.event.code, "runbook": spec.id, "attempt": loan.attempt}
    facts = Facts(attempts=_prior(incident, past))
    return RemediationContext(incident.event, view, spec.id, registered.options, loan.services(), facts, bound)


async def find(registered: Registered, ctx: RemediationContext) -> Finding:
    """
    Whether the runbook applies; if it does, `ctx` knows the finding from then on.

    Raises:
        StepDeclined, StepFault: it does not say.

    """
    seconds = registered.spec.timeouts.decide.total_seconds()
    finding: Finding = await call_step(registered.runbook, "precondition", ctx, seconds=seconds)
    if finding.applicable:
        ctx.advance(finding=finding)
    return finding


async def propose(registered: Registered, ctx: RemediationContext, loan: Loan, *, stage: int) -> PlanRecord | Wait:
    """
    What the runbook wants done in `stage`, prepared: before-images are durable when this returns; or that it wants to wait.

    Raises:
        StepDeclined, StepFault: it does not say, or an effect failed by its own fault.
        Unprepared: it can't be done.

    """
    timeouts = registered.spec.timeouts
    proposed = await call_step(registered.runbook, "action", ctx, seconds=timeouts.decide.total_seconds())
    if isinstance(proposed, Wait):
        return proposed
    seconds = timeouts.apply.total_seconds()
    try:
        prepared = carrying.prepare(proposed, loan, declared=registered.spec.blast_radius, stage=stage, seconds=seconds)
        return await bounded(prepared, seconds, "prepare")
    except StepFault:
        raise
    except (RemediationError, TimeoutError, OSError) as error:
        raise Unprepared(f"its plan can't be prepared: {describe_error(error)}") from error
    except Exception as error:
        raise StepFault(f"an effect could not be prepared: {describe_error(error)}") from error


def _prior(incident: Incident, past: Sequence[PastHeal]) -> tuple[PriorAttempt, ...]:
    here = [
        PriorAttempt(
            incident=incident.id, runbook=item.runbook, outcome=item.outcome, reason=item.reason, finished_at=item.finished_at
        )
        for item in reversed(incident.attempts)
        if item.outcome
    ]
    earlier = [
        PriorAttempt(incident=item.incident, runbook=item.runbook, outcome=item.status, reason="", finished_at=item.settled_at)
        for item in reversed(past)
    ]
    return (*here, *earlier)
