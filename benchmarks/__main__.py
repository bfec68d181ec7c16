"""Runs the measurements named on the command line, or all."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
from pathlib import Path

NAMES = ("journal", "heals", "matching", "million", "proving", "exporting", "starting", "memory")


def main() -> None:
    names = sys.argv[1:] or NAMES
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    base = os.environ.get("BENCH_DIR")
    for name in names:
        if name not in NAMES:
            raise SystemExit(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
        module = importlib.import_module(f"benchmarks.{name}")
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=base) as folder:
            results = module.run(Path(folder))
        print(f"\n{name}")
        for what, value in results.items():
            print(f"  {what:<44} {value}", flush=True)


if __name__ == "__main__":
    main()
