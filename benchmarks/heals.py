"""Heals: latency one at a time, throughput with 64 in flight, degradations that no runbook knows."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks import floors
from benchmarks.hosts import bootstrap
from remediation import DegradationEvent

ALONE = 400
MANY = 8000
IN_FLIGHT = 64


async def _latency(folder: Path) -> list[float]:
    taken = []
    async with bootstrap(folder).start(watch=False) as host:
        for number in range(ALONE):
            lock = folder / "work" / f"{number}.lock"
            lock.write_text("999999")
            begin = time.perf_counter()
            reported = await host.report(DegradationEvent(code="LOCK_STALE", subsystem="bench", subject=str(lock)))
            incident = await host.wait_for(reported, timeout=30)
            taken.append(time.perf_counter() - begin)
            if incident.status != "resolved":
                raise SystemExit(f"not healed: {incident}")
    return taken


async def _throughput(folder: Path, code: str, total: int, wanted: str) -> float:
    async with bootstrap(folder).start(watch=False) as host:
        numbers = iter(range(total))

        async def one() -> None:
            for number in numbers:
                reported = await host.report(DegradationEvent(code=code, subsystem="bench", subject=f"{code}-{number}"))
                incident = await host.wait_for(reported, timeout=60)
                if incident.status != wanted:
                    raise SystemExit(f"not {wanted}: {incident}")

        begin = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
        return total / (time.perf_counter() - begin)


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    raw, delete = floors.commit(folder), floors.durable_delete(folder)
    (folder / "a").mkdir()
    taken = sorted(asyncio.run(_latency(folder / "a")))
    middle = statistics.median(taken)
    floor = 3 * raw + delete
    results: dict[str, object] = {
        "raw one-row commit, p50": f"{raw * 1e6:.0f} µs",
        "raw durable delete, p50": f"{delete * 1e6:.0f} µs",
        "degradation to verified heal, p50": f"{middle * 1e3:.2f} ms = {middle / floor:.2f} x (three raw commits + the effect's fsyncs); target 2.5 x",
        "degradation to verified heal, p99": f"{taken[int(len(taken) * 0.99)] * 1e3:.2f} ms",
    }
    for name, code, total, wanted, target in (
        ("verified heals/s, 64 in flight", "STUCK", MANY, "resolved", 2500),
        ("unmatched degradations/s, 64 in flight", "NOBODY_KNOWS", MANY, "escalated", 6000),
    ):
        place = folder / code
        place.mkdir()
        rate = asyncio.run(_throughput(place, code, total, wanted))
        results[name] = f"{rate:,.0f}; target {target:,}; {rate * raw:.2f} per raw commit"
    return results
