"""`journal verify` of a home whose settings were broken or bent: they lie in the home, and whoever alters it may alter them too."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support import stories
from tests.support.written_journal import Ran, WrittenJournal, remediation

OLD = 5
BENT = {
    "not to be read": "x = [",
    "another place for the keys": '[host]\nid = "atlas"\n[keys]\ndir = "nowhere"\n',
    "anchors under another name": '[host]\nid = "atlas"\n[keys]\ndir = "KEYS"\n[anchor.file]\npath = "/nowhere"\n',
    "a plugin that is not there": '[host]\nid = "atlas"\nplugins = ["no.such.module"]\n[keys]\ndir = "KEYS"\n',
    "gone": "",
}


@pytest.fixture
def rolled_back(tmp_path: Path) -> WrittenJournal:
    """A home whose journal is an older one than `head.note` knows; the newest signed head is in `kept.note`."""
    written = WrittenJournal.make(tmp_path)
    written.write(stories.stream("00000001"), stories.healed())
    shutil.copy(written.home.journal, tmp_path / "old.sqlite3")
    written.write(stories.stream("00000002"), stories.healed())
    shutil.copy(written.home.head_note, tmp_path / "kept.note")
    for path in written.home.root.glob("journal.sqlite3*"):
        path.unlink()
    shutil.copy(tmp_path / "old.sqlite3", written.home.journal)
    return written


def verify(written: WrittenJournal, *options: str) -> tuple[Ran, dict[str, Any]]:
    ran = remediation("journal", "verify", "--json", "--home", str(written.home.root), "--vkey", str(written.signer.key), *options)
    return ran, json.loads(ran.out)


def bend(written: WrittenJournal, how: str) -> None:
    text = BENT[how].replace("KEYS", str(written.home.keys))
    written.home.config.write_text(text)
    if not text:
        written.home.config.unlink()


def test_intact_settings_lead_to_the_head_that_shows_the_roll_back(rolled_back: WrittenJournal) -> None:
    ran, verdict = verify(rolled_back)
    assert (ran.status, verdict["head_checked"]) == (4, True)


@pytest.mark.parametrize("how", ["not to be read", "another place for the keys", "anchors under another name", "gone"])
def test_settings_that_hide_the_head_are_no_proof_that_nothing_is_missing(how: str, rolled_back: WrittenJournal) -> None:
    bend(rolled_back, how)
    ran, verdict = verify(rolled_back)
    assert ran.status == 5, ran.out
    assert not verdict["ok"]
    assert not verdict["head_checked"]
    (problem,) = verdict["problems"]
    assert (problem["code"], problem["kind"]) == ("unchecked", "incomplete")
    assert "head.note" in problem["message"]
    assert "--head" in problem["message"]
    assert verdict["proven"] == verdict["size"] == OLD, "what is there is as it was signed"


def test_anchors_that_can_not_be_asked_are_missing_and_not_silent(rolled_back: WrittenJournal) -> None:
    bend(rolled_back, "a plugin that is not there")
    ran, verdict = verify(rolled_back)
    assert (ran.status, verdict["head_checked"]) == (4, True)
    assert "unchecked" in {problem["code"] for problem in verdict["problems"]}


@pytest.mark.parametrize("how", BENT)
def test_a_head_that_was_kept_elsewhere_needs_no_settings(how: str, rolled_back: WrittenJournal, tmp_path: Path) -> None:
    bend(rolled_back, how)
    ran, verdict = verify(rolled_back, "--head", str(tmp_path / "kept.note"))
    assert (ran.status, verdict["head_checked"]) == (4, True)


def test_a_copy_of_a_home_with_a_head_from_elsewhere_is_whole(tmp_path: Path) -> None:
    written = WrittenJournal.make(tmp_path)
    written.write(stories.stream("00000001"), stories.healed())
    head = shutil.copy(written.home.head_note, tmp_path / "kept.note")
    written.home.config.unlink()
    ran, verdict = verify(written, "--head", str(head))
    assert (ran.status, verdict["head_checked"]) == (0, True), ran.out
    assert verify(written)[0].status == 5
