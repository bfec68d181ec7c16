"""Files."""

from __future__ import annotations

from typing import ClassVar

from remediation.effects.fields import AbsolutePath, shown, touched
from remediation.errors import EffectRefused
from remediation.model.plan import BlobRef, Probe, Promise
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, Touches


class WriteFile(Effect[Prepared, Output]):
    kind: ClassVar[str] = "file.write"
    promise: ClassVar[Promise] = Promise.STATE

    path: AbsolutePath
    content: str | None = None
    blob: BlobRef | None = None
    mode: int | None = None

    def touches(self) -> Touches:
        return Touches(paths=(touched(self.path),))

    def describe(self) -> str:
        return f"write {shown(self.path)}"

    async def prepare(self, context: EffectContext) -> Prepared:
        raise EffectRefused("being built")

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        raise EffectRefused("being built")

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        raise EffectRefused("being built")


class CopyFile(Effect[Prepared, Output]):
    kind: ClassVar[str] = "file.copy"
    promise: ClassVar[Promise] = Promise.STATE

    source: AbsolutePath
    path: AbsolutePath

    def touches(self) -> Touches:
        return Touches(paths=(touched(self.path),))

    def describe(self) -> str:
        return f"copy {shown(self.source)} to {shown(self.path)}"

    async def prepare(self, context: EffectContext) -> Prepared:
        raise EffectRefused("being built")

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        raise EffectRefused("being built")

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        raise EffectRefused("being built")


class MoveFile(Effect[Prepared, Output]):
    kind: ClassVar[str] = "file.move"
    promise: ClassVar[Promise] = Promise.STATE

    source: AbsolutePath
    path: AbsolutePath

    def touches(self) -> Touches:
        return Touches(paths=(touched(self.source), touched(self.path)))

    def describe(self) -> str:
        return f"move {shown(self.source)} to {shown(self.path)}"

    async def prepare(self, context: EffectContext) -> Prepared:
        raise EffectRefused("being built")

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        raise EffectRefused("being built")

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        raise EffectRefused("being built")


class DeleteFile(Effect[Prepared, Output]):
    kind: ClassVar[str] = "file.delete"
    promise: ClassVar[Promise] = Promise.STATE

    path: AbsolutePath
    keep: bool = True

    def touches(self) -> Touches:
        return Touches(paths=(touched(self.path),))

    def describe(self) -> str:
        return f"delete {shown(self.path)}"

    async def prepare(self, context: EffectContext) -> Prepared:
        raise EffectRefused("being built")

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        raise EffectRefused("being built")

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.UNKNOWN

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        raise EffectRefused("being built")
