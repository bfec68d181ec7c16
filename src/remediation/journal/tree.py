"""The log's Merkle tree and its signatures, in step with storage."""

from __future__ import annotations

from collections.abc import Sequence

from remediation.errors import JournalDamaged, JournalRolledBack
from remediation.journal.store import JournalStore
from remediation.proof.checkpoint import Checkpoint, open_checkpoint
from remediation.proof.errors import ProofError
from remediation.proof.merkle import leaf_hash
from remediation.proof.note import Note, NoteSigner, VerifierKey
from remediation.proof.tiles import WIDTH, Tile, TileWriter


class SignedTree:
    """The tree of one log, and who signs its heads."""

    def __init__(self, signer: NoteSigner) -> None:
        self._signer = signer
        self._writer = TileWriter()
        self._hour = ""

    @property
    def origin(self) -> str:
        """The log's name, which is its key's name too."""
        return self._signer.key.name

    @property
    def key(self) -> VerifierKey:
        """The key that verifies its heads."""
        return self._signer.key

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._writer.size

    @property
    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return self._writer.root()

    async def load(self, store: JournalStore, size: int, note: str) -> None:
        """
        Take the stored tree over, proved against its newest checkpoint.

        Raises:
            JournalDamaged: tree and checkpoint don't belong together.

        """
        try:
            self._writer = await stored_tree(store, size)
        except ProofError as error:
            raise JournalDamaged(f"the journal's tree can't be rebuilt: {error}; run `remediation journal verify`") from error
        self._hour = ""
        self.check(note)

    def check(self, note: str) -> None:
        """Raise JournalDamaged unless `note` is our signed head of the tree as it stands."""
        try:
            opened = open_checkpoint(note, [self.key], origin=self.origin).checkpoint
        except ProofError as error:
            raise JournalDamaged(f"the journal's newest checkpoint is not signed by this home's key: {error}") from error
        if (opened.size, opened.root) != (self.size, self._writer.root()):
            raise JournalDamaged(
                f"the journal holds {self.size} entries that do not hash to its signed checkpoint of {opened.size}; "
                "run `remediation journal verify` to see what is still proven"
            )

    async def check_head(self, store: JournalStore, note: str) -> None:
        """
        Raise unless the stored log continues the head `note`: that of `head.note`, or one that this process committed.

        Raises:
            JournalRolledBack: it is shorter.
            JournalDamaged: it is another one, or the head is not signed by our key.

        """
        try:
            head = open_checkpoint(note, [self.key], origin=self.origin).checkpoint
        except ProofError as error:
            raise JournalDamaged(f"the head that is known is not one of this journal: {error}") from error
        if head.size > self.size:
            raise JournalRolledBack(
                f"the journal has {self.size} entries, but {head.size} were signed and made known: it was rolled back, or is an old "
                "copy. It is never continued; bring the newer files back, or start a new log with `remediation journal recover`"
            )
        root = self._writer.root() if head.size == self.size else (await stored_tree(store, head.size)).root()
        if root != head.root:
            raise JournalDamaged(
                f"the journal's first {head.size} entries are not those of head.note: it is another history of this log"
            )

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Take in leaves that another process committed."""
        self._writer.extend([leaf_hash(leaf) for leaf in leaves])

    def grow(self, leaves: Sequence[bytes]) -> tuple[list[Tile], str]:
        """Add leaves; returns the tiles to store and the signed checkpoint of the new size."""
        tiles = self._writer.extend([leaf_hash(leaf) for leaf in leaves])
        return tiles, Checkpoint(self.origin, self._writer.size, self._writer.root()).sign([self._signer])

    def superseded(self, old: int, time: str) -> int | None:
        """The size of the last checkpoint if it need not be kept: one an hour stays, and the empty log's."""
        hour, self._hour = self._hour, time[:13]
        return old if old and hour == self._hour else None


async def stored_tree(store: JournalStore, size: int) -> TileWriter:
    """
    The tree of the first `size` entries, from stored tiles and at most 255 leaves.

    Raises:
        ProofError: storage lacks a tile or a leaf.

    """
    wanted = [(level, size >> (8 * (level + 1))) for level in range(1, 8) if size >> (8 * level)]
    tiles = await store.tiles(wanted)
    leaves = await store.leaves(size - size % WIDTH, size)

    def tile(level: int, n: int) -> bytes | None:
        return tiles.get((level, n))

    return TileWriter.restore(size, tile, [leaf_hash(leaf) for leaf in leaves])


def note_size(note: str) -> int:
    """The size that a checkpoint states (its signature is not checked)."""
    return Checkpoint.parse(Note.parse(note).text).size
