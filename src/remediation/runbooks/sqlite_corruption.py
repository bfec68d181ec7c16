"""
A SQLite database is corrupt: salvage what can be salvaged, compare it with the newest good backup, and take whichever keeps more.

All work is done on copies in scratch. The database and its ``-wal``, ``-shm`` and ``-journal`` are then replaced as one effect,
only while no process has it open; where the operator declared how to make them let go of it (controls of the host, or a systemd
unit), that comes first, as a stage of its own, and the salvage is made anew after it. The damaged files are kept in the blob
store.

It is for the symptom: why the database became corrupt (a failing disk, a broken network file system, a program that writes to
the file past SQLite) is for people to find out. Losing rows is `partial`, tagged ``data-loss``, and asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.to_thread

from remediation.authoring import (
    Bounds,
    CallHost,
    Effect,
    EffectError,
    Escalation,
    Finding,
    Handles,
    Plan,
    ProcessError,
    RemediationContext,
    Runbook,
    RunbookSpec,
    RunCommand,
    Timeouts,
    Verdict,
    Wait,
    hookimpl,
)
from remediation.effects.sqlite import children
from remediation.effects.sqlite.children import SUFFIXES, Examination, side
from remediation.effects.sqlite.holders import Holders, holders
from remediation.effects.sqlite.replace import DamagedFile, ReplaceDatabase, ReplaceOutput
from remediation.effects.sqlite.write_check import CheckDatabaseWrite, WriteCheckOutput
from remediation.model.base import epoch_ms
from remediation.model.text import capped, printable, wellformed
from remediation.runbooks._sqlite.advice import ESTIMATE, LOCKED, NOTHING, OPEN, by_hand, what_is_missing
from remediation.runbooks._sqlite.choice import Choice
from remediation.runbooks._sqlite.options import Around, Known, SqliteCorruptionOptions, known
from remediation.runbooks._sqlite.salvage import CanNotHeal, Salvage, Salvager

_MOST_FINDINGS = 8
_TABLES_CHECKED = 150
_PATIENCE_MS = 60_000
"""How long after quiescing processes may take to close the database."""
_AGAIN = timedelta(seconds=2)
_LOOKS = 5


class SqliteCorruption(Runbook[SqliteCorruptionOptions]):
    """See the module."""

    spec: ClassVar[RunbookSpec] = RunbookSpec(
        id="sqlite-corruption",
        handles=(Handles(code="SQLITE_CORRUPT"),),
        blast_radius="process",
        reversibility="partial",
        level="patch",
        timeouts=Timeouts(decide=timedelta(minutes=10), apply=timedelta(minutes=5), verify=timedelta(minutes=2)),
    )

    async def precondition(self, ctx: RemediationContext) -> Finding:
        """Whether it is damaged now, who has it open, and what can be had from it and its backups."""
        path = ctx.subject_path()
        facts = _known(ctx, path)
        try:
            seen = await children.check(ctx.run, path, seconds=ctx.seconds_left / 3, count_below=0)
            if why := _no_damage(seen, facts):
                return Finding.declined(why)
            used = await _users(ctx, path)
            if why := _in_the_way(ctx, used, facts.around):
                return Finding.declined(why)
            found = await Salvager(ctx, path, facts).salvage(moving=bool(used.found.others))
        except (EffectError, ProcessError) as error:
            return Finding.declined(f"it could not be salvaged: {error}")
        damage = [printable(wellformed(line)) for line in seen.findings[:_MOST_FINDINGS]] or ["the file is empty"]
        if found.choice is None:
            return Finding.declined(NOTHING, [*damage, *found.damage])
        evidence = [*damage, *found.choice.lines, *found.damage, *used.told()]
        return Finding.applies(_confidence(found.choice, used.found), evidence, reason=found.choice.loses or "nothing is lost")

    async def action(self, ctx: RemediationContext) -> Plan | Wait:
        """
        Quiescing first, where it is declared; then the replacement.

        Raises:
            CanNotHeal: the world changed since the precondition, so that it can't be done any more.

        """
        path = ctx.subject_path()
        facts = _known(ctx, path)
        if ctx.stage == 0:
            found = await Salvager(ctx, path, facts).salvage(moving=facts.around.declared)
            choice = _chosen(found)
            if facts.around.declared:
                return _let_go(path, facts.around, choice)
            return await _replacement(ctx, path, found, [])
        again = _resume(path, facts.around)
        used = await _users(ctx, path)
        if used.someone:
            if epoch_ms(ctx.now()) - ctx.last_effect_at < _PATIENCE_MS:
                return Wait(_AGAIN, f"until the database is closed; it is {used.line}")
            return Plan(*again, summary=f"given up: the database is still {used.line}")
        found = await Salvager(ctx, path, facts).salvage()
        if found.choice is None:
            return Plan(*again, summary="given up: nothing can be salvaged any more")
        if not found.choice.lossless and ctx.plan is not None and not ctx.plan.loses:
            return Plan(*again, summary=f"given up: this would be lost, which was not to be foreseen: {found.choice.loses}")
        return await _replacement(ctx, path, found, again)

    async def verify(self, ctx: RemediationContext) -> Verdict | Wait:
        """The write must have survived, and the database must be sound now, in the journal mode that it had."""
        replaced = _replaced(ctx)
        if replaced is None:
            return Verdict.failed(ctx.plan.summary if ctx.plan is not None else "nothing is known of the plan")
        written = _written(ctx)
        if written is None:
            return Verdict.inconclusive("nothing is known of the write check")
        try:
            seen = await children.check(ctx.run, replaced.path, seconds=ctx.seconds_left - 5, count_below=0, thorough=True)
        except (EffectError, ProcessError) as error:
            return Verdict.inconclusive(f"the replaced database could not be checked: {error}")
        if seen.state == "busy" and epoch_ms(ctx.now()) - ctx.last_effect_at < _PATIENCE_MS:
            return Wait(_AGAIN, "until the database can be read")
        if seen.state in ("corrupt", "missing"):
            return Verdict.failed(f"the replaced database is {seen.state}: {printable(seen.reason)}")
        if seen.state != "ok":
            return Verdict.inconclusive(f"the replaced database can't be read: {printable(seen.reason)}")
        if seen.journal_mode != written.journal_mode:
            return Verdict.failed(f"the journal mode is {seen.journal_mode}, and was {written.journal_mode}")
        if late := _late(ctx):
            return Verdict.inconclusive(f"{late} opened the damaged file as it was replaced; restart that, then close the incident")
        rows, tables = sum(count or 0 for _, count in written.rows), len(written.rows)
        lost = ctx.plan.loses if ctx.plan is not None else ""
        return Verdict.healthy(
            f"{rows} rows in {tables} table{'s' if tables != 1 else ''} pass integrity_check, and a write survived reopening; "
            + (f"lost: {lost}" if lost else "nothing was lost"),
            [ctx.plan.summary if ctx.plan is not None else "", *_kept(replaced)],
        )

    async def escalate(self, ctx: RemediationContext) -> Escalation:
        default = await super().escalate(ctx)
        path = printable(ctx.event.subject)
        replaced = _replaced(ctx)
        why = (
            "Find out why it became corrupt first: the kernel's log for disk errors, a network file system, programs that copy or write "
            "the file while it is open (https://sqlite.org/howtocorrupt.html)."
        )
        actions = (why, what_is_missing(ctx, self.spec.id), await by_hand(ctx), *(_kept(replaced) if replaced is not None else ()))
        actions = tuple(line for line in actions if line)
        return Escalation(title=f"the SQLite database {path} is corrupt", analysis=default.analysis, actions=actions)


class _Users:
    """Who uses a database, by open files and by locks."""

    def __init__(self, found: Holders, locked: Sequence[int]) -> None:
        self.found = found
        self.locked = tuple(locked) if not found.found else ()

    @property
    def someone(self) -> bool:
        return bool(self.found.others or self.locked)

    @property
    def line(self) -> str:
        if self.found.others:
            return f"{OPEN} {', '.join(holder.told() for holder in self.found.others[:8])}"
        return f"{LOCKED} {', '.join(str(pid) if pid else 'a process in another container' for pid in self.locked)}"

    def told(self) -> list[str]:
        lines = [f"it is {self.line}; {ESTIMATE} until they have closed it"] if self.someone else []
        if self.found.hidden:
            lines.append(f"{self.found.hidden} processes that may write to it can't be looked into")
        if self.found.hidden_root:
            lines.append(f"{self.found.hidden_root} processes of root can't be looked into")
        return lines


async def _users(ctx: RemediationContext, path: Path) -> _Users:
    """Looks again if it met a lock without an open file: it may be that of a sentinel's look, which began in between."""
    used = _Users(Holders(), ())
    for _ in range(_LOOKS):
        used = _Users(await anyio.to_thread.run_sync(holders, path), await children.lock_holders(ctx.run, path))
        if not used.locked:
            break
        await anyio.sleep(0.2)
    return used


def _known(ctx: RemediationContext, path: Path) -> Known:
    return known(ctx.options, ctx.event, ctx.incident.provenance, path)


def _no_damage(seen: Examination, facts: Known) -> str:
    """Why there is nothing to heal; empty for a damaged database."""
    if seen.state == "ok" and (seen.size or not facts.before.rows):
        return "the database is healthy now"
    if seen.state == "missing":
        return "there is no database; restore it from a backup by hand"
    if seen.state in ("busy", "unreadable"):
        return f"whether it is damaged can't be told: {printable(wellformed(seen.reason))}"
    if not seen.magic and not facts.before.at and not facts.specific:
        return "it does not begin as a SQLite database does, and nothing shows that it ever was one"
    return ""


def _in_the_way(ctx: RemediationContext, used: _Users, around: Around) -> str:
    missing = [name for name in (around.quiesce, around.resume) if name and not ctx.has_control(name)]
    if missing:
        return f"the host has no control {missing[0]!r}, which the options name"
    if used.someone and not around.declared:
        return f"the database is {used.line}; stop that, or name a control or a unit for it in the options"
    return ""


def _confidence(choice: Choice, found: Holders) -> int:
    confidence = 95 if choice.lossless else 80 if choice.chosen.kind == "salvage" else 75
    if found.others:
        confidence -= 10
    if found.hidden_root:
        confidence -= 5
    return min(confidence, 60) if found.hidden else confidence


def _chosen(found: Salvage) -> Choice:
    if found.choice is None:
        raise CanNotHeal("nothing can be salvaged any more, and there is no good backup")
    return found.choice


def _let_go(path: Path, around: Around, choice: Choice) -> Plan:
    first: Effect[Any, Any] = CallHost(control=around.quiesce, args={"path": str(path)})
    prefixes: tuple[tuple[str, ...], ...] = ()
    if around.unit:
        prefixes = (("systemctl", "start", around.unit),)
        first = RunCommand(argv=("systemctl", "stop", around.unit), undo=("systemctl", "start", around.unit))
    return Plan(
        first,
        more=True,
        bounds=Bounds(
            kinds=(ReplaceDatabase.kind, CheckDatabaseWrite.kind, CallHost.kind, RunCommand.kind),
            paths=tuple(str(side(path, suffix)) for suffix in SUFFIXES),
            argv_prefixes=prefixes,
            controls=(around.resume,) if around.resume else (),
            max_effects=4,
            max_stages=2,
        ),
        summary=capped(f"first let every process close it; then: {'; '.join(choice.lines)}", 2000),
        loses=f"by an estimate while it is in use: {choice.loses}" if choice.loses else "",
    )


def _resume(path: Path, around: Around) -> list[Effect[Any, Any]]:
    if around.unit:
        return [RunCommand(argv=("systemctl", "start", around.unit), undo=("systemctl", "stop", around.unit))]
    return [CallHost(control=around.resume, args={"path": str(path)})] if around.resume else []


async def _replacement(ctx: RemediationContext, path: Path, found: Salvage, again: Sequence[Effect[Any, Any]]) -> Plan:
    choice = _chosen(found)
    salvager = Salvager(ctx, path, _known(ctx, path))
    kept = [
        DamagedFile(suffix=suffix, blob=await ctx.keep(salvager.damaged(suffix)))
        for suffix in SUFFIXES
        if salvager.damaged(suffix).exists()
    ]
    chosen = choice.chosen
    largest = sorted(chosen.rows.items(), key=lambda pair: -pair[1])[:_TABLES_CHECKED]
    replace = ReplaceDatabase(path=path, content=await ctx.keep(salvager.file(chosen)), damaged=tuple(kept), origin=chosen.told)
    check = CheckDatabaseWrite(path=path, journal_mode=salvager.journal_mode(), rows=tuple(sorted(largest)))
    return Plan(replace, check, *again, summary=capped("; ".join(choice.lines), 2000), loses=choice.loses)


def _replaced(ctx: RemediationContext) -> ReplaceDatabase | None:
    """The replacement of the newest plan, if it has one."""
    for item in ctx.plan.effects if ctx.plan is not None else ():
        if item.effect.kind == ReplaceDatabase.kind:
            return ReplaceDatabase.model_validate_json(item.effect.data)
    return None


def _written(ctx: RemediationContext) -> WriteCheckOutput | None:
    for receipt in reversed(ctx.receipts):
        if receipt.kind == CheckDatabaseWrite.kind and receipt.output:
            return WriteCheckOutput.model_validate_json(receipt.output)
    return None


def _late(ctx: RemediationContext) -> str:
    for receipt in reversed(ctx.receipts):
        if receipt.kind == ReplaceDatabase.kind and receipt.output:
            return ", ".join(ReplaceOutput.model_validate_json(receipt.output).late)
    return ""


def _kept(replaced: ReplaceDatabase) -> list[str]:
    return [
        f"the damaged {item.suffix or 'database'} is kept as blob sha256:{item.blob.sha256} ({item.blob.size} bytes)"
        for item in replaced.damaged
    ]


@hookimpl
def remediation_runbooks() -> Sequence[type[Runbook[Any]]]:
    return [SqliteCorruption]


@hookimpl
def remediation_effects() -> Sequence[type[Effect[Any, Any]]]:
    return [ReplaceDatabase, CheckDatabaseWrite]
