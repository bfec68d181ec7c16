"""`journal export`: in little memory, whole or not at all, and quiet when nobody reads."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks import bulk
from tests.support.journals import said
from tests.support.written_journal import Ran, WrittenJournal, remediation

from remediation.settings import Home

MANY = 200_000
FORMATS = ("jsonl", "cloudevents", "otlp", "ocsf")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return bulk.make(tmp_path_factory.mktemp("small"), 2_000).home


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return bulk.make(tmp_path_factory.mktemp("large"), MANY).home


def command(home: Home, *options: str) -> list[str]:
    return [sys.executable, "-m", "remediation", "--home", str(home.root), "journal", "export", *options]


def export(home: Home, *options: str) -> Ran:
    return remediation("--home", str(home.root), "journal", "export", *options)


PEAK = """
import resource, runpy, sys
try:
    runpy.run_module("remediation", run_name="__main__")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def peak(home: Home, *options: str) -> float:
    """The most memory that an export of its own process held, in MB."""
    arguments = ["--home", str(home.root), "journal", "export", *options]
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True
    )
    return int(ran.stderr.split()[-1]) / 1024


@pytest.mark.parametrize("format_", [*FORMATS, "tlog-tiles"])
def test_memory_does_not_grow_with_the_journal(format_: str, small: Home, large: Home, tmp_path: Path) -> None:
    """A hundred times the entries; what SQLite keeps of the file is bounded, and all that may be added."""
    few = peak(small, "--format", format_, "--out", str(tmp_path / "few"))
    many = peak(large, "--format", format_, "--out", str(tmp_path / "many"))
    assert many - few < 12, f"{few:.0f} MB for 2,000 entries, {many:.0f} MB for {MANY:,}"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_and_a_pipe_get_the_same(format_: str, small: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = export(small, "--format", format_, "--out", str(out))
    assert (ran.status, ran.out) == (0, "")
    assert ran.err.startswith("2000 entries of bench/remediation/")
    assert out.stat().st_mode & 0o777 == 0o600
    assert export(small, "--format", format_).out.encode() == out.read_bytes()
    assert os.listdir(tmp_path) == ["out"]


def test_an_export_replaces_the_one_before(small: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("older")
    export(small, "--out", str(out))
    assert json.loads(out.read_text().splitlines()[0])["format"] == "remediation-journal/1"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_export_leaves_no_half_file_under_the_name(number: signal.Signals, large: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("older")
    child = subprocess.Popen(command(large, "--format", "ocsf", "--out", str(out)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size > 1_000_000 for path in tmp_path.glob(".out.*")):
        assert time.monotonic() < deadline
        assert child.poll() is None
    child.send_signal(number)
    assert child.wait(30) != 0
    assert out.read_text() == "older"
    assert number in {signal.SIGKILL, signal.SIGTERM} or os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("format_", FORMATS)
def test_a_reader_that_has_had_enough_ends_it_quietly(format_: str, large: Home) -> None:
    child = subprocess.Popen(command(large, "--format", format_), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.read(1000)
    child.stdout.close()
    complaint = child.stderr.read()
    child.stderr.close()
    assert (child.wait(60), complaint) == (141, b"")


def test_a_full_disk_and_a_closed_output_are_said_in_one_line(small: Home) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(command(small), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "remediation: standard output can't be written: No space left on device\n")
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command(small)], stderr=subprocess.PIPE, text=True, check=False)
    assert closed.returncode == 1
    assert closed.stderr == "remediation: standard output is closed; name a file with --out\n"


def test_a_file_that_can_not_be_written_leaves_nothing_behind(small: Home, tmp_path: Path) -> None:
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *command(small, "--out", str(tmp_path / "out"))]
    ran = subprocess.run(limited, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert "can't be written" in ran.stderr
    assert os.listdir(tmp_path) == []


def test_progress_is_shown_on_a_terminal_and_never_among_the_records(small: Home, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    child = subprocess.Popen(
        command(small, "--format", "cloudevents"),
        stdout=(tmp_path / "records").open("wb"),
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 4096)
        except OSError:  # the other end is closed
            break
    os.close(master)
    assert child.wait(60) == 0
    assert b"exporting" in shown
    assert b"/2000" in shown
    lines = (tmp_path / "records").read_bytes().splitlines()
    assert len(lines) == 2000
    assert b"exporting" not in lines[0]


@pytest.mark.parametrize("format_", ["cloudevents", "ocsf"])
def test_a_pipeline_goes_on_after_what_it_has(format_: str, small: Home) -> None:
    whole = export(small, "--format", format_).out.splitlines()
    part = export(small, "--format", format_, "--after", "1989").out.splitlines()
    assert part == whole[1990:]
    assert export(small, "--format", format_, "--after", "1999").out == ""
    since = json.loads(export(small, "--format", "cloudevents", "--after", "1994").out.splitlines()[0])["time"]
    assert export(small, "--format", format_, "--since", since).out.splitlines() == whole[1995:]
    assert export(small, "--format", format_, "--since", "1s").out == ""
    assert export(small, "--format", format_, "--since", "2020-01-01").out.splitlines() == whole


def test_a_part_of_the_export_that_proves_itself_is_incomplete_and_says_so(small: Home, tmp_path: Path) -> None:
    out = tmp_path / "part.jsonl"
    assert export(small, "--after", "1799", "--out", str(out)).status == 0
    header = json.loads(out.read_text().splitlines()[0])
    assert header["from"] == 1800
    assert len(out.read_text().splitlines()) == 202
    ran = remediation("journal", "verify", str(out), "--vkey", small.verifier_keys.read_text().strip(), "--json")
    answer = json.loads(ran.out)
    assert ran.status == 5
    assert {problem["code"] for problem in answer["problems"]} == {"partial"}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--since", "yesterday"],
        ["--after", "-2"],
        ["--after", "x"],
        ["--format", "xml"],
        ["--format", "tlog-tiles"],
        ["--format", "tlog-tiles", "--out", "log", "--after", "3"],
        ["--format", "tlog-tiles", "--out", "log", "--since", "1h"],
    ],
)
def test_nonsense_is_wrong_use(wrong: list[str], small: Home) -> None:
    ran = export(small, *wrong)
    assert ran.status == 2
    assert "internal error" not in ran.err


def test_an_altered_entry_is_not_handed_on(tmp_path: Path) -> None:
    import sqlite3

    home = bulk.make(tmp_path / "altered", 50).home
    with sqlite3.connect(home.journal) as database:
        database.execute("UPDATE payload SET body = CAST(replace(CAST(body AS TEXT), 'bench', 'banch') AS BLOB) WHERE seq = 30")
    out = tmp_path / "out"
    ran = export(home, "--format", "ocsf", "--out", str(out))
    assert ran.status == 3
    assert "entry 30 was altered" in ran.err
    assert not out.exists()


def test_an_empty_journal_is_exported_in_each_format(tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    for format_ in (*FORMATS, "tlog-tiles"):
        out = tmp_path / f"out.{format_}"
        assert export(journal.home, "--format", format_, "--out", str(out)).status == 0
    assert [len((tmp_path / f"out.{name}").read_text().splitlines()) for name in FORMATS] == [2, 0, 0, 0]


@pytest.mark.parametrize(
    "words", [["export", "--format", format_, "--out", "out"] for format_ in [*FORMATS, "tlog-tiles"]] + [["prove", "1"]]
)
def test_nothing_is_handed_out_of_a_journal_that_lost_what_was_acknowledged(words: list[str], tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    journal.write("host/atlas", [said(number) for number in range(3)])
    older = {path: path.read_bytes() for path in (journal.home.journal, journal.home.head_note)}
    journal.write("host/atlas", [said(3)])
    # As after a kill before the newest head was made known, and the loss of the write-ahead log.
    for path, content in older.items():
        path.write_bytes(content)
    ran = remediation("--home", str(journal.home.root), "journal", *words, cwd=tmp_path)
    assert ran.status == 4, ran.err
    assert "4 entries" in ran.err
    assert "journal verify" in ran.err
    assert not (tmp_path / "out").exists()
    assert remediation("--home", str(journal.home.root), "journal", "verify").status == 4
