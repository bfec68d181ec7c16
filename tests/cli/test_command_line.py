"""What holds for all commands: where options stand, exit codes, and messages instead of tracebacks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.written_journal import WrittenJournal, remediation
from typer.testing import CliRunner

from remediation.cli import output
from remediation.cli.app import app
from remediation.errors import (
    ConfigurationError,
    IdConflict,
    JournalDamaged,
    JournalRolledBack,
    JournalUnavailable,
    RegistrationError,
)


def commands() -> list[list[str]]:
    """Every command, as words to type."""

    def below(path: list[str]) -> list[list[str]]:
        shown = CliRunner().invoke(app, [*path, "--help"]).output
        _, found, listed = shown.partition("\nCommands:\n")
        if not found:
            return [path]
        names = re.findall(r"^  (\S+)", listed, re.MULTILINE)
        return [path, *(command for name in names for command in below([*path, name]))]

    return below([])


COMMANDS = commands()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream(), stories.healed())
    return journal.home.root


def test_all_commands_are_found() -> None:
    assert ["incident", "show"] in COMMANDS
    assert ["journal", "tail"] in COMMANDS


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_the_command_and_knows_the_home(command: list[str]) -> None:
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "--home " in shown.output
    assert len(shown.output.splitlines()) > 5


@pytest.mark.parametrize(
    "command", [["incidents"], ["incident", "show", "0a1b"], ["journal", "tail"], ["runbooks", "list"]], ids=" ".join
)
def test_the_home_is_taken_wherever_it_is_typed(command: list[str], home: Path, tmp_path: Path) -> None:
    option = ["--home", str(home)]
    expected = remediation(*command, *option)
    assert expected.status == 0, expected.err
    for at in range(len(command) + 1):
        if command[at - 1 : at] == ["show"]:
            continue
        ran = remediation(*command[:at], *option, *command[at:], cwd=tmp_path)
        assert (ran.status, ran.out) == (0, expected.out), ran.err


def test_the_innermost_home_wins(home: Path, tmp_path: Path) -> None:
    assert remediation("--home", str(tmp_path / "nowhere"), "incidents", "--home", str(home)).status == 0
    assert remediation("--home", str(home), "incidents", "--home", str(tmp_path / "nowhere")).status == 2


def test_the_home_comes_from_the_environment_or_the_working_directory(home: Path, tmp_path: Path) -> None:
    assert remediation("incidents", env={"REMEDIATION_HOME": str(home)}.items()).status == 0
    home.rename(tmp_path / ".remediation")
    assert remediation("incidents", cwd=tmp_path).status == 0


def test_a_missing_home_says_how_to_make_one(tmp_path: Path) -> None:
    ran = remediation("incidents", "--home", str(tmp_path / "nowhere"))
    assert (ran.status, ran.out) == (2, "")
    assert "init" in ran.err


@pytest.mark.parametrize(
    "wrong", [["no-such-command"], ["incidents", "--no-such-option"], ["incident", "show"], ["incidents", "--limit", "x"]]
)
def test_wrong_use_is_2_and_goes_to_standard_error(wrong: list[str]) -> None:
    ran = remediation(*wrong)
    assert (ran.status, ran.out) == (2, "")
    assert "--help" in ran.err


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"remediation \d+\.\d+\.\d+\n", remediation("--version").out)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JournalRolledBack("x"), 4),
        (JournalDamaged("x"), 3),
        (ConfigurationError("x"), 2),
        (RegistrationError("x"), 2),
        (JournalUnavailable("x"), 1),
        (IdConflict("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert output.code_of(error) == code


def test_an_error_of_ours_is_one_message_without_a_traceback(home: Path) -> None:
    (home / "journal.sqlite3").write_bytes(b"SQLite format 3\0" + b"\0" * 4096)
    ran = remediation("incidents", "--home", str(home))
    assert ran.status == 3
    assert ran.err.startswith("remediation: ")
    assert "Traceback" not in ran.err


FAULTY = """
import sys
from remediation.cli import app as module
@module.app.command("fault")
def fault() -> None:
    secret = "hunter2"
    raise {error}
sys.argv = ["remediation", "fault"]
module.main()
"""


def test_a_fault_of_ours_is_short_and_keeps_its_traceback_for_the_report(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FAULTY.format(error="ZeroDivisionError('\\x1b[31m oops')")],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert "internal error: ZeroDivisionError" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "\x1b" not in ran.stderr
    kept = (tmp_path / "remediation" / "last-error.txt").read_text()
    assert "ZeroDivisionError" in kept
    assert str(tmp_path / "remediation" / "last-error.txt") in ran.stderr


def test_an_interrupt_is_130_without_a_traceback() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FAULTY.format(error="KeyboardInterrupt")], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 130
    assert "Traceback" not in ran.stderr


def test_what_the_terminal_can_not_show_is_escaped(tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream(), [stories.reported(subject="Büro")])
    ran = remediation("incidents", "--home", str(journal.home.root), env={"PYTHONIOENCODING": "ascii"}.items())
    assert ran.status == 0, ran.err
    assert "B\\xfcro" in ran.out


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_home_is_wrong_use_and_not_the_working_directory(value: str, place: str, tmp_path: Path) -> None:
    line = ["--home", value, "init"] if place == "before" else ["init", "--home", value]
    ran = remediation(*line, cwd=tmp_path, env=[("XDG_STATE_HOME", str(tmp_path / "state"))])
    assert (ran.status, "--home: it is empty" in ran.err) == (2, True)
    assert not list(tmp_path.iterdir())
