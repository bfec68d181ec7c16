"""Running a command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from remediation.effects.fields import AbsolutePath, TimeSpan
from remediation.effects.masking import masked
from remediation.effects.units import least_radius, units_of
from remediation.errors import EffectConflict, EffectError, EffectRefused, ProcessError
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Radius, Reversibility, widest
from remediation.model.text import capped, ending, printable, wellformed
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, SecretRef, Touches

OUTPUT_CAP = 8 * 1024
"""Characters of each output that the receipt keeps, from its end."""
_TAIL = 300
Words = tuple[str | SecretRef, ...]


class CommandPrepared(Prepared):
    """What `observe` saw before: whether the command's result was there already; `None` without `observe`."""

    present: bool | None = None


class CommandOutput(Output):
    """How the command ended, and the ends of what it said; secrets are masked."""

    exit_code: int
    stdout: str
    stderr: str
    duration_ms: int


class RunCommand(Effect[CommandPrepared, CommandOutput]):
    """
    Run a command to its end: argv only, allow-listed environment, no standard input, own process group.

    Promise: `once`; with `observe`, `state`. A command that fails may have done part of its work. `undo` and `observe` are the author's
    word that they undo, and that they only look; `observe` runs while the plan is made, too.
    """

    kind: ClassVar[str] = "command.run"
    promise: ClassVar[Promise] = Promise.ONCE

    argv: Words = Field(min_length=1)
    """Program and arguments. A `SecretRef` is resolved when the command starts; other users may see it in the process list, so
    prefer `env` for secrets."""
    undo: Words | None = Field(default=None, min_length=1)
    """A command that takes the result back; it must be safe to run twice."""
    observe: Words | None = Field(default=None, min_length=1)
    """A command that only looks: exit code 0 when the result is there, 1 when it is not, anything else when it can't tell."""
    cwd: AbsolutePath | None = None
    """The folder in which all three run; ``/`` by default."""
    env: dict[str, str | SecretRef] = Field(default_factory=dict)
    """Added to the allow-listed environment of all three."""
    timeout: TimeSpan | None = None
    """For each of the three; never more than is left of the stage."""
    ok: tuple[int, ...] = (0,)
    """Exit codes that mean success."""
    reach: Radius = Radius.PROCESS
    """How far a mistake reaches; tools that administer machines or fleets reach at least those."""

    @field_validator("argv", "undo", "observe", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError("must be a list of words, not a line: no shell splits it")  # noqa: TRY004 - pydantic collects ValueErrors
        if isinstance(value, Iterable):
            value = tuple(str(word) if isinstance(word, Path) else word for word in value)
            if any(isinstance(word, str) and "\0" in word for word in value):
                raise ValueError("must not hold NUL characters")
        return value

    @field_validator("env")
    @classmethod
    def _variables(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, text in value.items():
            if not name or "=" in name or "\0" in name or (isinstance(text, str) and "\0" in text):
                raise ValueError("names must not be empty or hold '=', and nothing may hold NUL characters")
        return value

    def promised(self, context: EffectContext) -> Promise:
        return Promise.ONCE if self.observe is None else Promise.STATE

    def reversibility(self, context: EffectContext) -> Reversibility:
        if self.undo is not None:
            return Reversibility.REVERSIBLE
        covered = context.disposable.covers(self.touches())
        return Reversibility.DISPOSABLE if covered else Reversibility.IRREVERSIBLE

    def radius(self) -> Radius:
        return widest([self.reach, *(least_radius(_shown(words)) for words in (self.argv, self.undo) if words)])

    def touches(self) -> Touches:
        words = _shown(self.argv)
        return Touches(
            argv=words,
            beside=tuple(_shown(more) for more in (self.undo, self.observe) if more),
            cwd=str(self.cwd) if self.cwd else "",
            env=tuple(sorted(self.env)),
            units=units_of(words),
        )

    def describe(self) -> str:
        folder = f" in {printable(wellformed(str(self.cwd)))}" if self.cwd else ""
        return capped(f"run {_line(self.argv)}{folder}", 1024)

    def diff(self, prepared: CommandPrepared, context: EffectContext) -> str:
        lines = [f"$ {_line(self.argv)}"]
        lines += [f"env: {printable(name)}={_line((value,))}" for name, value in self.env.items()]
        lines += [f"{name}: $ {_line(words)}" for name, words in (("undo", self.undo), ("observe", self.observe)) if words]
        if prepared.present:
            lines.append("its result is there already: it will not be run")
        return capped("\n".join(lines) + "\n", 16 * 1024)

    async def prepare(self, context: EffectContext) -> CommandPrepared:
        if self.observe is None:
            return CommandPrepared()
        seen = await self._observed(context)
        if seen is Probe.UNKNOWN:
            raise EffectRefused(
                f"{_line(self.observe)} can't tell whether the result of {_line(self.argv)} is there, so it was not planned"
            )
        return CommandPrepared(present=seen is Probe.APPLIED)

    async def apply(self, context: EffectContext, prepared: CommandPrepared) -> CommandOutput:
        if prepared.present is not None:
            seen = await self._observed(context)
            if seen is not (Probe.APPLIED if prepared.present else Probe.NOT_APPLIED):
                raise EffectConflict(
                    f"the result of {_line(self.argv)} was {'there' if prepared.present else 'not there'} when the plan was made, "
                    f"and {_line(self.observe or ())} says otherwise now; it was not run, make a new plan"
                )
            if prepared.present:
                return CommandOutput(exit_code=0, stdout="", stderr="", duration_ms=0)
        done = await self._run(context, self.argv)
        if done.exit_code not in self.ok:
            raise EffectError(_failure(self.argv, done))
        return done

    async def probe(self, context: EffectContext, prepared: CommandPrepared) -> Probe:
        return await self._observed(context)

    def already(self, prepared: CommandPrepared) -> bool:
        return bool(prepared.present)

    async def revert(self, context: EffectContext, prepared: CommandPrepared, output: CommandOutput | None) -> None:
        if prepared.present:
            return
        if self.observe is not None:
            seen = await self._observed(context)
            if seen is Probe.NOT_APPLIED:
                return
            if seen is Probe.UNKNOWN:
                raise EffectError(f"{_line(self.observe)} can't tell whether {_line(self.argv)} needs to be undone; look by hand")
        if self.undo is None:
            raise EffectError(f"{_line(self.argv)} has no undo; take its result back by hand if it was wrong")
        done = await self._run(context, self.undo)
        if done.exit_code != 0:
            raise EffectError(_failure(self.undo, done))
        if self.observe is not None and await self._observed(context) is not Probe.NOT_APPLIED:
            raise EffectError(f"{_line(self.undo)} ended well, but {_line(self.observe)} does not say that the result is gone")

    async def _observed(self, context: EffectContext) -> Probe:
        if self.observe is None:
            return Probe.UNKNOWN
        try:
            done = await self._run(context, self.observe)
        except EffectError as error:
            context.log.warning("a command could not be observed", key=context.key, error=str(error))
            return Probe.UNKNOWN
        return {0: Probe.APPLIED, 1: Probe.NOT_APPLIED}.get(done.exit_code, Probe.UNKNOWN)

    async def _run(self, context: EffectContext, words: Words) -> CommandOutput:
        left = context.deadline - context.clock.monotonic()
        if left <= 0:
            raise EffectError(f"the deadline passed before {_line(words)} was started")
        seconds = left if self.timeout is None else min(left, self.timeout.total_seconds())
        secrets: dict[str, str] = {}

        def resolved(word: str | SecretRef) -> str:
            if isinstance(word, str):
                return word
            if word.secret not in secrets:
                secrets[word.secret] = context.secret(word)
            return secrets[word.secret]

        argv = [resolved(word) for word in words]
        env = {name: resolved(value) for name, value in self.env.items()}
        done, failure = None, ""
        try:
            done = await context.run(argv, cwd=self.cwd or Path("/"), env=env, timeout=seconds)
        except ProcessError as error:
            failure = masked(str(error), secrets)
        if done is None:
            # Outside of the handler, so that the original, which may show a secret, is not part of this error.
            raise EffectError(failure)
        return CommandOutput(
            exit_code=done.exit_code,
            stdout=_ending(done.stdout, secrets),
            stderr=_ending(done.stderr, secrets),
            duration_ms=done.duration_ms,
        )


def _shown(words: Words) -> tuple[str, ...]:
    return tuple(word if isinstance(word, str) else f"[secret {word.secret}]" for word in words)


def _line(words: Words) -> str:
    """The words as a shell would take them, on one printable line."""
    return printable(" ".join(shlex.quote(word) if isinstance(word, str) else f"[secret {word.secret}]" for word in words))


def _ending(text: str, secrets: dict[str, str]) -> str:
    clean = masked(text, secrets)
    return clean if len(clean) <= OUTPUT_CAP else f"[{len(clean)} characters] …{ending(clean, OUTPUT_CAP)}"


def _failure(words: Words, done: CommandOutput) -> str:
    how = f"exited with {done.exit_code}" if done.exit_code >= 0 else f"was ended by signal {-done.exit_code}"
    said = printable(ending(done.stderr.strip() or done.stdout.strip(), _TAIL))
    return f"{_line(words)} {how}; it may have done part of its work" + (f"; it last said: {said!r}" if said else "")
