"""Runbooks made of a few functions, degradations of files, and what a running host's journal says of an incident."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from remediation import DegradationEvent
from remediation.authoring import Finding, Handles, Plan, RemediationContext, Runbook, RunbookSpec, Verdict, Wait, WriteFile
from remediation.bootstrap import Host, open_reader
from remediation.journal.inbox import Inbox
from remediation.model.base import epoch_ms
from remediation.model.entries import Entry, Record
from remediation.model.runbook import Escalation
from remediation.ports.clock import SystemClock
from remediation.settings import Home
from remediation.testing import WORLD, FakeClock, eventually

BROKEN = "BROKEN"
Step = Callable[[RemediationContext], Awaitable[Any]]


async def applies(ctx: RemediationContext) -> Finding:
    return Finding.applies(confidence=90, evidence=["it is broken"])


async def write_mended(ctx: RemediationContext) -> Plan:
    return Plan(WriteFile(path=ctx.subject_path(), content="mended\n"))


async def is_mended(ctx: RemediationContext) -> Verdict:
    text = await ctx.read_text(ctx.event.subject)
    return Verdict.healthy() if text == "mended\n" else Verdict.failed(f"it holds {text!r}")


def runbook(
    name: str = "mend",
    *,
    code: str = BROKEN,
    precondition: Step = applies,
    action: Step = write_mended,
    verify: Step = is_mended,
    escalate: Step | None = None,
    matches: Callable[[DegradationEvent], bool] | None = None,
    **spec: Any,
) -> type[Runbook[Any]]:
    """A runbook of these functions. Without any, it writes ``mended`` into the subject and looks whether it is there."""
    spec_ = spec
    declared = {"blast_radius": "process", "reversibility": "reversible", "level": "recovery", "handles": (Handles(code=code),)}

    class Made(Runbook):
        spec = RunbookSpec(id=name, **{**declared, **spec_})

        async def precondition(self, ctx: RemediationContext) -> Finding:
            return await precondition(ctx)

        async def action(self, ctx: RemediationContext) -> Plan | Wait:
            return await action(ctx)

        async def verify(self, ctx: RemediationContext) -> Verdict | Wait:
            return await verify(ctx)

        async def escalate(self, ctx: RemediationContext) -> Escalation:
            return await super().escalate(ctx) if escalate is None else await escalate(ctx)

        def matches(self, event: DegradationEvent) -> bool:
            return True if matches is None else matches(event)

    return Made


def broken(folder: Path, name: str = "thing", *, text: str = "broken\n", code: str = BROKEN, **more: Any) -> DegradationEvent:
    """A broken file in the world of `folder`, and the degradation that tells of it."""
    path = folder / WORLD / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return DegradationEvent(code=code, subsystem="test", subject=str(path), **more)


async def records_of(source: Host | Home, incident: str = "") -> list[Record]:
    """What the journal says, of one incident or of all streams."""
    fingerprint, _, rest = incident.partition("-")
    stream = f"incident/{fingerprint}/{rest}" if incident else None
    if isinstance(source, Host):
        await source.journal.durable(source._state.position)
        return [record async for record in source.journal.read(stream=stream)]
    async with open_reader(source) as reader:
        return [record async for record in reader.read(stream=stream)]


async def entries_of(source: Host | Home, incident: str = "") -> list[Entry]:
    """The entries of `records_of`."""
    return [record.entry for record in await records_of(source, incident) if record.entry is not None]


async def types_of(source: Host | Home, incident: str = "") -> list[str]:
    """The types of `records_of`."""
    return [record.head.type for record in await records_of(source, incident)]


def only(kind: type[Any], entries: Sequence[Any]) -> list[Any]:
    """The entries of one type."""
    return [entry for entry in entries if isinstance(entry, kind)]


def asked(folder: Path, kind: str, document: dict[str, Any]) -> str:
    """Leave a request in the inbox of the host of `folder`, as the command line does."""
    home = Home(folder / "home")
    return Inbox(home.inbox).put(kind, document, at=epoch_ms(SystemClock().now()))


async def ticked(clock: FakeClock, condition: Callable[[], Any], step: float = 0.5, *, within: float = 10.0) -> Any:
    """Let time pass by `step` again and again, each followed by a moment for the host to work, until `condition` is true."""

    def tick() -> Any:
        answer = condition()
        if not answer:
            clock.advance(step)
        return answer

    return await eventually(tick, within=within)
