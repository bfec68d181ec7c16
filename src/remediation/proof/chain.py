"""
Archives: exports of consecutive parts of one log, each of which may go on beyond where the next one begins.

Read one after the other, up to where the log itself begins, they make a whole log of it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from os import PathLike, fspath
from typing import IO

from remediation.proof.errors import NoteError
from remediation.proof.export import MAX_LINE_BYTES, ExportReader, read_header, verify_export
from remediation.proof.judge import Claims, Knowledge, claimed_size, judge
from remediation.proof.note import VerifierKey
from remediation.proof.plain import Row
from remediation.proof.replay import Replay
from remediation.proof.verdict import ProblemCode, Problems, Verification

Source = str | PathLike[str] | int
"""A path, or a descriptor. It is read once, from its beginning to its end, and closed."""
Seen = Callable[[bytes | None, bytes | None, bytes | None], object]


@dataclass(frozen=True, slots=True)
class Chained:
    """What archives say beside their entries."""

    vkeys: tuple[str, ...] = ()
    """The log's keys in order."""
    rotations: tuple[str, ...] = ()
    """The double-signed notes of the rotations among the entries that were read."""


def feed_archives(replay: Replay, files: Sequence[Source], until: int, *, seen: Seen | None = None) -> Chained:
    """
    Feed the entries before `until` to `replay`, which is at 0; what is wrong with the files is among its problems.

    Args:
        replay: Takes them.
        files: The archives in order, the first one from entry 0 on.
        until: Where the log itself begins.
        seen: Is told leaf, salt and body of each entry.

    Raises:
        OSError: a file can't be read.

    """
    vkeys: dict[str, None] = {}
    rotations: list[str] = []
    with ExitStack() as stack:
        parts = [_opened(stack.enter_context(open(file, "rb", buffering=1 << 20)), file, replay) for file in files]
        starts = [start for _, _, start, _ in parts]
        for (name, lines, start, named), stop in zip(parts, [*starts[1:], until], strict=True):
            if start != replay.size or not start <= stop <= until:
                replay.problems.add(
                    ProblemCode.PARTIAL,
                    f"{name} begins with entry {start}, entry {replay.size} comes next: give all archives, in their order",
                )
                break
            reader = ExportReader(lines, replay.problems, start)
            rows = reader.rows()
            part = islice(rows, stop - start)
            replay.feed(part if seen is None else _told(part, seen))
            if replay.size < stop:
                replay.problems.add(
                    ProblemCode.PARTIAL, f"{name} ends with entry {replay.size - 1}; the entries up to {stop} are missing"
                )
                break
            for _ in rows:
                pass  # beyond the part that was moved: the log has these itself
            vkeys.update(dict.fromkeys(named))
            rotations += [note for note in reader.finish()[1] if start < _size(note) <= stop]
    return Chained(tuple(vkeys), tuple(rotations))


def _told(rows: Iterable[Row], seen: Seen) -> Iterator[Row]:
    for row in rows:
        seen(row[0], row[1], row[2])
        yield row


def _opened(file: IO[bytes], name: Source, replay: Replay) -> tuple[str, Iterator[bytes], int, tuple[str, ...]]:
    lines = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
    header = read_header(next(lines, b""), replay.origin)
    if isinstance(header, Problems):
        for problem in header.listed:
            replay.problems.add(problem.code, f"{_named(name)}: {problem.message}")
        return _named(name), iter(()), -1, ()
    _, vkeys, start = header
    return _named(name), lines, start, vkeys


def _named(source: Source) -> str:
    return f"descriptor {source}" if isinstance(source, int) else fspath(source)


def _size(note: str) -> int:
    try:
        return claimed_size(note)
    except NoteError:
        return 0


def verify_chain(
    files: Sequence[Source],
    *,
    vkeys: Sequence[str | VerifierKey] = (),
    origin: str | None = None,
    head: str | None = None,
    min_size: int = 0,
) -> Verification:
    """
    Verify archives and the export that goes on from them as one log; see `remediation.proof.verify_export` for the rest.

    Args:
        files: In order, the first one from entry 0 on; the last one to its end.

    Raises:
        NoteError: `vkeys` or `head` are malformed.
        OSError: a file can't be read.

    """
    keys = tuple(key if isinstance(key, VerifierKey) else VerifierKey.parse(key) for key in vkeys)
    with open(files[-1], "rb", buffering=1 << 20) as file:
        lines = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
        first = next(lines, b"")
        header = read_header(first, origin)
        if isinstance(header, Problems) or len(files) == 1:
            return verify_export(chain((first,), lines), vkeys=keys, origin=origin, head=head, min_size=min_size)
        log, named, start = header
        replay = Replay(log, watch=() if head is None else (claimed_size(head),))
        before = feed_archives(replay, files[:-1], start)
        reader = ExportReader(lines, replay.problems, start)
        if replay.size == start:
            replay.feed(reader.rows())
            note, rotations = reader.finish()
        else:
            note, rotations = None, ()
        replay.close()
    named = tuple(dict.fromkeys((*before.vkeys, *named)))
    claims = Claims(named, note, tuple(dict.fromkeys((*before.rotations, *rotations))))
    return judge(replay, claims, Knowledge(keys, "argument", head, min_size))
