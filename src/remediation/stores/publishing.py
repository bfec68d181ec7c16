"""
Publishes a log as static files that anybody's tools read: C2SP tlog-tiles (c2sp.org/tlog-tiles).

``checkpoint``, ``tile/<level>/<n>`` and ``tile/entries/<n>``; the last tile of a level is partial (``.p/<width>``). Entries are leaves:
frames with the digests of their bodies, without the bodies, so that what is erased later was never published.

A folder is continued: what is there is compared with the journal, and only what the log gained, or what was damaged, is written; tiles
first and the checkpoint last, each file whole or not there. So whoever reads meanwhile sees the old log or the new one, and an
interrupted run is made good by the next. Partial tiles of earlier checkpoints stay, as the specification wants it for checkpoints that
somebody may still go by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remediation.errors import ConfigurationError, EntryArchived, JournalDamaged, JournalRolledBack
from remediation.proof import (
    Checkpoint,
    Note,
    NoteError,
    VerifierKey,
    bundled_leaves,
    entry_bundle,
    leaf_hash,
    open_checkpoint,
    root_of,
    tile_path,
    width_of,
)
from remediation.proof.merkle import HASH_BYTES
from remediation.proof.tiles import WIDTH
from remediation.stores.exporting.records import Progress
from remediation.stores.parts import Parts
from remediation.stores.proven_tiles import ProvenTiles
from remediation.stores.public_files import PublicFiles

CHECKPOINT = "checkpoint"
_ENTRIES = "entries"
_LARGEST_BUNDLE = WIDTH * (2 + 65_535)


@dataclass(frozen=True, slots=True)
class Published:
    """What an export to a folder did."""

    entries: int
    """How many entries the published log gained."""
    mended: tuple[str, ...]
    """The first of the files that were not what the journal holds, and were written again."""
    mendings: int
    """How many these were."""


def export_tiles(
    path: Path, note: str, folder: Path, *, keys: Sequence[VerifierKey], progress: Progress | None = None
) -> Published:
    """
    Bring the published log in `folder` up to the signed head `note`.

    Guarantees: every file that a checkpoint up to `note` leads to is what the journal holds, and the journal's entries lead to the root
    of `note`; files that were something else are written again. Nothing is written if the checkpoint that is there is of another log,
    of another history, or of more entries. Memory does not grow with the log; all of both is read. Non-guarantee: files that no such
    checkpoint leads to are left alone, and partial tiles of earlier checkpoints that were removed are not missed.

    Args:
        path: ``journal.sqlite3``.
        note: A signed head of this log; one that may be known outside (see ``head.note``). Its signature is not checked here.
        folder: Where. It is made if it is missing; else it is empty, or holds an earlier export of this log.
        keys: The log's keys. A checkpoint in `folder` that none of them signed tells nothing, and is replaced.
        progress: Told how far it is.

    Raises:
        NoteError: `note` is malformed.
        ConfigurationError: `folder` holds something else, or another log.
        JournalRolledBack: `folder` knows of more entries than `note` is over.
        JournalDamaged: what is stored does not lead to the root of `note`, or not to that of the checkpoint in `folder`.
        EntryArchived: entries are needed, for the first time or to mend a file, that are not in the journal any more.
        JournalUnavailable: the database can't be reached.
        JournalTooNew: it was written by a newer release.
        OSError: a file can't be read or written; the checkpoint there still holds for the files that are there.

    """
    head = Checkpoint.parse(Note.parse(note).text)
    found = _published(folder, head, keys)
    files = PublicFiles(folder)
    with Parts(path) as parts:
        parts.require(head.size)
        run = _Run(parts, ProvenTiles(parts, head), files, found.size if found is not None else 0)
        if found is None:
            run.refuse_another_log()
            if (folder / CHECKPOINT).exists() or (folder / "tile").is_dir():
                files.mending(CHECKPOINT)
        elif run.tiles.root(found.size) != found.root:
            raise _forked(folder, f"the first {found.size} entries of the journal are not those that its checkpoint is over")
        folder.mkdir(parents=True, exist_ok=True)
        run.bring(progress)
    files.settle()
    # Last, as a log that grows in public would: whoever sees it finds all that it covers.
    files.write(CHECKPOINT, note.encode())
    files.settle()
    return Published(head.size - run.before, tuple(files.mended), files.mendings)


def _published(folder: Path, head: Checkpoint, keys: Sequence[VerifierKey]) -> Checkpoint | None:
    """What `folder` publishes already, to be continued up to `head`; None if nothing tells, or nothing that can be believed."""
    try:
        text = (folder / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        # An interrupted first run leaves tiles.
        there = folder.iterdir() if folder.exists() else ()
        if any(path.name != "tile" and not path.name.startswith(f".{CHECKPOINT}.") for path in there):
            raise ConfigurationError(
                f"{folder} holds other things than a published log: name a new folder, or one that was exported before"
            ) from None
        return None
    try:
        note = Note.parse(text)
        found = Checkpoint.parse(note.text)
    except NoteError as error:
        if (folder / "tile").is_dir():
            return None
        raise ConfigurationError(f"{folder / CHECKPOINT} is not the checkpoint of a log ({error}): name another folder") from error
    if found.origin != head.origin and not any(signature.name == head.origin for signature in note.signatures):
        raise ConfigurationError(f"{folder} publishes the log {found.origin}, not {head.origin}: name another folder")
    try:
        open_checkpoint(text, keys, origin=head.origin)
    except NoteError:
        return None
    if found.size > head.size:
        raise JournalRolledBack(
            f"{folder} publishes {found.size} entries of {head.origin}, the journal has {head.size}: it was rolled back; "
            f"run `remediation journal verify --head {folder / CHECKPOINT}`"
        )
    return found


def _forked(folder: Path, why: str) -> JournalDamaged:
    return JournalDamaged(
        f"{folder} publishes another history: {why}. Keep both: run `remediation journal verify`, and find out which one is genuine"
    )


class _Run:
    """One export: the journal's entries and `tiles`, and the `files` that publish those up to `before`."""

    def __init__(self, parts: Parts, tiles: ProvenTiles, files: PublicFiles, before: int) -> None:
        self.tiles = tiles
        self.before = before
        self._parts = parts
        self._files = files
        self._size = tiles.size
        archive = parts.archive()
        self._archived = archive[0] if archive is not None else 0

    def bring(self, progress: Progress | None) -> None:
        """Compare all files with the journal, and write those that are missing or wrong; all but the checkpoint."""
        for n in range(-(-self._size // WIDTH)):
            if progress is not None:
                progress(n * WIDTH, self._size)
            leaves = self._leaves(n)
            hashes = [leaf_hash(leaf) for leaf in leaves]
            self._bring(_ENTRIES, n, [entry_bundle([leaf]) for leaf in leaves])
            self._bring(0, n, hashes)
        level = 1
        while hashes_there := self._size >> 8 * level:
            for n in range(-(-hashes_there // WIDTH)):
                data = self.tiles.tile(level, n)
                self._bring(level, n, [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])
            level += 1
        if progress is not None:
            progress(self._size, self._size)

    def refuse_another_log(self) -> None:
        """
        Nothing signed tells what the folder publishes: its files do.

        Whose entries fit their hashes was not damaged. If these are not the journal's entries, they are somebody else's.
        """
        for n in range(-(-self._size // WIDTH)):
            for width in {WIDTH, *self._files.partials(tile_path(0, n))}:
                published = self._published(n, width) if 1 <= width <= WIDTH else None
                if published is None or self._hashes(published) != self._files.read(tile_path(0, n, width), WIDTH * HASH_BYTES):
                    continue
                common = min(width, width_of(0, n, self._size))
                ours = (
                    self.tiles.root_of_full(n)
                    if common == WIDTH
                    else root_of([leaf_hash(leaf) for leaf in self._leaves(n)[:common]])
                )
                if root_of([leaf_hash(leaf) for leaf in published[:common]]) != ours:
                    raise _forked(self._files.folder, f"its entries from {n * WIDTH} on are whole, and not those of the journal")

    def _bring(self, level: int | str, n: int, pieces: Sequence[bytes]) -> None:
        before = width_of(0 if isinstance(level, str) else level, n, self.before)
        left = (width for width in self._files.partials(tile_path(level, n)) if 1 <= width < len(pieces))
        for width in sorted({len(pieces), before, *left} - {0}):
            self._files.bring(tile_path(level, n, width), b"".join(pieces[:width]), published=width == before)

    def _leaves(self, n: int) -> list[bytes]:
        """The leaves of bundle `n`, which lead to the signed root. Of archived ones only the published copy is left."""
        start, until = n * WIDTH, min((n + 1) * WIDTH, self._size)
        if until <= self._archived:
            leaves = self._published(n, WIDTH) or []
            if len(leaves) < WIDTH or root_of([leaf_hash(leaf) for leaf in leaves]) != self.tiles.root_of_full(n):
                name = self._files.folder / tile_path(_ENTRIES, n)
                raise EntryArchived(
                    f"entries {start} to {until - 1} were archived, and {name} is not what was published of them: bring them back with "
                    "`remediation journal archive --restore FILE`, and export again"
                )
            return leaves
        leaves = self._parts.leaves(start, until)
        if until - start == WIDTH and root_of([leaf_hash(leaf) for leaf in leaves]) != self.tiles.root_of_full(n):
            raise JournalDamaged(
                f"the journal's entries from {start} on don't lead to the root that was signed over {self._size} of them; "
                "run `remediation journal verify`"
            )
        return leaves

    def _published(self, n: int, width: int) -> list[bytes] | None:
        leaves = bundled_leaves(self._files.read(tile_path(_ENTRIES, n, width), _LARGEST_BUNDLE) or b"")
        return leaves if leaves is not None and len(leaves) == width else None

    @staticmethod
    def _hashes(leaves: Sequence[bytes]) -> bytes:
        return b"".join(map(leaf_hash, leaves))
