"""A journal with very many entries in seconds: real, signed rows, put into the database past the journal's front door."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from remediation import DegradationEvent, Settings
from remediation.bootstrap import initialise
from remediation.journal.head import HeadNote
from remediation.keys import SigningKey
from remediation.model.base import timestamp
from remediation.model.entries import DegradationReported, Entry, IncidentOpened, IncidentSettled
from remediation.model.events import Provenance, fingerprint
from remediation.proof import Checkpoint, Leaf, TileWriter, leaf_hash, payload_digest
from remediation.settings import Home

_BATCH = 4096
_BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
_SUBJECTS = 1000


def make(folder: Path, entries: int) -> Settings:
    """A home in `folder` whose journal has exactly `entries` entries."""
    settings = Settings(base=folder, host={"id": "bench", "home": folder / "home"}, keys={"dir": folder / "keys"})
    initialise(settings)
    # So that commands find the keys, too.
    settings.home.config.write_text(f'[host]\nid = "bench"\n[keys]\ndir = "{folder / "keys"}"\n')
    fill(settings.home, entries)
    return settings


def fill(home: Home, entries: int) -> None:
    """Bring the fresh journal of `home` to `entries` entries, with tiles and signed head."""
    head = HeadNote(home.head_note)
    origin = head.origin()
    signer = SigningKey.load(home.signing_key).signer(origin)
    tree = TileWriter()
    rows = _rows(origin, entries)
    with contextlib.closing(sqlite3.connect(home.journal, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        while batch := list(islice(rows, _BATCH)):
            database.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", (row[:7] for row in batch))
            database.executemany("INSERT INTO payload VALUES (?, ?, ?)", ((row[0], row[7], row[8]) for row in batch))
            tiles = tree.extend([leaf_hash(row[6]) for row in batch])
            database.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", tiles)
        note = Checkpoint(origin, tree.size, tree.root()).sign([signer])
        database.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (tree.size, note))
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    head.advance(note)


_Row = tuple[int, str, str, int, str, str, bytes, bytes, bytes]


def _rows(origin: str, number: int) -> Iterator[_Row]:
    stories = [_story(subject) for subject in range(_SUBJECTS)]
    for seq in range(number):
        part, subject, round_ = seq % 3, seq // 3 % _SUBJECTS, seq // (3 * _SUBJECTS)
        finger, story = stories[subject]
        type_, body = story[part]
        digest = hashlib.sha256(b"%d" % seq).digest()
        time = timestamp(_BEGIN + timedelta(milliseconds=seq * 700))
        stream = f"incident/{finger}/{round_:012x}"
        id_, correlation = digest.hex()[:32], f"{finger}-{round_:012x}"
        frame = Leaf(origin, seq, id_, stream, part, type_, time, "key:0123abcd", None, correlation, payload_digest(digest, body))
        yield seq, id_, stream, part, type_, time, frame.encode(), digest, body


def _story(subject: int) -> tuple[str, list[tuple[str, bytes]]]:
    event = DegradationEvent(
        code="OLD",
        subsystem="bench",
        subject=f"subject {subject}",
        summary="it was slow for a while, and nobody knows why",
        evidence={"latency_ms": 1800, "path": f"/srv/app/{subject}"},
    )
    finger = fingerprint("OLD", "bench", event.subject)
    entries: list[Entry] = [
        DegradationReported(event=event, provenance=Provenance.NATIVE),
        IncidentOpened(fingerprint=finger, severity=event.severity, ladder=("restart-job", "stale-lock-file")),
        IncidentSettled(status="resolved", reason="the reporter no longer sees it"),
    ]
    return finger, [(entry.type, entry.body()) for entry in entries]
