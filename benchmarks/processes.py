"""Programs to measure: in a process of their own, on chosen processors, the best of several runs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

PROCESSORS = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Ran:
    """One run: the shortest, and the least processor time of all."""

    out: str
    wall: float
    busy: float
    """Seconds of processor time, children included: what a machine that others use, too, can still tell."""


def best(command: Sequence[str], *, on: Collection[int] = PROCESSORS, runs: int = 3, env: dict[str, str] | None = None) -> Ran:
    """
    The best of `runs` of ``python command…`` on the processors `on`.

    Raises:
        SystemExit: it failed.

    """
    walls, times, out = [], [], ""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, on)  # children inherit it
    try:
        for _ in range(runs):
            used, begin = _children(), time.perf_counter()
            done = subprocess.run(
                [sys.executable, *command], capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
            )
            walls.append(time.perf_counter() - begin)
            times.append(_children() - used)
            if done.returncode:
                raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stdout}{done.stderr}")
            out = done.stdout
    finally:
        os.sched_setaffinity(0, before)
    return Ran(out, min(walls), min(times))


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
