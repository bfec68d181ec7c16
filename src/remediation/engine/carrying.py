"""Carrying plans out: prepare, apply, probe, revert. Nothing here decides whether a plan may run."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from remediation.core.incident import UNDO, Attempt
from remediation.engine.lending import LentToEffect, Loan, lend_to_effect
from remediation.engine.steps import StepFault, bounded, describe_error
from remediation.errors import EffectConflict, EffectError, EffectRefused
from remediation.model.base import epoch_ms
from remediation.model.entries import (
    EffectApplied,
    EffectFailed,
    EffectReverted,
    EffectRevertFailed,
    EffectStarted,
    EffectUncertain,
    Entry,
)
from remediation.model.plan import PlannedEffect, PlanRecord, Probe, Promise, Receipt
from remediation.model.runbook import Radius, Reversibility, widest, worst
from remediation.model.text import capped, printable, wellformed
from remediation.ports.effect import Effect, Output, Plan, output_of, prepared_of

DIFF_CAP = 16 * 1024
DIFFS_CAP = 96 * 1024
OUTPUT_CAP = 32 * 1024
OUTPUTS_CAP = 96 * 1024
"""Bytes of all outputs of a stage."""
EFFECTS_CAP = 200
"""Effects of one stage."""
Commit = Callable[..., Awaitable[None]]
"""Journals the entries that it is given, together."""


async def prepare(plan: Plan, loan: Loan, *, declared: Radius, stage: int, seconds: float) -> PlanRecord:
    """
    Prepare every effect of `plan`: before-images are durable when this returns. `declared` is the radius of the runbook.

    Raises:
        RemediationError: an effect can't or must not be prepared; nothing was changed.

    """
    log = structlog.get_logger("remediation.effects")
    masked = loan.world.redactor.text
    planned = []
    changed: dict[str, int] = {}
    room = DIFFS_CAP
    if len(plan.effects) > EFFECTS_CAP:
        raise EffectRefused(f"a stage of {len(plan.effects)} effects is too large: at most {EFFECTS_CAP}, use more stages")
    for index, effect in enumerate(plan.effects):
        key = f"{loan.attempt}:{stage}:{index}"
        context = lend_to_effect(loan, key, seconds, log)
        if effect.kind not in loan.world.kinds:
            raise EffectError(f"effect kind {effect.kind!r} is not registered; return it from the remediation_effects hook")
        prepared = await effect.prepare(context)
        if effect.promised(context) is Promise.STATE and type(prepared).model_fields:
            _refuse_overlap(changed, effect, index)
        diff = capped(masked(wellformed(effect.diff(prepared, context))), min(DIFF_CAP, room)) if room > 256 else ""
        room -= len(diff)
        planned.append(
            PlannedEffect(
                key=key,
                effect=effect.record(),
                prepared=prepared.model_dump_json(),
                promise=effect.promised(context),
                reversibility=effect.reversibility(context),
                radius=effect.radius(),
                line=capped(masked(printable(effect.describe())), 1024),
                diff=diff,
            )
        )
    lost = [Reversibility.PARTIAL] if plan.loses else []
    stated = [plan.reversibility] if plan.reversibility is not None else []
    return PlanRecord(
        stage=stage,
        effects=tuple(planned),
        more=plan.more,
        summary=capped(masked(wellformed(plan.summary)), 2048),
        loses=capped(masked(wellformed(plan.loses)), 2048),
        tags=(*plan.tags, *(("data-loss",) if plan.loses and "data-loss" not in plan.tags else ())),
        bounds=plan.bounds,
        reversibility=worst([*(item.reversibility for item in planned), *lost, *stated]),
        radius=widest([declared, *(item.radius for item in planned)]),
        nonce=secrets.token_hex(16),
    )


@dataclass(slots=True)
class Applied:
    """How far a stage came."""

    receipts: list[Receipt]
    failure: str = ""
    conflict: bool = False
    doubtful: tuple[str, ...] = ()
    """Keys of effects that failed, but may have changed something."""
    uncertain: bool = False
    spent: int = 0
    """Bytes of the outputs so far."""
    stopped: bool = False
    """Something came between two effects that lets no more of them begin."""


class Carrier:
    """Applies and reverts the effects of one attempt."""

    def __init__(self, loan: Loan, commit: Commit, stop: Callable[[], Awaitable[bool]]) -> None:
        self._loan = loan
        self._commit = commit
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger("remediation.effects")
        self._stop = stop
        self.stuck: StepFault | None = None
        """What could not be stopped, and still runs."""

    async def apply(self, attempt: Attempt, plan: PlanRecord, *, fresh: bool, seconds: float) -> Applied:
        """
        Apply `plan` in order, up to the first failure.

        With `fresh`, nothing of it can have been started; otherwise each effect is probed first and started only if it is proved absent.
        """
        applied = Applied([])
        known = {receipt.key: receipt for receipt in attempt.receipts}
        end = self._loan.world.clock.monotonic() + seconds
        for item in plan.effects:
            if item.key in known:
                if known[item.key].outcome != "failed":
                    continue
                # Its failure was journaled, and a crash came before the end of the attempt.
                applied.failure = f"{item.line}: {known[item.key].error}"
                applied.doubtful = (item.key,)
                return applied
            left = end - self._loan.world.clock.monotonic()
            if left <= 0:
                applied.failure = f"{item.line}: not started, as the {seconds:g} s for applying the stage were over"
                return applied
            context = lend_to_effect(self._loan, item.key, left, self._log)
            try:
                effect, prepared = self._loaded(item)
            except EffectError as error:
                await self._uncertain(attempt, item, str(error), applied)
                return applied
            if not fresh:
                found = await self._found(attempt, item, effect, context, prepared, applied)
                if applied.uncertain:
                    return applied
                if found:
                    continue
            if await self._stop():
                applied.stopped = True
                return applied
            if not await self._start(attempt, item, effect, context, prepared, applied, left):
                return applied
        return applied

    async def differs(self, plan: PlanRecord, *, seconds: float) -> str:
        """Which effect would not find the world as it was when `plan` was prepared; empty if all would, as far as they can tell."""
        for item in plan.effects:
            if item.promise is Promise.ONCE:
                continue
            try:
                effect, prepared = self._loaded(item)
            except EffectError as error:
                return str(error)
            said = await self._probe(effect, lend_to_effect(self._loan, item.key, seconds, self._log), prepared)
            if said is Probe.APPLIED:
                return f"{item.line}: that is done already"
            if said is Probe.UNKNOWN and item.promise is Promise.STATE:
                return f"{item.line}: it was changed meanwhile"
        return ""

    async def _found(
        self,
        attempt: Attempt,
        item: PlannedEffect,
        effect: Effect[Any, Any],
        context: LentToEffect,
        prepared: Any,
        applied: Applied,
    ) -> bool:
        """Whether a crash left the effect done."""
        if item.promise is Promise.ONCE:
            if item.key in attempt.started:
                await self._uncertain(attempt, item, "the host stopped while it ran, and it can't be observed", applied)
            return False
        said = await self._probe(effect, context, prepared)
        if said is Probe.UNKNOWN and item.promise is Promise.KEYED:
            return False  # the receiver does it at most once under this key
        if said is Probe.UNKNOWN:
            await self._uncertain(attempt, item, "after a crash, the world is neither as before nor as after it", applied)
        if said is not Probe.APPLIED:
            return False
        applied.receipts.append(Receipt(key=item.key, kind=item.effect.kind, outcome="found-applied", at=self._now()))
        return True

    async def _start(
        self,
        attempt: Attempt,
        item: PlannedEffect,
        effect: Effect[Any, Any],
        context: LentToEffect,
        prepared: Any,
        applied: Applied,
        left: float,
    ) -> bool:
        once = item.promise is Promise.ONCE
        if once:
            await self._commit(EffectStarted(attempt=attempt.id, key=item.key))
        try:
            output = _written(await bounded(effect.apply(context, prepared), left, "apply"), effect)
        except EffectConflict as caught:
            error, conflict = describe_error(caught), True
        except StepFault as caught:
            error, conflict = str(caught), False
            if caught.running is not None:
                self.stuck = caught
                await self._uncertain(attempt, item, f"{item.line}: {error}", applied)
                return False
        except Exception as caught:
            error, conflict = describe_error(caught), False
        else:
            receipt = self._receipt(item, output, applied)
            applied.receipts.append(receipt)
            if once:
                await self._commit(EffectApplied(attempt=attempt.id, receipt=receipt))
            return True
        applied.failure = f"{item.line}: {error}"
        applied.conflict = conflict
        receipt = Receipt(key=item.key, kind=item.effect.kind, outcome="failed", error=error, at=self._now())
        applied.receipts.append(receipt)
        if once:
            await self._commit(EffectFailed(attempt=attempt.id, receipt=receipt))
        if not conflict:
            # Also when it did nothing: undoing removes what it may have left behind.
            applied.doubtful = (item.key,)
        return False

    async def _probe(self, effect: Effect[Any, Any], context: LentToEffect, prepared: Any) -> Probe:
        seconds = max(5.0, context.deadline - context.clock.monotonic())
        try:
            return Probe(await bounded(effect.probe(context, prepared), seconds, "probe"))
        except Exception as error:
            if isinstance(error, StepFault) and error.running is not None:
                self.stuck = error
            why = self._loan.world.redactor.text(describe_error(error))
            self._log.warning("a probe failed; the effect counts as unknown", kind=effect.kind, error=why)
            return Probe.UNKNOWN

    def _loaded(self, item: PlannedEffect) -> tuple[Effect[Any, Any], Any]:
        """
        The effect and what it prepared, as recorded.

        Raises:
            EffectError: this host can't read them.

        """
        try:
            effect = self._loan.world.kinds.load(item.effect)
            if effect is not None:
                return effect, prepared_of(effect, item.prepared)
        except Exception as error:
            raise EffectError(
                f"this host can't read the recorded effect of kind {item.effect.kind}: {describe_error(error)}"
            ) from error
        raise EffectError(f"this host does not know effects of kind {item.effect.kind} v{item.effect.version}")

    def _receipt(self, item: PlannedEffect, output: str, applied: Applied) -> Receipt:
        error = ""
        size = len(output.encode())
        if size > OUTPUT_CAP or applied.spent + size > OUTPUTS_CAP:
            output, error = "", f"its output of {size} bytes was not kept: it is too large to be journaled"
        applied.spent += len(output)
        return Receipt(key=item.key, kind=item.effect.kind, outcome="applied", output=output, error=error, at=self._now())

    async def _uncertain(self, attempt: Attempt, item: PlannedEffect, reason: str, applied: Applied) -> None:
        applied.uncertain = True
        # From here on nothing of this stage is looked at again: what was done before must be on record with it.
        done = [EffectApplied(attempt=attempt.id, receipt=receipt) for receipt in applied.receipts]
        await self._commit(*done, EffectUncertain(attempt=attempt.id, key=item.key, reason=reason))

    async def revert(self, attempt: Attempt, key: str, *, fresh: bool, seconds: float) -> Entry:
        """Undo the effect `key`; returns the entry that says how that went. Idempotent but for *once* effects, which are marked first."""
        item = next(item for plan in attempt.plans for item in plan.effects if item.key == key)
        receipt = next((receipt for receipt in attempt.receipts if receipt.key == key), None)
        try:
            effect, prepared = self._loaded(item)
        except EffectError as error:
            return EffectRevertFailed(attempt=attempt.id, key=key, error=describe_error(error))
        mark = key + UNDO
        if item.promise is Promise.ONCE:
            if mark in attempt.started and not fresh:
                return EffectRevertFailed(
                    attempt=attempt.id, key=key, error="the host stopped while undoing it; it is not undone twice"
                )
            await self._commit(EffectStarted(attempt=attempt.id, key=mark))
        context = lend_to_effect(self._loan, key, seconds, self._log)
        try:
            await bounded(effect.revert(context, prepared, output_of(effect, receipt)), seconds, "revert")
            lasting = item.promise is not Promise.ONCE and not effect.already(prepared)
            if lasting and await self._probe(effect, context, prepared) is Probe.APPLIED:
                raise EffectError("its revert raised nothing, but its probe says that it is still in place: take it back by hand")
        except Exception as error:
            if isinstance(error, StepFault) and error.running is not None:
                self.stuck = error
            return EffectRevertFailed(attempt=attempt.id, key=key, error=describe_error(error))
        return EffectReverted(attempt=attempt.id, key=key)

    def _now(self) -> int:
        return epoch_ms(self._loan.world.clock.now())


def _refuse_overlap(changed: dict[str, int], effect: Effect[Any, Any], index: int) -> None:
    """
    Note in `changed` what `effect` changes. It has recorded a before-state, and whoever changes that first makes it a conflict for sure.

    Raises:
        EffectRefused: an effect before it changes the same.

    """
    for path in effect.touches().paths:
        if (first := changed.setdefault(path, index)) != index:
            raise EffectRefused(
                f"effects {first + 1} and {index + 1} of the stage both change {printable(path)}: all are prepared before the first is "
                "applied, so that the later one would find another file than it was planned for; put it into the next stage (more=True)"
            )


def _written(output: Any, effect: Effect[Any, Any]) -> str:
    if not isinstance(output, Output):
        raise EffectError(f"apply of {effect.kind} returned {type(output).__name__} where an Output is due")
    return output.model_dump_json()
