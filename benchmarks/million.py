"""
A journal of a million entries (or BENCH_ENTRIES): verified, opened, read, proved from, by the commands that a user types.

Times are the best of three runs, each beside the processor time of that run, which others who use the machine disturb less. The floor
of verification is what nobody can avoid who checks such a tree: each leaf and each node hashed once, in a plain loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path

from benchmarks import histories
from benchmarks.processes import PROCESSORS, best
from remediation.proof.merkle import Frontier, leaf_hash

ENTRIES = int(os.environ.get("BENCH_ENTRIES", "1000000"))
_PROVE = """
import sys, time
from pathlib import Path
from remediation.stores.proving import prove_entry
path, note, size = Path(sys.argv[1]), Path(sys.argv[2]).read_text(), int(sys.argv[3])
taken = []
for turn in range(200):
    begin = time.perf_counter()
    prove_entry(path, turn * 7919 % size, note)
    taken.append(time.perf_counter() - begin)
print(sorted(taken)[100])
"""
_READY = """
import asyncio, sys, time, resource
from pathlib import Path
from benchmarks.hosts import bootstrap
async def main():
    boot = bootstrap(Path(sys.argv[1]))
    begin = time.perf_counter()
    async with boot.start(watch=False):
        print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
asyncio.run(main())
"""


def _floor(path: Path) -> float:
    """Seconds of hashing a tree of so many leaves once."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        leaves = [leaf for (leaf,) in connection.execute("SELECT leaf FROM entry LIMIT 100000")]
    taken = []
    for _ in range(3):
        begin = time.process_time()
        Frontier().extend(leaf_hash(leaf) for leaf in leaves)
        taken.append(time.process_time() - begin)
    return min(taken) / len(leaves)


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    settings = histories.make(folder, ENTRIES)
    home = settings.home
    floor = _floor(home.journal) * ENTRIES
    results: dict[str, object] = {
        "floor: every leaf and node hashed once": f"{floor:.2f} s",
        "the journal's file": f"{home.journal.stat().st_size / ENTRIES:.0f} bytes an entry",
    }
    at = ["-m", "remediation", "--home", str(home.root)]
    for number, target in ((1, 10), (2, 6)):
        if number > len(PROCESSORS):
            continue
        ran = best([*at, "journal", "verify", "--json"], on=PROCESSORS[:number])
        verdict = json.loads(ran.out)
        if not verdict["ok"]:
            raise SystemExit(ran.out)
        results[f"journal verify, {verdict['size']:,} entries, {number} processors"] = (
            f"{ran.wall:.1f} s, processor time {ran.busy:.1f} s = {ran.busy / floor:.1f} x floor; target {target} s for a million"
        )
    ready = best(["-c", _READY, str(folder)])
    seconds, memory = map(float, ready.out.split())
    results["ready, with snapshot"] = f"{seconds:.3f} s, {memory:.0f} MB at most; target 1 s"
    for what, words in (
        ("incidents --limit 20", ("incidents", "--limit", "20")),
        ("incidents --status open", ("incidents", "--status", "open")),
        ("runbooks", ("runbooks",)),
        ("journal tail --since 1h --type incident.settled", ("journal", "tail", "--since", "1h", "--type", "incident.settled")),
        ("journal tail --stream incident/", ("journal", "tail", "--stream", "incident/")),
    ):
        ran = best([*at, *words])
        results[what] = f"{ran.wall:.2f} s, processor time {ran.busy:.2f} s"
    proof = best(["-c", _PROVE, str(home.journal), str(home.head_note), str(ENTRIES)])
    results["inclusion proof, p50"] = f"{float(proof.out) * 1e3:.2f} ms"
    home.snapshot.unlink()
    lost = best(["-c", _READY, str(folder)], runs=1)
    results["ready, snapshot lost"] = f"{float(lost.out.split()[0]):.1f} s"
    return results
