"""
Proofs from storage: that one entry stands in the log, and that the log continues an earlier state of itself.

Made from the stored tiles: a proof from a journal of a million entries reads the entry, a handful of tiles and the at most 255 newest
leaves, and takes milliseconds. Storage is not believed: each proof is checked against the signed head before it is handed out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remediation.errors import JournalDamaged
from remediation.proof import (
    Checkpoint,
    HashSource,
    Note,
    TileMissing,
    TileWriter,
    TlogProof,
    consistency_proof,
    entry_proof,
    inclusion_proof,
    leaf_hash,
    tile_hashes,
    verify_consistency,
    verify_inclusion,
)
from remediation.stores.parts import Parts


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """The proof of one entry, to be handed out."""

    proof: TlogProof
    """Its ``str()`` is the file."""
    body: bytes | None
    """The entry's body, where it is too long to travel in the proof: a file of its own."""
    rows: int
    """How many rows were read for it."""


def prove_entry(path: Path, seq: int, note: str) -> ProvenEntry:
    """
    The proof that entry `seq` stands in the log whose signed head is `note`.

    Args:
        path: ``journal.sqlite3``.
        seq: Position of the entry, from 0.
        note: A signed head of this log; one that may be known outside (see ``head.note``). Its signature is not checked here.

    Raises:
        NoteError: `note` is malformed.
        ValueError: `note` is over `seq` entries or fewer.
        JournalDamaged: what is stored does not lead to the root of `note`.
        JournalUnavailable: the database can't be reached.
        JournalTooNew: it was written by a newer release.

    """
    head = Checkpoint.parse(Note.parse(note).text)
    if not 0 <= seq < head.size:
        raise ValueError(f"the signed head is over {head.size} entries, of which none is entry {seq}")
    with _reading(path, head.size) as (parts, source):
        leaf, salt, body, *_ = parts.entry(seq)
        hashes = inclusion_proof(seq, head.size, source)
        if leaf is None or not verify_inclusion(seq, head.size, leaf_hash(leaf), hashes, head.root):
            raise JournalDamaged(
                f"{path}: entry {seq} and the stored tiles don't lead to the root that was signed over {head.size} entries; "
                "run `remediation journal verify`"
            )
        proof, apart = entry_proof(seq, hashes, note, leaf, salt, body)
        return ProvenEntry(proof, apart, parts.rows_read)


def prove_consistency(path: Path, old: int, note: str) -> list[bytes]:
    """
    The proof (RFC 9162, 2.1.4) that the log of the signed head `note` continues its own state of `old` entries.

    Who has the root of that state checks it with `remediation.proof.verify_consistency`.

    Args:
        path: ``journal.sqlite3``.
        old: Number of entries of the earlier state.
        note: A signed head of this log. Its signature is not checked here.

    Raises:
        NoteError: `note` is malformed.
        ValueError: `note` is over fewer than `old` entries.
        JournalDamaged: what is stored does not lead to the root of `note`.
        JournalUnavailable: the database can't be reached.
        JournalTooNew: it was written by a newer release.

    """
    head = Checkpoint.parse(Note.parse(note).text)
    if not 0 <= old <= head.size:
        raise ValueError(f"the signed head is over {head.size} entries, {old} is no earlier state")
    with _reading(path, head.size) as (parts, source):
        hashes = consistency_proof(old, head.size, source)
        before = TileWriter.restore(old, parts.cached_tile, parts.last_hashes(old)).root()
        if not verify_consistency(old, head.size, before, head.root, hashes):
            raise JournalDamaged(
                f"{path}: the stored tiles don't lead to the root that was signed over {head.size} entries; "
                "run `remediation journal verify`"
            )
        return hashes


@contextmanager
def _reading(path: Path, size: int) -> Iterator[tuple[Parts, HashSource]]:
    """The journal, and the hashes of its tree of `size` leaves."""
    with Parts(path) as parts:
        parts.require(size)
        try:
            yield parts, tile_hashes(size, parts.cached_tile, parts.last_hashes(size))
        except TileMissing as error:
            raise JournalDamaged(f"{path}: {error}; run `remediation journal verify`") from error
