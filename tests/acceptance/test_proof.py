"""A journal that was really written, handed to strangers: our verifier without a home, and the program of one page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.examples import blocks
from tests.support.installed import Ended, User
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "howto" / "verify-without-our-software.md"


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> User:
    """Somebody without a home: an export, the public key, an older head, and the page's program."""
    host = User(tmp_path_factory.mktemp("host"))
    host.configure('[host]\nid = "atlas-1"\n')
    host.report("QUEUE_STUCK", "outbox", "--summary", "nothing is sent \u2014 “since” noon")
    host.succeed("run", "--once")
    keys = host.folder / "state" / "remediation" / "atlas-1"
    head = (keys / "head.note").read_text("utf-8")
    host.report("QUEUE_STUCK", "inbox", "--evidence", '{"depth": 900}')
    host.succeed("run", "--once")
    auditor = User(tmp_path_factory.mktemp("auditor"))
    host.succeed("journal", "export", "--format", "jsonl", "--out", str(auditor.folder / "journal.jsonl"))
    (auditor.folder / "old.note").write_text(head, "utf-8")
    (auditor.folder / "vkey").write_text((keys / "signing.vkey").read_text())
    (program,) = [block.text for block in blocks(PAGE.name, PAGE.read_text("utf-8")) if block.file == "verify.py"]
    (auditor.folder / "verify.py").write_text(program, "utf-8")
    return auditor


@pytest.fixture
def vkey(auditor: User) -> str:
    return (auditor.folder / "vkey").read_text().strip()


def by_page(auditor: User, *arguments: str) -> Ended:
    """The page's program, isolated: no package of ours, no site-packages, no variables."""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "verify.py", *arguments],
        cwd=auditor.folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_an_export_is_verified_without_the_home(auditor: User, vkey: str) -> None:
    assert not auditor.home.exists()
    verdict = auditor.succeed("journal", "verify", "journal.jsonl", "--vkey", vkey, "--head", "old.note", "--json").json
    assert (verdict["ok"], verdict["key"], verdict["key_source"]) == (True, vkey, "argument")
    assert verdict["size"] == len((auditor.folder / "journal.jsonl").read_text().splitlines()) - 2
    unbelieved = auditor.succeed("journal", "verify", "journal.jsonl", "--json").json
    assert unbelieved["key_source"] == "export"


def test_the_page_agrees_with_us_on_size_and_root(auditor: User, vkey: str) -> None:
    ours = auditor.succeed("journal", "verify", "journal.jsonl", "--vkey", vkey, "--json").json
    theirs = by_page(auditor, "journal.jsonl", vkey, "old.note")
    assert theirs.status == 0, theirs.err
    assert theirs.out.splitlines() == [
        f"genuine: {ours['size']} entries of {ours['origin']}, 0 bodies erased",
        f"root {ours['root']}",
    ]


@pytest.mark.parametrize("number", [0, 1, 4, -2, -1])
def test_a_changed_letter_is_found_by_both(number: int, auditor: User, vkey: str, tmp_path: Path) -> None:
    lines = (auditor.folder / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    members = json.loads(lines[number])
    name = {0: "origin", -1: "checkpoint"}.get(number, "body")
    value = members[name]
    members[name] = value[:20] + ("b" if value[20] != "b" else "c") + value[21:]
    lines[number] = json.dumps(members, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n"
    forged = tmp_path / "forged.jsonl"
    forged.write_text("".join(lines), "utf-8")
    assert auditor.remediation("journal", "verify", str(forged), "--vkey", vkey).status == 3
    assert by_page(auditor, str(forged), vkey).status == 1


def test_a_head_that_the_export_does_not_reach_is_a_roll_back(auditor: User, vkey: str, tmp_path: Path) -> None:
    lines = (auditor.folder / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    newest = json.loads(lines[-1])["checkpoint"]
    (tmp_path / "new.note").write_text(newest, "utf-8")
    size = int((auditor.folder / "old.note").read_text().split("\n")[1])
    older = {"checkpoint": (auditor.folder / "old.note").read_text("utf-8"), "rotations": []}
    behind = [*lines[: size + 1], json.dumps(older, ensure_ascii=False, separators=(",", ":")) + "\n"]
    (tmp_path / "behind.jsonl").write_text("".join(behind), "utf-8")
    arguments = [str(tmp_path / "behind.jsonl"), "--vkey", vkey]
    assert auditor.remediation("journal", "verify", *arguments).status == 0, "alone, it is a genuine older state"
    assert auditor.remediation("journal", "verify", *arguments, "--head", str(tmp_path / "new.note")).status == 4
    assert "rolled back" in by_page(auditor, str(tmp_path / "behind.jsonl"), vkey, str(tmp_path / "new.note")).err
