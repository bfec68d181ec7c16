"""Matching: what it costs to find the runbooks of a degradation, from 1 to 10,000 registered ones."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.hosts import StaleLock
from remediation import DegradationEvent
from remediation.authoring import Handles, RunbookSpec
from remediation.engine.registry import Registry
from remediation.model.events import Provenance

ROUNDS = 20_000


def run(folder: Path) -> dict[str, object]:
    """Measure; returns what is printed."""
    results: dict[str, object] = {}
    for number in (1, 100, 10_000):
        registry = Registry()
        for index in range(number):
            spec = RunbookSpec(
                id=f"r{index}",
                handles=(Handles(code=f"CODE_{index}", subsystem="be*"),),
                blast_radius="process",
                reversibility="reversible",
                level="recovery",
            )
            registry.add(type(f"R{index}", (StaleLock,), {"spec": spec, "__module__": __name__}))
        event = DegradationEvent(code=f"CODE_{number - 1}", subsystem="bench", subject="x")
        begin = time.perf_counter()
        for _ in range(ROUNDS):
            registry.match(event, Provenance.NATIVE, faulted=lambda *_: None)
        results[f"match, {number:,} runbooks"] = f"{(time.perf_counter() - begin) / ROUNDS * 1e6:.2f} µs; target 5 µs, flat"
    return results
