"""A journal that is replayed in pieces, by several processes: the same result as from one reading, or none."""

import json
import sqlite3
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from tests.support.sample_log import ORIGIN, SampleLog, canonical

from remediation.proof import ProblemCode, Replay, TileWriter, Verification, leaf_hash
from remediation.stores import replaying, workers
from remediation.stores.auditing import verify_journal
from remediation.stores.replaying import PIECE
from remediation.stores.snapshot import Snapshot
from remediation.stores.sqlite import create

SIZE = 2 * PIECE + 700
"""Entries of the log."""
WATCH = (0, 1, 255, 256, 65_535, PIECE, PIECE + 1, PIECE + 256, 100_000, 2 * PIECE, SIZE - 1, SIZE, SIZE + 5)


@pytest.fixture(scope="module")
def sample() -> SampleLog:
    """A log of two pieces and a bit: bodies of the first erased by entries of both, a rotation, a name with an escape."""
    log = SampleLog()
    while log.size < SIZE:
        log.add(f"s/{log.size % 700}", note=log.size)
        if log.size == 500:
            log.erase(3)
        if log.size == 80_000:
            log.erase(7)
            log.rotate()
            log.add('ünï "quoted"', text='"ü"')
    return log


@pytest.fixture(scope="module")
def written(sample: SampleLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal that holds it."""
    path = tmp_path_factory.mktemp("long") / "journal.sqlite3"
    create(path, sample.checkpoint(0, signers=sample.signers[:1]))
    with closing(sqlite3.connect(path)) as connection:
        for leaf, salt, body, *columns in sample.table():
            connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", (*columns, leaf))
            if body is not None:
                connection.execute("INSERT INTO payload VALUES (?, ?, ?)", (columns[0], salt, body))
        for tile in TileWriter().extend([leaf_hash(leaf) for leaf in sample.leaves]):
            connection.execute("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", tuple(tile))
        erasures = [(json.loads(row[2])["seq"], row[3]) for row in sample.table() if row[7] == "payload.erased"]
        connection.executemany("INSERT INTO erasure VALUES (?, ?)", erasures)
        notes = [(size, sample.checkpoint(size)) for size in (sample.rotated[0], SIZE)]
        connection.executemany("INSERT INTO checkpoint VALUES (?, ?)", notes)
        connection.commit()
    return path


@pytest.fixture
def journal(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    copy = tmp_path / "journal.sqlite3"
    copy.write_bytes(written.read_bytes())
    return copy


def in_pieces(path: Path) -> Replay | None:
    """The replay by several processes."""
    with Snapshot(path) as log:
        return workers.replay_beside(log, log.size(), ORIGIN, WATCH)


def test_pieces_tell_what_one_reading_tells(written: Path) -> None:
    with Snapshot(written) as log:
        whole = replaying.replay(log, SIZE, ORIGIN, WATCH)
    joined = in_pieces(written)
    assert joined is not None
    assert not whole.problems.listed
    assert joined.roots == whole.roots
    assert set(WATCH) - {SIZE + 5} <= whole.roots.keys()
    assert (
        (joined.size, joined.erased, joined.rotations) == (whole.size, whole.erased, whole.rotations) == (SIZE, 2, whole.rotations)
    )
    assert len(whole.rotations) == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE entry SET time = '2000-01-01T00:00:00.000Z' WHERE seq = 70000", id="column"),
        pytest.param("UPDATE entry SET stream_seq = stream_seq + 1000000 WHERE seq = 70000", id="stream position"),
        pytest.param(
            "UPDATE entry SET leaf = CAST(replace(leaf, 'host:atlas', 'host:atlaz') AS BLOB) WHERE seq = 131300", id="leaf"
        ),
        pytest.param("UPDATE entry SET time = CAST(x'ff' AS TEXT) WHERE seq = 70000", id="a text that is no UTF-8"),
        pytest.param("UPDATE entry SET event_id = CAST(x'ff' AS TEXT) WHERE seq = 70000", id="an id that is no UTF-8"),
        pytest.param("INSERT INTO payload VALUES (1000000, x'00', x'00')", id="a body that belongs to nothing"),
        pytest.param("DELETE FROM erasure WHERE seq = 3", id="an erasure that the index does not know"),
        pytest.param("UPDATE payload SET body = x'7b7d' WHERE seq = 4", id="body"),
        pytest.param("DELETE FROM payload WHERE seq = 131500", id="body gone"),
        pytest.param("DELETE FROM payload WHERE seq = 9", id="body of the first piece gone"),
        pytest.param("DELETE FROM entry WHERE seq = 65536", id="first entry of a piece"),
        pytest.param("DELETE FROM entry WHERE seq = 65535", id="last entry of a piece"),
        pytest.param("UPDATE entry SET seq = -5 WHERE seq = 0", id="a number before the first"),
        pytest.param("UPDATE entry SET seq = seq + 1 WHERE seq = 131771", id="a number beyond the last"),
        pytest.param("UPDATE tile SET data = zeroblob(8192) WHERE level = 0 AND n = 300", id="tile of the leaves"),
        pytest.param("UPDATE tile SET data = zeroblob(8192) WHERE level = 1 AND n = 1", id="full tile above"),
        pytest.param("UPDATE tile SET data = zeroblob(64) WHERE level = 1 AND n = 2", id="last tile above"),
        pytest.param("UPDATE tile SET data = zeroblob(64) WHERE level = 2", id="tile of the pieces"),
        pytest.param("DELETE FROM tile WHERE level = 2", id="tile gone"),
        pytest.param("INSERT INTO tile VALUES (3, 0, zeroblob(32))", id="tile too many"),
    ],
)
def test_whatever_is_wrong_is_left_to_one_reading(journal: Path, change: str) -> None:
    with closing(sqlite3.connect(journal)) as connection:
        assert connection.execute(change).rowcount == 1
        connection.commit()
    assert in_pieces(journal) is None


@pytest.mark.parametrize("seq", [3, 7], ids=["erased in its own piece", "erased by an entry of a later one"])
def test_an_erased_body_that_was_put_back_is_left_to_one_reading_which_says_it(sample: SampleLog, journal: Path, seq: int) -> None:
    salt, body = sha256(b"salt %d" % seq).digest(), canonical({"v": 1, "note": seq})
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("INSERT INTO payload VALUES (?, ?, ?)", (seq, salt, body))
        connection.execute("DELETE FROM erasure WHERE seq = ?", (seq,))
        connection.commit()
    assert in_pieces(journal) is None
    found = {(problem.code, problem.seq) for problem in verdict(journal, sample).problems}
    assert found == {(ProblemCode.PAYLOAD, seq), (ProblemCode.STORAGE, None)}


def test_which_then_says_what(sample: SampleLog, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE entry SET time = '2000-01-01T00:00:00.000Z' WHERE seq IN (5, 70000)")
        connection.execute("UPDATE payload SET salt = zeroblob(32) WHERE seq = 131500")
        connection.execute("DELETE FROM payload WHERE seq = 9")
        connection.execute("UPDATE tile SET data = zeroblob(8192) WHERE level = 0 AND n = 300")
        connection.commit()
    found = verdict(journal, sample)
    monkeypatch.setattr(workers, "WORTH", SIZE + 2)
    assert found == verdict(journal, sample)
    assert {problem.code for problem in found.problems} == {
        ProblemCode.COLUMNS,
        ProblemCode.PAYLOAD,
        ProblemCode.PAYLOAD_MISSING,
        ProblemCode.STORAGE,
        ProblemCode.TILE,
    }


def verdict(path: Path, sample: SampleLog) -> Verification:
    return verify_journal(path, own=sample.vkeys)


def test_what_sqlite_finds_in_a_process_of_its_own_is_reported(sample: SampleLog, journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("INSERT INTO payload VALUES (1000000, x'00', x'00')")
        connection.commit()
    assert in_pieces(journal) is None
    assert [problem.message for problem in verdict(journal, sample).problems if problem.code is ProblemCode.STORAGE] == [
        "the database is damaged: 1 bodies belong to no entry"
    ]


def test_a_process_that_fails_costs_time_only(sample: SampleLog, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = verdict(written, sample)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert in_pieces(written) is None
    assert verdict(written, sample) == good
    assert good.ok
