"""`doctor`: each thing that can be wrong is told, with its mending; what is well is no problem."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import stories
from tests.support.crashing import ROOT
from tests.support.written_journal import Ran, WrittenJournal, remediation

from remediation.coordination.locks import HostLock
from remediation.coordination.machine_lock import MachineLock
from remediation.journal.inbox import Inbox
from remediation.model import entries
from remediation.ports.clock import SystemClock
from remediation.ports.locking import Claim


@pytest.fixture
def written(tmp_path: Path) -> WrittenJournal:
    return WrittenJournal.make(tmp_path)


def doctor(written: WrittenJournal, *options: str) -> Ran:
    return remediation("doctor", "--home", str(written.home.root), *options)


def findings(written: WrittenJournal, check: str) -> list[dict[str, Any]]:
    document = json.loads(doctor(written, "--json").out)
    return [finding for finding in document["findings"] if finding["check"] == check and finding["level"] != "ok"]


def configure(written: WrittenJournal, more: str) -> None:
    text = written.home.config.read_text()
    written.home.config.write_text(text + more)


def test_a_sound_home_has_no_problem(written: WrittenJournal) -> None:
    ran = doctor(written, "--json")
    assert ran.status == 0, ran.out
    document = json.loads(ran.out)
    assert document["ok"] is True
    assert not [finding for finding in document["findings"] if finding["level"] == "problem"]


def test_no_home_is_a_problem_that_says_how_to_make_one(tmp_path: Path) -> None:
    ran = remediation("doctor", "--home", str(tmp_path / "nowhere"))
    assert ran.status == 1
    assert "init" in ran.out


def test_jobs_that_can_not_run_are_told_with_what_is_missing(written: WrittenJournal) -> None:
    configure(
        written,
        """
[[jobs]]
name = "fine"
command = ["sh", "-c", "true"]
every = "1h"
[[jobs]]
name = "typo"
command = ["no-such-program"]
every = "1h"
[[jobs]]
name = "moved"
command = ["sh"]
cwd = "nowhere"
every = "1h"
[[jobs]]
name = "script"
command = ["./build.sh"]
every = "1h"
""",
    )
    said = [finding["message"] for finding in findings(written, "sentinels")]
    assert [text.partition(":")[0] for text in said] == [f"the job {name} can't run" for name in ("typo", "moved", "script")]
    assert "no-such-program" in said[0]
    assert str(written.home.root / "nowhere") in said[1]
    script = written.home.root / "build.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    assert len(findings(written, "sentinels")) == 2


def test_a_database_and_backups_that_are_not_there_are_told(written: WrittenJournal) -> None:
    configure(written, '\n[[sentinels.sqlite]]\npath = "app.db"\nbackups = ["backups/app-*.db"]\n')
    first, second = (finding["message"] for finding in findings(written, "sentinels"))
    assert f"the database {written.home.root / 'app.db'} is not there" in first
    assert "matches backups/app-*.db" in second
    assert doctor(written).status == 0
    (written.home.root / "backups").mkdir()
    for name in ("app.db", "backups/app-1.db"):
        (written.home.root / name).write_text("x")
    assert findings(written, "sentinels") == []


def test_a_home_that_others_can_read_is_told(written: WrittenJournal) -> None:
    written.home.root.chmod(0o755)
    (finding,) = findings(written, "home")
    assert finding["mend"] == f"chmod 700 {written.home.root}"


def test_settings_that_can_not_be_used_are_all_told(written: WrittenJournal) -> None:
    written.home.config.write_text("[gate]\nprofil = 1\n[limit]\n")
    assert doctor(written).status == 1
    assert len(findings(written, "settings")) == 2


@pytest.mark.parametrize("name", ["signing.key", "head.note"])
def test_a_missing_key_file_is_told(name: str, written: WrittenJournal) -> None:
    (written.home.keys / name).unlink()
    assert doctor(written).status == 1
    assert name in findings(written, "keys")[0]["message"]


def test_missing_keys_are_told(written: WrittenJournal) -> None:
    shutil.rmtree(written.home.keys)
    assert doctor(written).status == 1
    assert "there is no folder" in findings(written, "keys")[0]["message"]


def test_a_key_that_others_can_read_is_told(written: WrittenJournal) -> None:
    written.home.signing_key.chmod(0o644)
    assert doctor(written).status == 1
    assert findings(written, "keys")[0]["mend"] == f"chmod 600 {written.home.signing_key}"


def test_keys_inside_the_home_are_told(written: WrittenJournal) -> None:
    shutil.copytree(written.home.keys, written.home.root / "keys")
    written.home.config.write_text('[host]\nid = "atlas"\n[keys]\ndir = "keys"\n')
    assert "the keys lie in the home" in findings(written, "keys")[0]["message"]


def test_a_channel_whose_program_is_missing_is_told(written: WrittenJournal) -> None:
    configure(written, '[channels]\ncommand = ["no-such-program"]\n')
    assert doctor(written).status == 1
    assert "no-such-program" in findings(written, "channels")[0]["message"]


def test_a_channel_beside_the_settings_is_found(written: WrittenJournal) -> None:
    program = written.home.root / "page"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    configure(written, '[channels]\ncommand = ["./page"]\n')
    assert findings(written, "channels") == []


def test_roots_that_are_missing_or_everything_are_told(written: WrittenJournal, tmp_path: Path) -> None:
    configure(written, f'[effects]\nroots = ["/", "{tmp_path}/gone", "{tmp_path}"]\n')
    said = [finding["message"] for finding in findings(written, "effects")]
    assert said == ["[effects] roots allows the whole file system", f"{tmp_path}/gone of [effects] roots is not there"]


def test_a_plugin_or_sentinel_that_can_not_be_used_is_told(written: WrittenJournal) -> None:
    configure(written, "[[sentinels.nosuch]]\nx = 1\n")
    assert doctor(written).status == 1
    assert "nosuch" in findings(written, "plugins")[0]["message"]


def test_a_misspelt_runbook_is_told_with_the_one_that_was_meant(written: WrittenJournal) -> None:
    configure(written, '[runbooks."sqlite-coruption"]\nstate = "live"\n')
    (finding,) = [finding for finding in findings(written, "runbooks") if "sqlite-coruption" in finding["message"]]
    assert finding["mend"] == "did you mean sqlite-corruption?"


def test_what_waits_for_a_person_is_told(written: WrittenJournal) -> None:
    written.write(stories.stream("00000001"), stories.escalated())
    dirty = [*stories.healed()[:3], stories.settled("heal_failed", "could not be taken back", held=True, dirty=True)]
    written.write(stories.stream("00000002"), dirty)
    ran = doctor(written)
    assert ran.status == 1
    assert f"remediation incident show {stories.incident_id('00000001')}" in ran.out
    assert f"remediation incident show {stories.incident_id('00000002')}" in ran.out


def test_what_lies_in_the_inbox_and_is_no_message_is_told_apart_from_what_waits(written: WrittenJournal) -> None:
    inbox = written.home.inbox
    for name in ("note.txt", "report.json", ".tmp"):
        (inbox / name).write_text("{}")
    (inbox / "rejected").mkdir(exist_ok=True)
    (said,) = findings(written, "inbox")
    assert said["level"] == "warning"
    assert said["message"].startswith("2 that lie there are no messages")
    Inbox(inbox).put("report", {}, at=1)
    assert [item["message"] for item in findings(written, "inbox")][1:] == ["1 wait, and no host runs"]


def test_runbooks_that_may_not_act_are_told(written: WrittenJournal) -> None:
    registered = entries.RunbookRegistered(runbook="x", code_digest="0", plugin="p", spec="{}")
    written.write("runbook/x", [registered, entries.RunbookQuarantined(runbook="x", by="host", reason="failed twice")])
    said = [finding["message"] for finding in findings(written, "runbooks")]
    assert said == ["none is live: plans are recorded, nothing is mended", "x is quarantined: quarantined by host: failed twice"]


def test_a_journal_that_can_not_be_read_is_told(written: WrittenJournal) -> None:
    written.home.journal.write_bytes(b"nothing")
    assert doctor(written).status == 1
    assert findings(written, "journal")


def test_a_rolled_back_journal_is_told(written: WrittenJournal) -> None:
    old = written.home.journal.read_bytes()
    written.write(stories.stream(), stories.healed())
    for file in written.home.root.glob("journal.sqlite3*"):
        file.unlink()
    written.home.journal.write_bytes(old)
    assert doctor(written).status == 1
    assert "rolled back" in findings(written, "journal")[0]["message"]


def test_a_host_that_runs_is_told_from_one_that_died(written: WrittenJournal) -> None:
    started = entries.HostStarted(instance="i1", pid=os.getpid(), boot_id="", version="0", profile="observe", configuration="")
    written.write("host/atlas", [started])
    assert "none runs; the last one did not end in an orderly way" in doctor(written).out
    lock = HostLock(written.home.locks, "i1")
    assert f"runs (pid {os.getpid()}, profile observe)" in doctor(written).out
    lock.release()


def test_who_holds_a_lock_is_told_and_that_a_dead_holder_left_something_behind(written: WrittenJournal) -> None:
    assert findings(written, "locks") == []
    locks = MachineLock(written.home.locks, SystemClock())
    held = locks.try_acquire("subject", Claim("i1", "incident-1"))
    assert held is not None
    assert f"incident incident-1 is locked by host i1 (pid {os.getpid()}" in doctor(written).out
    held.release()
    script = f"""
import os, subprocess, sys
from pathlib import Path
from remediation.coordination.machine_lock import MachineLock
from remediation.ports.clock import SystemClock
from remediation.ports.locking import Claim
held = MachineLock(Path({str(written.home.locks)!r}), SystemClock()).try_acquire("subject", Claim("i2", "incident-2"))
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=sys.stdin, stdout=subprocess.DEVNULL, pass_fds=held.descriptors)
os.kill(os.getpid(), 9)
"""
    dead = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}
    )
    dead.wait()
    try:
        told = findings(written, "locks")
        assert [item["level"] for item in told] == ["warning"]
        assert "what it started still runs" in told[0]["message"]
    finally:
        assert dead.stdin
        dead.stdin.close()


def test_the_doctor_changes_nothing(written: WrittenJournal) -> None:
    before = {
        path: path.read_bytes() for path in written.home.root.rglob("*") if path.is_file() and "journal.sqlite3-" not in path.name
    }
    doctor(written)
    assert {path: path.read_bytes() for path in before} == before
