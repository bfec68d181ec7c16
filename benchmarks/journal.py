"""Appends: 1, 8, 64 and 256 callers at once, each waiting for its own entry to be durable and signed."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks import floors
from benchmarks.hosts import quiet
from remediation import DegradationEvent, Settings
from remediation.bootstrap import initialise, open_journal
from remediation.model.entries import DegradationReported
from remediation.model.events import Provenance
from remediation.ports.clock import SystemClock
from remediation.ports.journal import NO_STREAM


async def _appends(settings: Settings, callers: int, total: int) -> tuple[float, list[float]]:
    journal = await open_journal(settings.home, SystemClock())
    taken = []

    async def caller(number: int) -> None:
        for turn in range(total // callers):
            event = DegradationEvent(code="BENCH", subsystem="bench", subject=f"{number}/{turn}")
            begin = time.perf_counter()
            entry = DegradationReported(event=event, provenance=Provenance.NATIVE)
            await journal.append(f"incident/{number}/{turn}", [entry], expected=NO_STREAM)
            taken.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    rate = len(taken) / (time.perf_counter() - begin)
    await journal.close()
    return rate, sorted(taken)


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    quiet()
    sync = floors.fdatasync(folder)
    results: dict[str, object] = {"raw fdatasync of 500 bytes, p50": f"{sync * 1e6:.0f} µs"}
    for callers, total in ((1, 1500), (8, 8000), (64, 40_000), (256, 40_000)):
        # The best of three, each against the floor of its own moment: others use the disk and the processors, too.
        best: tuple[float, float, float, list[float]] | None = None
        for turn in range(3):
            raw = floors.commit(folder)
            name = f"{callers}-{turn}"
            settings = Settings(base=folder, host={"id": "bench", "home": folder / f"h{name}"}, keys={"dir": folder / f"k{name}"})
            initialise(settings)
            busy = time.process_time()
            rate, taken = asyncio.run(_appends(settings, callers, total))
            busy = (time.process_time() - busy) / total
            if best is None or rate > best[0]:
                best = rate, raw, busy, taken
        assert best is not None
        rate, raw, busy, taken = best
        target = "; target 15,000 and 3 x" if callers == 64 else ""
        results[f"appends/s, {callers} callers"] = (
            f"{rate:,.0f} = {rate * raw:.1f} x raw one-row commits ({1 / raw:,.0f}/s){target}; p50 {statistics.median(taken) * 1e3:.2f} ms "
            f"= {statistics.median(taken) / sync:.1f} x fdatasync, p99 {taken[int(len(taken) * 0.99)] * 1e3:.2f} ms; "
            f"processor time {busy * 1e6:.0f} µs each"
        )
    return results
