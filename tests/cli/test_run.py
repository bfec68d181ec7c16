"""`run`: a real host as a process, told by signals and systemd, killed, and started again."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.written_journal import Ran, remediation

NAMED = ("--code", "QUEUE_STUCK", "--subsystem", "mail", "--subject", "outbox")


class Place:
    """A home with its keys beside it, and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.env = [("XDG_STATE_HOME", str(folder / "state"))]

    def __call__(self, *arguments: str) -> Ran:
        return remediation(*arguments, "--home", str(self.home), env=self.env)

    def incidents(self) -> list[dict[str, Any]]:
        return json.loads(self("incidents", "--json").out)

    @contextlib.contextmanager
    def host(self, *options: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "remediation", "run", "--home", str(self.home), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict(self.env), "NO_COLOR": "1", **env},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    assert made("init", "--id", "atlas").status == 0
    return made


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return found


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    eventually(lambda: "ready" in process.stderr.readline())  # type: ignore[union-attr]


def test_once_takes_in_what_was_reported_and_leaves(place: Place) -> None:
    id_ = place("report", *NAMED).out.strip()
    ran = place("run", "--once", "--json")
    assert ran.status == 0, ran.err
    (incident,) = json.loads(ran.out)
    assert (incident["code"], incident["status"], incident["held"]) == ("QUEUE_STUCK", "escalated", True)
    assert [item["id"] for item in place.incidents()] == [incident["id"]]
    assert incident["id"] in place("incident", "show", id_).out
    assert list((place.home / "inbox").glob("*.json")) == []


def test_once_with_nothing_to_do_says_so(place: Place) -> None:
    ran = place("run", "--once")
    assert (ran.status, ran.out) == (0, "")
    assert "nothing to do" in ran.err


def test_once_with_json_logs_json(place: Place) -> None:
    for line in place("run", "--once", "--json").err.splitlines():
        assert json.loads(line)["event"]


def test_the_log_on_a_terminal_has_no_colours_if_they_are_not_wanted(place: Place) -> None:
    shown = {}
    for no_color in ("", "1"):
        screen, end = pty.openpty()
        environment = {**os.environ, **dict(place.env), "TERM": "xterm", "NO_COLOR": no_color}
        command = [sys.executable, "-m", "remediation", "run", "--once", "--home", str(place.home)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end, env=environment)
        os.close(end)
        shown[no_color] = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(screen, 4096):
                shown[no_color] += chunk
        os.close(screen)
        assert process.wait(timeout=20) == 0
    assert b"ready" in shown["1"]
    assert b"\x1b[" not in shown["1"]
    assert b"\x1b[" in shown[""]


def test_a_host_takes_reports_in_until_sigterm(place: Place) -> None:
    with place.host() as process:
        ready(process)
        place("report", *NAMED)
        eventually(lambda: [item for item in place.incidents() if item["status"] == "escalated"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    (last,) = place("journal", "tail", "-n", "1", "--json").out.splitlines()
    assert json.loads(last)["body"]["reason"] == "received SIGTERM"
    assert place("journal", "verify").status == 0


def test_ctrl_c_stops_a_host_in_an_orderly_way(place: Place) -> None:
    with place.host() as process:
        ready(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_signal_during_the_start_is_not_lost(place: Place) -> None:
    with place.host() as process:
        eventually(lambda: _catches_sigterm(Path(f"/proc/{process.pid}/status").read_text()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    (last,) = place("journal", "tail", "-n", "1", "--json").out.splitlines()
    assert json.loads(last)["body"]["reason"] == "received SIGTERM"


def _catches_sigterm(status: str) -> bool:
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def test_what_was_reported_while_the_host_was_dead_is_taken_in_by_the_next(place: Place) -> None:
    with place.host() as process:
        ready(process)
        process.kill()
        process.wait()
    place("report", *NAMED)
    assert "did not end in an orderly way" in place("doctor").out
    assert place("run", "--once").status == 0
    assert [item["status"] for item in place.incidents()] == ["escalated"]
    assert place("journal", "verify").status == 0


def test_a_running_host_answers_what_people_ask(place: Place) -> None:
    place("report", *NAMED)
    place("run", "--once")
    (incident,) = place.incidents()
    with place.host() as process:
        ready(process)
        assert "runs (pid" in place("doctor").out
        closed = place("incident", "close", incident["id"], "--reason", "mended by hand")
        assert (closed.status, closed.out) == (0, "done\n"), closed.err
        (incident,) = place.incidents()
        assert incident["held"] is False
        assert "mended by hand" in incident["reason"]
        assert place("pause", "--reason", "migration").out == "done\n"
        assert "healing is paused: migration" in place("doctor").out
        assert place("resume").out == "done\n"
        assert "paused" not in place("doctor").out
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_systemd_is_told_of_readiness_and_of_the_end(place: Place) -> None:
    address = place.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(address))
        listening.settimeout(20)
        with place.host(NOTIFY_SOCKET=str(address), WATCHDOG_USEC="200000") as process:
            told = [listening.recv(1000) for _ in range(4)]
            assert told[0] == b"READY=1\nSTATUS=host atlas, profile supervised"
            assert told[1:] == [b"WATCHDOG=1"] * 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            rest = [listening.recv(1000)]
            while rest[-1] == b"WATCHDOG=1":
                rest.append(listening.recv(1000))
            assert rest[-1] == b"STOPPING=1\nSTATUS=stopping: received SIGTERM"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('[gate]\nprofil = "observe"\n', "did you mean 'profile'?"),
        ('[[sentinels.nosuch]]\npath = "x"\n', "nosuch"),
        ('[host]\nid = "atlas"\nplugins = ["no.such.module"]\n', "no.such.module"),
    ],
)
def test_settings_that_can_not_be_used_stop_the_start(settings: str, said: str, place: Place) -> None:
    (place.home / "remediation.toml").write_text(settings)
    ran = place("run", "--once")
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_rolled_back_journal_is_not_continued(place: Place) -> None:
    old = (place.home / "journal.sqlite3").read_bytes()
    place("report", *NAMED)
    assert place("run", "--once").status == 0
    for file in place.home.glob("journal.sqlite3*"):
        file.unlink()
    (place.home / "journal.sqlite3").write_bytes(old)
    assert place("run", "--once").status == 4
    assert place("journal", "verify").status == 4
    assert "rolled back" in place("doctor").out


def test_a_terminal_that_closes_stops_a_host_in_an_orderly_way(place: Place) -> None:
    with place.host() as process:
        ready(process)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=40) == 0
    (last,) = place("journal", "tail", "-n", "1", "--json").out.splitlines()
    assert json.loads(last)["body"]["reason"] == "received SIGHUP"


_HANGS = """
import asyncio, sys, threading, time
from remediation.cli import hosting
begin = hosting.last_resort(0.5)
async def work():
    with hosting._signals(begin) as asked:
        print("begun", flush=True)
        time.sleep({blocked})
        await asked
        threading.Thread(target=time.sleep, args=(60,)).start()
asyncio.run(work())
"""


@pytest.mark.parametrize("blocked", [0, 60])
def test_a_process_that_does_not_end_by_itself_is_ended_also_while_its_loop_is_blocked(blocked: int) -> None:
    argv = [sys.executable, "-c", _HANGS.format(blocked=blocked)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "did not stop within 0.5 s" in said


def test_a_second_signal_ends_it_at_once() -> None:
    argv = [sys.executable, "-c", _HANGS.format(blocked=60).replace("0.5", "60")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not _catches_sigterm(Path(f"/proc/{process.pid}/status").read_text()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == -signal.SIGTERM
