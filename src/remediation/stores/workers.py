"""
Verifies a long journal on all processors: a process of its own looks at the database itself, and takes its share of the pieces.

Processes are new ones, never forked, and hold nothing that matters: whatever becomes of them, the journal is then read as a whole by
the caller. Run as a program, this module is such a process; it answers on its standard output, in `marshal`, the caller's own format.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from remediation.errors import RemediationError
from remediation.proof import Replay
from remediation.proof.replay import Piece
from remediation.stores.indexes import Columns
from remediation.stores.replaying import PIECE, Part, joined, part, settled
from remediation.stores.snapshot import Snapshot

WORTH = 50_000
"""Entries below which a process takes longer to start than it spares."""
_MOST = 4
_TOKEN = 4
_RUNS = 4096  # so many tokens fit into any pipe
_ARGUMENT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from remediation.stores.workers import main; main()"


def replay_beside(log: Snapshot, size: int, origin: str, watch: Sequence[int]) -> Replay | None:
    """
    The replay of the first `size` entries, if there is nothing that it or `Snapshot.faults` would find wrong; else `None`.

    Then, if a process failed, and for short journals, read it as a whole.
    """
    if size < WORTH:
        return None
    watch = [at for at in watch if 0 < at <= size]
    tokens, source = os.pipe()
    try:
        with open(source, "wb", buffering=0) as filling:
            filling.write(b"".join(run.to_bytes(_TOKEN, "big") for run in range(min(_runs(size), _RUNS))))
        asked = json.dumps(
            {
                "file": str(log.file),
                "immutable": log.immutable,
                "size": size,
                "origin": origin,
                "watch": watch,
                "tokens": tokens,
            }
        ).encode()
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        helpers = [_Helper(asked, tokens, checks=n == 0) for n in range(max(1, min(processors, _MOST) - 1))]
        try:
            parts = list(_own_parts(log, size, origin, watch, tokens))
            answers = [helper.answer() for helper in helpers]
        finally:
            for helper in helpers:
                helper.end()
    finally:
        os.close(tokens)
    index: list[Columns] | None = None
    for answer in answers:
        if answer is None:
            return None
        index = index or answer[0]
        parts += answer[1]
    good = [each for each in parts if each is not None]
    if index is None or len(good) < len(parts):
        return None
    try:
        return joined(log, sorted(good, key=lambda each: each.piece.start), index, size, origin)
    except RemediationError:
        return None


def _runs(size: int) -> int:
    return -(-size // PIECE)


def _own_parts(log: Snapshot, size: int, origin: str, watch: Sequence[int], tokens: int) -> Iterator[Part | None]:
    """The pieces that nobody else has taken, until there are none left or one is wrong."""
    pieces = _runs(size)
    while token := os.read(tokens, _TOKEN):
        for number in range(int.from_bytes(token, "big"), pieces, _RUNS):
            try:
                made = part(log, number, size, origin, watch)
            except RemediationError:
                made = None
            yield made
            if made is None:
                return


class _Helper:
    """One process, and what it says."""

    def __init__(self, asked: bytes, tokens: int, *, checks: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ARGUMENT, json.dumps(sys.path), str(int(checks))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(tokens,),
        )
        self._said: list[bytes] = []
        self._listening = threading.Thread(target=self._listen, args=(asked,), daemon=True)
        self._listening.start()

    def _listen(self, asked: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._said.append(self._process.communicate(asked)[0])

    def answer(self) -> tuple[list[Columns] | None, list[Part]] | None:
        """What indexes list, if it was to look at the database, and parts; `None` if something is wrong, with them or with the process."""
        self._listening.join()
        if self._process.returncode != 0 or not self._said:
            return None
        said = marshal.loads(self._said.pop())  # noqa: S302 - written by our own process
        if said is None:
            return None
        index, parts = said
        made = [Part(Piece(*piece), tiles, edge, Columns(*columns)) for piece, tiles, edge, columns in parts]
        return [Columns(*each) for each in index] if index is not None else None, made

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._listening.join()


def main() -> None:
    """The process: reads what is asked for from its standard input, and answers once."""
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    with Snapshot(Path(asked["file"]), immutable=asked["immutable"]) as log:
        said = _said(log, asked, checks=sys.argv[2] == "1")
    sys.stdout.buffer.write(marshal.dumps(said))


def _said(log: Snapshot, asked: dict[str, Any], *, checks: bool) -> tuple[Any, list[Any]] | None:
    index = None
    if checks:
        # Pages are read all over the file; should it be cut off under them, this process is lost and not its caller.
        log.map()
        try:
            index = settled(log, asked["size"])
        except RemediationError:
            return None
        if index is None:
            return None
    parts = []
    for made in _own_parts(log, asked["size"], asked["origin"], asked["watch"], asked["tokens"]):
        if made is None:
            return None
        parts.append((tuple(made.piece), made.tiles, made.edge, tuple(made.columns)))
    return index and [tuple(each) for each in index], parts
