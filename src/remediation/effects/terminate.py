"""Processes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediation.effects.fields import TimeSpan
from remediation.errors import EffectRefused
from remediation.model.plan import Probe, Promise
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, Touches


class TerminateProcess(Effect[Prepared, Output]):
    kind: ClassVar[str] = "process.terminate"
    promise: ClassVar[Promise] = Promise.STATE

    pid: int
    start_time: int
    grace: TimeSpan = Field(default=10)
    unit: str = ""
    argv: tuple[str, ...] = ()

    def touches(self) -> Touches:
        return Touches()

    def describe(self) -> str:
        return f"end process {self.pid}"

    async def prepare(self, context: EffectContext) -> Prepared:
        raise EffectRefused("being built")

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        raise EffectRefused("being built")

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        raise EffectRefused("being built")
