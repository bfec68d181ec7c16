"""Tables on terminals of every width: what may be copied stays in one piece, and nothing is squeezed until nobody can read it."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.support import stories
from tests.support.written_journal import WrittenJournal, remediation

from remediation.cli import tables

PATH = "/srv/applications/production/releases/current/var/lock/job.lock"
IDS = [stories.incident_id(f"{number:08}") for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenJournal:
    journal = WrittenJournal.make(tmp_path_factory.mktemp("tables"))
    for number, story in enumerate((stories.healed(), stories.escalated(), [stories.reported(subject=PATH), stories.opened()]), 1):
        journal.write(stories.stream(f"{number:08}"), story)
    return journal


def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    """What a command shows on a terminal that is so wide."""
    screen, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "remediation", *arguments],
        stdout=end,
        stderr=end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "NO_COLOR": "1"},
    )
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(screen, 4096):
            shown += chunk
    os.close(screen)
    assert process.wait(timeout=20) == 0
    # NO_COLOR forbids colours, not bold type.
    return shown.decode().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_ids_states_and_codes_are_in_one_piece_on_a_terminal_of_any_width(columns: int, written: WrittenJournal) -> None:
    lines = on_a_terminal(columns, "incidents", "--home", str(written.home.root))
    words = {word.strip(",") for line in lines for word in line.split()}
    assert {*IDS, "resolved", "escalated", "LOCK_STALE", "stale-lock-file"} <= words
    assert len(lines) < 30


def test_a_wide_terminal_has_a_table_with_short_paths(written: WrittenJournal) -> None:
    lines = on_a_terminal(140, "incidents", "--home", str(written.home.root))
    assert lines[0].split() == ["id", "status", "severity", "code", "subject", "runbook", "opened"]
    assert max(map(len, lines)) <= 140
    (row,) = [line for line in lines if line.startswith(IDS[2])]
    (shown,) = [word for word in row.split() if "…" in word]
    assert shown.startswith("/srv/")
    assert shown.endswith("/lock/job.lock")


def test_a_narrow_terminal_has_records_in_full(written: WrittenJournal) -> None:
    lines = on_a_terminal(60, "incidents", "--home", str(written.home.root))
    newest = lines[: lines.index("")]
    assert [line.partition(":")[0] for line in newest] == ["id", "status", "severity", "code", "subject", "opened"]
    assert newest[4].split() == ["subject:", PATH]


def test_a_pipe_has_everything_in_full_however_narrow_the_terminal_is(written: WrittenJournal) -> None:
    ran = remediation("incidents", "--home", str(written.home.root), env=[("COLUMNS", "60")])
    assert PATH in ran.out
    assert ran.out.splitlines()[0].split() == ["ID", "STATUS", "SEVERITY", "CODE", "SUBJECT", "RUNBOOK", "OPENED"]


def test_what_fits_is_as_wide_as_it_wants_to_be() -> None:
    assert tables.widths(["a", "long"], [["x", "y"], ["xyz", ""]], 80) == [3, 4]


def test_a_sentence_gives_way_to_an_id() -> None:
    row = ["4f1c2a90b7d3e815-09aa31bc", "it was looked for everywhere and found nowhere"]
    assert tables.widths(["id", "reason"], [row], 50) == [25, 23]
    assert tables.widths(["id", "reason"], [row], 40) is None


@given(st.text(alphabet="ab/. 語", max_size=60), st.integers(min_value=2, max_value=60))
def test_what_is_shortened_fits_and_keeps_its_end(text: str, width: int) -> None:
    short = tables.shortened(text, width)
    assert cell_len(short) <= width
    if short != text:
        begin, _, end = short.partition("…")
        assert text.startswith(begin)
        assert text.endswith(end)
