"""
Which key signs the log at which size: from the rotations that its entries tell of.

The rule (journal format v1, section 4.2): with the entry ``key.rotated`` at position r, notes over at most r entries are signed by the
old key alone, the one over r + 1 by both, the old one's line first, greater ones by the new key alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from remediation.errors import JournalDamaged
from remediation.journal import encoding
from remediation.journal.store import JournalStore, Row
from remediation.model.entries import KeyRotated
from remediation.proof.checkpoint import Checkpoint, open_checkpoint
from remediation.proof.errors import NoteError, SignatureRefused
from remediation.proof.note import Note, VerifierKey


@dataclass(frozen=True, slots=True)
class Epochs:
    """The log's keys in order, one more than there are rotations."""

    keys: tuple[VerifierKey, ...]
    sizes: tuple[int, ...] = ()
    """For each rotation the size of the tree that ends with its entry (r + 1), ascending."""

    @property
    def current(self) -> VerifierKey:
        """The key that signs what comes next."""
        return self.keys[-1]

    def at(self, size: int) -> Sequence[VerifierKey]:
        """The keys that sign a note over `size` entries, in the order of their lines."""
        epoch = bisect_left(self.sizes, size)
        both = epoch < len(self.sizes) and self.sizes[epoch] == size
        return self.keys[epoch : epoch + 2] if both else self.keys[epoch : epoch + 1]

    def turned(self, size: int, rotated: KeyRotated) -> Self:
        """
        The keys after the rotation whose entry ends the tree of `size`.

        Raises:
            JournalDamaged: it does not continue these.

        """
        try:
            old, new = VerifierKey.parse(rotated.old), VerifierKey.parse(rotated.new)
        except NoteError as error:
            raise JournalDamaged(
                f"entry {size - 1} rotates the key, and names none: {error}; run `remediation journal verify`"
            ) from error
        if old != self.current or new in self.keys or new.name != old.name or (self.sizes and size <= self.sizes[-1]):
            raise JournalDamaged(
                f"entry {size - 1} rotates the key from {rotated.old} to {rotated.new}, but the log was signed by {self.current}; "
                "run `remediation journal verify`"
            )
        return type(self)((*self.keys, new), (*self.sizes, size))

    async def followed(self, store: JournalStore, row: Row) -> Self:
        """
        The keys after the stored rotation `row`, whose note both keys must have signed.

        Raises:
            JournalDamaged: it does not continue these, or is not signed so.

        """
        size = row.seq + 1
        turned = self.turned(size, rotation_of(row))
        note = await store.checkpoint(size)
        try:
            if note is None or turned.opened(note).size != size:
                raise JournalDamaged(f"the key rotation at entry {row.seq} has no checkpoint; run `remediation journal verify`")
        except NoteError as error:
            raise JournalDamaged(
                f"the key rotation at entry {row.seq} is not signed by both keys: {error}; run `remediation journal verify`"
            ) from error
        return turned

    def opened(self, note: str) -> Checkpoint:
        """
        The checkpoint of a note that bears exactly the signatures which the log's keys make at its size.

        Raises:
            NoteError: it bears others, or is no checkpoint of this log.

        """
        parsed = Note.parse(note)
        wanted = tuple(self.at(Checkpoint.parse(parsed.text).size))
        opened = open_checkpoint(note, wanted, origin=self.current.name)
        if opened.keys != wanted or len(parsed.signatures) != len(wanted):
            raise SignatureRefused(
                f"it must be signed by {' and '.join(str(key) for key in wanted)}, and by nobody else; it bears other signatures"
            )
        return opened.checkpoint


def rotation_of(row: Row) -> KeyRotated:
    """
    What the entry of a rotation says.

    Raises:
        JournalDamaged: its body is gone, which no erasure may do, or it is not what was signed.

    """
    entry = encoding.record(row).entry
    if not isinstance(entry, KeyRotated):
        raise JournalDamaged(f"entry {row.seq} rotated the key, and its body is gone; run `remediation journal verify`")
    return entry
