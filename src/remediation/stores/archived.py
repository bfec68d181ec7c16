"""
Verifies a journal whose first entries were archived: from the hashes of these alone, or together with the archives.

The tree goes on from the frontier that the upper tiles give. They are not believed: with a wrong one, no signed root comes out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from remediation.journal.store import streams_of
from remediation.proof import Claims, Frontier, ProblemCode, ProofError, Replay, TileWriter, root_of
from remediation.proof.chain import feed_archives
from remediation.proof.merkle import HASH_BYTES
from remediation.proof.tiles import HEIGHT, WIDTH
from remediation.stores.snapshot import Snapshot

_ENDED = "incident/"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came out."""

    replay: Replay
    vkeys: tuple[str, ...]
    """The keys of the log that the archives name, if they were read."""


def replay_archived(
    log: Snapshot, size: int, origin: str, watch: Iterable[int], *, archive: tuple[int, bytes, int], archives: Sequence[Path]
) -> Replayed:
    """
    Replay a log whose entries before `before` were archived.

    Args:
        log: Open.
        size: Its number of entries.
        origin: Its name.
        watch: Sizes at which the root is to be known.
        archive: From `Snapshot.archive`.
        archives: Their files in order, to verify the whole; without any, the rest is verified.

    Raises:
        OSError: an archive can't be read.

    """
    before = archive[0]
    start = 0 if archives else before
    tree = _Tiles(log, before)
    fault = tree.restore() if not archives else ""
    if not 0 < before < size or before % WIDTH or fault:
        replay = Replay(origin, start=start)
        what = fault or f"{before} entries of {size} can't have been archived"
        replay.problems.add(
            ProblemCode.TILE if fault else ProblemCode.STORAGE, f"the tree of the archived entries can't be rebuilt: {what}"
        )
        replay.feed(log.rows(size, since=before))
        replay.close()
        return Replayed(replay, ())
    replay = Replay(origin, start=start, frontier=tree, watch=watch)
    vkeys: tuple[str, ...] = ()
    lengths = None
    if archives:
        chained = feed_archives(replay, archives, before)
        vkeys = chained.vkeys
        # Of incidents nothing is kept: they get no more entries.
        lengths = {stream: length for stream, length in replay.streams.items() if not stream.startswith(_ENDED)}
    if replay.size == before:
        replay.feed(log.rows(size, since=before))
    replay.close()
    _check(replay, log, archive, lengths)
    tree.report(replay)
    return Replayed(replay, vkeys)


def claims_since(replay: Replay, log: Snapshot, vkeys: Sequence[str], checkpoints: Sequence[tuple[int, str]]) -> Claims:
    """
    What came with the entries that were read: the keys since then, the newest note, and the others over more than what was archived.

    Args:
        replay: Closed.
        log: Open.
        vkeys: The log's keys, if the entries don't tell.
        checkpoints: All that are stored.

    """
    begun = kept_keys(log, replay.start)[-1:] or [rotation.old for rotation in replay.rotations[:1]] or list(vkeys[:1])
    chain = (*begun, *(rotation.new for rotation in replay.rotations))
    rotated = {rotation.size for rotation in replay.rotations}
    since = [(size, note) for size, note in checkpoints if size > replay.start or not replay.start]
    newest = since[-1][1] if since else None
    rotations = tuple(note for size, note in since if size in rotated)
    return Claims(chain, newest, rotations, tuple(note for size, note in since[:-1] if size not in rotated))


def kept_keys(log: Snapshot, before: int) -> list[str]:
    """The keys of the log up to the position `before`, by the rotations that stay when entries are archived; none without one."""
    keys: list[str] = []
    for _, _, body, *_, type_, _ in log.rows(before):
        if type_ == "key.rotated" and body is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                said = json.loads(body)
                keys = [*(keys or [str(said["old"])]), str(said["new"])]
    return keys


def _check(replay: Replay, log: Snapshot, archive: tuple[int, bytes, int], lengths: dict[str, int] | None) -> None:
    """`lengths`: those of the streams that go on, as the archives have them."""
    before, state, by = archive
    said = replay.archives.get(before)
    if said is None:
        replay.problems.add(
            ProblemCode.SEQUENCE, f"the entries before {before} are gone, and no entry says that they were archived", before
        )
    elif said[0] != by:
        replay.problems.add(ProblemCode.STORAGE, f"entry {said[0]} tells of the archive, and the database names entry {by}")
    elif said[1] != hashlib.sha256(state).hexdigest():
        replay.problems.add(
            ProblemCode.STORAGE, f"the state that was kept of the {before} archived entries is not the one that was signed"
        )
    streams, signed = log.archived_streams(), streams_of(state)
    if any(known is not None and known != streams for known in (signed, lengths)):
        replay.problems.add(
            ProblemCode.STORAGE,
            f"how long streams were when {before} entries were archived is not what was kept and signed of them",
        )
    goes_on = [stream for stream in replay.streams if not stream.startswith(_ENDED)] if replay.start else []
    for stream in goes_on:
        if (first := replay.firsts.get(stream, 0)) != streams.get(stream, 0):
            replay.problems.add(
                ProblemCode.STREAM_SEQUENCE,
                f"the stream {stream!r} goes on with number {first}, and {streams.get(stream, 0)} of its entries were archived",
            )
    if any(type_ != "key.rotated" for *_, type_, _ in log.rows(before)):
        replay.problems.add(ProblemCode.STORAGE, f"entries before {before} are there although they were archived")


class _Tiles(Frontier):
    """The tree that a replay grows, which compares the stored tiles with those of the entries on the way."""

    def __init__(self, log: Snapshot, before: int) -> None:
        super().__init__()
        self._log = log
        self._before = before
        self._writer = TileWriter()
        self._partial: dict[tuple[int, int], bytes] = {}
        self._number = 0
        self._wrong: list[tuple[int, int]] = []

    def restore(self) -> str:
        """Begin with the archived entries, by their tiles; returns what is wrong with these."""
        try:
            self._writer = TileWriter.restore(self._before, self._log.tile, [])
        except ProofError as error:
            return str(error)
        level = 1
        while hashes := self._before >> (HEIGHT * level):
            for n in range(hashes // WIDTH):
                self._number += 1
                above = (self._log.tile(level + 1, n // WIDTH) or b"")[n % WIDTH * HASH_BYTES :][:HASH_BYTES]
                if root_of(_split(self._log.tile(level, n) or b"")) != above:
                    self._wrong.append((level, n))
            if hashes % WIDTH:
                n = hashes // WIDTH
                self._partial[level, n] = (self._log.tile(level, n) or b"")[: hashes % WIDTH * HASH_BYTES]
            level += 1
        return ""

    @property
    def size(self) -> int:
        return self._writer.size

    def extend(self, leaves: Iterable[bytes]) -> None:
        for tile in self._writer.extend(leaves):
            if tile.width < WIDTH:
                self._partial[tile.level, tile.n] = tile.data
                continue
            self._partial.pop((tile.level, tile.n), None)
            if tile.level or tile.n >= self._before // WIDTH:
                self._compare(*tile)

    def root(self) -> bytes:
        return self._writer.root()

    def copy(self) -> Self:
        return self

    def report(self, replay: Replay) -> None:
        """Everything was read: report what differs."""
        for (level, n), data in self._partial.items():
            self._compare(level, n, data)
        for level, n in self._wrong:
            replay.problems.add(ProblemCode.TILE, f"the stored tile {n} of level {level} is not that of the entries")
        if self._log.tiles() > self._number:
            replay.problems.add(ProblemCode.TILE, f"{self._log.tiles() - self._number} more tiles are stored than the entries make")

    def _compare(self, level: int, n: int, data: bytes) -> None:
        self._number += 1
        if self._log.tile(level, n) != data:
            self._wrong.append((level, n))


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
