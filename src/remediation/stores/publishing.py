"""
Publishes a log as static files that anybody's tools read: C2SP tlog-tiles (c2sp.org/tlog-tiles).

``checkpoint``, ``tile/<level>/<n>`` and ``tile/entries/<n>``; the last tile of a level is partial (``.p/<width>``). Entries are leaves:
frames with the digests of their bodies, without the bodies, so that what is erased later was never published.

A folder is continued: only what the log gained is written, tiles first and the checkpoint last, each file whole or not there. So
whoever reads meanwhile sees the old log or the new one, and an interrupted run is made good by the next. Partial tiles of earlier
checkpoints stay, as the specification wants it for checkpoints that somebody may still go by.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from remediation.errors import ConfigurationError, JournalDamaged, JournalRolledBack
from remediation.proof import Checkpoint, Note, NoteError, TileMissing, TileWriter, entry_bundle, leaf_hash, tile_path
from remediation.proof.merkle import HASH_BYTES
from remediation.proof.tiles import WIDTH
from remediation.stores.exporting.records import Progress, told
from remediation.stores.parts import Parts

CHECKPOINT = "checkpoint"


def export_tiles(path: Path, note: str, folder: Path, *, progress: Progress | None = None) -> int:
    """
    Bring the published log in `folder` up to the signed head `note`; returns the number of entries that it gained.

    Guarantees: the checkpoint is written only if the entries written now and the tiles stored before lead to its root, and if the
    checkpoint that is there is of the same history. Non-guarantee: files that were published earlier are not read again.

    Args:
        path: ``journal.sqlite3``.
        note: A signed head of this log; one that may be known outside (see ``head.note``). Its signature is not checked here.
        folder: Where. It is made if it is missing; else it is empty, or holds an earlier export of this log.
        progress: Told how far it is.

    Raises:
        NoteError: `note` is malformed.
        ConfigurationError: `folder` holds something else, or another log.
        JournalRolledBack: `folder` knows of more entries than `note` is over.
        JournalDamaged: what is stored does not lead to the root of `note`, or not to that of the checkpoint in `folder`.
        JournalUnavailable: the database can't be reached.
        JournalTooNew: it was written by a newer release.
        OSError: a file can't be written; the checkpoint there still holds for the files that are there.

    """
    head = Checkpoint.parse(Note.parse(note).text)
    before = _published(folder, head)
    files = _Files(folder)
    with Parts(path) as parts:
        parts.require(head.size)
        tree = _Tree(parts, files, before.size)
        if tree.writer.root() != before.root:
            raise JournalDamaged(
                f"{folder} publishes another history of {head.origin}: the first {before.size} entries of the journal are not those that "
                "its checkpoint is over. Keep both: run `remediation journal verify`, and find out which one is genuine"
            )
        rows = parts.range(before.size, head.size)
        tree.extend(leaf or b"" for leaf, *_ in told(rows, before.size, head.size, progress))
        if tree.writer.root() != head.root:
            raise JournalDamaged(
                f"{path}: the entries don't lead to the root that was signed over {head.size} of them; run `remediation journal verify`"
            )
        tree.finish()
    files.settle()
    # Last, as a log that grows in public would: whoever sees it finds all that it covers.
    files.write(CHECKPOINT, note.encode())
    files.settle()
    return head.size - before.size


def _published(folder: Path, head: Checkpoint) -> Checkpoint:
    """What `folder` publishes already, made ready to be continued up to `head`."""
    nothing = Checkpoint(head.origin, 0, TileWriter().root())
    try:
        text = (folder / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        # An interrupted first run leaves tiles, which this one writes again.
        if any(path.name != "tile" and not path.name.startswith(f".{CHECKPOINT}.") for path in folder.iterdir()):
            raise ConfigurationError(
                f"{folder} holds other things than a published log: name a new folder, or one that was exported before"
            ) from None
        return nothing
    try:
        found = Checkpoint.parse(Note.parse(text).text)
    except NoteError as error:
        raise ConfigurationError(f"{folder / CHECKPOINT} is not the checkpoint of a log ({error}): name another folder") from error
    if found.origin != head.origin:
        raise ConfigurationError(f"{folder} publishes the log {found.origin}, not {head.origin}: name another folder")
    if found.size > head.size:
        raise JournalRolledBack(
            f"{folder} publishes {found.size} entries of {head.origin}, the journal has {head.size}: it was rolled back; "
            f"run `remediation journal verify --head {folder / CHECKPOINT}`"
        )
    return found


class _Files:
    """Writes files below a folder, and makes them durable together, which costs a fraction of doing it one by one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[str] = []

    def write(self, name: str, data: bytes) -> None:
        """Make `name` a file with this content; a reader sees all of it, or what was there before."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._written.append(name)

    def settle(self) -> None:
        """Return once all that was written survives a crash."""
        folders = {self._folder}
        for name in self._written:
            path = self._folder / name
            _sync(path)
            while (path := path.parent) not in folders:
                folders.add(path)
        for path in folders:
            _sync(path)
        self._written.clear()


class _Tree:
    """The tree from where the folder stands on, whose new tiles and bundles go to the folder."""

    def __init__(self, parts: Parts, files: _Files, size: int) -> None:
        self._files = files
        self._bundle = parts.leaves(size - size % WIDTH, size)
        self._edges: dict[int, tuple[int, bytes]] = {}
        try:
            self.writer = TileWriter.restore(size, parts.cached_tile, [leaf_hash(leaf) for leaf in self._bundle])
        except TileMissing as error:
            raise JournalDamaged(f"{error}; run `remediation journal verify`") from error

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Take in leaves; write what becomes full."""
        for leaf in leaves:
            self._bundle.append(leaf)
            for tile in self.writer.extend([leaf_hash(leaf)]):
                if tile.width == WIDTH:
                    self._files.write(tile_path(tile.level, tile.n), tile.data)
                    self._edges.pop(tile.level, None)
                else:
                    self._edges[tile.level] = (tile.n, tile.data)
            if len(self._bundle) == WIDTH:
                self._files.write(tile_path("entries", self.writer.size // WIDTH - 1), entry_bundle(self._bundle))
                self._bundle.clear()

    def finish(self) -> None:
        """Write what is not full: those of higher levels if they gained a hash, else they are there already."""
        n, bundle = self.writer.size // WIDTH, self._bundle
        if bundle:
            self._files.write(tile_path("entries", n, len(bundle)), entry_bundle(bundle))
            self._files.write(tile_path(0, n, len(bundle)), b"".join(map(leaf_hash, bundle)))
        for level, (number, data) in self._edges.items():
            self._files.write(tile_path(level, number, len(data) // HASH_BYTES), data)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
