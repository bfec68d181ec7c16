"""Bounds: what later stages may do on the consent that an earlier one got."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from remediation.model.plan import PlanRecord
from remediation.model.runbook import Bounds
from remediation.ports.world import Touches


def beyond(bounds: Bounds, approved: PlanRecord, later: Sequence[PlanRecord], touches: Sequence[Touches]) -> str:
    """
    Why the newest of the stages `later` than the `approved` one is not covered by the consent to that; empty if it is.

    Args:
        bounds: Of the approved plan.
        approved: The plan that a person saw.
        later: All stages after it, the one in question last.
        touches: What each effect of the one in question reaches for.

    """
    return next(_beyond(bounds, approved, later, touches), "")


def _beyond(bounds: Bounds, approved: PlanRecord, later: Sequence[PlanRecord], touches: Sequence[Touches]) -> Iterator[str]:
    plan = later[-1]
    if plan.reversibility.rank > approved.reversibility.rank:
        yield f"the stage is {plan.reversibility.value}, what was consented to is {approved.reversibility.value}"
    if plan.radius.rank > approved.radius.rank:
        yield f"the stage reaches the {plan.radius.value}, what was consented to reaches the {approved.radius.value}"
    if plan.loses and not approved.loses:
        yield f"the stage loses {plan.loses}, and what was consented to loses nothing"
    if foreign := sorted({*plan.tags} - {*approved.tags}):
        yield f"the stage is tagged {', '.join(foreign)}"
    if len(later) + 1 > bounds.max_stages:
        yield f"it is stage {len(later) + 1}, the bounds allow {bounds.max_stages}"
    if sum(len(item.effects) for item in later) > bounds.max_effects:
        yield f"later stages have more than the {bounds.max_effects} effects that the bounds allow"
    for item, touched in zip(plan.effects, touches, strict=True):
        yield from _effect_beyond(bounds, item.effect.kind, touched)


def _effect_beyond(bounds: Bounds, kind: str, touched: Touches) -> Iterator[str]:
    if kind not in bounds.kinds:
        yield f"effects of kind {kind} are not in the bounds"
    if touched.nothing:
        yield f"an effect of kind {kind} does not say what it reaches for"
    for path in (*touched.paths, *touched.destroys, *((touched.cwd,) if touched.cwd else ())):
        if not any(_covers(allowed, path) for allowed in bounds.paths):
            yield f"{path} is not in the bounds"
    for argv in (touched.argv, *touched.beside):
        if argv and not any(argv[: len(prefix)] == prefix for prefix in bounds.argv_prefixes if prefix):
            yield f"the command {argv[0]} … is not in the bounds"
    for name in touched.env:
        yield f"the variable {name} of a command is not in the bounds"
    for control in touched.controls:
        if control not in bounds.controls:
            yield f"the control {control} is not in the bounds"
    for unit in () if touched.argv else touched.units:
        yield f"the unit {unit} is not in the bounds"


def _covers(allowed: str, path: str) -> bool:
    folder = posixpath.normpath(allowed)
    return posixpath.normpath(path) == folder or posixpath.normpath(path).startswith(folder.rstrip("/") + "/")
