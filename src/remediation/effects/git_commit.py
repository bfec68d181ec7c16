"""Git."""

from __future__ import annotations

from typing import ClassVar

from remediation.effects.fields import AbsolutePath, shown, touched
from remediation.errors import EffectRefused
from remediation.model.plan import BlobRef, Probe, Promise
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, Touches


class GitCommit(Effect[Prepared, Output]):
    kind: ClassVar[str] = "git.commit"
    promise: ClassVar[Promise] = Promise.STATE

    repository: AbsolutePath
    branch: str | None = None
    files: tuple[tuple[str, str | BlobRef], ...] = ()
    deletes: tuple[str, ...] = ()
    message: str
    author: str = "Remediation <remediation@localhost>"

    def touches(self) -> Touches:
        return Touches(paths=(touched(self.repository),))

    def describe(self) -> str:
        return f"commit in {shown(self.repository)}"

    async def prepare(self, context: EffectContext) -> Prepared:
        raise EffectRefused("being built")

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        raise EffectRefused("being built")

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        raise EffectRefused("being built")
