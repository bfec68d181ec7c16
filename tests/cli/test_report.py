"""`report`: durable when it returns, without key or host, and never a reason to lose what was seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.written_journal import remediation

from remediation.journal.inbox import Inbox, Message
from remediation.model.events import DegradationEvent
from remediation.settings import Home

NAMED = ("--code", "QUEUE_STUCK", "--subsystem", "mail", "--subject", "outbox")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def taken_in(home: Home) -> list[Message]:
    found = list(Inbox(home.inbox).messages())
    assert all(isinstance(message, Message) for message in found)
    return found


def test_a_report_lies_in_the_inbox_under_the_id_that_is_printed(home: Home) -> None:
    ran = remediation("report", *NAMED, "--severity", "P1", "--summary", "no mail for an hour", "--home", str(home.root))
    assert ran.status == 0, ran.err
    (message,) = taken_in(home)
    assert ran.out == f"{message.id}\n"
    assert (message.kind, message.actor) == ("report", f"uid:{os.getuid()}")
    event = DegradationEvent.model_validate(message.document)
    assert (event.code, event.subsystem, event.subject, event.severity, event.summary) == (
        "QUEUE_STUCK",
        "mail",
        "outbox",
        "P1",
        "no mail for an hour",
    )
    assert event.observed_at


def test_evidence_is_json_from_the_line_or_from_standard_input(home: Home) -> None:
    assert remediation("report", *NAMED, "--evidence", '{"depth": 900}', "--home", str(home.root)).status == 0
    assert remediation("report", *NAMED, "--evidence", "-", "--home", str(home.root), stdin='{"depth": 901}').status == 0
    assert [DegradationEvent.model_validate(message.document).evidence for message in taken_in(home)] == [
        {"depth": 900},
        {"depth": 901},
    ]


def test_evidence_that_is_not_json_is_kept_as_text(home: Home) -> None:
    ran = remediation("report", *NAMED, "--evidence", "{depth", "--home", str(home.root))
    assert ran.status == 0
    assert "not JSON" in ran.err
    (message,) = taken_in(home)
    assert DegradationEvent.model_validate(message.document).evidence == {"text": "{depth"}


def test_the_json_form_names_the_fingerprint(home: Home) -> None:
    answer = remediation("report", *NAMED, "--json", "--home", str(home.root)).json
    (message,) = taken_in(home)
    assert answer == {"id": message.id, "fingerprint": DegradationEvent.model_validate(message.document).fingerprint}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--code", "no good", "--code"),
        ("--subsystem", "", "--subsystem"),
        ("--subject", " ", "--subject"),
        ("--severity", "P9", "--severity"),
    ],
)
def test_a_report_that_names_nothing_is_wrong_use(option: str, value: str, said: str, home: Home) -> None:
    ran = remediation("report", *NAMED, option, value, "--home", str(home.root))
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert taken_in(home) == []


def test_bytes_that_are_no_text_are_reported_all_the_same(home: Home) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "remediation", "report", *NAMED[:-1], b"/srv/\xff\n", "--home", str(home.root)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    (message,) = taken_in(home)
    assert DegradationEvent.model_validate(message.document).subject == "/srv/\\udcff\n"


def test_a_home_that_can_not_be_written_is_a_no(home: Home) -> None:
    home.inbox.rmdir()
    home.inbox.write_text("in the way")
    assert remediation("report", *NAMED, "--home", str(home.root)).status == 2


def test_a_report_needs_no_library_of_the_host(home: Home) -> None:
    probe = (
        "import sys, atexit, json\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        "from remediation.cli import main\n"
        f"sys.argv = {['remediation', 'report', *NAMED, '--home', str(home.root)]!r}\n"
        "main()\n"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    loaded = set(json.loads(ran.stderr.splitlines()[-1]))
    assert not loaded & {
        "asyncio",
        "aiosqlite",
        "sqlite3",
        "anyio",
        "structlog",
        "cryptography",
        "pluggy",
        "psutil",
        "rich.console",
    }


def test_a_severity_may_be_written_in_lower_case(home: Home) -> None:
    assert remediation("report", *NAMED, "--severity", "p1", "--home", str(home.root)).status == 0
    (message,) = home.inbox.glob("*.json")
    assert json.loads(message.read_text())["document"]["severity"] == "P1"
