"""Calling a function of the embedding host."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from remediation.effects.fields import JsonMapping
from remediation.effects.masking import masked
from remediation.errors import EffectConflict, EffectError, EffectRefused, RemediationError
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Radius, Reversibility
from remediation.model.text import capped, clamp_json, printable, reason_of, wellformed
from remediation.ports.effect import Control, Effect, EffectContext, Output, Prepared, SecretRef, Touches

RESULT_CAP = 16 * 1024


class CallPrepared(Prepared):
    """How the control was registered when the plan was made."""

    idempotent: bool
    can_probe: bool
    can_undo: bool


class CallOutput(Output):
    """What the control returned."""

    result: str
    """JSON text, at most 16 KiB; what is no JSON is told by its type's name."""


class CallHost(Effect[CallPrepared, CallOutput]):
    """
    Call a control of the host (`HostControls.register`) under the effect's key.

    Promise: `keyed` if the control is idempotent or can probe, else `once`. A control that can probe but is not idempotent is asked
    before each call and not called when it can't tell. Non-guarantee: what happens inside the control is the host's business.
    """

    kind: ClassVar[str] = "host.call"
    promise: ClassVar[Promise] = Promise.ONCE

    control: str
    args: JsonMapping = Field(default_factory=dict)
    """Keyword arguments: JSON values, or a `SecretRef` in the place of one, which then stands in `secrets`. Nothing inside of JSON is ever
    taken for a secret's name: it may come from whoever reported."""
    secrets: dict[str, SecretRef] = Field(default_factory=dict)
    """Further keyword arguments, resolved while the control is called; never recorded."""
    reach: Radius = Radius.PROCESS
    """How far a mistake of this call reaches."""

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, data: Any) -> Any:
        args = data.get("args") if isinstance(data, dict) else None
        if not isinstance(args, Mapping):
            return data
        named = {name: value for name, value in args.items() if isinstance(value, SecretRef)}
        plain = {name: value for name, value in args.items() if name not in named}
        return {**data, "args": plain, "secrets": {**data.get("secrets", {}), **named}} if named else data

    @model_validator(mode="after")
    def _once(self) -> Self:
        if both := sorted(self.args.keys() & self.secrets.keys()):
            raise ValueError(f"the argument {both[0]!r} is given twice: as a value and as a secret")
        return self

    @field_validator("args", "secrets")
    @classmethod
    def _no_key(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "key" in value:
            raise ValueError("must not hold 'key': the effect's own key is passed under that name")
        return value

    def promised(self, context: EffectContext) -> Promise:
        control = _control(self, context)
        return Promise.KEYED if control.idempotent or control.can_probe else Promise.ONCE

    def reversibility(self, context: EffectContext) -> Reversibility:
        if _control(self, context).can_undo:
            return Reversibility.REVERSIBLE
        covered = context.disposable.covers(self.touches())
        return Reversibility.DISPOSABLE if covered else Reversibility.IRREVERSIBLE

    def radius(self) -> Radius:
        return self.reach

    def touches(self) -> Touches:
        return Touches(controls=(self.control,))

    def describe(self) -> str:
        args = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.args.items()]
        args += [f"{name}=[secret {ref.secret}]" for name, ref in self.secrets.items()]
        return printable(capped(f"call {self.control}({wellformed(', '.join(args))})", 1024))

    async def prepare(self, context: EffectContext) -> CallPrepared:
        control = _control(self, context)
        return CallPrepared(idempotent=control.idempotent, can_probe=control.can_probe, can_undo=control.can_undo)

    async def apply(self, context: EffectContext, prepared: CallPrepared) -> CallOutput:
        control = _control(self, context)
        now = CallPrepared(idempotent=control.idempotent, can_probe=control.can_probe, can_undo=control.can_undo)
        if now != prepared:
            raise EffectConflict(f"control {self.control!r} was registered differently when the plan was made; make a new plan")
        if control.can_probe and not control.idempotent:
            said = await self.probe(context, prepared)
            if said is Probe.APPLIED:
                return CallOutput(result="null")
            if said is Probe.UNKNOWN:
                raise EffectConflict(
                    f"control {self.control!r} can't say whether this call happened already, so it was not called again"
                )
        args, values = self._resolved(context)
        result = await _guarded(self.control, "call", control.call, context.key, args, values)
        text = masked(
            json.dumps(clamp_json({"result": result})["result"] if _fits(result) else "[too large]", ensure_ascii=False), values
        )
        return CallOutput(result=capped(text, RESULT_CAP))

    async def probe(self, context: EffectContext, prepared: CallPrepared) -> Probe:
        control = context.controls.get(self.control)
        if control is None or not control.can_probe:
            return Probe.UNKNOWN
        said: Probe = await _guarded(self.control, "probe", control.probe, context.key, *self._resolved(context))
        return said

    async def revert(self, context: EffectContext, prepared: CallPrepared, output: CallOutput | None) -> None:
        control = _control(self, context)
        if not control.can_undo:
            raise EffectError(f"control {self.control!r} has no undo; take the call back by hand if it was wrong")
        if await self.probe(context, prepared) is Probe.NOT_APPLIED:
            return
        await _guarded(self.control, "undo", control.undo, context.key, *self._resolved(context))

    def _resolved(self, context: EffectContext) -> tuple[dict[str, Any], dict[str, str]]:
        """All arguments, and the values of the secrets among them by the secret's name."""
        values = {ref.secret: context.secret(ref) for ref in dict.fromkeys(self.secrets.values())}
        return {**self.args, **{name: values[ref.secret] for name, ref in self.secrets.items()}}, values


def _control(effect: CallHost, context: EffectContext) -> Control:
    control = context.controls.get(effect.control)
    if control is None:
        known = ", ".join(sorted(context.controls)) or "none"
        raise EffectRefused(
            f"the host registered no control {printable(effect.control)!r} (known: {known}); register it before the host starts"
        )
    return control


def _fits(result: Any) -> bool:
    return "cut" not in clamp_json({"result": result})


async def _guarded(
    name: str,
    what: str,
    call: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
    key: str,
    args: dict[str, Any],
    values: dict[str, str],
) -> Any:
    failure = ""
    try:
        return await call(key, args)
    except RemediationError as error:
        if not values or masked(str(error), values) == str(error):
            raise
        failure = masked(str(error), values)
    except Exception as error:
        text = printable(capped(wellformed(masked(f"{type(error).__name__}: {reason_of(error)}", values)), 1024))
        failure = f"{what} of control {name!r} failed: {text}"
        if not values:
            raise EffectError(failure) from error
    # Outside of the handlers, so that the original, which may show a secret, is not part of this error.
    raise EffectError(failure)
