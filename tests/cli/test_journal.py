"""`journal verify` and `journal export`: what was altered is found, and what is exported proves itself elsewhere."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.written_journal import Ran, WrittenJournal, remediation

from remediation.proof import (
    inclusion_proof,
    leaf_hash,
    open_checkpoint,
    root_of,
    tile_hashes,
    tile_path,
    tiles_of,
    verify_inclusion,
    width_of,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> WrittenJournal:
    """A journal of more than 256 entries, so that there are tiles."""
    journal = WrittenJournal.make(tmp_path_factory.mktemp("original"))
    for number in range(60):
        journal.write(stories.stream(f"{number:08x}"), stories.healed())
    with sqlite3.connect(journal.home.journal) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return journal


@pytest.fixture
def written(original: WrittenJournal, tmp_path: Path) -> WrittenJournal:
    """A copy of it to damage. Its keys are copied too: the settings name the place of the copy."""
    assert original.home.keys_folder is not None
    shutil.copytree(original.home.root, tmp_path / "home")
    shutil.copytree(original.home.keys_folder, tmp_path / "keys")
    (tmp_path / "home" / "remediation.toml").write_text(f'[host]\nid = "atlas"\n[keys]\ndir = "{tmp_path / "keys"}"\n')
    return WrittenJournal(type(original.home)(tmp_path / "home", tmp_path / "keys"), original.signer)


def verify(written: WrittenJournal, *options: str) -> Ran:
    return remediation("journal", "verify", "--home", str(written.home.root), *options)


def test_a_journal_as_it_was_written_verifies(written: WrittenJournal) -> None:
    ran = verify(written, "--json")
    assert ran.status == 0, ran.err
    answer = json.loads(ran.out)
    assert answer["ok"] is True
    assert (answer["size"], answer["origin"], answer["key"], answer["key_source"]) == (
        300,
        written.signer.key.name,
        str(written.signer.key),
        "home",
    )
    assert answer["problems"] == []


def test_a_key_from_elsewhere_is_what_proves(written: WrittenJournal) -> None:
    answer = json.loads(verify(written, "--vkey", str(written.signer.key), "--json").out)
    assert (answer["ok"], answer["key_source"]) == (True, "argument")


def test_another_key_is_tampering(written: WrittenJournal, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = WrittenJournal.make(tmp_path / "other")
    assert verify(written, "--vkey", str(other.signer.key)).status == 3


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        (
            "UPDATE payload SET body = CAST(replace(CAST(body AS TEXT), 'LOCK_STALE', 'LOCK_FRESH') AS BLOB) WHERE seq = 5",
            "payload",
        ),
        ("UPDATE payload SET salt = zeroblob(32) WHERE seq = 7", "payload"),
        ("DELETE FROM payload WHERE seq = 9", "payload-missing"),
        ("UPDATE entry SET time = '2020-01-01T00:00:00.000Z' WHERE seq = 3", "columns"),
        ("UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'test', 'root') AS BLOB) WHERE seq = 3", "root"),
        ("UPDATE entry SET leaf = x'00' WHERE seq = 3", "leaf"),
        ("UPDATE entry SET stream = CAST(x'ff' AS TEXT) WHERE seq = 3", "columns"),
        ("DELETE FROM entry WHERE seq = 17", "sequence"),
        ("DELETE FROM entry WHERE seq = 299", "checkpoint"),
        ("INSERT INTO payload VALUES (5000, x'00', x'00')", "storage"),
        ("UPDATE tile SET data = zeroblob(8192) WHERE level = 0 AND n = 0", "tile"),
        ("DELETE FROM tile", "tile"),
        ("INSERT INTO tile VALUES (3, 3, x'00')", "tile"),
        ("UPDATE checkpoint SET note = replace(note, '300', '301') WHERE size = 300", "signature"),
        ("DELETE FROM checkpoint", "no-checkpoint"),
        ("UPDATE checkpoint SET note = 'x' WHERE size = 0", "checkpoint"),
    ],
)
def test_any_change_is_found(sql: str, code: str, written: WrittenJournal) -> None:
    with sqlite3.connect(written.home.journal) as database:
        assert database.execute(sql).rowcount > 0
    ran = verify(written, "--json")
    answer = json.loads(ran.out)
    assert answer["ok"] is False
    assert code in {problem["code"] for problem in answer["problems"]}
    assert ran.status in {3, 4, 5}
    assert ran.status == (5 if code == "no-checkpoint" and len(answer["problems"]) == 1 else ran.status)


def test_two_entries_that_changed_places_are_found(written: WrittenJournal) -> None:
    with sqlite3.connect(written.home.journal) as database:
        for old, new in ((5, 9999), (6, 5), (9999, 6)):
            database.execute("UPDATE entry SET seq = ? WHERE seq = ?", (new, old))
            database.execute("UPDATE payload SET seq = ? WHERE seq = ?", (new, old))
    assert verify(written).status == 3


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_flipped_byte_in_the_file_is_found(part: float, written: WrittenJournal) -> None:
    data = bytearray(written.home.journal.read_bytes())
    data[int(len(data) * part)] ^= 0x41
    written.home.journal.write_bytes(data)
    ran = verify(written, "--json")
    assert ran.status == 3, ran.out
    assert json.loads(ran.out)["ok"] is False


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 500])
def test_a_file_that_is_no_journal_is_tampering(content: bytes, written: WrittenJournal) -> None:
    written.home.journal.write_bytes(content)
    ran = verify(written, "--json")
    assert ran.status == 3
    answer = json.loads(ran.out)
    assert answer["ok"] is False
    assert answer["problems"][0]["kind"] == "tampering"


def test_an_older_genuine_state_is_rolled_back_by_the_home_a_head_or_a_size(
    original: WrittenJournal, written: WrittenJournal, tmp_path: Path
) -> None:
    head = tmp_path / "head.note"
    written.write(stories.stream("ffffffff"), stories.healed())
    shutil.copy(written.home.head_note, head)
    assert verify(written, "--head", str(head), "--min-size", "305").status == 0
    for file in written.home.root.glob("journal.sqlite3*"):
        file.unlink()
    shutil.copy(original.home.journal, written.home.journal)
    assert verify(written).status == 4
    shutil.rmtree(written.home.keys)
    vkey = ("--vkey", str(written.signer.key))
    assert verify(written, *vkey).status == 5, "nothing says how far the log went: that is no proof that it is whole"
    assert verify(written, *vkey, "--head", str(head)).status == 4
    assert verify(written, *vkey, "--min-size", "301").status == 4


def test_a_missing_head_note_is_taken_for_a_roll_back(written: WrittenJournal) -> None:
    written.home.head_note.unlink()
    assert verify(written).status == 4
    assert verify(written, "--vkey", str(written.signer.key)).status == 4


@pytest.mark.parametrize("wrong", [["--vkey", "nonsense"], ["--head", "/no/such/file"], ["--head", __file__], ["/no/such/export"]])
def test_a_measure_that_is_none_is_wrong_use(wrong: list[str], written: WrittenJournal) -> None:
    assert verify(written, *wrong).status == 2


def test_another_log_is_not_the_one_that_was_meant(written: WrittenJournal) -> None:
    assert verify(written, "--origin", written.signer.key.name).status == 0
    assert verify(written, "--origin", "atlas/remediation/another").status == 3


def test_an_export_proves_itself_without_the_home(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "journal.jsonl"
    ran = remediation("journal", "export", "--out", str(out), "--home", str(written.home.root))
    assert ran.status == 0, ran.err
    assert out.stat().st_mode & 0o777 == 0o600
    checked = remediation("journal", "verify", str(out), "--vkey", str(written.signer.key), "--json", cwd=tmp_path)
    assert checked.status == 0
    assert json.loads(checked.out)["size"] == 300
    own_word = remediation("journal", "verify", str(out), cwd=tmp_path)
    assert (own_word.status, "proves only that it fits itself" in own_word.err) == (0, True)
    piped = remediation("journal", "export", "--home", str(written.home.root))
    assert piped.out.encode() == out.read_bytes()


def test_an_altered_export_is_found_and_a_cut_one_is_incomplete(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "journal.jsonl"
    remediation("journal", "export", "--out", str(out), "--home", str(written.home.root))
    text = out.read_text()
    out.write_text(text.replace("LOCK_STALE", "LOCK_FRESH", 1))
    assert remediation("journal", "verify", str(out)).status == 3
    out.write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert remediation("journal", "verify", str(out)).status == 5


def test_what_leaves_the_process_is_known_to_head_note_first(written: WrittenJournal) -> None:
    old = written.home.head_note.read_text()
    written.write(stories.stream("ffffffff"), stories.healed())
    written.home.head_note.write_text(old)
    ran = remediation("journal", "export", "--home", str(written.home.root))
    assert json.loads(ran.out.splitlines()[-1])["checkpoint"] == written.home.head_note.read_text()
    assert written.home.head_note.read_text().splitlines()[1] == "305"


def test_a_head_that_our_key_did_not_sign_is_not_exported(written: WrittenJournal, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = WrittenJournal.make(tmp_path / "other")
    with sqlite3.connect(written.home.journal) as database:
        database.execute("UPDATE checkpoint SET note = ? WHERE size = 300", (other.home.head_note.read_text(),))
    ran = remediation("journal", "export", "--home", str(written.home.root))
    assert (ran.status, ran.out) == (3, "")


def test_an_export_that_can_not_be_written_leaves_nothing_behind(written: WrittenJournal, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    ran = remediation("journal", "export", "--out", str(tmp_path / "folder"), "--home", str(written.home.root))
    assert ran.status == 1
    assert "can't be written" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "home", "keys"]


def entries_of(folder: Path, size: int) -> list[bytes]:
    """The leaves as a stranger reads them from tlog-tiles."""
    leaves = []
    for n in range(-(-size // 256)):
        width = min(256, size - 256 * n)
        data = (folder / tile_path("entries", n, width)).read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            leaves.append(data[2 : 2 + length])
            data = data[2 + length :]
    return leaves


@pytest.mark.parametrize("more", [0, 1, 256 - 300 % 256])
def test_published_tiles_are_those_of_the_tree_that_is_signed(more: int, written: WrittenJournal, tmp_path: Path) -> None:
    if more:
        written.write(stories.stream("ffffffff"), [stories.reported()] * more)
    out = tmp_path / "log"
    ran = remediation("journal", "export", "--format", "tlog-tiles", "--out", str(out), "--home", str(written.home.root))
    assert ran.status == 0, ran.err
    checkpoint = open_checkpoint((out / "checkpoint").read_text(), [written.signer.key]).checkpoint
    size = checkpoint.size
    assert size == 300 + more
    hashes = [leaf_hash(leaf) for leaf in entries_of(out, size)]
    assert root_of(hashes) == checkpoint.root
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    tiles = {tile_path(level, n, width) for level, n, width in tiles_of(size)}
    bundles = {tile_path("entries", n, width) for level, n, width in tiles_of(size) if level == 0}
    assert files == {"checkpoint"} | tiles | bundles

    def stored(level: int, n: int) -> bytes:
        return (out / tile_path(level, n, width_of(level, n, size))).read_bytes()

    source = tile_hashes(size, stored, hashes[size - size % 256 :])
    for index in (0, 17, 255, 256, size - 1):
        assert verify_inclusion(index, size, hashes[index], inclusion_proof(index, size, source), checkpoint.root)


def test_tiles_want_a_new_folder(written: WrittenJournal, tmp_path: Path) -> None:
    command = ("journal", "export", "--format", "tlog-tiles", "--home", str(written.home.root))
    assert remediation(*command).status == 2
    assert remediation(*command, "--out", str(tmp_path)).status == 2


def test_cloudevents_name_type_subject_and_place(written: WrittenJournal) -> None:
    lines = remediation("journal", "export", "--format", "cloudevents", "--home", str(written.home.root)).out.splitlines()
    assert len(lines) == 300
    first = json.loads(lines[0])
    assert (first["specversion"], first["type"], first["source"]) == (
        "1.0",
        "remediation.degradation.reported",
        written.signer.key.name,
    )
    assert first["subject"] == stories.stream("00000000")
    assert first["data"]["event"]["code"] == "LOCK_STALE"
    assert [json.loads(line)["sequence"] for line in lines] == [f"{seq:020d}" for seq in range(300)]
