"""Journals with a long history, made through the front door: real entries, signed commits."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from remediation import DegradationEvent, Settings
from remediation.bootstrap import initialise, open_journal
from remediation.core.state import HostState
from remediation.model.entries import DegradationReported, IncidentSettled
from remediation.model.events import Provenance, fingerprint
from remediation.ports.clock import SystemClock
from remediation.ports.journal import NO_STREAM

CALLERS = 256
"""Two entries each: they fill one commit."""


def settings_in(folder: Path) -> Settings:
    """The settings of the home that `make` makes in `folder`."""
    return Settings(base=folder, host={"id": "bench", "home": folder / "home"}, keys={"dir": folder / "keys"})


def make(folder: Path, entries: int) -> Settings:
    """A home in `folder` whose journal has about `entries` entries, closed in an orderly way."""
    settings = settings_in(folder)
    initialise(settings)
    # For the commands: as `remediation init` writes it.
    (settings.home.root / "remediation.toml").write_text(f'[host]\nid = "bench"\n[keys]\ndir = "{folder / "keys"}"\n')
    begin, busy = time.perf_counter(), time.process_time()
    asyncio.run(_fill(settings, entries))
    taken, busy = time.perf_counter() - begin, time.process_time() - busy
    print(f"  (made {entries:,} entries in {taken:.0f} s, {busy / entries * 1e6:.0f} µs of processor time each)", flush=True)
    return settings


async def _fill(settings: Settings, entries: int) -> None:
    journal = await open_journal(settings.home, SystemClock(), state=HostState())
    numbers = iter(range(entries // 2))

    async def caller() -> None:
        for number in numbers:
            event = DegradationEvent(code="OLD", subsystem="bench", subject=f"subject {number}", summary="it was slow for a while")
            print_ = fingerprint("OLD", "bench", event.subject)
            stream = f"incident/{print_}/{number:012x}"
            reported = DegradationReported(event=event, provenance=Provenance.NATIVE)
            settled = IncidentSettled(status="resolved", reason="the reporter no longer sees it")
            await journal.append(stream, [reported, settled], expected=NO_STREAM, correlation=f"{print_}-{number:012x}")

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await journal.close()
