"""What strangers write is kept, shown harmlessly, and obeyed by nobody."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.installed import User

SUBJECT = (
    "\x1b[2J\x1b]0;owned\x07\x1b[31m[bold red]x[/] [link=https://example.org]y[/link] \u202eevil\u2066 \u200bz <script>|`# *\r\nE:"
)
SUMMARY = "first\r\x1b[1Asecond\n\n# heading\n| a | b |\n```\n[/] \x9b31m \x00"
DEEP = "[" * 100_000 + "]" * 100_000
HUGE = json.dumps({"text": "ü" * 5_000_000, "list": list(range(100_000))})
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
SHOWING = (
    ["incidents"],
    ["incident", "show", "{id}"],
    ["incident", "show", "{id}", "--markdown"],
    ["journal", "tail", "-n", "50"],
    ["runbooks"],
    ["doctor"],
)
ANSWERING = (["incidents", "--json"], ["incident", "show", "{id}", "--json"], ["run", "--once", "--json"], ["doctor", "--json"])


@pytest.fixture
def user(tmp_path: Path) -> User:
    user = User(tmp_path)
    user.configure('[host]\nid = "atlas-1"\n')
    return user


def report(user: User, *more: str | bytes, subject: str | bytes = "outbox", stdin: str | bytes | None = None) -> str:
    """Report something; returns the report's id."""
    command = ["report", "--code", "QUEUE_STUCK", "--subsystem", "mail", "--subject", subject, *more]
    return user.succeed(*command, stdin=stdin).out.strip()


def kept(user: User, *ids: str, everywhere: bool = False) -> list[dict[str, Any]]:
    """Have the host take everything in, look at it (`everywhere`: with every command), and return the post-mortems of `ids`."""
    user.succeed("run", "--once")
    assert list((user.home / "inbox").rglob("*.json")) == [], "it was taken in, not put aside"
    stories = [user.incident(id_) for id_ in ids]
    for command in SHOWING if everywhere else SHOWING[1:2]:
        shown = user.remediation(*(word.format(id=ids[0]) for word in command))
        assert shown.out
        assert not UNPRINTABLE.search(shown.out + shown.err), command
    for command in ANSWERING if everywhere else ():
        answer = user.remediation(*(word.format(id=ids[0]) for word in command))
        assert answer.json is not None
        assert answer.out.isascii()
        assert not UNPRINTABLE.search(answer.err)
    assert user.succeed("journal", "verify", "--json").json["ok"] is True
    assert all(len(json.dumps(story)) < 1_000_000 for story in stories)
    return stories


def test_escapes_markup_and_marks_in_every_text_are_shown_and_do_nothing(user: User) -> None:
    evidence = json.dumps({SUBJECT: [SUMMARY, {"\x1b[0m": "\x1b[0m"}]})
    (story,) = kept(
        user, report(user, "--summary", SUMMARY.replace("\0", ""), "--evidence", evidence, subject=SUBJECT), everywhere=True
    )
    assert story["subject"] == SUBJECT
    assert story["detected"]["summary"] == SUMMARY.replace("\0", "")
    shown = user.succeed("incidents").out
    assert "[bold red]x[/]" in shown, "markup is text"
    assert r"\x1b[2J" in shown
    assert len(shown.splitlines()) == 2, "one incident is one line"


def test_a_log_of_hostile_text_is_one_line_each(user: User) -> None:
    user.report("QUEUE_STUCK", SUBJECT)
    for line in user.succeed("run", "--once", "--json").err.splitlines():
        assert isinstance(json.loads(line), dict)
    user.report("QUEUE_STUCK", SUBJECT + "2")
    lines = user.succeed("run", "--once").err.splitlines()
    assert all(line.startswith(("timestamp=", "20")) for line in lines), lines


def test_bytes_that_are_no_text_are_kept_readably(user: User) -> None:
    raw = b"/srv/\xff\xfe\xed\xa0\x80"
    (story,) = kept(user, report(user, "--summary", raw, "--evidence", b'{"path": "\xff"}', subject=raw))
    assert story["subject"].startswith("/srv/\\udcff\\udcfe")
    assert "udcff" in json.dumps(story["detected"]["evidence"])


def test_evidence_that_the_journal_can_not_hold_is_told_in_words(user: User) -> None:
    expected = {
        '{"a": NaN, "b": -Infinity, "c": 1e999}': {"a": "nan", "b": "-inf", "c": "inf"},
        '{"a": 123456789012345678901234567890}': {"a": "123456789012345678901234567890"},
        r'{"a\ud800": "\udfff", "pair": "\ud83d\ude00"}': {"a\\ud800": "\\udfff", "pair": "😀"},
        "[1, 2]": {"value": [1, 2]},
        "null": {"value": None},
        '{"a": 1, "a": 2}': {"a": 2},
    }
    ids = [report(user, "--evidence", text, subject=f"case {number}") for number, text in enumerate(expected)]
    assert [story["detected"]["evidence"] for story in kept(user, *ids)] == list(expected.values())


def test_evidence_that_is_huge_or_bottomless_or_no_json_does_no_harm(user: User) -> None:
    texts = (HUGE, DEEP, f'{{"a": {DEEP}}}', "9" * 100_000, "\ufeff{}", "\x00", "{" * 50_000, "")
    ids = [report(user, "--evidence", "-", subject=f"case {number}", stdin=text) for number, text in enumerate(texts)]
    stories = kept(user, *ids)
    for story in stories:
        assert len(json.dumps(story["detected"]["evidence"], ensure_ascii=False).encode()) <= 64 * 1024
    assert "cut" in json.dumps(stories[0]["detected"]["evidence"])


def test_ten_megabytes_of_summary_and_subject_are_cut_and_different_subjects_stay_apart(user: User) -> None:
    script = (
        "from remediation import DegradationEvent, Reporter\n"
        "reporter = Reporter('.remediation')\n"
        "for end in 'ab':\n"
        "    text = 'x' * 10_000_000 + end\n"
        "    event = DegradationEvent(code='QUEUE_STUCK', subsystem='mail', subject=text, summary=text, evidence={'text': text})\n"
        "    print(reporter.report(event))\n"
    )
    ran = user.python(script)
    assert ran.status == 0, ran.err
    stories = kept(user, *ran.out.split())
    assert stories[0]["id"] != stories[1]["id"]
    for story in stories:
        assert len(story["subject"]) <= 4096
        assert len(story["detected"]["summary"]) <= 2048
        assert "10000001 characters, cut" in story["detected"]["summary"]


@pytest.mark.parametrize(
    ("option", "value"),
    [*(("--code", value) for value in ("", "a b", "\x1b[0m", "a" * 65, "ümlaut", "a\n", "../a")), ("--subsystem", "\x1b[0m")],
)
def test_a_name_that_is_none_is_wrong_use_and_is_not_repeated(option: str, value: str, user: User) -> None:
    named = {"--code": "A", "--subsystem": "b", "--subject": "c"} | {option: value}
    ran = user.remediation("report", *(f"{name}={text}" for name, text in named.items()))
    assert (ran.status, ran.out) == (2, "")
    assert option in ran.err
    assert not UNPRINTABLE.search(ran.err)


def test_what_lies_in_the_inbox_and_is_no_message_is_put_aside_and_said(user: User) -> None:
    inbox = user.home / "inbox"
    (inbox / f"{1:020d}-{'a' * 32}.json").write_text('{"v": 1, "kind": "report", "document": {"code": "\\u001b[0m"}}')
    (inbox / f"{2:020d}-{'b' * 32}.json").write_bytes(b"\xff\x00" * 1000)
    (inbox / f"{3:020d}-{'c' * 32}.json").write_text('{"v": 1, "kind": "\\u001b[2J", "document": {}}')
    (inbox / f"{4:020d}-{'d' * 32}.json").symlink_to("/etc/passwd")
    (inbox / f"{5:020d}-{'e' * 32}.json").write_text("[" * 100_000)
    ran = user.succeed("run", "--once")
    assert not UNPRINTABLE.search(ran.err)
    reasons = sorted(path.name for path in (inbox / "rejected").glob("*.reason"))
    assert len(reasons) == 5, ran.err
    assert "5 were refused" in user.remediation("doctor").out
