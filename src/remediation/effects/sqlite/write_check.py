"""Proving that a database can be written, and that what is written survives reopening."""

from __future__ import annotations

from typing import ClassVar

from remediation.effects.fields import AbsolutePath, shown, touched
from remediation.effects.sqlite import children
from remediation.effects.sqlite.children import SUFFIXES, side
from remediation.errors import EffectError
from remediation.model.plan import Probe, Promise
from remediation.model.text import printable, wellformed
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, Touches


class WriteCheckOutput(Output):
    """What a new process found after the write."""

    counter_before: int
    counter_after: int
    """One more: the commit is in the file."""
    journal_mode: str
    rows: tuple[tuple[str, int | None], ...]
    user_version: int | None
    application_id: int | None


class CheckDatabaseWrite(Effect[Prepared, WriteCheckOutput]):
    """
    Commit a write to a SQLite database that leaves its content as it is, and see in a new process that it is there, that
    integrity_check finds nothing, and that rows and journal mode are as they should be.

    In a transaction that is rolled back, a table is made, filled and read; then ``user_version`` is set to its own value and
    committed, which adds one to the header's change counter. Nothing else is left behind, so there is nothing to undo, and a
    repetition after a crash does no harm: its probe always says `not_applied`. Non-guarantee: it waits at most five seconds for
    locks of others.
    """

    kind: ClassVar[str] = "sqlite.write-check"
    promise: ClassVar[Promise] = Promise.STATE

    path: AbsolutePath
    journal_mode: str = ""
    """``wal`` or ``delete`` (any other mode than WAL): what the database must be in; empty: either."""
    rows: tuple[tuple[str, int], ...] = ()
    """Tables that must be there, and how many rows each must have."""

    def touches(self) -> Touches:
        return Touches(paths=tuple(touched(side(self.path, suffix)) for suffix in SUFFIXES))

    def describe(self) -> str:
        return f"check that {shown(self.path)} takes a write which survives reopening (its content stays as it is)"

    async def prepare(self, context: EffectContext) -> Prepared:
        for suffix in SUFFIXES:
            context.roots.check(side(self.path, suffix))
        return Prepared()

    async def apply(self, context: EffectContext, prepared: Prepared) -> WriteCheckOutput:
        written = await children.write(context.run, self.path, seconds=_left(context))
        found = await children.check(context.run, self.path, seconds=_left(context), thorough=True)
        if found.state != "ok" and not found.findings:
            raise EffectError(f"{shown(self.path)} could not be read again after a write: {found.reason}")
        if found.counter is None or found.journal_mode is None or (found.counter - written.counter) % 2**32 != 1:
            raise EffectError(
                f"a write to {shown(self.path)} did not survive reopening (counter {written.counter}, then {found.counter}); "
                "look at the file system, and for another process that has it open"
            )
        counted = dict(found.rows)
        wrong = [f"{name} has {counted.get(name)} rows, not {count}" for name, count in self.rows if counted.get(name) != count]
        if self.journal_mode not in ("", found.journal_mode):
            wrong.append(f"its journal mode is {found.journal_mode}, not {self.journal_mode}")
        if found.findings or wrong:
            raise EffectError(f"{shown(self.path)} is not as it should be: {printable(wellformed([*found.findings, *wrong][0]))}")
        return WriteCheckOutput(
            counter_before=written.counter,
            counter_after=found.counter,
            journal_mode=found.journal_mode,
            rows=found.rows,
            user_version=found.user_version,
            application_id=found.application_id,
        )

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return Probe.NOT_APPLIED

    async def revert(self, context: EffectContext, prepared: Prepared, output: WriteCheckOutput | None) -> None:
        """There is nothing to undo."""


def _left(context: EffectContext) -> float:
    return max(1.0, context.deadline - context.clock.monotonic())
