"""Bringing archived entries back into the journal, from the files that they were moved to. See `remediation.bootstrap.archiving`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from remediation.bootstrap.archiving import ArchiveRefused
from remediation.journal import IntentJournal
from remediation.journal.store import Row
from remediation.proof import Frontier, Replay, TileWriter
from remediation.proof.chain import feed_archives
from remediation.proof.tiles import WIDTH, Tile
from remediation.settings import Home
from remediation.stores.blobs import FileBlobStore
from remediation.stores.parts import Parts


async def bring_back(home: Home, journal: IntentJournal, files: Sequence[Path]) -> int:
    """
    Put archived entries back into the journal; returns how many. The blobs beside the files are copied back, too.

    Needed when a later release can't read the state that was kept. Everything that was archived comes back, so all files are needed.

    Raises:
        ArchiveRefused: nothing was archived, or these are not the files; nothing was changed.
        JournalUnavailable: it could not be done; nothing was changed.

    """
    async with journal.alone() as store:
        base = await store.base()
        if base is None:
            raise ArchiveRefused("nothing was archived from this journal, so there is nothing to bring back")
        tree = _Keeping()
        replay = Replay(journal.origin, frontier=tree)
        kept: list[Row] = []
        with Parts(home.journal) as log:
            root = TileWriter.restore(base.size, log.tile, []).root()
        await asyncio.to_thread(feed_archives, replay, files, base.size, seen=lambda *row: kept.append(_row(*row)))
        if replay.problems.listed or replay.size != base.size or tree.root() != root:
            what = replay.problems.listed[0].message if replay.problems.listed else "they hold other entries"
            raise ArchiveRefused(f"these files don't hold the {base.size} entries that were archived: {what}")
        blobs = FileBlobStore(home.blobs)
        for folder in {file.absolute().parent / "blobs" for file in files}:
            for path in sorted(folder.glob("??/*")):
                await blobs.put_file(path)
        await store.restore(kept, [tile for tile in tree.tiles if not tile.level])
    return base.size


class _Keeping(Frontier):
    """A tree that keeps the tiles that become full."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = TileWriter()
        self.tiles: list[Tile] = []

    @property
    def size(self) -> int:
        return self._writer.size

    def extend(self, leaves: Iterable[bytes]) -> None:
        self.tiles += [tile for tile in self._writer.extend(leaves) if tile.width == WIDTH]

    def root(self) -> bytes:
        return self._writer.root()

    def copy(self) -> _Keeping:
        return self


def _row(leaf: bytes | None, salt: bytes | None, body: bytes | None) -> Row:
    # Parsed again after the replay judged it; until then it may be anything.
    with contextlib.suppress(ValueError, KeyError, TypeError):
        found = json.loads(leaf or b"")
        names = (found["seq"], found["id"], found["stream"], found["stream_seq"], found["type"], found["time"])
        return Row(*names, leaf or b"", salt, body)
    return Row(-1, "", "", -1, "", "", b"", None, None)
