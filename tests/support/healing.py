"""A real attempt for one runbook: a real context over a folder, and its plan applied as the engine applies it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from tests.support.world import EffectWorld

from remediation.confinement import AllowedRoots
from remediation.context import Facts, IncidentView, RemediationContext, Services
from remediation.coordination.processes import run_process
from remediation.effects import DeclaredDisposable
from remediation.model.base import Severity, epoch_ms
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import Receipt
from remediation.model.runbook import Finding, Verdict, Wait
from remediation.ports.clock import Clock, SystemClock
from remediation.ports.effect import Completed, Effect, EffectKinds, Output, Plan, Prepared, output_of, prepared_of
from remediation.runbook import Runbook
from remediation.stores.blobs import FileBlobStore


@dataclass
class Attempt:
    """One runbook at work on one degradation. `base` is the host's own folder; `roots` are what it may change."""

    runbook: Runbook[Any]
    event: DegradationEvent
    base: Path
    roots: Sequence[Path]
    options: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance = Provenance.SENTINEL
    seconds: float = 120.0
    clock: Clock = field(default_factory=SystemClock)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    applied: list[tuple[Effect[Any, Any], Prepared, Output, EffectWorld]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        self.facts = Facts(deadline=self.clock.monotonic() + self.seconds)
        blobs = FileBlobStore(self.base / "blobs")
        services = Services(
            clock=self.clock,
            roots=AllowedRoots(list(self.roots), excluded=[self.base]),
            blobs=blobs,
            disposable=DeclaredDisposable(),
            controls=frozenset(),
            run=self._run,
            secret=lambda name: "",
            make_scratch=self._scratch,
        )
        incident = IncidentView(
            id="incident/0123/4567",
            severity=Severity.P2,
            provenance=self.provenance,
            opened_at=epoch_ms(self.clock.now()),
            reports=1,
        )
        options = self.runbook.options_type.model_validate(dict(self.options))
        log = structlog.get_logger("attempt")
        self.ctx = RemediationContext(self.event, incident, self.runbook.spec.id, options, services, self.facts, log)

    async def precondition(self) -> Finding:
        """The finding, recorded."""
        self.facts.finding = await self.runbook.precondition(self.ctx)
        return self.facts.finding

    async def action(self) -> Plan:
        """The plan; not applied."""
        plan = await self.runbook.action(self.ctx)
        assert isinstance(plan, Plan)
        return plan

    async def apply(self, plan: Plan, kinds: EffectKinds) -> list[Receipt]:
        """Prepare all effects of `plan`, then apply them in order, each as it comes back from the journal."""
        ready = []
        for index, effect in enumerate(plan.effects):
            kinds.add(type(effect))
            world = EffectWorld(self.base / "effects", key=f"attempt:0:{index}", roots=self.roots, seconds=self.seconds)
            world.blobs = FileBlobStore(self.base / "blobs")
            loaded = kinds.load(effect.record())
            assert loaded == effect
            prepared = await loaded.prepare(world)
            ready.append((loaded, prepared_of(loaded, prepared.model_dump_json()), world))
        receipts = []
        for effect, prepared, world in ready:
            output = await effect.apply(world, prepared)
            self.applied.append((effect, prepared, output, world))
            at = epoch_ms(self.clock.now())
            receipts.append(Receipt(key=world.key, kind=effect.kind, outcome="applied", output=output.model_dump_json(), at=at))
            assert output_of(effect, receipts[-1]) == output
        self.facts.receipts = (*self.facts.receipts, *receipts)
        self.facts.last_effect_at = epoch_ms(self.clock.now())
        return receipts

    async def revert(self) -> None:
        """Undo what was applied, newest first."""
        while self.applied:
            effect, prepared, output, world = self.applied.pop()
            await effect.revert(world, prepared, output)

    async def verify(self) -> Verdict | Wait:
        """The verdict."""
        return await self.runbook.verify(self.ctx)

    def cleared(self) -> None:
        """The reporter no longer sees the degradation."""
        self.facts.cleared_at = max(epoch_ms(self.clock.now()), self.facts.last_effect_at + 1)

    def _scratch(self) -> Path:
        folder = self.base / "scratch"
        folder.mkdir(exist_ok=True)
        return folder

    async def _run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float | None = None,
    ) -> Completed:
        self.commands.append(tuple(argv))
        return await run_process(argv, timeout=timeout or self.seconds, cwd=cwd, env=env, stdin=stdin)
