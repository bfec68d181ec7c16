"""What verification finds without SQLite's look-ups: an index that does not list what the rows say is never taken for a sound one."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.sample_log import ORIGIN, SampleLog

from remediation.errors import RemediationError
from remediation.proof import Replay, TileWriter, leaf_hash
from remediation.stores.replaying import joined, part, settled
from remediation.stores.snapshot import Snapshot
from remediation.stores.sqlite import create

INDEXES = {
    "sqlite_autoindex_entry_1": "SELECT event_id FROM entry WHERE seq = 300",
    "sqlite_autoindex_entry_2": "SELECT stream FROM entry WHERE seq = 300",
    "entry_type_time": "SELECT time FROM entry WHERE seq = 300",
    "entry_correlation": "SELECT 'c0ffee'",
}
"""A text that each of them holds."""


def write(sample: SampleLog, path: Path) -> None:
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
        connection.commit()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal whose indexes all list something: erased bodies, a rotation, names that a leaf spells otherwise."""
    log = SampleLog()
    while log.size < 700:
        log.add(f"s/{log.size % 70}", ("note.made", "note.read")[log.size % 2], note=log.size)
        if log.size == 500:
            log.erase(3)
            log.rotate()
            log.add('ünï "quoted"', text='"ü"')
            log.add("incident/c0ffee", note=1)
            log.add("incident/c0ffee", note=2)
    path = tmp_path_factory.mktemp("indexes") / "journal.sqlite3"
    write(log, path)
    return path


@pytest.fixture
def journal(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    copy = tmp_path / "journal.sqlite3"
    copy.write_bytes(written.read_bytes())
    return copy


def quickly(path: Path) -> Replay | None:
    """The replay in pieces, by this process alone."""
    try:
        with Snapshot(path) as log:
            size = log.size()
            index, piece = settled(log, size), part(log, 0, size, ORIGIN, [])
            return joined(log, [piece], index, size, ORIGIN) if index is not None and piece is not None else None
    except RemediationError:
        return None


def by_sqlite(path: Path) -> list[str]:
    """What is found by looking each row up in each index."""
    try:
        with Snapshot(path) as log:
            return log.faults()
    except RemediationError as error:
        return [str(error)]


def pages(path: Path, name: str) -> list[int]:
    """Where in the file the pages of a table or index begin."""
    with closing(sqlite3.connect(path)) as connection:
        return [(page - 1) * 4096 for (page,) in connection.execute("SELECT pageno FROM dbstat WHERE name = ?", (name,))]


def test_a_sound_journal_is_found_sound(written: Path) -> None:
    assert by_sqlite(written) == []
    assert quickly(written) is not None


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_with_another_text_than_its_row_is_found(journal: Path, name: str) -> None:
    with closing(sqlite3.connect(journal)) as connection:
        (text,) = connection.execute(INDEXES[name]).fetchone()
    data, old = bytearray(journal.read_bytes()), text.encode()
    at = next(found for page in pages(journal, name) if (found := data.find(old, page, page + 4096)) >= 0) + len(old) - 1
    data[at] ^= 1
    journal.write_bytes(data)
    assert quickly(journal) is None
    assert by_sqlite(journal)


@pytest.mark.parametrize("name", ["entry_type_time", "entry_correlation", "rotation"])
@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO entry SELECT seq + 1, 'added', 'added', 0, type, time, leaf FROM entry WHERE seq = (SELECT max(seq) FROM entry)",
        "DELETE FROM entry WHERE seq = 503",
        "UPDATE entry SET type = 'key.rotated' WHERE seq = 9",
        "UPDATE entry SET type = 'note.made' WHERE type = 'key.rotated'",
        "UPDATE entry SET stream = 'incident/c0ffee', stream_seq = 7 WHERE seq = 9",
        "UPDATE entry SET time = '2000-01-01T00:00:00.000Z' WHERE seq = 9",
    ],
)
def test_an_index_that_missed_a_change_of_the_table_and_back_is_found(journal: Path, name: str, change: str) -> None:
    """The index follows the change, the table is what it was: nothing but the index tells of it."""
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        before = connection.execute("SELECT * FROM entry").fetchall()
        connection.execute(change)
        (row,) = connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = ?", (name,))
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (name,))
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM entry")
        connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", before)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        connection.execute("COMMIT")
    wrong = by_sqlite(journal)
    assert (quickly(journal) is None) == bool(wrong)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_change_of_bytes_in_an_index_passes_that_sqlite_finds(written: Path, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*INDEXES, "rotation"]))
    page = data.draw(st.sampled_from(pages(written, name)))
    spoiled = bytearray(written.read_bytes())
    # Near the beginning of a page are the pointers to its cells, at its end the cells themselves.
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 200), st.integers(0, 4095)))
        spoiled[page + at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "spoiled.sqlite3"
    path.write_bytes(spoiled)
    if quickly(path) is not None:
        assert by_sqlite(path) == []
