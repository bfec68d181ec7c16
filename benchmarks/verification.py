"""``journal verify`` of a long journal, by the command that a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import histories

ENTRIES = int(os.environ.get("BENCH_ENTRIES", "1000000"))


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    settings = histories.make(folder, ENTRIES)
    command = [sys.executable, "-m", "remediation", "--home", str(settings.home.root), "journal", "verify", "--json"]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - begin
    document = json.loads(done.stdout)
    if not document["ok"]:
        raise SystemExit(done.stdout)
    per_million = taken * 1_000_000 / document["size"]
    return {
        f"journal verify, {document['size']:,} entries": f"{taken:.1f} s = {per_million:.1f} s a million; target 10 s on one core"
    }
