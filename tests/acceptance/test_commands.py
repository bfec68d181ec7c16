"""Every command on a real home: exit codes, answers for programs, and homes and settings that are not as they should be."""

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.installed import Ended, User

from remediation.proof import Checkpoint

READING = {
    "incidents": ["incidents"],
    "incident show": ["incident", "show", "{incident}"],
    "runbooks": ["runbooks"],
    "runbooks list": ["runbooks", "list"],
    "journal verify": ["journal", "verify"],
    "approvals": ["approvals"],
    "approvals list": ["approvals", "list"],
    "trust": ["trust"],
    "trust list": ["trust", "list"],
    "keys list": ["keys", "list"],
    "secrets list": ["secrets", "list"],
    "doctor": ["doctor"],
}
ASKING = {
    "incident close": ["incident", "close", "{incident}", "--reason", "mended"],
    "incident reopen": ["incident", "reopen", "{incident}"],
    "pause": ["pause", "--until", "2h"],
    "panic": ["panic"],
    "resume": ["resume"],
}
WRITING = {"report": ["report", "--code", "A", "--subsystem", "b", "--subject", "c"], "run": ["run", "--once"], "init": ["init"]}
OTHER = {"journal tail": ["journal", "tail"], "journal export": ["journal", "export"], "demo": ["demo"]}
ELSEWHERE = (
    *("approvals show", "approve", "deny"),
    *(f"journal {name}" for name in ("prove", "recover", "erase", "archive")),
    *(f"keys {name}" for name in ("rotate", "export", "passphrase")),
    *(f"runbooks {name}" for name in ("show", "replay", "promote", "quarantine", "release")),
    *(f"secrets {name}" for name in ("set", "rm", "rotate")),
    *("trust grant", "trust revoke", "watchdog"),
)
"""Commands that have tests of their own in tests/cli."""
ALL = {**READING, **ASKING, **WRITING, **OTHER}
# One of each way in which commands come to a home.
AT_ANY_HOME = {
    name: ALL[name]
    for name in ("incidents", "incident show", "incident close", "pause", "doctor", "journal verify", "journal export", *WRITING)
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one escalated incident, to be copied."""
    user = User(tmp_path_factory.mktemp("prepared"))
    user.configure('[host]\nid = "atlas-1"\n')
    user.report("QUEUE_STUCK", "outbox", "--summary", "no mail for an hour", "--evidence", '{"depth": 900}')
    user.succeed("run", "--once")
    return user.folder


@pytest.fixture
def user(prepared: Path, tmp_path: Path) -> User:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return User(tmp_path)


def words(user: User, command: list[str]) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{user.home / 'journal.sqlite3'}?mode=ro", uri=True)) as database:
        (stream,) = database.execute("SELECT stream FROM entry WHERE type = 'degradation.reported'").fetchone()
    id_ = stream.removeprefix("incident/").replace("/", "-")
    return [word.format(incident=id_) for word in command]


def test_the_table_above_lists_every_command(tmp_path: Path) -> None:
    def below(path: list[str]) -> Iterator[str]:
        shown = User(tmp_path).succeed(*path, "--help").out
        _, found, listed = shown.partition("\nCommands:\n")
        if path and (not found or " ".join(path) in ALL):
            yield " ".join(path)
        for name in re.findall(r"^  (\S+)", listed, re.MULTILINE) if found else ():
            yield from below([*path, name])

    assert set(below([])) == {*ALL, *ELSEWHERE}


@pytest.mark.parametrize("name", READING)
def test_a_reading_command_answers_in_json_and_in_plain_text(name: str, user: User) -> None:
    command = words(user, READING[name])
    answer = user.succeed(*command, "--json")
    assert isinstance(answer.json, dict | list)
    assert answer.out.isascii()
    assert answer.out.count("\n") == 1
    plain = user.succeed(*command)
    assert (plain.out + plain.err).strip()  # that there is nothing is said, and not in the way of who reads the list
    assert "\x1b" not in plain.out


def test_the_tail_answers_in_json_lines(user: User) -> None:
    lines = [Ended(0, line, "").json for line in user.succeed("journal", "tail", "--json").out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert {"host.started", "degradation.reported", "incident.settled", "host.stopped"} <= {line["type"] for line in lines}


@pytest.mark.parametrize("name", ASKING)
def test_what_is_asked_is_done_when_the_host_runs_next(name: str, user: User) -> None:
    asked = user.succeed(*words(user, ASKING[name]), "--json").json
    assert asked["state"] == "waiting"
    user.succeed("run", "--once")
    kinds = {
        "incident close": "incident.settled",
        "incident reopen": "incident.reopened",
        "pause": "pause.started",
        "panic": "pause.started",
        "resume": "pause.ended",
    }
    assert kinds[name] in user.types()[5:]
    assert list((user.home / "inbox" / "rejected").glob("*")) == []


def test_init_names_the_settings_that_count(user: User) -> None:
    answer = user.succeed("init", "--json").json
    assert answer["made"] is False
    assert answer["settings"] == str(user.folder / "remediation.toml")
    assert answer["settings"] in user.succeed("init").out


def test_an_incident_nobody_knows_is_a_no(user: User) -> None:
    for command in ("show", "close", "reopen"):
        ran = user.remediation("incident", command, "ffffffff")
        assert (ran.status, ran.out) == (1, "")
        assert "there is no incident ffffffff" in ran.err


@pytest.mark.parametrize(
    "command",
    [
        ["no-such-command"],
        ["incidents", "--no-such-option"],
        ["incident", "show"],
        ["report", "--code", "A"],
        ["report", "--code", "no good", "--subsystem", "b", "--subject", "c"],
        ["report", "--code", "A", "--subsystem", "b", "--subject", "c", "--severity", "P9"],
        ["pause", "--until", "yesterday"],
        ["pause", "--until", "2001-01-01T00:00Z"],
        ["journal", "export", "--format", "xml"],
        ["journal", "verify", "--vkey", "nonsense"],
        ["journal", "verify", "--head", "/nowhere"],
        ["journal", "verify", "/nowhere"],
        ["incident", "show", "x", "--json", "--markdown"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_2(command: list[str], user: User) -> None:
    ran = user.remediation(*command)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.strip()


def test_tampering_is_3(user: User) -> None:
    with contextlib.closing(sqlite3.connect(user.home / "journal.sqlite3")) as database, database:
        database.execute("UPDATE payload SET body = CAST(replace(CAST(body AS TEXT), 'outbox', 'inboxx') AS BLOB)")
    ran = user.remediation("journal", "verify", "--json")
    assert ran.status == 3
    assert ran.json["ok"] is False
    assert ran.json["problems"]
    assert "NOT verified" in user.remediation("journal", "verify").out


def test_a_journal_from_an_old_backup_is_4_and_is_never_continued(user: User) -> None:
    files = {path: path.read_bytes() for path in user.home.glob("journal.sqlite3*")}
    user.report("QUEUE_STUCK", "another")
    user.succeed("run", "--once")
    for path in user.home.glob("journal.sqlite3*"):
        path.unlink()
    for path, content in files.items():
        path.write_bytes(content)
    ran = user.remediation("journal", "verify", "--json")
    assert ran.status == 4
    assert ran.json["problems"]
    again = user.remediation("run", "--once")
    assert again.status == 4
    assert "behind" in again.err or "rolled back" in again.err


def test_an_export_that_was_cut_is_5(user: User) -> None:
    exported = user.succeed("journal", "export").out.splitlines(keepends=True)
    (user.folder / "cut.jsonl").write_text("".join(exported[:-1]))
    assert user.remediation("journal", "verify", "cut.jsonl").status == 5


@pytest.mark.parametrize("name", [name for name in AT_ANY_HOME if name != "init"])
def test_a_missing_home_is_2_and_says_how_to_make_one(name: str, tmp_path: Path) -> None:
    ran = User(tmp_path).remediation(*AT_ANY_HOME[name])
    assert ran.status == (1 if name == "doctor" else 2)
    assert "init" in ran.out + ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", AT_ANY_HOME)
def test_a_journal_of_a_newer_format_is_left_alone(name: str, user: User) -> None:
    command = words(user, AT_ANY_HOME[name])
    with contextlib.closing(sqlite3.connect(user.home / "journal.sqlite3")) as database, database:
        database.execute("PRAGMA user_version = 7")
    before = (user.home / "journal.sqlite3").read_bytes()
    ran = user.remediation(*command)
    assert (user.home / "journal.sqlite3").read_bytes() == before
    if name in ("init", "report"):  # neither opens the journal
        assert ran.status == 0, ran.err
        return
    assert ran.status == (5 if name == "journal verify" else 1), ran.out
    assert "is in format 7, this release reads 1; upgrade remediation" in ran.out + ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[gate]\nprofil = "autonomous"', "did you mean 'profile'?"),
        ("[gat]\n", "did you mean [gate]?"),
        ("[limits]\ncooldwn = 3", "did you mean 'cooldown'?"),
        ('[gate]\nprofile = "autonomus"', "'autonomous'"),
        ('[limits]\ncooldown = "soon"', "cooldown"),
        ("[gate\n", "remediation.toml"),
        ('[[sentinels.sqlight]]\npath = "x"', "sentinels.sqlight"),
        ('[host]\nplugins = ["no_such_module"]', "no_such_module"),
        ('[host]\nautoload = ["no-such-plugin"]', "no-such-plugin"),
    ],
)
def test_a_mistake_in_the_settings_is_a_sentence(text: str, said: str, user: User) -> None:
    (user.folder / "remediation.toml").write_text(text)
    ran = user.remediation("run", "--once")
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert user.report("QUEUE_STUCK", "reports need no settings")


# Root obeys file modes, as everybody else does, without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (PR_CAPBSET_DROP is 24).
AS_ANYBODY = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "remediation", *sys.argv[1:]])
"""


def as_anybody(user: User, *arguments: str) -> Ended:
    ended = user.python(AS_ANYBODY, *arguments)
    assert "Traceback" not in ended.err
    assert "internal error" not in ended.err, ended.err
    return ended


@contextlib.contextmanager
def mode(folder: Path, mode: int) -> Iterator[None]:
    """Everything below `folder` with the write bits of `mode`; put back at the end."""
    paths = [folder, *folder.rglob("*")]
    before = [(path, path.stat().st_mode) for path in paths]
    for path, old in reversed(before):
        path.chmod(old & mode)
    try:
        yield
    finally:
        for path, old in before:
            path.chmod(old)


@pytest.mark.parametrize("name", AT_ANY_HOME)
def test_a_home_that_can_only_be_read_is_a_clear_error_or_enough(name: str, user: User) -> None:
    command = words(user, AT_ANY_HOME[name])
    with mode(user.home, 0o555):
        ran = as_anybody(user, *command)
    if name in READING or name in ("init", "journal export"):
        assert ran.status == 0 or ran.err.strip() or name == "doctor", ran.out
    else:
        assert ran.status in (1, 2), ran.out
        assert str(user.home) in ran.err


@pytest.mark.parametrize("name", AT_ANY_HOME)
def test_a_home_that_belongs_to_somebody_else_is_a_clear_error(name: str, user: User) -> None:
    command = words(user, AT_ANY_HOME[name])
    with mode(user.home, 0o000):
        ran = as_anybody(user, *command)
    assert ran.status in (1, 2), ran.out
    assert str(user.home) in ran.err + ran.out
    assert re.search("[Pp]ermission denied|can't be", ran.err + ran.out)


def test_nothing_was_changed_by_all_that(user: User) -> None:
    note = user.succeed("journal", "verify", "--json").json
    head = next((user.folder / "state" / "remediation").glob("*/head.note")).read_text()
    assert Checkpoint.parse(head.partition("\n\n")[0] + "\n").size <= note["size"]
    assert os.access(user.home, os.W_OK)
