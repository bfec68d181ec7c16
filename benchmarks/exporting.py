"""``journal export`` of a long journal in each format, by the command that a user types, with its peak of memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import bulk

ENTRIES = int(os.environ.get("BENCH_ENTRIES", "1000000"))
FORMATS = ("jsonl", "cloudevents", "otlp", "ocsf", "tlog-tiles")


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    home = bulk.make(folder, ENTRIES).home
    results: dict[str, object] = {}
    for name in FORMATS:
        out = folder / f"out.{name}"
        command = [sys.executable, "-m", "remediation", "--home", str(home.root), "journal", "export", "--format", name]
        begin = time.perf_counter()
        subprocess.run([*command, "--out", str(out)], capture_output=True, check=True)
        taken = time.perf_counter() - begin
        size = out.stat().st_size if out.is_file() else sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        # Of all children so far: it only grows.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        results[f"export --format {name}, {ENTRIES:,} entries"] = (
            f"{taken:.1f} s = {ENTRIES / taken:,.0f}/s, {size / 1e6:,.0f} MB; peak {peak:.0f} MB"
        )
        if out.is_file():
            out.unlink()
    return results
