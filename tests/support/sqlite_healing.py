"""Runs the runbook for corrupt databases as the engine does, in a real world: decide, prepare, apply, verify, revert."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from tests.support.world import KINDS, EffectWorld

from remediation.context import Facts, IncidentView, RemediationContext, Services
from remediation.effects.sqlite.replace import ReplaceDatabase
from remediation.effects.sqlite.write_check import CheckDatabaseWrite
from remediation.errors import RemediationError
from remediation.model.base import Severity, epoch_ms
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import PlannedEffect, PlanRecord, Receipt
from remediation.model.runbook import Escalation, Finding, Reversibility, Verdict, Wait, widest, worst
from remediation.ports.effect import Plan, output_of, prepared_of
from remediation.runbooks.sqlite_corruption import SqliteCorruption

for kind in (ReplaceDatabase, CheckDatabaseWrite):
    if kind.kind not in KINDS:
        KINDS.add(kind)


def report(path: Path, **evidence: Any) -> DegradationEvent:
    """What the sentinel, or a person, reports of a database."""
    return DegradationEvent(code="SQLITE_CORRUPT", subsystem="sqlite", subject=str(path), severity="P1", evidence=evidence)


@dataclass
class Heal:
    """One attempt."""

    world: EffectWorld
    event: DegradationEvent
    options: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance.SENTINEL
    finding: Finding | None = None
    stages: list[PlanRecord] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    verdict: Verdict | None = None
    waits: list[Wait] = field(default_factory=list)
    reverted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runbook = SqliteCorruption()
        self.scratch = self.world.base / "scratch"
        self.facts = Facts()
        services = Services(
            clock=self.world.clock,
            roots=self.world.roots,
            blobs=self.world.blobs,
            disposable=self.world.disposable,
            controls=frozenset(self.world.controls),
            run=self.world.run,
            secret=self.world.secret,
            make_scratch=self._make_scratch,
        )
        view = IncidentView(id="i-1", severity=Severity.P1, provenance=self.provenance, opened_at=0, reports=1)
        options = SqliteCorruption.options_type.model_validate(self.options)
        self.ctx = RemediationContext(self.event, view, "sqlite-corruption", options, services, self.facts, structlog.get_logger())

    def _make_scratch(self) -> Path:
        self.scratch.mkdir(exist_ok=True)
        return self.scratch

    async def decide(self) -> Finding:
        """The precondition."""
        self.finding = await self._step("precondition")
        self.facts.finding = self.finding
        return self.finding

    async def plan(self) -> PlanRecord:
        """The plan of the next stage, prepared; timers are waited for."""
        self.facts.stage = len(self.stages)
        while isinstance(proposed := await self._step("action"), Wait):
            self.waits.append(proposed)
            await asyncio.sleep(0.1)
        record = await self._prepared(proposed)
        self.stages.append(record)
        self.facts.plan = record
        return record

    async def apply(self) -> bool:
        """Apply the newest plan; whether there is another stage to come."""
        record = self.stages[-1]
        for item in record.effects:
            effect, self.world.key = KINDS.load(item.effect), item.key
            assert effect is not None
            output = await effect.apply(self.world, prepared_of(effect, item.prepared))
            now = epoch_ms(self.world.clock.now())
            self.receipts.append(
                Receipt(key=item.key, kind=effect.kind, outcome="applied", output=output.model_dump_json(), at=now)
            )
            self.facts.receipts = tuple(self.receipts)
            self.facts.last_effect_at = now
        return record.more

    async def verify(self) -> Verdict:
        """The verdict; timers are waited for."""
        while isinstance(said := await self._step("verify"), Wait):
            self.waits.append(said)
            await asyncio.sleep(0.1)
        self.verdict = said
        return said

    async def revert(self) -> None:
        """Take back what was applied, newest first."""
        planned: dict[str, PlannedEffect] = {item.key: item for record in self.stages for item in record.effects}
        for receipt in reversed(self.receipts):
            item = planned[receipt.key]
            effect, self.world.key = KINDS.load(item.effect), item.key
            assert effect is not None
            await effect.revert(self.world, prepared_of(effect, item.prepared), output_of(effect, receipt))
            self.reverted.append(effect.kind)

    async def escalation(self) -> Escalation:
        """What people are told."""
        return await self._step("escalate")

    async def through(self) -> Verdict:
        """All of it, as a host does whose gate lets it act."""
        finding = await self.decide()
        assert finding.applicable, (finding.reason, finding.evidence)
        while True:
            await self.plan()
            if not await self.apply():
                break
        verdict = await self.verify()
        shutil.rmtree(self.scratch)
        return verdict

    async def _step(self, name: str) -> Any:
        seconds = {"precondition": 120, "action": 120, "verify": 60, "escalate": 30}[name]
        self.facts.deadline = self.world.clock.monotonic() + seconds
        self.world.deadline = self.facts.deadline
        try:
            return await asyncio.wait_for(getattr(self.runbook, name)(self.ctx), seconds)
        finally:
            self.facts.deadline = 0.0

    async def _prepared(self, plan: Plan) -> PlanRecord:
        effects = []
        for index, effect in enumerate(plan.effects):
            self.world.key = f"attempt:{len(self.stages)}:{index}"
            self.world.deadline = self.world.clock.monotonic() + 120
            prepared = await effect.prepare(self.world)
            effects.append(
                PlannedEffect(
                    key=self.world.key,
                    effect=effect.record(),
                    prepared=prepared.model_dump_json(),
                    promise=effect.promised(self.world),
                    reversibility=effect.reversibility(self.world),
                    radius=effect.radius(),
                    line=effect.describe(),
                    diff=effect.diff(prepared, self.world),
                )
            )
        lost = [Reversibility.PARTIAL] if plan.loses else []
        reversibility = worst([*(item.reversibility for item in effects), *lost])
        radius = widest([item.radius for item in effects])
        spec = self.runbook.spec
        if reversibility.rank > spec.reversibility.rank or radius.rank > spec.blast_radius.rank:
            raise RemediationError(f"the plan is {reversibility} and reaches {radius}, which the runbook does not declare")
        return PlanRecord(
            stage=len(self.stages),
            effects=tuple(effects),
            more=plan.more,
            summary=plan.summary,
            loses=plan.loses,
            tags=(*plan.tags, *(("data-loss",) if plan.loses else ())),
            bounds=plan.bounds,
            reversibility=reversibility,
            radius=radius,
            nonce=secrets.token_hex(16),
        )
