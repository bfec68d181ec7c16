"""The base class of runbooks."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from remediation.context import RemediationContext
from remediation.model.base import Frozen
from remediation.model.events import DegradationEvent
from remediation.model.runbook import Escalation, Finding, RunbookSpec, Verdict, Wait
from remediation.ports.effect import Plan
from remediation.ports.options import options_type_of


class NoOptions(Frozen):
    """Options of a runbook that has none."""


Options = TypeVar("Options", bound=BaseModel)


class Runbook(abc.ABC, Generic[Options]):
    """
    Handles a class of degradations. Steps only read and decide; what changes the world is in the plan.

    ``class X(Runbook[XOptions])`` names a pydantic model that is filled from ``[runbooks.x.options]`` and read as ``ctx.options``;
    plain ``class X(Runbook)`` has none. One instance per host: keep nothing in it, each step may run in another process.
    """

    spec: ClassVar[RunbookSpec]
    options_type: ClassVar[type[BaseModel]] = NoOptions

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if named := options_type_of(cls, Runbook):
            cls.options_type = named

    def matches(self, event: DegradationEvent) -> bool:
        """A pure refinement of ``spec.handles``; what raises here disables the runbook, not the host."""
        return True

    @abc.abstractmethod
    async def precondition(self, ctx: RemediationContext) -> Finding:
        """Whether this runbook applies here and now, how sure it is, and why. Reads only."""

    @abc.abstractmethod
    async def action(self, ctx: RemediationContext) -> Plan | Wait:
        """What is to be done now. Reads only; an empty plan is a plan (nothing needs to change)."""

    @abc.abstractmethod
    async def verify(self, ctx: RemediationContext) -> Verdict | Wait:
        """Whether the subject works again. Reads only; a `Wait` asks to be called again later."""

    async def escalate(self, ctx: RemediationContext) -> Escalation:
        """What a person should be told. The default tells the finding and the verdicts."""
        lines = [f"- {line}" for line in (ctx.finding.evidence if ctx.finding else ())]
        lines += [f"- {verdict.status}: {verdict.reason}" for verdict in ctx.verdicts]
        return Escalation(
            title=f"{self.spec.id} could not settle {ctx.event.code} of {ctx.event.subject}",
            analysis="\n".join(lines),
            actions=("Look at the incident's post-mortem, mend the subject, then close or reopen the incident.",),
        )
