"""
Publishes a log as static files that anybody's tools read: C2SP tlog-tiles (c2sp.org/tlog-tiles).

``checkpoint``, ``tile/<level>/<n>`` and ``tile/entries/<n>``; the last tile of a level is partial (``.p/<width>``). Entries are leaves:
frames with the digests of their bodies, without the bodies, so that what is erased later was never published.
"""

from __future__ import annotations

from pathlib import Path

from remediation.errors import JournalDamaged
from remediation.proof import TileWriter, claimed_size, leaf_hash, tile_path, width_of
from remediation.proof.tiles import WIDTH
from remediation.stores.snapshot import Snapshot


def export_tiles(path: Path, note: str, folder: Path) -> int:
    """
    Write the log up to the signed head `note` below `folder`, which exists and is empty; returns the number of entries.

    Args:
        path: ``journal.sqlite3``.
        note: A signed head of this log; one that may be known outside (see ``head.note``).
        folder: Where.

    Raises:
        NoteError: `note` is malformed.
        JournalDamaged: the database can't be read to its end, or holds fewer entries than `note` is over.
        JournalUnavailable: it can't be reached.
        OSError: a file can't be written.

    """
    size = claimed_size(note)
    writer = TileWriter()
    bundle: list[bytes] = []
    edges: dict[int, tuple[int, bytes]] = {}
    with Snapshot(path) as log:
        if log.size() < size:
            raise JournalDamaged(
                f"{path} holds {log.size()} entries, its signed head is over {size}; run `remediation journal verify`"
            )
        for leaf, *_ in log.rows(size):
            bundle.append(leaf or b"")
            for tile in writer.extend([leaf_hash(bundle[-1])]):
                if tile.width == WIDTH:
                    _write(folder, tile_path(tile.level, tile.n), tile.data)
                    edges.pop(tile.level, None)
                else:
                    edges[tile.level] = (tile.n, tile.data)
            if len(bundle) == WIDTH:
                _write(folder, tile_path("entries", writer.size // WIDTH - 1), _bundled(bundle))
                bundle.clear()
    if bundle:
        n = size // WIDTH
        _write(folder, tile_path("entries", n, len(bundle)), _bundled(bundle))
        _write(folder, tile_path(0, n, len(bundle)), b"".join(map(leaf_hash, bundle)))
    for level, (n, data) in edges.items():
        _write(folder, tile_path(level, n, width_of(level, n, size)), data)
    # Last, as a log that grows in public would: whoever sees it finds all that it covers.
    _write(folder, "checkpoint", note.encode())
    return size


def _bundled(leaves: list[bytes]) -> bytes:
    """An entry bundle: each entry after its length in two bytes, big-endian (tlog-tiles, "Log Entries")."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def _write(folder: Path, name: str, data: bytes) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
