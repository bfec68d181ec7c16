"""The commands that read: without key, without a running host, in the three forms that people and programs want."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.written_journal import WrittenJournal, remediation

from remediation.cli import reading
from remediation.core.state import HostState
from remediation.journal.snapshot import Snapshot, SnapshotFile, schema
from remediation.model import entries
from remediation.model.entries import PauseStarted


@pytest.fixture
def written(tmp_path: Path) -> WrittenJournal:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream("00000001"), stories.healed())
    journal.write(stories.stream("00000002"), stories.escalated())
    return journal


def home(written: WrittenJournal) -> tuple[str, str]:
    return "--home", str(written.home.root)


def test_incidents_are_listed_newest_first(written: WrittenJournal) -> None:
    ran = remediation("incidents", *home(written))
    assert ran.status == 0, ran.err
    header, *lines = ran.out.splitlines()
    assert header.split() == ["ID", "STATUS", "SEVERITY", "CODE", "SUBJECT", "RUNBOOK", "OPENED"]
    assert [line.split()[0] for line in lines] == [stories.incident_id("00000002"), stories.incident_id("00000001")]
    assert "escalated, held" in lines[0]


def test_incidents_as_json_have_every_field_of_the_contract(written: WrittenJournal) -> None:
    ran = remediation("incidents", *home(written), "--json")
    newest, oldest = json.loads(ran.out)
    fields = "id code subsystem subject severity status phase held dirty withheld runbook attempts reports opened_at settled_at"
    assert set(newest) == {*fields.split(), "reason", "waits_for", "waits_until"}
    assert (newest["status"], newest["held"], newest["runbook"]) == ("escalated", True, None)
    assert (oldest["status"], oldest["runbook"], oldest["attempts"]) == ("resolved", "stale-lock-file", 1)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--status", "resolved"], ["00000001"]),
        (["--status", "open"], []),
        (["--limit", "1"], ["00000002"]),
        (["--code", "OTHER"], []),
        (["--code", "LOCK_STALE"], ["00000002", "00000001"]),
    ],
)
def test_incidents_are_filtered(options: list[str], ids: list[str], written: WrittenJournal) -> None:
    found = json.loads(remediation("incidents", *home(written), "--json", *options).out)
    assert [item["id"] for item in found] == [stories.incident_id(name) for name in ids]


def test_an_open_incident_says_what_it_waits_for_and_until_when(written: WrittenJournal) -> None:
    waiting = entries.IncidentWaiting(until=stories.SEEN, why="cooldown", reason="the subject was changed a short while ago")
    written.write(stories.stream("00000003"), [stories.reported(), stories.opened("stale-lock-file"), waiting])
    (line,) = [line for line in remediation("incidents", *home(written)).out.splitlines() if "open" in line]
    assert "open, waiting: cooldown until 2023-11-14T22:13:20Z" in line
    newest = remediation("incidents", *home(written), "--json").json[0]  # type: ignore[index]
    assert (newest["waits_for"], newest["waits_until"]) == ("cooldown", "2023-11-14T22:13:20.000Z")
    assert newest["reason"] == "the subject was changed a short while ago"


def test_a_report_that_no_host_has_taken_in_is_not_called_unknown(written: WrittenJournal) -> None:
    id_ = remediation("report", "--code", "X", "--subsystem", "y", "--subject", "z", *home(written)).out.strip()
    ran = remediation("incident", "show", id_, *home(written))
    assert (ran.status, "reported, not yet taken in: no host runs" in ran.err) == (1, True)
    assert "1 report waits in the inbox" in remediation("incidents", *home(written)).err
    assert "there is no incident" in remediation("incident", "show", "7777", *home(written)).err


def test_no_incidents_is_an_empty_answer_and_not_an_error(tmp_path: Path) -> None:
    empty = WrittenJournal.make(tmp_path)
    ran = remediation("incidents", *home(empty))
    assert (ran.status, ran.out, ran.err) == (0, "", "no incidents\n")
    assert remediation("incidents", *home(empty), "--json").json == []


def test_an_incident_is_shown_by_its_id_and_by_any_beginning_of_it(written: WrittenJournal) -> None:
    for id_ in (stories.incident_id("00000001"), "00000001"):
        ran = remediation("incident", "show", id_, *home(written))
        assert ran.status == 0, ran.err
        assert "Attempt 1: stale-lock-file" in ran.out


def test_an_incident_as_json_is_its_post_mortem(written: WrittenJournal) -> None:
    ran = remediation("incident", "show", "00000001", "--json", *home(written))
    document = json.loads(ran.out)
    assert document["id"] == stories.incident_id("00000001")
    assert document["attempts"][0]["outcome"] == "healed"


def test_an_incident_in_markdown_begins_with_a_heading(written: WrittenJournal) -> None:
    ran = remediation("incident", "show", "00000001", "--markdown", *home(written))
    assert ran.out.startswith("# `LOCK_STALE: /srv/app/job.lock`\n")


@pytest.mark.parametrize(("id_", "message"), [("7777", "there is no incident 7777"), ("0000000", "2 incidents begin with 0000000")])
def test_an_incident_that_is_not_meant_clearly_is_a_no(id_: str, message: str, written: WrittenJournal) -> None:
    ran = remediation("incident", "show", id_, *home(written))
    assert (ran.status, ran.out) == (1, "")
    assert message in ran.err


def test_two_forms_at_once_are_wrong_use(written: WrittenJournal) -> None:
    assert remediation("incident", "show", "00000001", "--json", "--markdown", *home(written)).status == 2


def test_hostile_text_reaches_a_pipe_harmless(tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream(), [stories.reported(subject=stories.HOSTILE, summary=stories.HOSTILE), stories.opened()])
    for command in (["incidents"], ["incident", "show", "0a1b"], ["journal", "tail"]):
        for form in ([], ["--json"]):
            ran = remediation(*command, *form, *home(journal))
            assert ran.status == 0, ran.err
            assert "\x1b" not in ran.out
            assert "\u202e" not in ran.out
            if not form:
                assert "\n# heading" not in ran.out


def test_the_tail_shows_the_newest_entries(written: WrittenJournal) -> None:
    lines = remediation("journal", "tail", "-n", "2", "--json", *home(written)).out.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["incident.opened", "incident.settled"]
    assert json.loads(lines[1])["body"]["status"] == "escalated"
    assert len(remediation("journal", "tail", *home(written), "--json").out.splitlines()) == 8


def test_the_tail_is_of_what_is_asked_for(written: WrittenJournal) -> None:
    def tail(*options: str) -> list[dict]:
        ran = remediation("journal", "tail", "--json", *options, *home(written))
        assert ran.status == 0, ran.err
        return [json.loads(line) for line in ran.out.splitlines()]

    everything = tail()
    assert [each["seq"] for each in tail("--type", "incident.settled")] == [
        each["seq"] for each in everything if each["type"] == "incident.settled"
    ]
    assert len(tail("--type", "incident.settled", "--type", "incident.opened")) == 4
    stream = everything[-1]["stream"]
    assert {each["stream"] for each in tail("--stream", stream)} == {stream}
    assert tail("--stream", "incident/") == tail("--since", "9999d") == tail("--until", "2999-01-01T00:00Z") == everything
    assert tail("--since", "0s") == tail("--until", "9999d") == tail("--correlation", "nobody") == []
    assert tail("--stream", "incident/", "--type", "incident.settled", "-n", "1") == everything[-1:]


def test_the_tail_says_what_it_can_not_read_as_a_moment_or_type(written: WrittenJournal) -> None:
    ran = remediation("journal", "tail", "--since", "tea-time", *home(written))
    assert (ran.status, ran.out) == (2, "")
    assert "--since tea-time: neither a time" in ran.err
    ran = remediation("journal", "tail", "--type", "incident.setled", *home(written))
    assert (ran.status, ran.out) == (0, "")
    assert "incident.setled" in ran.err


def test_the_tail_follows_what_is_asked_for(written: WrittenJournal) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "remediation",
            "journal",
            "tail",
            "-n",
            "0",
            "-f",
            "--json",
            "--type",
            "incident.opened",
            *home(written),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
        lines: list[str] = []
        found.start()
        for number in range(4, 400):
            written.write(stories.stream(f"{number:08x}"), [stories.reported(), stories.opened()])
            found.join(0.2)
            if lines:
                break
        assert json.loads(lines[0])["type"] == "incident.opened"
    finally:
        process.kill()
        process.wait()


def test_the_tail_follows_until_it_is_interrupted(written: WrittenJournal) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "remediation", "journal", "tail", "-n", "1", "--follow", "--json", *home(written)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["seq"] == 7
        written.write(stories.stream("00000003"), [stories.reported()])
        assert json.loads(process.stdout.readline())["type"] == "degradation.reported"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in err
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_record_of_runbooks_is_listed(written: WrittenJournal) -> None:
    (record,) = json.loads(remediation("runbooks", "--json", *home(written)).out)
    assert (record["id"], record["healed"]) == ("stale-lock-file", 1)
    assert remediation("runbooks", "list", "--json", *home(written)).json == [record]


def test_a_reader_that_leaves_early_ends_the_command_quietly(tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream(), [stories.reported(summary="x" * 1000)] * 300)
    shell = f"{sys.executable} -m remediation journal tail -n 300 --home {journal.home.root}; echo $? >&2"
    ran = subprocess.run(["bash", "-c", f"({shell}) | head -1"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.count("\n") == 1
    assert ran.stderr == "141\n"


def test_a_terminal_gets_a_drawn_table(written: WrittenJournal) -> None:
    screen, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "remediation", "incidents", *home(written)],
        stdout=end,
        stderr=end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(screen, 4096):
            shown += chunk
    os.close(screen)
    assert process.wait(timeout=20) == 0
    assert "─".encode() in shown
    assert stories.incident_id("00000001").encode() in shown


def stand(journal: WrittenJournal) -> HostState:
    return reading.run(reading.host_state(journal.home))


def keep(journal: WrittenJournal, *, root: bytes | None = None, **changes: object) -> None:
    """Keep a snapshot as the journal's host does; a stranger's key will do, as nobody who only looks can tell."""

    async def made() -> None:
        state = HostState()
        async with reading.open_journal(journal.home) as opened:
            size, _ = await opened.head()
            async for record in opened.read():
                state.apply(record)
            for name, value in changes.items():
                setattr(state, name, value)
            kept = Snapshot(size, root or await opened.root(size), state.dump())
        SnapshotFile(journal.home.snapshot, bytes(32), schema()).store(kept)

    reading.run(made())


def test_a_command_begins_with_the_snapshot_and_reads_what_came_after_it(written: WrittenJournal) -> None:
    before = stand(written)
    keep(written, pauses=(PauseStarted(by="somebody", reason="only the snapshot says so"),))
    written.write(stories.stream("00000003"), [stories.reported(), stories.opened()])
    after = stand(written)
    assert after.pauses
    assert after.incidents.keys() > before.incidents.keys()
    assert len(after.incidents) == len(before.incidents) + 1


def test_a_snapshot_of_another_log_or_of_nonsense_is_not_looked_at(written: WrittenJournal) -> None:
    expected = stand(written).incidents
    keep(written, root=bytes(32), pauses=(PauseStarted(by="somebody", reason="a lie"),))
    assert (stand(written).pauses, stand(written).incidents) == ((), expected)

    async def spoil() -> None:
        async with reading.open_journal(written.home) as opened:
            kept = Snapshot(5, await opened.root(5), b"nonsense")
        SnapshotFile(written.home.snapshot, bytes(32), schema()).store(kept)

    reading.run(spoil())
    assert stand(written).incidents == expected


def test_the_newest_incidents_are_the_same_through_an_index_and_from_the_whole_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = WrittenJournal.make(tmp_path)
    for number in range(90):
        ending = stories.healed() if number % 3 else [stories.reported(), stories.opened()]
        journal.write(stories.stream(f"{number:08x}"), ending)
    everything = reading.run(reading.incidents(journal.home))
    assert len(everything) == 90
    monkeypatch.setattr(reading, "_PORTION", 4)
    for most in (4096, 8):
        monkeypatch.setattr(reading, "_MOST", most)
        for number in (1, 10, 500):
            for status in ("open", "resolved", "escalated", None):
                expected = [each for each in everything if status is None or str(each.status) == status][:number]
                found = reading.newest_incidents(
                    journal.home, number, lambda each, status=status: status is None or str(each.status) == status, None
                )
                assert reading.run(found) == expected


def test_a_long_list_is_cut_and_says_so(written: WrittenJournal) -> None:
    everything = remediation("incidents", "--all", "--json", *home(written)).json
    assert len(everything) == 2
    ran = remediation("incidents", "--limit", "1", "--json", *home(written))
    assert (ran.json, "these are the newest 1" in ran.err) == (everything[:1], True)
    assert remediation("incidents", "--since", "1h", "--json", *home(written)).json in ([], everything)
    assert remediation("incidents", "--since", "9999d", "--json", *home(written)).json == everything
