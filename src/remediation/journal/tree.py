"""The log's Merkle tree and its signatures, in step with storage."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from remediation.errors import ConfigurationError, JournalDamaged, JournalRolledBack, JournalUnavailable
from remediation.journal.epochs import Epochs, rotation_of
from remediation.journal.store import JournalStore, Row
from remediation.ports.keys import Signer
from remediation.proof.checkpoint import Checkpoint, open_checkpoint
from remediation.proof.errors import ProofError
from remediation.proof.merkle import leaf_hash
from remediation.proof.note import Note, NoteSigner, VerifierKey
from remediation.proof.tiles import WIDTH, Tile, TileWriter

Obtain = Callable[[bytes | None], Signer]
"""Gets the key with this public half, or (`None`) the one that is in use by what is kept. May take long; raises ConfigurationError."""


class SignedTree:
    """
    The tree of one log, and who signs its heads.

    Which key that is, the log itself says: it is read again whenever another process has committed, and a key that the log has left
    never signs. The private key comes from `obtain` when it is first needed.
    """

    def __init__(self, origin: str, obtain: Obtain) -> None:
        self._origin = origin
        self._obtain = obtain
        self._writer = TileWriter()
        self._hour = ""
        self._signer: Signer | None = None
        self._signing: tuple[Signer, NoteSigner] | None = None
        self._epochs: Epochs | None = None

    @property
    def origin(self) -> str:
        """The log's name, which is its keys' name too."""
        return self._origin

    @property
    def epochs(self) -> Epochs:
        """The log's keys; known once it is loaded."""
        if self._epochs is None:
            raise JournalUnavailable("the journal is not loaded")
        return self._epochs

    @property
    def key(self) -> VerifierKey:
        """The key that verifies its next head."""
        return self.epochs.current

    @property
    def actor(self) -> str:
        """How entries name that key."""
        return f"key:{self.key.key_id.hex()}"

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._writer.size

    @property
    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return self._writer.root()

    def derived(self, purpose: str) -> bytes:
        """A key for `purpose` that only holders of the log's present key have; see `remediation.ports.keys.Signer.derive`."""
        return self._own().derive(purpose)

    async def load(self, store: JournalStore, size: int, note: str, head: str) -> None:
        """
        Take the stored tree over, proved against its newest checkpoint, and get the key that signs it.

        Args:
            store: Where it is stored.
            size: Entries stored.
            note: The newest checkpoint.
            head: ``head.note``.

        Raises:
            JournalRolledBack: the log is behind `head`.
            JournalDamaged: tree, keys and checkpoint don't belong together.
            ConfigurationError: there is no key.
            JournalUnavailable: there was one, and the one that the log has turned to can't be had.

        """
        await self._know_keys(store, size, note, head)
        try:
            self._writer = await stored_tree(store, size)
        except ProofError as error:
            raise JournalDamaged(f"the journal's tree can't be rebuilt: {error}; run `remediation journal verify`") from error
        self._hour = ""
        self.check(note)

    async def _know_keys(self, store: JournalStore, size: int, note: str, head: str) -> None:
        rotations = await store.rotations()
        if self._signer is None or not (rotations or self._signs(self._signer, note)):
            await self._get(None)
        own = self._named(self._own())
        first = rotation_of(rotations[0]).old if rotations else str(own)
        try:
            epochs = Epochs((VerifierKey.parse(first),))
        except ProofError as error:
            raise JournalDamaged(f"the journal's first key is none: {error}; run `remediation journal verify`") from error
        self._refuse_rolled_back(size, note, head, own)
        for row in rotations:
            epochs = await epochs.followed(store, row)
        self._epochs = epochs
        await self.arm()

    def require(self, size: int, note: str, known: int) -> None:
        """Raise JournalRolledBack if `size` entries are fewer than are `known`, unless `note`, their checkpoint, is of another log."""
        with contextlib.suppress(ProofError):
            if size < known and Checkpoint.parse(Note.parse(note).text).origin == self.origin:
                raise _rolled_back(size, known)

    def _signs(self, signer: Signer, note: str) -> bool:
        try:
            Epochs((self._named(signer),)).opened(note)
        except ProofError:
            return False
        return True

    def _refuse_rolled_back(self, size: int, note: str, head: str, own: VerifierKey) -> None:
        """A copy from before a rotation would look like one of a strange key; what our key signed later shows what it is."""
        try:
            known = open_checkpoint(head, [own], origin=self.origin).checkpoint
            ours = Checkpoint.parse(Note.parse(note).text).origin == self.origin
        except ProofError:
            return
        if ours and known.size > size:
            raise _rolled_back(size, known.size)

    async def turn(self, store: JournalStore, row: Row) -> None:
        """
        Follow a rotation that another process committed; the tree ends with its entry. `arm` has to come before the next `grow`.

        Raises:
            JournalDamaged: it is not signed by both keys.

        """
        epochs = await self.epochs.followed(store, row)
        note = await store.checkpoint(row.seq + 1)
        if note is None or epochs.opened(note).root != self.root:
            raise JournalDamaged(f"the checkpoint of the key rotation at entry {row.seq} is not that of the entries before it")
        self._epochs = epochs

    async def arm(self) -> None:
        """
        Get the key that signs what comes next. Those in between, if the log has turned more than once, are gone by now.

        Raises:
            JournalUnavailable: it can't be had: nothing can be appended by this process.

        """
        await self._get(self.key.public)

    def check(self, note: str) -> None:
        """Raise JournalDamaged unless `note` is our signed head of the tree as it stands."""
        try:
            opened = self.epochs.opened(note)
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
            head = self.epochs.opened(note)
        except ProofError as error:
            raise JournalDamaged(f"the head that is known is not one of this journal: {error}") from error
        if head.size > self.size:
            raise _rolled_back(self.size, head.size)
        root = self._writer.root() if head.size == self.size else (await stored_tree(store, head.size)).root()
        if root != head.root:
            raise JournalDamaged(
                f"the journal's first {head.size} entries are not those of head.note: it is another history of this log"
            )

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Take in leaves that another process committed."""
        self._writer.extend([leaf_hash(leaf) for leaf in leaves])

    def grow(self, leaves: Sequence[bytes], successor: Signer | None = None) -> tuple[list[Tile], str]:
        """
        Add leaves; returns the tiles to store and the signed checkpoint of the new size.

        With `successor`, the last leaf is the rotation to it: both sign, and from now on only it does.
        """
        tiles = self._writer.extend([leaf_hash(leaf) for leaf in leaves])
        own = self._own()
        if self._signing is None or self._signing[0] is not own:
            self._signing = (own, self._note_signer(own))
        signers = [self._signing[1]]
        if successor is not None:
            signers.append(self._note_signer(successor))
            self._epochs = Epochs((*self.epochs.keys, signers[1].key), (*self.epochs.sizes, self.size))
            self._signer = successor
        return tiles, Checkpoint(self.origin, self._writer.size, self._writer.root()).sign(signers)

    def superseded(self, old: int, time: str) -> int | None:
        """The size of the last checkpoint if it need not be kept: one an hour stays, the empty log's, and those of rotations."""
        hour, self._hour = self._hour, time[:13]
        return old if old and hour == self._hour and old not in self.epochs.sizes else None

    def _own(self) -> Signer:
        if self._signer is None:
            raise JournalUnavailable("the journal is not loaded")
        return self._signer

    async def _get(self, public: bytes | None) -> None:
        """Have the key, off the event loop: what makes a passphrase safe is slow."""
        known = self._signer
        if known is not None and public == known.public:
            return
        try:
            self._signer = await asyncio.to_thread(self._obtain, public)
        except ConfigurationError as error:
            if public is None:
                raise
            raise JournalUnavailable(
                f"the key of the journal was rotated, and this process can't get the new one, so it can't append: {error}"
            ) from error

    def _named(self, signer: Signer) -> VerifierKey:
        return VerifierKey(self.origin, signer.public)

    def _note_signer(self, signer: Signer) -> NoteSigner:
        return NoteSigner(self._named(signer), signer.sign)


def holding(signer: Signer) -> Obtain:
    """What gets this key, and no other one."""

    def obtain(public: bytes | None) -> Signer:
        if public not in (None, signer.public):
            raise ConfigurationError("this process was given one key only, and the log goes on with another one")
        return signer

    return obtain


def _rolled_back(size: int, known: int) -> JournalRolledBack:
    return JournalRolledBack(
        f"the journal has {size} entries, but {known} were signed and made known: it was rolled back, or is an old "
        "copy. It is never continued; bring the newer files back, or start a new log with `remediation journal recover`"
    )


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
