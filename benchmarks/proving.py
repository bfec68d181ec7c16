"""``journal prove`` in a long journal: a proof of one entry, from the stored tiles."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import bulk
from remediation.proof import verify_entry_proof
from remediation.stores.proving import prove_consistency, prove_entry

ENTRIES = int(os.environ.get("BENCH_ENTRIES", "1000000"))
PROOFS = 200


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    home = bulk.make(folder, ENTRIES).home
    note, vkey = home.head_note.read_text(), home.verifier_keys.read_text().strip()
    places = random.Random(1)
    taken, rows = [], []
    for _ in range(PROOFS):
        seq = places.randrange(ENTRIES)
        begin = time.perf_counter()
        proven = prove_entry(home.journal, seq, note)
        taken.append((time.perf_counter() - begin) * 1000)
        rows.append(proven.rows)
        if not verify_entry_proof(str(proven.proof), vkeys=[vkey]).ok:
            raise SystemExit(f"the proof of entry {seq} is not one")
    begin = time.perf_counter()
    hashes = prove_consistency(home.journal, ENTRIES * 2 // 3, note)
    consistency = (time.perf_counter() - begin) * 1000
    command = [sys.executable, "-m", "remediation", "--home", str(home.root), "journal", "prove", str(ENTRIES // 2)]
    begin = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    whole = (time.perf_counter() - begin) * 1000
    return {
        f"inclusion proof of {ENTRIES:,} entries": (
            f"p50 {statistics.median(taken):.1f} ms, worst of {PROOFS} {max(taken):.1f} ms; "
            f"{min(rows)} to {max(rows)} rows read, of which {ENTRIES % 256} are the newest leaves; target 100 ms"
        ),
        "consistency proof": f"{consistency:.1f} ms, {len(hashes)} hashes",
        "`journal prove SEQ`, the whole command": f"{whole:.0f} ms",
    }
