"""No change of a home's journal passes: every row, column, note, tile, table, byte, file; and looking at it changes nothing."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.sample_log import SampleLog, new_signer
from tests.support.tampered import TABLES, TamperedHome, note_over, traces

from remediation.errors import JournalDamaged, JournalError, JournalTooNew, JournalUnavailable
from remediation.proof import ProblemCode, ProblemKind, Verification
from remediation.proof.anchored import Anchored
from remediation.stores.auditing import verify_journal

FLIPS = 300
"""Bytes that are changed one at a time, of the database and of its write-ahead log each."""
TAMPERING, ROLLED_BACK, INCOMPLETE = ProblemKind.TAMPERING, ProblemKind.ROLLED_BACK, ProblemKind.INCOMPLETE


def sample() -> SampleLog:
    """Several streams, two erased bodies, a key rotation, more than one tile, entries by both keys."""
    log = SampleLog.of(270)
    log.add('stream "quoted" ü', text="escapes \\ and \x01 controls")
    log.erase(5)
    log.rotate()
    for number in range(8):
        log.add(note=f"by the new key {number}")
    log.erase(275)
    for number in range(25):
        log.add(note=f"later {number}")
    return log


LOG = sample()
SIZE = LOG.size
KEPT = (0, 100, 290)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> TamperedHome:
    return TamperedHome.write(tmp_path_factory.mktemp("original") / "home", LOG, kept=KEPT)


@pytest.fixture(scope="session")
def unclosed(tmp_path_factory: pytest.TempPathFactory) -> TamperedHome:
    """As a host leaves it that was killed: the newest 20 entries are in the write-ahead log only."""
    return TamperedHome.write(tmp_path_factory.mktemp("unclosed") / "home", LOG, kept=KEPT, wal=20)


@pytest.fixture
def home(original: TamperedHome, tmp_path: Path) -> TamperedHome:
    return original.copy(tmp_path / "home")


def kinds(result: Verification) -> set[ProblemKind]:
    return {problem.kind for problem in result.problems}


def verdict(home: TamperedHome) -> Verification | JournalError:
    """What `journal verify` finds; that the database can't even be read is an answer too."""
    before = traces(home.folder)
    try:
        return home.verify()
    except JournalError as error:
        return error
    finally:
        assert traces(home.folder) == before, "looking at it changed it"


def refused(home: TamperedHome, kind: ProblemKind = TAMPERING, code: ProblemCode | None = None) -> Verification:
    result = verdict(home)
    assert isinstance(result, Verification), result
    assert not result.ok
    assert result.worst is kind, [problem.message for problem in result.problems]
    if code is not None:
        assert code in {problem.code for problem in result.problems}, result.problems
    assert result.proven <= result.signed <= SIZE
    return result


@pytest.mark.parametrize("which", ["original", "unclosed"])
def test_the_unchanged_home_passes_and_stays_as_it_is(which: str, request: pytest.FixtureRequest) -> None:
    home = request.getfixturevalue(which)
    before = traces(home.folder)
    for _ in range(2):
        result = home.verify()
        assert result.ok, result.problems
        assert (result.size, result.proven, result.signed, result.erased) == (SIZE, SIZE, SIZE, 2)
    assert traces(home.folder) == before


COLUMNS = {
    "seq": ["seq + 100000", "-1", "seq + 1000"],
    "event_id": ["event_id || ' '", "''", "upper(event_id) || 'X'", "CAST(x'ff' AS TEXT)", "'' || seq"],
    "stream": ["stream || ' '", "'incident/other'", "CAST(x'ff' AS TEXT)", "stream || char(0)"],
    "stream_seq": ["stream_seq + 1000", "-1", "9007199254740993"],
    "type": ["'note.other'", "upper(type)", "''", "'payload.erased'", "type || char(0)"],
    "time": ["'2020-01-01T00:00:00.000Z'", "replace(time, 'Z', '+00:00')", "''"],
    "leaf": [
        "x''",
        "x'00'",
        "CAST(leaf || x'20' AS BLOB)",
        "CAST(x'efbbbf' || leaf AS BLOB)",
        "CAST(replace(CAST(leaf AS TEXT), 'host:', 'hosu:') AS BLOB)",
    ],
}


@pytest.mark.parametrize("seq", [0, 7, 255, 256, 272, SIZE - 1])
@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in COLUMNS.items() for value in values])
def test_no_changed_column_of_an_entry_passes(home: TamperedHome, seq: int, column: str, value: str) -> None:
    with home.opened() as database:
        assert database.execute(f"UPDATE entry SET {column} = {value} WHERE seq = ?", (seq,)).rowcount == 1
    result = refused(home)
    assert not result.consistent
    if column != "leaf" or value != COLUMNS["leaf"][-1]:
        assert result.proven <= seq


@pytest.mark.parametrize("seq", [0, 7, 272, SIZE - 1])
@pytest.mark.parametrize(
    "change",
    [
        "SET body = CAST(body || x'20' AS BLOB)",
        "SET body = x'7b7d'",
        "SET body = x''",
        "SET body = CAST(replace(CAST(body AS TEXT), ':', ': ') AS BLOB)",
        "SET salt = zeroblob(32)",
        "SET salt = CAST(salt || x'00' AS BLOB)",
        "SET salt = substr(salt, 1, 31)",
        "SET salt = x''",
        "SET salt = (SELECT salt FROM payload WHERE seq = 9), body = (SELECT body FROM payload WHERE seq = 9)",
    ],
)
def test_no_changed_body_passes(home: TamperedHome, seq: int, change: str) -> None:
    with home.opened() as database:
        assert database.execute(f"UPDATE payload {change} WHERE seq = ?", (seq,)).rowcount == 1
    # Without the entry that rotates the key nothing says whose the later signatures are.
    assert refused(home, code=ProblemCode.PAYLOAD).proven == (0 if seq == LOG.rotated[0] - 1 else seq)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("DELETE FROM payload WHERE seq = 9", ProblemCode.PAYLOAD_MISSING),
        ("DELETE FROM payload", ProblemCode.PAYLOAD_MISSING),
        ("DELETE FROM payload WHERE seq IN (SELECT seq FROM entry WHERE type = 'payload.erased')", ProblemCode.PAYLOAD_MISSING),
        ("DELETE FROM payload WHERE seq IN (SELECT seq FROM entry WHERE type = 'key.rotated')", ProblemCode.PAYLOAD_MISSING),
        ("INSERT INTO payload VALUES (5, zeroblob(32), x'7b7d')", ProblemCode.PAYLOAD),
        ("INSERT INTO payload SELECT 5, salt, body FROM payload WHERE seq = 6", ProblemCode.PAYLOAD),
        ("INSERT INTO payload VALUES (5000, zeroblob(32), x'7b7d')", ProblemCode.STORAGE),
        ("INSERT INTO payload VALUES (-1, zeroblob(32), x'7b7d')", ProblemCode.STORAGE),
        ("DELETE FROM erasure WHERE seq = 5", ProblemCode.STORAGE),
        ("UPDATE erasure SET by = 3 WHERE seq = 5", ProblemCode.STORAGE),
        ("UPDATE erasure SET seq = 6 WHERE seq = 5", ProblemCode.STORAGE),
        ("INSERT INTO erasure SELECT 7, by FROM erasure WHERE seq = 5", ProblemCode.STORAGE),
        ("INSERT INTO archived_stream VALUES ('host/atlas-1', 5000)", ProblemCode.STORAGE),
        ("DELETE FROM entry WHERE seq = 0", ProblemCode.SEQUENCE),
        ("DELETE FROM entry WHERE seq = 17", ProblemCode.SEQUENCE),
        ("DELETE FROM entry WHERE seq BETWEEN 10 AND 265", ProblemCode.SEQUENCE),
        ("DELETE FROM entry", ProblemCode.KEYS),
        ("DELETE FROM tile", ProblemCode.TILE),
        ("DELETE FROM tile WHERE level = 1", ProblemCode.TILE),
        ("UPDATE tile SET data = zeroblob(length(data)) WHERE level = 0", ProblemCode.TILE),
        ("UPDATE tile SET data = CAST(data || x'00' AS BLOB) WHERE level = 1", ProblemCode.TILE),
        ("UPDATE tile SET n = 1 WHERE level = 0", ProblemCode.TILE),
        ("UPDATE tile SET level = 7 WHERE level = 1", ProblemCode.TILE),
        ("INSERT INTO tile VALUES (0, 1, x'00')", ProblemCode.TILE),
        ("INSERT INTO tile SELECT 3, 3, data FROM tile WHERE level = 0", ProblemCode.TILE),
        ("DELETE FROM checkpoint WHERE size = 273", ProblemCode.KEYS),
        (f"DELETE FROM checkpoint WHERE size = {SIZE}", ProblemCode.CHECKPOINT),
        ("UPDATE checkpoint SET note = replace(note, char(10), char(13))", ProblemCode.CHECKPOINT),
        ("UPDATE checkpoint SET note = note || char(10) WHERE size = 100", ProblemCode.CHECKPOINT),
        ("UPDATE checkpoint SET note = '' WHERE size = 0", ProblemCode.CHECKPOINT),
        ("UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 100) WHERE size = 290", ProblemCode.CHECKPOINT),
        ("INSERT INTO checkpoint SELECT 12, note FROM checkpoint WHERE size = 100", ProblemCode.CHECKPOINT),
        ("INSERT INTO checkpoint SELECT 999, note FROM checkpoint WHERE size = 100", ProblemCode.CHECKPOINT),
        ("INSERT INTO checkpoint VALUES (999, 'nonsense')", ProblemCode.CHECKPOINT),
        (f"UPDATE checkpoint SET size = 1000 WHERE size = {SIZE}", ProblemCode.CHECKPOINT),
        ("CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM payload; END", ProblemCode.STORAGE),
        ("CREATE VIEW v AS SELECT 1", ProblemCode.STORAGE),
        ("CREATE TABLE more (a INTEGER) STRICT", ProblemCode.STORAGE),
        ("CREATE INDEX more ON entry (time)", ProblemCode.STORAGE),
        ("ANALYZE", ProblemCode.STORAGE),
        ("ALTER TABLE entry ADD COLUMN more TEXT", ProblemCode.STORAGE),
        ("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'payload'", ProblemCode.STORAGE),
        ("UPDATE sqlite_schema SET sql = replace(sql, 'BLOB NOT NULL', 'BLOB') WHERE name = 'payload'", ProblemCode.STORAGE),
    ],
)
def test_no_change_of_a_table_passes(home: TamperedHome, sql: str, code: ProblemCode) -> None:
    if "273" in sql:
        assert LOG.rotated == [273]
    with home.opened() as database:
        assert database.execute(sql).rowcount != 0
    refused(home, code=code)


@pytest.mark.parametrize("how", ["the body alone", "and what tells of it", "what tells of it alone"])
def test_no_erased_body_that_is_put_back_passes(home: TamperedHome, how: str) -> None:
    salt, body = SampleLog.of(6).payloads[5]
    with home.opened() as database:
        if "body" in how or how.startswith("and"):
            database.execute("INSERT INTO payload VALUES (5, ?, ?)", (salt, body))
        if "tells" in how:
            database.execute("DELETE FROM erasure WHERE seq = 5")
    refused(home, code=ProblemCode.STORAGE if how.endswith("alone") else ProblemCode.PAYLOAD)


@pytest.mark.parametrize("table", ["payload", "checkpoint", "tile", "erasure"])
def test_a_table_that_is_gone_or_a_view_in_its_place_does_not_pass(home: TamperedHome, table: str) -> None:
    with home.opened() as database:
        database.execute(f"ALTER TABLE {table} RENAME TO hidden")
    assert isinstance(verdict(home), JournalDamaged)
    with home.opened() as database:
        database.execute(f"CREATE VIEW {table} AS SELECT * FROM hidden")
    result = verdict(home)
    assert isinstance(result, JournalDamaged) or not result.ok


def test_no_checkpoint_at_all_is_incomplete_but_no_entry_is_proven(home: TamperedHome) -> None:
    with home.opened() as database:
        database.execute("DELETE FROM checkpoint")
    result = refused(home)  # the rotation's is gone too
    assert {ProblemCode.NO_CHECKPOINT, ProblemCode.KEYS} <= {problem.code for problem in result.problems}


@pytest.mark.parametrize(("first", "second"), [(0, 1), (5, 6), (254, 256), (272, 273), (SIZE - 2, SIZE - 1)])
@pytest.mark.parametrize("tables", [("entry",), ("payload",), ("entry", "payload")])
def test_no_two_rows_that_changed_places_pass(home: TamperedHome, first: int, second: int, tables: tuple[str, ...]) -> None:
    with home.opened() as database:
        for table in tables:
            for old, new in ((first, 99999), (second, first), (99999, second)):
                database.execute(f"UPDATE {table} SET seq = ? WHERE seq = ?", (new, old))
    refused(home)


@pytest.mark.parametrize("seq", [0, 100, SIZE - 1])
def test_no_entry_that_stands_there_twice_passes(home: TamperedHome, seq: int) -> None:
    with home.opened() as database:
        columns = "event_id || 'x', stream, (SELECT max(stream_seq) + 1 FROM entry), type, time, leaf"
        database.execute(f"INSERT INTO entry SELECT {SIZE}, {columns} FROM entry WHERE seq = ?", (seq,))
        database.execute(f"INSERT INTO payload SELECT {SIZE}, salt, body FROM payload WHERE seq = ?", (seq,))
    refused(home, code=ProblemCode.SEQUENCE)


@pytest.mark.parametrize("size", [0, 1, 100, 256, 272, 273, 290, SIZE - 1])
@pytest.mark.parametrize("how", ["entries", "with what belongs to them"])
def test_no_shortened_log_passes(home: TamperedHome, tmp_path: Path, size: int, how: str) -> None:
    """Entries alone: its notes tell. With tiles and notes, as they were when the log was so long: head.note tells."""
    if how == "entries":
        with home.opened() as database:
            for table in ("entry", "payload"):
                database.execute(f"DELETE FROM {table} WHERE seq >= ?", (size,))
        refused(home)
        return
    older = SampleLog(signers=LOG.signers)
    older.leaves, older.payloads = LOG.leaves[:size], LOG.payloads[:size]
    if size < 272:
        older.payloads[5:6] = [(b"", b"")] if size > 5 else []
    rolled_back = size >= 273
    older.rotated, older.rotations = (LOG.rotated, LOG.rotations) if rolled_back else ([], [])
    if not rolled_back:
        older.signers = LOG.signers[:1]
        older.payloads = [(SampleLog.of(6).payloads[5] if seq == 5 else pair) for seq, pair in enumerate(older.payloads)]
    made = TamperedHome.write(tmp_path / "older", older, kept=tuple(kept for kept in KEPT if kept <= size))
    (made.folder / "head.note").write_text(note_over(LOG, SIZE))
    made.log = LOG if rolled_back else older
    result = verdict(made)
    assert isinstance(result, Verification)
    assert not result.ok
    if rolled_back:
        assert kinds(result) == {ROLLED_BACK}, result.problems
        assert result.consistent
        assert result.proven == size
        (made.folder / "head.note").write_text(note_over(LOG, size))
        assert made.verify().ok, "alone, it is a genuine older state"
        assert kinds(made.verify(min_size=SIZE)) == {ROLLED_BACK}
        assert kinds(made.verify(head=note_over(LOG, SIZE))) == {ROLLED_BACK}
        assert kinds(made.verify(anchors=(Anchored("elsewhere", (note_over(LOG, SIZE),)),))) == {ROLLED_BACK}


@pytest.mark.parametrize(
    ("pragma", "kind"),
    [
        ("application_id = 0", JournalDamaged),
        ("application_id = 1", JournalDamaged),
        ("user_version = 0", JournalDamaged),
        ("user_version = -1", JournalDamaged),
        ("user_version = 2", JournalTooNew),
    ],
)
def test_another_format_does_not_pass(home: TamperedHome, pragma: str, kind: type[JournalError]) -> None:
    with home.opened() as database:
        database.execute(f"PRAGMA {pragma}")
    assert isinstance(verdict(home), kind)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", JournalDamaged),
        (b"\0" * 8192, JournalDamaged),
        (random.Random(1).randbytes(50_000), JournalDamaged),
        (b"SQLite format 3\0" + b"\xff" * 5000, JournalDamaged),
    ],
)
def test_a_file_that_is_no_journal_does_not_pass(home: TamperedHome, content: bytes, kind: type[JournalError]) -> None:
    home.journal.write_bytes(content)
    assert isinstance(verdict(home), kind)


def test_a_folder_or_nothing_in_its_place_does_not_pass(home: TamperedHome) -> None:
    home.journal.unlink()
    assert isinstance(verdict(home), JournalUnavailable)
    home.journal.mkdir()
    assert isinstance(verdict(home), JournalUnavailable)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.999])
def test_no_cut_database_passes(home: TamperedHome, original: TamperedHome, tmp_path: Path, part: float) -> None:
    data = home.journal.read_bytes()
    home.journal.write_bytes(data[: int(len(data) * part)])
    result = verdict(home)
    if part < 0.99:
        assert isinstance(result, JournalDamaged) or result.worst is TAMPERING
    else:  # what is gone may be unused
        assert isinstance(result, JournalDamaged) or not result.ok or not changed_anything(home, original, tmp_path)


def test_a_foreign_journal_does_not_pass(home: TamperedHome, tmp_path: Path) -> None:
    foreign = SampleLog(origin="hera/remediation/00")
    foreign.add(note="x")
    made = TamperedHome.write(tmp_path / "foreign", foreign)
    assert made.verify().ok
    shutil.copy(made.journal, home.journal)
    assert refused(home).proven == 0


def flips(path: Path, number: int, seed: int) -> list[tuple[int, int]]:
    """Places and bits, all parts of the file alike, and the header, which says how to read them."""
    size, source = path.stat().st_size, random.Random(seed)
    places = [*range(0, 100, 3), *(source.randrange(size) for _ in range(number - 34))]
    return [(at, 1 << source.randrange(8)) for at in places]


def changed_anything(home: TamperedHome, original: TamperedHome, tmp_path: Path) -> bool:
    """Whether another content is read, by plain SQLite, of a copy: reading it may change it."""
    folder = tmp_path / "reading"
    shutil.rmtree(folder, ignore_errors=True)
    read = home.copy(folder)
    try:
        return read.content() != original.content()
    except sqlite3.Error:
        return True


@pytest.mark.parametrize("which", ["database", "unclosed database", "write-ahead log"])
def test_every_flipped_bit_is_found_or_changes_nothing_that_is_stored(
    which: str, original: TamperedHome, unclosed: TamperedHome, tmp_path: Path
) -> None:
    """
    Bytes that nobody reads (unused parts of pages, counters of the header, what follows the last commit of the write-ahead log) may be
    anything: then every row of every table must be what it was.
    """
    source = original if which == "database" else unclosed
    home = source.copy(tmp_path / "home")
    path = home.wal if which == "write-ahead log" else home.journal
    data, found = path.read_bytes(), 0
    reference = source.copy(tmp_path / "reference")
    for at, bit in flips(path, FLIPS if which == "database" else FLIPS // 3, seed=len(which)):
        changed = bytearray(data)
        changed[at] ^= bit
        path.write_bytes(changed)
        result = verdict(home)
        if isinstance(result, JournalError) or not result.ok:
            found += 1
        else:
            assert not changed_anything(home, reference, tmp_path), f"byte {at} of {path.name}: not noticed"
            assert result.proven == SIZE
    assert found > FLIPS / 12


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.1, 0.5, 0.9, 0.9999])
def test_a_cut_write_ahead_log_is_a_roll_back(unclosed: TamperedHome, tmp_path: Path, part: float) -> None:
    """A commit whose last frame is gone never was, for SQLite; only the head that was kept elsewhere tells that it was."""
    home = unclosed.copy(tmp_path / "home")
    data = home.wal.read_bytes()
    home.wal.write_bytes(data[: int(len(data) * part)])
    assert refused(home, ROLLED_BACK, ProblemCode.BELOW_MINIMUM).consistent
    home.wal.unlink()
    assert refused(home, ROLLED_BACK).proven == SIZE - 20


def test_the_write_ahead_log_of_another_moment_does_not_pass(
    original: TamperedHome, unclosed: TamperedHome, tmp_path: Path
) -> None:
    home = original.copy(tmp_path / "home")
    shutil.copy(unclosed.wal, home.wal)
    result = verdict(home)
    assert isinstance(result, JournalError) or not result.ok or not changed_anything(home, original, tmp_path)
    older = unclosed.copy(tmp_path / "older")
    shutil.copy(original.wal, older.wal) if original.wal.exists() else older.wal.unlink()
    refused(older, ROLLED_BACK)


def resigned(by_another: bool) -> SampleLog:
    """Another history of the log: as long, as consistent, signed by the same key or by another."""
    forged = SampleLog(signers=[new_signer()] if by_another else [LOG.signers[0]])
    for number in range(SIZE):
        forged.add(note=f"forged {number}")
    return forged


def test_a_journal_that_was_signed_anew_with_keys_put_into_the_home_is_told_by_what_is_kept_elsewhere(tmp_path: Path) -> None:
    """An attacker who may write all of the home and the keys' folder: consistent, signed; `key_source` says whose word that is."""
    home = TamperedHome.write(tmp_path / "home", resigned(by_another=True))
    result = home.verify()
    assert (result.ok, result.consistent, result.signed, result.anchored, result.key_source) == (True, True, SIZE, 0, "home")
    given = home.verify(vkeys=(LOG.vkeys[0],))
    assert (given.worst, given.proven, given.signed, given.key_source) == (TAMPERING, 0, 0, "argument")
    assert home.verify(head=note_over(LOG, 100)).worst is TAMPERING
    anchored = home.verify(anchors=(Anchored("elsewhere", (note_over(LOG, 100),)),))
    assert [problem.code for problem in anchored.problems] == [ProblemCode.ANCHOR_KEY]
    assert anchored.anchored == 0


def test_a_journal_that_was_written_anew_with_the_stolen_key_is_told_by_a_head_that_is_kept_elsewhere(tmp_path: Path) -> None:
    home = TamperedHome.write(tmp_path / "home", resigned(by_another=False))
    assert home.verify(vkeys=(LOG.vkeys[0],)).ok, "nothing inside tells"
    assert home.verify(vkeys=(LOG.vkeys[0],), head=note_over(LOG, 100)).worst is TAMPERING
    anchored = home.verify(vkeys=(LOG.vkeys[0],), anchors=(Anchored("elsewhere", (note_over(LOG, 100),)),))
    assert [problem.code for problem in anchored.problems] == [ProblemCode.ANCHOR]


def test_what_no_anchor_has_seen_can_be_written_anew_with_the_key_and_that_is_said(tmp_path: Path) -> None:
    """The limit: what is after the last head that is kept elsewhere is the word of whoever has the key."""
    forked = SampleLog.of(100)
    forked.signers = [LOG.signers[0]]
    forked.add(note="not what happened")
    home = TamperedHome.write(tmp_path / "home", forked)
    result = home.verify(anchors=(Anchored("elsewhere", (note_over(LOG, 100),)),))
    assert result.ok
    assert (result.anchored, result.anchored_by, result.unanchored) == (100, "elsewhere", 1)


@pytest.mark.parametrize(
    "vkeys",
    [
        LOG.vkeys[:1],
        LOG.vkeys[1:],
        LOG.vkeys[::-1],
        [*LOG.vkeys, str(new_signer().key)],
        [str(new_signer().key), LOG.vkeys[1]],
        [LOG.vkeys[0], LOG.vkeys[0]],
    ],
)
def test_keys_in_the_home_that_are_not_those_of_the_log_do_not_pass(home: TamperedHome, vkeys: list[str]) -> None:
    """But for the first one alone: the entries tell of the others."""
    known = (home.folder / "head.note").read_text()
    result = verify_journal(home.journal, own=vkeys, known_head=known)
    assert result.ok is (vkeys == LOG.vkeys[:1])


@pytest.mark.parametrize("change", ["nonsense", "", "another log", "another key", "longer"])
def test_no_other_head_note_passes(home: TamperedHome, change: str) -> None:
    other = SampleLog(origin="hera/remediation/00")
    longer = sample()
    longer.signers = LOG.signers
    longer.add(note="one more")
    notes = {
        "another log": other.checkpoint(),
        "another key": LOG.checkpoint(signers=[new_signer()]),
        "longer": note_over(longer, longer.size),
    }
    (home.folder / "head.note").write_text(notes.get(change, change), "utf-8")
    refused(home, ROLLED_BACK if change == "longer" else TAMPERING)


def test_all_tables_were_altered_by_these_tests() -> None:
    made: Callable[..., object] = test_no_change_of_a_table_passes
    altered = " ".join(str(mark.args) for mark in made.pytestmark)  # type: ignore[attr-defined]
    assert all(f" {table} " in altered or f" {table}'" in altered for table in TABLES)
