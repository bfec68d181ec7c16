"""Memory: resident while healing, and what 100,000 more events add."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EVENTS = 100_000
_CHILD = """
import asyncio, sys
from pathlib import Path
import psutil
from benchmarks.hosts import bootstrap
from remediation import DegradationEvent
total = int(sys.argv[2])
def rss():
    return psutil.Process().memory_info().rss / 1e6
async def main():
    async with bootstrap(Path(sys.argv[1])).start(watch=False) as host:
        async def some(start, number):
            numbers = iter(range(start, start + number))
            async def one():
                for n in numbers:
                    await host.wait_for(await host.report(DegradationEvent(code="STUCK", subsystem="bench", subject=f"s{n}")), 60)
            await asyncio.gather(*(one() for _ in range(64)))
        await some(0, 12_000)
        first = rss()
        await some(12_000, total)
        print(first, rss())
asyncio.run(main())
"""


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    done = subprocess.run([sys.executable, "-c", _CHILD, str(folder), str(EVENTS)], capture_output=True, text=True, check=True)
    first, last = map(float, done.stdout.split())
    return {
        "resident while healing, 12,000 heals": f"{first:.0f} MB; target 90 MB",
        f"growth over {EVENTS:,} more heals": f"{last - first:+.1f} MB; target 1 MB",
    }
