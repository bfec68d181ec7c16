"""`report --dry-run` and `run --profile`: what would be done, and nothing done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.command_homes import CommandHome


@pytest.fixture
def place(tmp_path: Path) -> CommandHome:
    return CommandHome(tmp_path)


def test_the_plan_is_shown_with_its_diff_and_nothing_is_touched(place: CommandHome) -> None:
    subject = place.break_file()
    before = place.untouchable()
    ran = place.report(subject, "--dry-run")
    assert (ran.status, ran.err) == (0, "")
    assert "nothing was done" in ran.out
    assert "Acts without a person: yes" in ran.out
    assert "    -broken\n" in ran.out
    assert "    +mended\n" in ran.out
    assert "collaborative, in force: proceed" in ran.out
    assert "supervised: ask" in ran.out
    assert place.untouchable() == before


def test_programs_get_the_same_as_json(place: CommandHome) -> None:
    told = place.report(place.break_file(), "--dry-run", "--json").json
    assert (told["dry_run"], told["answer"], told["acts"], told["runbook"]) == (True, "proceed", True, "mend")
    (rung,) = told["ladder"]
    assert rung["finding"] == {"applicable": True, "confidence": 80, "reason": "", "evidence": ["it holds broken"]}
    assert "+mended" in rung["plan"]["plan"]["effects"][0]["diff"]
    assert {row["profile"]: row["decision"] for row in rung["profiles"]} == {
        "observe": "observe",
        "supervised": "ask",
        "collaborative": "proceed",
        "autonomous": "proceed",
    }


@pytest.mark.parametrize(
    ("text", "code", "profile", "answer"),
    [
        ("mended", "BROKEN", "collaborative", "none"),
        ("broken", "OTHER", "collaborative", "none"),
        ("broken", "BROKEN", "supervised", "ask"),
        ("broken", "BROKEN", "observe", "observe"),
        ("raising", "BROKEN", "autonomous", "none"),
        ("hanging", "BROKEN", "autonomous", "none"),
        ("stubborn", "BROKEN", "autonomous", "refuse"),
    ],
)
def test_where_nothing_would_be_done_it_ends_with_1(text: str, code: str, profile: str, answer: str, tmp_path: Path) -> None:
    place = CommandHome(tmp_path, profile=profile)
    ran = place.report(place.break_file(text=text), "--dry-run", "--json", code=code)
    assert ran.status == 1, ran.err
    assert ran.json["answer"] == answer
    assert list(place.temporary.iterdir()) == []


def test_a_code_in_other_letters_is_answered_with_the_one_that_is_meant(place: CommandHome) -> None:
    ran = place.report(place.break_file(), "--dry-run", code="broken")
    assert (ran.status, "no runbook handles broken; did you mean BROKEN?" in ran.out) == (1, True)
    assert "did you mean" not in place.report(place.break_file(), "--dry-run", code="OTHER").out


def test_it_needs_no_key_and_no_journal(place: CommandHome) -> None:
    subject = place.break_file()
    for path in (place.keys / "signing.key", place.home / "journal.sqlite3"):
        path.unlink()
    ran = place.report(subject, "--dry-run", "--json")
    assert ran.status == 0, ran.err
    assert any("no journal yet" in note for note in ran.json["notes"])


def test_wrong_use_stays_wrong_use(place: CommandHome) -> None:
    assert place("report", "--code", "", "--subsystem", "s", "--subject", "x", "--dry-run").status == 2
    (place.home / "remediation.toml").write_text("[gate]\nprofile = 'reckless'\n")
    assert place.report(place.break_file(), "--dry-run").status == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("text", ["hanging", "blocking"])
def test_a_signal_ends_it_and_leaves_nothing_behind(number: signal.Signals, text: str, place: CommandHome) -> None:
    subject = place.break_file(text=text)
    arguments = ["report", "--code", "BROKEN", "--subsystem", "s", "--subject", subject, "--dry-run", "--home", str(place.home)]
    process = subprocess.Popen(
        [sys.executable, "-m", "remediation", *arguments],
        env={**os.environ, **dict(place.env)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not list(place.temporary.glob("*/blobs")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 128 + number, err
    assert "nothing was done" in err
    assert list(place.temporary.iterdir()) == []


def test_a_stricter_profile_can_be_asked_for_and_a_laxer_one_is_wrong_use(place: CommandHome) -> None:
    subject = place.break_file()
    refused = place("run", "--once", "--profile", "autonomous")
    assert refused.status == 2
    assert "allows more than collaborative" in refused.err
    place.report(subject)
    ran = place("run", "--once", "--profile", "observe", "--json")
    assert ran.status == 0, ran.err
    assert Path(subject).read_text() == "broken"
    (incident,) = place.incidents()
    assert (incident["status"], incident["held"], incident["withheld"]) == ("escalated", True, True)
    shown = place("incident", "show", incident["id"]).out
    assert "    +mended\n" in shown
    assert "Then: not applied" in shown
    assert "withheld" in place("incidents").out


def test_after_it_was_observed_a_person_may_have_it_tried(place: CommandHome) -> None:
    subject = place.break_file()
    place.report(subject)
    place("run", "--once", "--profile", "observe")
    (incident,) = place.incidents()
    joined = place.report(subject, "--dry-run", "--json")
    assert joined.status == 1
    assert (joined.json["answer"], joined.json["joins"]) == ("joins", incident["id"])
    place("incident", "reopen", incident["id"])
    place("run", "--once")
    assert Path(subject).read_text() == "mended"
    assert json.loads(place("incident", "show", incident["id"], "--json").out)["status"] == "resolved"
