"""
Beats: how a host shows that it lives, to whoever looks from outside.

A host that is ready has a file ``hosts/<instance>.json`` in its home, replaced at each beat and removed when it stops::

    {"v": 1, "host": …, "instance": …, "pid": …, "born": …, "boot_id": …, "ready_at": …, "beat_ms": …, "pace_ms": …}

`beat_ms` is CLOCK_MONOTONIC (clock_gettime(2)): the same for all processes of one boot, untouched by changes of the date, and not counting
time in suspend. `born` is the process's start in clock ticks since boot (proc_pid_stat(5), field 22), so that a pid that was given to
another process is not taken for the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from remediation.model.base import timestamp
from remediation.ports.clock import SystemClock

PACE = 1.0
"""Seconds between two beats, unless somebody needs them faster."""
VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DEAD = "ZX"
_ENDLESS = 1 << 62


@dataclass(frozen=True, slots=True)
class Beat:
    """What a host's file says."""

    host: str
    instance: str
    pid: int
    born: int
    boot_id: str
    ready_at: str
    """By the host's wall clock; for people."""
    beat_ms: int
    pace_ms: int

    def state(self) -> str:
        """The letter of the process's state (proc_pid_stat(5)); empty if it is gone, or its pid is another's now."""
        state, born = _process(self.pid)
        return state if self.boot_id == boot_id() and born == self.born and state not in _DEAD else ""

    def silence(self, now_ms: int) -> int:
        """Milliseconds since the beat; endless for a beat of another boot."""
        return now_ms - self.beat_ms if self.boot_id == boot_id() and self.beat_ms <= now_ms else _ENDLESS


class BeatFile:
    """
    One host's file. Belongs to the event loop of the host; a write takes some 50 µs and is not flushed: after a crash of the machine
    it says nothing anyway.
    """

    def __init__(self, path: Path, host: str, instance: str, *, pace: float) -> None:
        self.path = path
        pid = os.getpid()
        ready = timestamp(SystemClock().now())
        self._beat = Beat(host, instance, pid, _process(pid)[1], boot_id(), ready, 0, round(pace * 1000))

    def write(self, pace: float) -> None:
        """
        Beat; the next one is promised within `pace` seconds.

        Raises:
            OSError: it can't be written.

        """
        self._beat = replace(self._beat, beat_ms=monotonic_ms(), pace_ms=round(pace * 1000))
        temporary = self.path.with_name(f".{self.path.name}.{self._beat.instance}")
        temporary.write_text(json.dumps({"v": VERSION, **asdict(self._beat)}) + "\n", "ascii")
        os.rename(temporary, self.path)

    def remove(self) -> None:
        """Remove the file, unless another host has put its own there."""
        with contextlib.suppress(OSError):
            known = read(self.path)
            if known is None or known.instance == self._beat.instance:
                self.path.unlink(missing_ok=True)


def read(path: Path) -> Beat | None:
    """What `path` says; `None` if it is gone or says nothing that can be read."""
    try:
        known = json.loads(path.read_bytes())
        if known.pop("v") != VERSION:
            return None
        beat = Beat(**known)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None
    numbers = (beat.pid, beat.born, beat.beat_ms, beat.pace_ms)
    texts = (beat.host, beat.instance, beat.boot_id, beat.ready_at)
    fits = all(type(number) is int for number in numbers) and all(isinstance(text, str) for text in texts)
    return beat if fits and beat.pid > 0 else None


def beats_in(folder: Path) -> list[Beat]:
    """The beats of all hosts of a home, by instance."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return [beat for beat in found if beat is not None]


def remove_dead(folder: Path) -> None:
    """Remove the files of hosts whose process is gone."""
    for path in folder.glob("*.json"):
        beat = read(path)
        if beat is None or not beat.state():
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the hosts of a home are."""

    state: Literal["well", "silent", "missing"]
    """`silent`: a host that is there does not beat. `missing`: none is there that does."""
    silence_ms: int
    """For how long that is so; for `well`, how old the oldest of the hosts' newest beats is."""
    hosts: tuple[Beat, ...] = ()
    """The hosts that it is about."""


def judge(beats: Sequence[Beat], *, now_ms: int, since_ms: int, well_ms: int, after_ms: int) -> Verdict:
    """
    How the hosts are that `beats` tell of, at CLOCK_MONOTONIC `now_ms`; they may be silent for `after_ms`.

    Nothing counts as silence that nobody listened to: only what lies behind `since_ms` does. Where no file tells of a host, none is there
    since `well_ms`, when one was last seen. A dead host is nobody's business as long as another one beats, which takes over what it left.
    """
    heard = [(min(beat.silence(now_ms), now_ms - since_ms), beat) for beat in beats]
    quiet = [(silence, beat) for silence, beat in heard if silence > after_ms]
    stuck = [(silence, beat) for silence, beat in quiet if beat.state()]
    if stuck:
        return Verdict("silent", max(silence for silence, _ in stuck), tuple(beat for _, beat in stuck))
    fresh = [(silence, beat) for silence, beat in heard if silence <= after_ms]
    if fresh:
        return Verdict("well", max(silence for silence, _ in fresh), tuple(beat for _, beat in fresh))
    silence = min((silence for silence, _ in quiet), default=now_ms - max(since_ms, well_ms))
    return Verdict("missing" if silence > after_ms else "well", silence, tuple(beat for _, beat in quiet))


def monotonic_ms() -> int:
    """CLOCK_MONOTONIC in milliseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000


def boot_id() -> str:
    """The running kernel's boot id; empty where there is none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, int]:
    """State and start of a process; an empty state if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        # pid (comm) state …; comm may hold spaces and parentheses.
        fields = stat.rpartition(b")")[2].split()
        return fields[0].decode("ascii"), int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0
