"""What people ask of the host goes through the inbox, and is answered when a host runs."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.written_journal import WrittenJournal, remediation

from remediation.journal.inbox import Inbox, Message


@pytest.fixture
def written(tmp_path: Path) -> WrittenJournal:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream(), stories.escalated())
    return journal


def asked(written: WrittenJournal) -> Message:
    (message,) = Inbox(written.home.inbox).messages()
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize("kind", ["close", "reopen"])
def test_a_request_about_an_incident_names_it_in_full(kind: str, written: WrittenJournal) -> None:
    ran = remediation("incident", kind, "0a1b", "--reason", "mended", "--home", str(written.home.root))
    assert ran.status == 0, ran.err
    assert "when a host runs" in ran.out
    message = asked(written)
    assert (message.kind, message.document) == (kind, {"incident": stories.incident_id(), "reason": "mended"})


def test_a_request_about_an_unknown_incident_is_refused_at_once(written: WrittenJournal) -> None:
    assert remediation("incident", "close", "77", "--home", str(written.home.root)).status == 1
    assert list(Inbox(written.home.inbox).messages()) == []


def test_a_pause_ends_at_a_time_or_after_a_duration(written: WrittenJournal) -> None:
    answer = remediation("pause", "--until", "2h", "--reason", "migration", "--json", "--home", str(written.home.root)).json
    message = asked(written)
    assert answer == {"id": message.id, "state": "waiting"}
    assert message.document["reason"] == "migration"
    assert message.document["panic"] is False
    assert abs(message.document["until"] - (time.time() + 7200) * 1000) < 60_000


@pytest.mark.parametrize("until", ["2999-01-01", "2999-01-01T12:00Z", "2999-01-01T12:00+02:00"])
def test_a_pause_takes_iso_times(until: str, written: WrittenJournal) -> None:
    assert remediation("pause", "--until", until, "--home", str(written.home.root)).status == 0
    assert datetime.fromtimestamp(asked(written).document["until"] / 1000, UTC).year in {2998, 2999}


@pytest.mark.parametrize("until", ["soon", "2001-01-01", "-1h", ""])
def test_a_pause_that_can_not_be_is_wrong_use(until: str, written: WrittenJournal) -> None:
    ran = remediation("pause", f"--until={until}", "--home", str(written.home.root))
    assert ran.status == (2 if until else 0)


def test_panic_and_resume(written: WrittenJournal) -> None:
    assert remediation("panic", "--home", str(written.home.root)).status == 0
    message = asked(written)
    assert (message.kind, message.document["panic"], message.document["until"]) == ("pause", True, 0)
    Inbox(written.home.inbox).done(message)
    assert remediation("resume", "--home", str(written.home.root)).status == 0
    assert asked(written).kind == "resume"


def test_the_doctor_sees_what_waits_and_what_was_refused(written: WrittenJournal) -> None:
    remediation("resume", "--home", str(written.home.root))
    inbox = Inbox(written.home.inbox)
    inbox.put("nonsense", {}, at=0)
    refused = next(iter(inbox.messages()))
    inbox.reject(refused.path, "nobody knows it")
    findings = json.loads(remediation("doctor", "--json", "--home", str(written.home.root)).out)["findings"]
    said = [finding["message"] for finding in findings if finding["check"] == "inbox"]
    assert said == ["1 were refused", "1 wait, and no host runs"]
