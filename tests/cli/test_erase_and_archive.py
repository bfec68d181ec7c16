"""``journal erase`` and ``journal archive``, as people give them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.hosts import broken, runbook
from tests.support.journals import said
from tests.support.written_journal import remediation
from typer.testing import CliRunner

from remediation.cli.app import app
from remediation.errors import RemediationError
from remediation.journal.lock import locked
from remediation.settings import Home
from remediation.testing import FakeClock, running_host, settings_in

SECRET = "Hildegard-Mustermann"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of ten days ago, with a heal and many entries."""

    async def live() -> None:
        clock = FakeClock(datetime.now(UTC) - timedelta(days=10))
        async with running_host(tmp_path, runbook(), clock=clock) as host:
            event = broken(tmp_path, SECRET, summary=f"about {SECRET}")
            await host.wait_for(await host.report(event), timeout=20)
            await asyncio.gather(*(host.journal.append("talk", [said(n)]) for n in range(600)))

    asyncio.run(live())
    settings = settings_in(tmp_path)
    (settings.home.root / "remediation.toml").write_text(
        f'[host]\nid = "test-host"\n[keys]\ndir = "{tmp_path / "keys"}"\n[channels]\nlog = false\n'
    )
    return settings.home


def call(home: Home, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--home", str(home.root), *words])
    if isinstance(result.exception, RemediationError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_an_incident_is_erased_and_shown_as_such(home: Home) -> None:
    _, listed = call(home, "incidents", "--json")
    id_ = json.loads(listed)[0]["id"]
    code, told = call(home, "journal", "erase", "--incident", id_.rpartition("-")[2][:6], "--reason", "asked for", "--json")
    assert code == 0, told
    assert len(json.loads(told.splitlines()[0])["erased"]) >= 3
    code, shown = call(home, "incident", "show", id_)
    assert code == 0
    assert "erased" in shown
    assert SECRET not in shown
    code, verdict = call(home, "journal", "verify", "--json")
    assert (code, json.loads(verdict)["erased"] >= 3) == (0, True)
    assert SECRET.encode() not in home.journal.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["erase", "--reason", "x"],
        ["erase", "3", "--incident", "abc", "--reason", "x"],
        ["erase", "3", "--reason", " "],
        ["erase", "3"],
        ["archive"],
        ["archive", "--before", "soon", "--out", "x"],
        ["archive", "--before", "3", "--out", "x", "--restore", "y"],
        ["archive", "--restore", "/nowhere/at-all"],
    ],
)
def test_wrong_use_is_told_and_changes_nothing(home: Home, words: list[str]) -> None:
    before = home.journal.read_bytes()
    code, _ = call(home, "journal", *words)
    assert code in (1, 2)
    assert call(home, "journal", "verify")[0] == 0
    assert len(home.journal.read_bytes()) == len(before)


def test_entries_are_archived_verified_and_brought_back(home: Home, tmp_path: Path) -> None:
    code, told = call(home, "journal", "archive", "--before", "5d", "--out", str(tmp_path / "out"), "--json")
    assert code == 0, told
    done = json.loads(told.splitlines()[-1])
    assert (done["first"], done["before"]) == (0, 512)
    code, verdict = call(home, "journal", "verify", "--json")
    assert (code, json.loads(verdict)["archived"]) == (0, 512)
    assert "stand by their hashes" in call(home, "journal", "verify")[1]
    code, verdict = call(home, "journal", "verify", "--with-archive", done["path"], "--json")
    assert (code, json.loads(verdict)["archived"]) == (0, 0)
    assert call(home, "journal", "verify", done["path"], "--vkey", home.verifier_keys.read_text().strip())[0] == 0
    for words in (["incidents"], ["runbooks"], ["journal", "tail"], ["doctor"], ["journal", "export"]):
        code, told = call(home, *words)
        assert code in (0, 1), told
        assert "Traceback" not in told
    code, told = call(home, "journal", "archive", "--restore", done["path"])
    assert (code, "512 entries are back" in told) == (0, True)
    code, verdict = call(home, "journal", "verify", "--json")
    assert (code, json.loads(verdict)["archived"]) == (0, 0)


def test_a_published_log_goes_on_after_its_entries_were_archived_and_is_mended_as_far_as_it_can(home: Home, tmp_path: Path) -> None:
    words = ["journal", "export", "--format", "tlog-tiles", "--out", str(tmp_path / "log")]
    assert call(home, *words)[0] == 0
    code, told = call(home, "journal", "archive", "--before", "5d", "--out", str(tmp_path / "out"), "--json")
    assert code == 0, told
    tile, bundle = tmp_path / "log" / "tile" / "0" / "001", tmp_path / "log" / "tile" / "entries" / "001"
    whole = tile.read_bytes(), bundle.read_bytes()
    code, told = call(home, *words)
    assert (code, "1 new entries" in told, "mended" in told) == (0, True, False)
    tile.write_bytes(whole[0][:-1])
    code, told = call(home, *words)
    assert (code, "mended: tile/0/001" in told) == (0, True)
    bundle.write_bytes(whole[1][:-9] + bytes([whole[1][-9] ^ 1]) + whole[1][-8:])
    code, refused = call(home, *words)
    assert (code, "entries 256 to 511 were archived" in refused, "--restore" in refused) == (1, True, True)
    assert call(home, "journal", "archive", "--restore", str(next((tmp_path / "out").glob("*.jsonl"))))[0] == 0
    code, told = call(home, *words)
    assert (code, "mended: tile/entries/001" in told) == (0, True)
    assert (tile.read_bytes(), bundle.read_bytes()) == whole


ARCHIVING = """
import asyncio, sys
from pathlib import Path
from remediation.bootstrap import open_journal
from remediation.bootstrap.archiving import Archiver
from remediation.core.standing import Standing
from remediation.errors import RemediationError
from remediation.ports.clock import SystemClock
from remediation.settings import Settings

async def work():
    standing, clock = Standing(), SystemClock()
    home = Settings.load(Path(sys.argv[1]) / "remediation.toml", home=Path(sys.argv[1])).home
    journal = await open_journal(home, clock, folds=[standing])
    await journal.publish()
    print("open", flush=True)
    sys.stdin.readline()
    try:
        await Archiver(home, journal, standing, clock, host="test-host", cooldown_ms=0).archive(10_000, Path(sys.argv[2]))
    except RemediationError as error:
        print(f"refused: {error}")
    finally:
        await journal.close()

asyncio.run(work())
"""


def test_what_is_erased_while_an_archive_is_made_is_not_in_it(home: Home, tmp_path: Path) -> None:
    out, lock = tmp_path / "out", home.journal_lock
    (id_,) = (incident["id"] for incident in json.loads(call(home, "incidents", "--json")[1]))
    command = [sys.executable, "-c", ARCHIVING, str(home.root), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as archiving:
        assert archiving.stdin is not None
        assert archiving.stdout is not None
        try:
            assert archiving.stdout.readline() == "open\n"
            with locked(lock):
                archiving.stdin.write("go\n")
                archiving.stdin.flush()
                until(lambda: any(f"-> FLOCK  ADVISORY  WRITE {archiving.pid} " in line for line in open("/proc/locks")))
                (written,) = out.glob("journal-*.jsonl")
                assert SECRET.encode() in written.read_bytes()
                os.kill(archiving.pid, signal.SIGSTOP)
                tasks = Path(f"/proc/{archiving.pid}/task")
                until(lambda: all(") T " in (task / "stat").read_text() for task in tasks.iterdir()))
            ran = remediation("--home", str(home.root), "journal", "erase", "--incident", id_, "--reason", "asked for")
            assert ran.status == 0, ran.err
            os.kill(archiving.pid, signal.SIGCONT)
            told = archiving.communicate(timeout=60)[0]
        finally:
            archiving.kill()
    assert not [path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert "was erased meanwhile" in told
    assert list(out.glob("*.jsonl")) == []
    assert call(home, "journal", "verify")[0] == 0
    code, told = call(home, "journal", "archive", "--before", "5d", "--out", str(out), "--json")
    assert code == 0, told
    assert not [path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert call(home, "journal", "verify", "--with-archive", json.loads(told.splitlines()[-1])["path"])[0] == 0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_position_of_the_future_takes_what_there_is(home: Home, tmp_path: Path) -> None:
    code, told = call(home, "journal", "archive", "--before", "999999999", "--out", str(tmp_path / "out"))
    assert code == 0, told
    code, told = call(home, "journal", "archive", "--before", "2001-01-01", "--out", str(tmp_path / "out"))
    assert code == 1
    assert "nothing to archive" in told
