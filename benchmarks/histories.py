"""Journals with a long history, made through the front door: real entries, signed commits."""

from __future__ import annotations

import asyncio
from pathlib import Path

from remediation import DegradationEvent, Settings
from remediation.bootstrap import initialise, open_journal
from remediation.core.state import HostState
from remediation.model.entries import DegradationReported, IncidentSettled
from remediation.model.events import Provenance, fingerprint
from remediation.ports.clock import SystemClock
from remediation.ports.journal import NO_STREAM


def make(folder: Path, entries: int) -> Settings:
    """A home in `folder` whose journal has about `entries` entries, closed in an orderly way."""
    settings = Settings(base=folder, host={"id": "bench", "home": folder / "home"}, keys={"dir": folder / "keys"})
    initialise(settings)
    asyncio.run(_fill(settings, entries))
    return settings


async def _fill(settings: Settings, entries: int) -> None:
    journal = await open_journal(settings.home, SystemClock(), state=HostState())
    numbers = iter(range(entries // 2))

    async def caller() -> None:
        for number in numbers:
            event = DegradationEvent(code="OLD", subsystem="bench", subject=f"subject {number}", summary="it was slow for a while")
            stream = f"incident/{fingerprint('OLD', 'bench', event.subject)}/{number:012x}"
            reported = DegradationReported(event=event, provenance=Provenance.NATIVE)
            settled = IncidentSettled(status="resolved", reason="the reporter no longer sees it")
            await journal.append(stream, [reported, settled], expected=NO_STREAM)

    await asyncio.gather(*(caller() for _ in range(256)))
    await journal.close()
