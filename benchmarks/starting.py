"""Start: how long until a host is ready, with an empty journal; `benchmarks.million` has the long one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from benchmarks.hosts import bootstrap

_CHILD = """
import asyncio, sys, time
begin = time.perf_counter()
from pathlib import Path
from benchmarks.hosts import bootstrap
async def main():
    boot = bootstrap(Path(sys.argv[1]))
    imported = time.perf_counter()
    async with boot.start(watch=False):
        ready = time.perf_counter()
    print(imported - begin, ready - imported)
asyncio.run(main())
"""


def _ready(folder: Path) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", _CHILD, str(folder)], capture_output=True, text=True, check=True)
    imported, ready = done.stdout.split()
    return float(imported), float(ready)


async def _touch(folder: Path) -> None:
    async with bootstrap(folder).start(watch=False):
        pass


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    empty = folder / "empty"
    empty.mkdir()
    asyncio.run(_touch(empty))
    imported, ready = min(_ready(empty) for _ in range(3))
    results: dict[str, object] = {
        "imports, in a new process": f"{imported:.2f} s",
        "ready, empty journal": f"{ready:.3f} s; with imports {imported + ready:.2f} s; target 0.5 s",
    }
    return results
