"""Commands."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from remediation.effects.fields import AbsolutePath, TimeSpan
from remediation.errors import EffectRefused
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Radius
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, SecretRef, Touches


class RunCommand(Effect[Prepared, Output]):
    kind: ClassVar[str] = "command.run"
    promise: ClassVar[Promise] = Promise.ONCE

    argv: tuple[str | SecretRef, ...]
    undo: tuple[str | SecretRef, ...] | None = None
    observe: tuple[str | SecretRef, ...] | None = None
    cwd: AbsolutePath | None = None
    env: dict[str, Any] = Field(default_factory=dict)
    timeout: TimeSpan | None = None
    ok: tuple[int, ...] = (0,)
    units: tuple[str, ...] = ()
    reach: Radius = Radius.PROCESS

    def touches(self) -> Touches:
        return Touches()

    def describe(self) -> str:
        return "run"

    async def prepare(self, context: EffectContext) -> Prepared:
        raise EffectRefused("being built")

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        raise EffectRefused("being built")

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        raise EffectRefused("being built")
