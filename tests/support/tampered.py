"""A home's journal with everything that one can have, written from the proof's primitives alone, and its parts to be altered."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.sample_log import SampleLog

from remediation.proof import Leaf, TileWriter, Verification, leaf_hash
from remediation.proof.anchored import Anchored
from remediation.stores.auditing import verify_journal
from remediation.stores.sqlite import create

NAME = "journal.sqlite3"
TABLES = ("entry", "payload", "checkpoint", "tile", "erasure")


@dataclass
class TamperedHome:
    """A folder with the files of a home that a verifier reads."""

    folder: Path
    log: SampleLog

    @classmethod
    def write(cls, folder: Path, log: SampleLog, *, kept: tuple[int, ...] = (0,), wal: int = 0) -> "TamperedHome":
        """
        Store `log` in `folder`, with checkpoints of the sizes in `kept`, of its rotations and the newest one.

        Args:
            wal: How many of the newest entries are in the write-ahead log only, as a host leaves it that was killed.

        """
        folder.mkdir(parents=True)
        making = folder / "making"
        making.mkdir()
        create(making / NAME, note_over(log, 0))
        with contextlib.closing(sqlite3.connect(making / NAME, isolation_level=None)) as database:
            database.execute("PRAGMA wal_autocheckpoint = 0")
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            writer = TileWriter()
            first = log.size - wal
            for start, stop in ((0, first), (first, log.size)):
                if start == stop:
                    continue
                database.execute("BEGIN")
                for seq in range(start, stop):
                    leaf, (salt, body) = Leaf.parse(log.leaves[seq]), log.payloads[seq]
                    row = (seq, leaf.id, leaf.stream, leaf.stream_seq, leaf.type, leaf.time, log.leaves[seq])
                    database.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                    if body is not None:
                        database.execute("INSERT INTO payload VALUES (?, ?, ?)", (seq, salt, body))
                    elif "erasure" in tables:
                        (by,) = [
                            n
                            for n, (_, said) in enumerate(log.payloads)
                            if said and b'"reason":"asked for","seq":%d,' % seq in said
                        ]
                        database.execute("INSERT INTO erasure VALUES (?, ?)", (seq, by))
                tiles = writer.extend([leaf_hash(leaf) for leaf in log.leaves[start:stop]])
                database.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", [tuple(tile) for tile in tiles])
                sizes = {*kept, *log.rotated, stop}
                notes = {size: note_over(log, size) for size in sizes if start < size <= stop}
                database.executemany("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", notes.items())
                database.execute("COMMIT")
                if stop == first:
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for path in making.glob(f"{NAME}*"):
                # Not the index, which a crash makes worthless; an empty log beside it is as good as none.
                if not path.name.endswith("-shm") and path.stat().st_size:
                    shutil.copy(path, folder / path.name)
        shutil.rmtree(making)
        (folder / "head.note").write_text(log.checkpoint(), "utf-8")
        return cls(folder, log)

    @property
    def journal(self) -> Path:
        return self.folder / NAME

    @property
    def wal(self) -> Path:
        return self.folder / f"{NAME}-wal"

    def copy(self, folder: Path) -> "TamperedHome":
        """The same, to be altered; with a log of its own."""
        shutil.copytree(self.folder, folder)
        return TamperedHome(folder, self.log)

    def verify(
        self, *, vkeys: tuple[str, ...] = (), anchors: tuple[Anchored, ...] = (), head: str | None = None, min_size: int = 0
    ) -> Verification:
        """As `journal verify` does."""
        known = (self.folder / "head.note").read_text("utf-8")
        return verify_journal(
            self.journal,
            own=self.log.vkeys,
            vkeys=vkeys,
            anchors=anchors,
            head=head,
            known_head=known,
            min_size=min_size,
        )

    @contextlib.contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The database, for somebody who may write it and knows SQLite well."""
        with contextlib.closing(sqlite3.connect(self.journal, isolation_level=None)) as database:
            database.execute("PRAGMA writable_schema = ON")
            yield database

    def content(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything that is stored, as rows; text as bytes."""
        with contextlib.closing(sqlite3.connect(self.journal)) as database:
            database.text_factory = bytes
            there = {name.decode() for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            return {
                table: database.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES if table in there
            }


def note_over(log: SampleLog, size: int) -> str:
    """The checkpoint that the log signed over its first `size` entries."""
    epoch = sum(1 for rotated in log.rotated if rotated < size)
    return log.checkpoint(size, signers=log.signers[epoch : epoch + (2 if size in log.rotated else 1)])


def traces(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}
