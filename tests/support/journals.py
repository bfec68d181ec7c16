"""Real journals in real homes, and an auditor that believes nothing but the bytes that are stored."""

import asyncio
import contextlib
import hashlib
import hmac
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remediation.bootstrap import initialise
from remediation.bootstrap.keys import open_keys
from remediation.journal import IntentJournal
from remediation.journal.head import HeadNote
from remediation.journal.lock import WriterLock
from remediation.journal.tree import SignedTree
from remediation.model.entries import Entry, PauseEnded, Record
from remediation.ports.clock import Clock, SystemClock
from remediation.ports.journal import Fold
from remediation.proof import Checkpoint, Claims, Knowledge, Note, Replay, claimed_size, judge, leaf_hash, node_hash, root_of
from remediation.settings import Home, Settings
from remediation.stores.sqlite import SqliteJournalStore

DEADLINE = 30.0


def make_home(folder: Path, host: str = "atlas") -> Home:
    """An initialised home in `folder`."""
    settings = home_settings(folder, host)
    initialise(settings)
    return settings.home


def home_settings(folder: Path, host: str = "atlas") -> Settings:
    return Settings(base=folder, host={"id": host, "home": folder / "home"}, keys={"dir": folder / "keys"})


def said(text: object, **more: Any) -> PauseEnded:
    """An entry that says something and means nothing."""
    return PauseEnded(by="somebody", reason=str(text), **more)


def texts(records: Sequence[Record]) -> list[str]:
    """What the entries of `said` say."""
    return [record.entry.reason for record in records if isinstance(record.entry, PauseEnded)]


@dataclass
class Seen:
    """A fold that remembers every entry, and complains when one is missing or comes twice."""

    records: list[Record] = field(default_factory=list)
    resets: int = 0

    def apply(self, record: Record) -> None:
        assert record.seq == len(self.records)
        self.records.append(record)

    def reset(self) -> None:
        self.records = []
        self.resets += 1

    def loaded(self) -> None:
        pass


def parts_of(home: Home) -> tuple[SignedTree, HeadNote]:
    """The tree and the head of a home, as its host opens them."""
    head = HeadNote(home.head_note)
    origin = Checkpoint.parse(Note.parse(head.read()).text).origin
    return SignedTree(origin, open_keys(home).load), head


async def open_with(home: Home, *folds: Fold, clock: Clock | None = None, store: SqliteJournalStore | None = None) -> IntentJournal:
    """The journal with these folds; the caller closes it."""
    tree, head = parts_of(home)
    return await IntentJournal.open(
        store or SqliteJournalStore(home.journal),
        tree,
        WriterLock(home.journal_lock),
        head,
        clock or SystemClock(),
        actor="tester",
        folds=folds,
    )


@contextlib.asynccontextmanager
async def opened(home: Home, *folds: Fold, clock: Clock | None = None) -> AsyncIterator[IntentJournal]:
    """The journal with these folds, closed at the end."""
    journal = await open_with(home, *folds, clock=clock)
    try:
        yield journal
    finally:
        await journal.close()


async def until(condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Wait until a condition holds; fail when it doesn't in time."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass(frozen=True)
class Stored:
    """One entry as it lies in the database."""

    seq: int
    id: str
    stream: str
    stream_seq: int
    type: str
    time: str
    leaf: bytes
    salt: bytes | None
    body: bytes | None


_ROWS = """
SELECT e.seq, e.event_id, e.stream, e.stream_seq, e.type, e.time, e.leaf, p.salt, p.body
FROM entry e LEFT JOIN payload p USING (seq) ORDER BY e.seq
"""


def audit(home: Home) -> list[Stored]:
    """
    Everything that is stored, after it was proved from its bytes: entries, gaps, bodies, tree, tiles, every checkpoint, head.note.

    Trees and tiles are computed here by their definitions, beside what `remediation.proof` says.
    """
    with contextlib.closing(sqlite3.connect(f"{home.journal.as_uri()}?mode=rw", uri=True, isolation_level=None)) as database:
        database.execute("BEGIN")
        rows = [Stored(*row) for row in database.execute(_ROWS)]
        notes = database.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall()
        tiles = {(level, n): data for level, n, data in database.execute("SELECT level, n, data FROM tile")}
        orphans = database.execute("SELECT count(*) FROM payload WHERE seq NOT IN (SELECT seq FROM entry)").fetchone()[0]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.execute("ROLLBACK")
        head = home.head_note.read_text("utf-8")
    assert orphans == 0
    assert [row.seq for row in rows] == list(range(len(rows)))
    streams: dict[str, int] = {}
    for row in rows:
        assert row.stream_seq == streams.get(row.stream, 0), f"a gap in {row.stream}"
        streams[row.stream] = row.stream_seq + 1
        if row.body is not None and row.salt is not None:
            assert hmac.new(row.salt, row.body, hashlib.sha256).hexdigest().encode() in row.leaf
    hashes = [leaf_hash(row.leaf) for row in rows]
    assert tiles == naive_tiles(hashes)
    vkey = home.verifier_keys.read_text("ascii").strip()
    replay = Replay(vkey.partition("+")[0], watch=[*(size for size, _ in notes), claimed_size(head)])
    replay.feed((row.leaf, row.salt, row.body, row.seq, row.id, row.stream, row.stream_seq, row.type, row.time) for row in rows)
    replay.close()
    assert [claimed_size(note) for _, note in notes] == [size for size, _ in notes]
    earlier = (*(note for _, note in notes[:-1]), head)
    verdict = judge(replay, Claims((vkey,), notes[-1][1], (), earlier), Knowledge(min_size=claimed_size(head)))
    assert verdict.ok, verdict.problems
    assert verdict.size == verdict.proven == len(rows)
    assert replay.roots[len(rows)] == root_of(hashes)
    return rows


def naive_tiles(hashes: list[bytes]) -> dict[tuple[int, int], bytes]:
    """The tiles that are stored of a tree with these leaf hashes, by their definition (C2SP tlog-tiles, "Merkle Tree")."""
    tiles = {}
    level = 0
    while hashes:
        for n in range(-(-len(hashes) // 256)):
            some = hashes[n * 256 : n * 256 + 256]
            if level > 0 or len(some) == 256:
                tiles[level, n] = b"".join(some)
        hashes = [_perfect(hashes[start : start + 256]) for start in range(0, len(hashes) - 255, 256)]
        level += 1
    return tiles


def _perfect(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


def head_size(home: Home) -> int:
    """The size that `head.note` states."""
    return claimed_size(home.head_note.read_text("utf-8"))


def checkpoint_sizes(home: Home) -> list[int]:
    """The sizes of the stored checkpoints."""
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        return [size for (size,) in database.execute("SELECT size FROM checkpoint ORDER BY size")]


def entries_of(*values: object) -> list[Entry]:
    """Some entries of `said`."""
    return [said(value) for value in values]


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: a write that would is cut short, or fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
