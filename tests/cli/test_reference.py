"""docs/reference/command-line.md names every command."""

import re

from tests.support.repository import ROOT
from typer.testing import CliRunner

from remediation.cli.app import app

PAGE = (ROOT / "docs" / "reference" / "command-line.md").read_text()


def groups_and_commands() -> set[str]:
    listed = CliRunner().invoke(app, ["--help"]).output.partition("\nCommands:\n")[2]
    return set(re.findall(r"^  (\S+)", listed, re.MULTILINE))


def test_every_command_is_in_the_table_and_no_other() -> None:
    table = PAGE.partition("## Commands")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {command.split()[0] for cell in first_cells for command in re.findall(r"`([^`]+)`", cell)}
    assert named == groups_and_commands()


def test_every_exit_code_is_explained() -> None:
    from remediation.cli.output import ExitCode

    assert {str(int(code)) for code in ExitCode} <= {
        code for cell in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for code in cell.split(", ")
    }
