"""Entries as exports see them: read from what was signed, checked against it, and handed to an encoder one by one."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from remediation.errors import JournalDamaged
from remediation.proof import claimed_size, leaf_hash, payload_digest
from remediation.stores.parts import Parts
from remediation.stores.snapshot import StoredRow

Write = Callable[[bytes], object]
Progress = Callable[[int, int], object]
"""``progress(done, total)``: called now and then with numbers of entries."""

_EVERY = 512
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


@dataclass(frozen=True, slots=True)
class ExportedEntry:
    """One entry, taken from its leaf, with a body that the leaf commits to."""

    seq: int
    leaf_hash: str
    """SHA-256(0x00 || leaf) in hex: what the tree holds at `seq`."""
    id: str
    stream: str
    stream_seq: int
    type: str
    time: str
    """UTC, ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""
    actor: str
    causation: str | None
    correlation: str | None
    body: dict[str, Any] | None
    """None if it was erased."""

    def milliseconds(self) -> int:
        """`time` in milliseconds since 1970 UTC."""
        return round(datetime.fromisoformat(self.time).timestamp() * 1000)


class Encoder(Protocol):
    """Turns entries into the records of a format. Made for one export; may hold a bounded number of entries back."""

    def encode(self, entry: ExportedEntry) -> bytes:
        """What is to be written now, newline included; empty if nothing is."""
        ...

    def finish(self) -> bytes:
        """What is left to be written after the last entry."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Where an export begins; from there it goes on to the end. Times order nothing, so a time only says where to begin."""

    after: int = -1
    """Position of the last entry that is not wanted."""
    since: str | None = None
    """Begin with the first entry whose time is not before this one: UTC, ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""

    def start(self, parts: Parts, size: int) -> int:
        """The position of the first entry that is wanted, and was not archived; `size` if there is none."""
        archive = parts.archive()
        start = max(min(self.after + 1, size), archive[0] if archive is not None else 0)
        return start if self.since is None else max(start, parts.first_since(self.since, size))


ALL = Selection()


def export_records(
    path: Path, note: str, encoder: Encoder, write: Write, *, selection: Selection = ALL, progress: Progress | None = None
) -> int:
    """
    Write the entries up to the signed head `note` as `encoder` puts them; returns their number.

    Each is taken from its leaf, and its body is checked against the leaf. Non-guarantee: the tree and its signature are not
    verified, nor can the receiver: `export_journal` is for that.

    Args:
        path: ``journal.sqlite3``.
        note: A signed head of this log; one that may be known outside (see ``head.note``).
        encoder: A fresh one.
        write: Takes the records.
        selection: Where to begin.
        progress: Told how far it is.

    Raises:
        NoteError: `note` is malformed.
        JournalDamaged: the database can't be read to its end, holds fewer entries than `note` is over, or a body is not its leaf's.
        JournalUnavailable: it can't be reached.
        JournalTooNew: it was written by a newer release, which may have stored more than this one would check.

    """
    size = claimed_size(note)
    with Parts(path) as parts:
        parts.require(size)
        start = selection.start(parts, size)
        for row in told(parts.range(start, size), start, size, progress):
            if record := encoder.encode(_entry(row, path)):
                write(record)
        if rest := encoder.finish():
            write(rest)
    return size - start


def told(rows: Iterator[StoredRow], start: int, until: int, progress: Progress | None) -> Iterator[StoredRow]:
    """`rows`, the progress on the way told now and then."""
    if progress is None:
        yield from rows
        return
    for number, row in enumerate(rows):
        if number % _EVERY == 0:
            progress(number, until - start)
        yield row
    progress(until - start, until - start)


def line(record: dict[str, Any]) -> bytes:
    """A record as one line of JSON in ASCII, so that nothing in it moves a cursor."""
    return _encode(record).encode() + b"\n"


def encoded(value: Any) -> str:
    """A part of such a line."""
    return _encode(value)


def _entry(row: StoredRow, path: Path) -> ExportedEntry:
    leaf, salt, body, seq, *_ = row
    try:
        members = _decode((leaf or b"").decode())
        if members["seq"] != seq:
            raise ValueError("it says that it stands elsewhere")
        content = None
        if body is not None or salt is not None:
            if not hmac.compare_digest(payload_digest(salt or b"", body or b""), members["payload"]):
                raise ValueError("its body is not the one that it commits to")
            content = _decode((body or b"").decode())
            if not isinstance(content, dict):
                raise ValueError("its body is no object")
        return ExportedEntry(
            seq=seq,
            leaf_hash=leaf_hash(leaf or b"").hex(),
            id=members["id"],
            stream=members["stream"],
            stream_seq=members["stream_seq"],
            type=members["type"],
            time=members["time"],
            actor=members["actor"],
            causation=members["causation"],
            correlation=members["correlation"],
            body=content,
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JournalDamaged(f"{path}: entry {seq} was altered ({error}); run `remediation journal verify`") from error
