"""Effects: one mutation of the world each, as a value that the engine prepares, records, applies, probes and can undo."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict

from remediation.errors import RegistrationError
from remediation.model.base import Frozen
from remediation.model.plan import EffectRecord, Probe, Promise, Receipt
from remediation.model.runbook import Bounds, Radius, Reversibility
from remediation.ports.world import BlobStore, Completed, Control, Disposable, EffectContext, Roots, SecretRef, Touches

_AT_ONCE = ConfigDict(defer_build=False)
"""A fault in the fields of a plugin's class must show when it is loaded, and not when it heals."""


class Prepared(Frozen):
    """What `prepare` found: the expected before-state, and references to before-images. Kinds subclass it."""

    model_config = _AT_ONCE


class Output(Frozen):
    """What `apply` has to tell later stages and verify. Kinds subclass it."""

    model_config = _AT_ONCE


P = TypeVar("P", bound=Prepared)
O = TypeVar("O", bound=Output)  # noqa: E741 - mirrors Output


class Effect(Frozen, abc.ABC, Generic[P, O]):
    """
    One mutation of the world. Subclass as ``class X(Effect[XPrepared, XOutput])`` with `kind`, `version` and `promise`.

    The engine keeps: what is applied is the stored value, after its commit; `apply` starts again only when `probe` proved it absent.
    A kind keeps what its `promise` says.
    """

    model_config = _AT_ONCE

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    promise: ClassVar[Promise]
    """What values of this kind promise unless they say otherwise; read `promised`."""
    prepared_type: ClassVar[type[Prepared]]
    output_type: ClassVar[type[Output]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for base in cls.__mro__:
            arguments = base.__dict__.get("__pydantic_generic_metadata__", {}).get("args") or ()
            kinds = [item for item in arguments if isinstance(item, type)]
            if len(kinds) == 2:
                cls.prepared_type, cls.output_type = kinds[0], kinds[1]
                return

    def promised(self, context: EffectContext) -> Promise:
        """What this value promises, where it depends on its fields or on the host. Default: the kind's `promise`."""
        return self.promise

    def reversibility(self, context: EffectContext) -> Reversibility:
        """What is lost when this was wrong. Default: `reversible`."""
        return Reversibility.REVERSIBLE

    def radius(self) -> Radius:
        """How far a mistake reaches. Default: `process`."""
        return Radius.PROCESS

    @abc.abstractmethod
    def touches(self) -> Touches:
        """What it reaches for."""

    @abc.abstractmethod
    def describe(self) -> str:
        """One line for people."""

    def diff(self, prepared: P, context: EffectContext) -> str:
        """A unified diff of what it will do, where there is one; reads only."""
        return ""

    @abc.abstractmethod
    async def prepare(self, context: EffectContext) -> P:
        """
        Read the before-state and store before-images durably. Must not change anything.

        Raises:
            OutsideRoots, EffectRefused: it must not be done here.
            EffectConflict: the world already makes it impossible.

        """

    @abc.abstractmethod
    async def apply(self, context: EffectContext, prepared: P) -> O:
        """
        Do it.

        Raises:
            EffectConflict: the before-state is no longer that of `prepared`; nothing was changed.
            EffectError: it failed; `probe` says how far it came.

        """

    @abc.abstractmethod
    async def probe(self, context: EffectContext, prepared: P) -> Probe:
        """Whether it happened, judged from the world alone; must not change anything."""

    @abc.abstractmethod
    async def revert(self, context: EffectContext, prepared: P, output: O | None) -> None:
        """
        Undo it; a second call finds it undone and returns. `output` is missing when a crash lost it.

        Raises:
            EffectConflict: somebody else changed the world since; nothing was changed.
            EffectError: it could not be undone.

        """

    def already(self, prepared: P) -> bool:
        """
        Whether all was so before, as `prepared` tells: then `revert` leaves it so, and `probe` says `applied` after it too. Default: no.

        After a revert of any other effect that can be probed, `applied` means that the revert failed, whatever it returned.
        """
        return False

    def record(self) -> EffectRecord:
        """This effect as it stands in the journal."""
        return EffectRecord(kind=self.kind, version=self.version, data=self.model_dump_json())


class Plan:
    """
    What an action wants done now: effects in order, nothing applied yet.

    Args:
        effects: Applied one after the other; the first failure stops the stage.
        more: After these, `action` is to be called again with the next stage.
        bounds: What an approval of this plan covers in later stages.
        summary: Why, in one line.
        loses: What is lost for good; not empty makes the plan at least `partial`.
        reversibility: Worse than the effects' own, if the author knows more.
        tags: Added to those of the spec.

    """

    __slots__ = ("bounds", "effects", "loses", "more", "reversibility", "summary", "tags")

    def __init__(
        self,
        *effects: Effect[Any, Any],
        more: bool = False,
        bounds: Bounds | None = None,
        summary: str = "",
        loses: str = "",
        reversibility: Reversibility | str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        for effect in effects:
            if not isinstance(effect, Effect):
                raise TypeError(f"Plan takes effects, not {type(effect).__name__}")
        self.effects = effects
        self.more = more
        self.bounds = bounds
        self.summary = summary
        self.loses = loses
        self.reversibility = Reversibility(reversibility) if reversibility is not None else None
        self.tags = tuple(tags)

    def __repr__(self) -> str:
        return f"Plan({', '.join(effect.describe() for effect in self.effects)}{', more' if self.more else ''})"


class EffectKinds:
    """The effect kinds a host knows, by name; unknown ones display and fold, and recover as uncertain."""

    def __init__(self, kinds: Sequence[type[Effect[Any, Any]]] = ()) -> None:
        self._kinds: dict[str, type[Effect[Any, Any]]] = {}
        for kind in kinds:
            self.add(kind)

    def add(self, kind: type[Effect[Any, Any]]) -> None:
        """
        Register a kind.

        Raises:
            RegistrationError: another class has this name, or the class lacks what a kind needs.

        """
        for name in ("kind", "promise", "prepared_type", "output_type"):
            if not hasattr(kind, name):
                raise RegistrationError(
                    f"effect class {kind.__qualname__} has no {name!r}: declare class X(Effect[XPrepared, XOutput]) with kind and promise"
                )
        known = self._kinds.setdefault(kind.kind, kind)
        if known is not kind:
            names = " and ".join(f"{item.__module__}.{item.__qualname__}" for item in (known, kind))
            raise RegistrationError(f"two effect classes are of kind {kind.kind!r}: {names}; rename one")

    def load(self, record: EffectRecord) -> Effect[Any, Any] | None:
        """The effect of a record, or `None` for a kind or version that this host doesn't know."""
        kind = self._kinds.get(record.kind)
        if kind is None or kind.version != record.version:
            return None
        return kind.model_validate_json(record.data)

    def __contains__(self, kind: object) -> bool:
        return kind in self._kinds


def prepared_of(effect: Effect[Any, Any], text: str) -> Prepared:
    """The `Prepared` value stored as `text` for `effect`."""
    return effect.prepared_type.model_validate_json(text)


def output_of(effect: Effect[Any, Any], receipt: Receipt | None) -> Output | None:
    """The `Output` of a receipt, if it has one."""
    if receipt is None or not receipt.output:
        return None
    return effect.output_type.model_validate_json(receipt.output)


__all__ = [
    "BlobStore",
    "Completed",
    "Control",
    "Disposable",
    "Effect",
    "EffectContext",
    "EffectKinds",
    "Output",
    "Plan",
    "Prepared",
    "Roots",
    "SecretRef",
    "Touches",
    "output_of",
    "prepared_of",
]
