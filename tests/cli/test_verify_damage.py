"""`journal verify` of what is hardly a journal any more, or comes through a pipe: an answer as any other, and no traceback."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.written_journal import Ran, WrittenJournal, remediation


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> WrittenJournal:
    written = WrittenJournal.make(tmp_path_factory.mktemp("original"))
    for number in range(40):
        written.write(stories.stream(f"{number:08x}"), stories.healed())
    with sqlite3.connect(written.home.journal) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return written


@pytest.fixture
def written(original: WrittenJournal, tmp_path: Path) -> WrittenJournal:
    """A copy of it to damage; with the keys of the original."""
    shutil.copytree(original.home.root, tmp_path / "home")
    return WrittenJournal(type(original.home)(tmp_path / "home", original.home.keys_folder), original.signer)


def verify(written: WrittenJournal, *options: str) -> Ran:
    return remediation("journal", "verify", "--home", str(written.home.root), *options)


@pytest.mark.parametrize("instead", ["nothing", "a folder", "a broken link", "nothing, but the log beside it"])
def test_a_journal_that_is_gone_although_its_head_is_known_was_rolled_back(instead: str, written: WrittenJournal) -> None:
    written.home.journal.unlink()
    if instead == "a folder":
        written.home.journal.mkdir()
    elif instead == "a broken link":
        written.home.journal.symlink_to("nowhere")
    elif instead != "nothing":
        written.home.journal.with_name("journal.sqlite3-wal").write_bytes(b"x")
    ran = verify(written, "--json")
    verdict = json.loads(ran.out)
    assert ran.status == 4
    assert [problem["code"] for problem in verdict["problems"]] == ["behind-head"]
    assert "200" in verdict["problems"][0]["message"]
    assert verify(written).status == 4


def test_where_nothing_is_known_of_a_journal_none_is_missed(tmp_path: Path) -> None:
    written = WrittenJournal.make(tmp_path)
    written.home.journal.unlink()
    ran = verify(written, "--json")
    assert ran.status == 1
    assert "remediation init" in ran.err


@pytest.mark.parametrize(
    ("version", "status", "code"), [(2, 5, "format"), (17, 5, "format"), (1025, 3, "storage"), (1 << 30, 3, "storage")]
)
def test_a_format_that_may_come_is_not_checked_and_one_that_can_not_be_is_damage(
    version: int, status: int, code: str, written: WrittenJournal
) -> None:
    with sqlite3.connect(written.home.journal) as database:
        database.execute(f"PRAGMA user_version = {version}")
    ran = verify(written, "--json")
    assert ran.status == status
    assert [problem["code"] for problem in json.loads(ran.out)["problems"]] == [code]
    assert verify(written).status == status


def test_a_page_that_ends_the_reading_is_damage_and_shows_no_traceback(written: WrittenJournal) -> None:
    content = bytearray(written.home.journal.read_bytes())
    with sqlite3.connect(written.home.journal) as database:
        pages = [page for (page,) in database.execute("SELECT pageno FROM dbstat WHERE name = 'tile' AND pagetype = 'leaf'")]
    content[(pages[len(pages) // 2] - 1) * 4096] = 14
    written.home.journal.write_bytes(content)
    ran = verify(written)
    assert ran.status == 3
    assert "Traceback" not in ran.err
    assert "ignored" not in ran.err


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_an_export_through_a_pipe_is_read_once_and_verified(name: str, written: WrittenJournal, tmp_path: Path) -> None:
    export = tmp_path / "log.jsonl"
    assert remediation("journal", "export", "--home", str(written.home.root), "--out", str(export)).status == 0
    command = [sys.executable, "-m", "remediation", "journal", "verify", name, "--vkey", str(written.signer.key), "--json"]
    content = export.read_bytes()
    for given, status in ((content, 0), (content.replace(b"LOCK_STALE", b"LOCK_FRESH", 1), 3), (content[:-9], 5), (b"", 5)):
        ran = subprocess.run(
            command, input=given, capture_output=True, check=False, timeout=60, env={**os.environ, "NO_COLOR": "1"}
        )
        assert ran.returncode == status, (ran.stdout, ran.stderr)
    with export.open("rb") as opened:
        ran = subprocess.run(command, stdin=opened, capture_output=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_a_named_pipe_is_read_once(written: WrittenJournal, tmp_path: Path) -> None:
    export, pipe = tmp_path / "log.jsonl", tmp_path / "pipe"
    assert remediation("journal", "export", "--home", str(written.home.root), "--out", str(export)).status == 0
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", str(export), str(pipe)]) as copying:
        assert remediation("journal", "verify", str(pipe), "--vkey", str(written.signer.key)).status == 0
        assert copying.wait(30) == 0
