"""`journal prove` and `journal verify --proof`: one decision is shown to a stranger, and nothing else of the journal."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.journals import said
from tests.support.written_journal import Ran, WrittenJournal, remediation

from remediation.proof import TlogProof, claimed_size

PLANNED = 2
"""Position of the `attempt.planned` of the first story."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> WrittenJournal:
    journal = WrittenJournal.make(tmp_path_factory.mktemp("original"))
    journal.write(stories.stream(), stories.healed())
    journal.write("host/atlas", [said("secret of another entry")])
    journal.write("host/atlas", [said("x" * 60_000), said("the last one")])
    return journal


@pytest.fixture
def written(original: WrittenJournal, tmp_path: Path) -> WrittenJournal:
    assert original.home.keys_folder is not None
    shutil.copytree(original.home.root, tmp_path / "home")
    shutil.copytree(original.home.keys_folder, tmp_path / "keys")
    (tmp_path / "home" / "remediation.toml").write_text(f'[host]\nid = "atlas"\n[keys]\ndir = "{tmp_path / "keys"}"\n')
    return WrittenJournal(type(original.home)(tmp_path / "home", tmp_path / "keys"), original.signer)


def prove(written: WrittenJournal, seq: int, *options: str) -> Ran:
    return remediation("journal", "prove", str(seq), "--home", str(written.home.root), *options)


def check(written: WrittenJournal, proof: Path, *options: str, cwd: Path | None = None) -> Ran:
    return remediation("journal", "verify", "--proof", str(proof), "--vkey", str(written.signer.key), *options, cwd=cwd)


def test_an_auditor_sees_what_was_decided_and_by_which_head_that_is_proven(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "decision.tlog-proof"
    ran = prove(written, PLANNED, "--out", str(out))
    assert (ran.status, ran.out) == (0, ""), ran.err
    assert f"in {out}" in ran.err
    assert out.stat().st_mode & 0o777 == 0o600
    (tmp_path / "elsewhere").mkdir()
    seen = check(written, out, cwd=tmp_path / "elsewhere")
    assert seen.status == 0, seen.out + seen.err
    for expected in ("proven", "attempt.planned", stories.stream(), "test", '"runbook": "stale-lock-file"', "8 entries, root "):
        assert expected in seen.out
    assert written.signer.key.name in seen.out


def test_the_proof_says_nothing_about_other_entries(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "decision.tlog-proof"
    prove(written, PLANNED, "--out", str(out))
    proof = TlogProof.parse(out.read_bytes())
    assert "attempt.planned" in (proof.extra or b"").decode()
    assert "secret of another entry" not in out.read_text() + (proof.extra or b"").decode()
    assert len(out.read_bytes()) < 16_000


def test_programs_get_the_same_answer_as_json(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "decision.tlog-proof"
    prove(written, PLANNED, "--out", str(out))
    answer = json.loads(check(written, out, "--json").out)
    assert (answer["ok"], answer["index"], answer["size"], answer["key_source"]) == (True, PLANNED, 8, "argument")
    assert answer["entry"]["type"] == "attempt.planned"
    assert answer["body"]["runbook"] == "stale-lock-file"
    assert answer["body_state"] == "proven"


def test_a_proof_goes_through_a_pipe(written: WrittenJournal) -> None:
    ran = prove(written, PLANNED)
    seen = remediation("journal", "verify", "--proof", "-", "--vkey", str(written.signer.key), stdin=ran.out)
    assert (ran.status, seen.status) == (0, 0)


def test_without_a_key_the_homes_is_taken_and_that_is_said(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "p"
    prove(written, PLANNED, "--out", str(out))
    seen = remediation("journal", "verify", "--proof", str(out), "--home", str(written.home.root))
    assert seen.status == 0
    assert "taken from the home itself" in seen.err
    nowhere = remediation("journal", "verify", "--proof", str(out), cwd=tmp_path)
    assert nowhere.status == 2
    assert "--vkey" in nowhere.err


def test_another_key_proves_nothing(written: WrittenJournal, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = WrittenJournal.make(tmp_path / "other")
    out = tmp_path / "p"
    prove(written, PLANNED, "--out", str(out))
    ran = remediation("journal", "verify", "--proof", str(out), "--vkey", str(other.signer.key))
    assert ran.status == 3
    assert "NOT proven" in ran.out


def test_an_altered_proof_is_tampering(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "p"
    prove(written, PLANNED, "--out", str(out))
    text = out.read_text()
    out.write_text(text.replace(f"index {PLANNED}", "index 3"))
    assert check(written, out).status == 3
    out.write_text("nonsense")
    ran = check(written, out, "--json")
    assert (ran.status, json.loads(ran.out)["ok"]) == (3, False)


def test_an_erased_entry_is_proven_by_its_frame(written: WrittenJournal, tmp_path: Path) -> None:
    with sqlite3.connect(written.home.journal) as database:
        database.execute("DELETE FROM payload WHERE seq = ?", (PLANNED,))
    out = tmp_path / "p"
    assert prove(written, PLANNED, "--out", str(out)).status == 0
    seen = check(written, out)
    assert seen.status == 0
    assert "attempt.planned" in seen.out
    assert "erased" in seen.err
    assert "stale-lock-file" not in seen.out


def test_a_body_too_long_for_the_proof_lies_beside_it(written: WrittenJournal, tmp_path: Path) -> None:
    piped = prove(written, 6)
    assert (piped.status, piped.out) == (2, "")
    assert "--out" in piped.err
    out = tmp_path / "long.tlog-proof"
    assert prove(written, 6, "--out", str(out)).status == 0
    beside = tmp_path / "long.tlog-proof.body"
    assert json.loads(beside.read_text())["reason"] == "x" * 60_000
    assert check(written, out).status == 0
    moved = beside.rename(tmp_path / "moved")
    alone = check(written, out)
    assert alone.status == 5
    assert "--body" in alone.err
    assert check(written, out, "--body", str(moved)).status == 0
    moved.write_text(moved.read_text().replace("x", "y", 1))
    assert check(written, out, "--body", str(moved)).status == 3
    assert check(written, out, "--body", "/no/such/file").status == 2


def test_a_head_that_the_auditor_has_will_do(written: WrittenJournal, tmp_path: Path) -> None:
    head = tmp_path / "head.note"
    shutil.copy(written.home.head_note, head)
    written.write("host/atlas", [said("later")])
    out = tmp_path / "p"
    assert prove(written, PLANNED, "--head", str(head), "--out", str(out)).status == 0
    assert TlogProof.parse(out.read_bytes()).checkpoint == head.read_text()
    beyond = prove(written, 8, "--head", str(head))
    assert beyond.status == 1
    assert "over 8 entries" in beyond.err


def test_a_head_that_is_not_of_this_journal_is_refused(written: WrittenJournal, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = WrittenJournal.make(tmp_path / "other")
    for wrong in (other.home.head_note, Path(__file__), Path("/no/such/file")):
        assert prove(written, PLANNED, "--head", str(wrong)).status == 2


def test_what_is_proven_is_known_to_head_note_first(written: WrittenJournal, tmp_path: Path) -> None:
    old = written.home.head_note.read_text()
    written.write("host/atlas", [said("later")])
    written.home.head_note.write_text(old)
    ran = prove(written, 8)
    assert ran.status == 0, ran.err
    assert TlogProof.parse(ran.out).checkpoint == written.home.head_note.read_text()
    assert claimed_size(written.home.head_note.read_text()) == 9


def test_a_journal_behind_its_head_proves_nothing(original: WrittenJournal, written: WrittenJournal) -> None:
    written.write("host/atlas", [said("later")])
    for file in written.home.root.glob("journal.sqlite3*"):
        file.unlink()
    with sqlite3.connect(original.home.journal) as source, sqlite3.connect(written.home.journal) as target:
        source.backup(target)
    ran = prove(written, PLANNED)
    assert (ran.status, ran.out) == (4, ""), ran.err
    written.home.head_note.unlink()
    assert prove(written, PLANNED).status == 4


def test_an_altered_journal_proves_nothing(written: WrittenJournal, tmp_path: Path) -> None:
    with sqlite3.connect(written.home.journal) as database:
        database.execute("UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'test', 'root') AS BLOB) WHERE seq = 2")
    ran = prove(written, PLANNED, "--out", str(tmp_path / "p"))
    assert ran.status == 3
    assert not (tmp_path / "p").exists()


def test_it_needs_no_private_key(written: WrittenJournal) -> None:
    written.home.signing_key.unlink()
    assert prove(written, PLANNED).status == 0


@pytest.mark.parametrize("seq", ["8", "999999999999"])
def test_an_entry_that_does_not_exist_is_no(written: WrittenJournal, seq: str) -> None:
    ran = remediation("journal", "prove", seq, "--home", str(written.home.root))
    assert ran.status == 1
    assert "8 entries" in ran.err


@pytest.mark.parametrize("wrong", [["x"], ["-1"], []])
def test_nonsense_is_wrong_use(written: WrittenJournal, wrong: list[str]) -> None:
    assert remediation("journal", "prove", *wrong, "--home", str(written.home.root)).status == 2


def test_what_does_not_go_with_a_proof_is_wrong_use(written: WrittenJournal, tmp_path: Path) -> None:
    out = tmp_path / "p"
    prove(written, PLANNED, "--out", str(out))
    for option in (["--min-size", "3"], ["--head", str(written.home.head_note)], [str(out)]):
        assert check(written, out, *option).status == 2
    assert check(written, tmp_path / "missing").status == 2
    assert check(written, out, "--vkey", "nonsense").status == 2
    assert check(written, out, "--origin", "another/log").status == 3


def test_a_proof_that_can_not_be_written_leaves_nothing_behind(written: WrittenJournal, tmp_path: Path) -> None:
    ran = prove(written, PLANNED, "--out", str(tmp_path / "no" / "such" / "folder"))
    assert ran.status == 1
    assert "can't be written" in ran.err
    full = subprocess.run(
        [sys.executable, "-m", "remediation", "journal", "prove", "2", "--home", str(written.home.root)],
        stdout=Path("/dev/full").open("wb"),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert full.returncode == 1
    assert full.stderr.count("\n") == 1
    assert "No space left" in full.stderr


def test_hostile_text_in_an_entry_does_not_reach_the_terminal(written: WrittenJournal, tmp_path: Path) -> None:
    written.write("host/atlas", [said(stories.HOSTILE)])
    out = tmp_path / "p"
    prove(written, 8, "--out", str(out))
    seen = check(written, out)
    assert seen.status == 0
    assert "\x1b" not in seen.out
    assert "\u202e" not in seen.out


def test_it_works_beside_a_writer(written: WrittenJournal, tmp_path: Path) -> None:
    import threading

    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            written.write("host/atlas", [said(f"{number}")])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for seq in (PLANNED, 0, 5):
            out = tmp_path / f"{seq}.tlog-proof"
            ran = prove(written, seq, "--out", str(out))
            assert ran.status == 0, ran.err
            assert check(written, out).status == 0
    finally:
        stop.set()
        writer.join()
