"""`watchdog`: real hosts that are stopped, blocked, cut off from their journal, killed, or idle, watched from outside."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.written_journal import Ran, remediation

PLUGIN = """
import time
from remediation.authoring import Finding, Handles, Plan, RemediationContext, Runbook, RunbookSpec, Verdict, hookimpl

class Blocks(Runbook):
    spec = RunbookSpec(id="blocks", handles=(Handles(code="BLOCK"),), blast_radius="process", reversibility="reversible", level="patch")

    async def precondition(self, ctx):
        while True:
            time.sleep(0.1)

    async def action(self, ctx):
        return Plan()

    async def verify(self, ctx):
        return Verdict.healthy()

@hookimpl
def remediation_runbooks():
    return [Blocks]
"""


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.rang = folder / "rang"
        self.env = [("XDG_STATE_HOME", str(folder / "state")), ("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")]

    def __call__(self, *arguments: str) -> Ran:
        return remediation("--home", str(self.home), *arguments, env=self.env)

    @contextlib.contextmanager
    def running(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "remediation", "--home", str(self.home), *arguments],
            stdout=subprocess.PIPE,
            stderr=open(self.folder / f"{arguments[0]}.err", "a"),
            text=True,
            env={**os.environ, **dict(self.env), "NO_COLOR": "1", **env},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()

    @contextlib.contextmanager
    def host(self) -> Iterator[subprocess.Popen[str]]:
        with self.running("run") as process:
            eventually(lambda: any(beat["pid"] == process.pid for beat in self.beats()))
            yield process

    @contextlib.contextmanager
    def watched(self, after: str = "3s") -> Iterator[subprocess.Popen[str]]:
        """A watchdog that writes a line for each time that it runs its command."""
        ring = f"cat >> {self.rang}"
        with self.running("watchdog", "--after", after, "--json", "--command", "sh", "-c", ring) as process:
            yield process

    def beats(self) -> list[dict[str, Any]]:
        found = []
        for path in (self.home / "hosts").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                found.append(json.loads(path.read_text()))
        return found

    def rings(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.rang.read_text().splitlines()] if self.rang.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    assert made("init", "--id", "atlas").status == 0
    return made


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return found


def told(watchdog: subprocess.Popen[str], event: str) -> dict[str, Any]:
    assert watchdog.stdout is not None
    for line in watchdog.stdout:
        said = json.loads(line)
        if said["event"] == event:
            return said
    raise AssertionError(f"it ended without saying {event}")


def test_a_host_that_is_stopped_by_a_signal_is_heard_to_be_silent_and_to_be_back(place: Place) -> None:
    with place.host() as host, place.watched() as watchdog:
        told(watchdog, "well")
        host.send_signal(signal.SIGSTOP)
        said = told(watchdog, "silent")
        assert "stopped by a signal" in said["text"]
        (ring,) = eventually(place.rings)
        assert (ring["state"], [item["pid"] for item in ring["hosts"]]) == ("silent", [host.pid])
        assert 3000 < ring["silence_ms"] < 20_000
        host.send_signal(signal.SIGCONT)
        told(watchdog, "well")
        watchdog.send_signal(signal.SIGTERM)
        assert watchdog.wait(timeout=20) == 0


def test_a_runbook_that_blocks_the_loop_for_ever_is_seen_named_and_not_called_again(place: Place) -> None:
    (place.folder / "blocking_plugin.py").write_text(PLUGIN)
    settings = place.home / "remediation.toml"
    settings.write_text('[host]\nid = "atlas"\nplugins = ["blocking_plugin"]\nautoload = false\n')
    with place.host() as host, place.watched() as watchdog:
        told(watchdog, "well")
        assert place("report", "--code", "BLOCK", "--subsystem", "s", "--subject", "x").status == 0
        assert [item["pid"] for item in told(watchdog, "silent")["hosts"]] == [host.pid]
        log = (place.folder / "run.err").read_text()
        assert "the event loop is blocked" in log
        assert "runbook=blocks" in log
        assert "step=precondition" in log
        assert "blocking_plugin.py" in log
        host.kill()
        host.wait()
    # The next one knows of it, and settles the incident without that runbook.
    ran = place("run", "--once", "--json")
    assert ran.status == 0, ran.err
    (incident,) = json.loads(ran.out)
    assert incident["status"] == "escalated"
    assert "not called until a person releases it" in incident["reason"]
    (runbook,) = [item for item in json.loads(place("runbooks", "--json").out) if item["id"] == "blocks"]
    assert runbook["state"] == "quarantined"
    types = [json.loads(line)["type"] for line in place("journal", "tail", "-n", "50", "--json").out.splitlines()]
    assert types.count("runbook.faulted") == 1
    assert list((place.home / "hosts").glob("*.blocked")) == []


def test_a_journal_that_another_process_keeps_locked_ends_the_beats(place: Place) -> None:
    with place.host() as host, place.watched() as watchdog:
        told(watchdog, "well")
        with (place.home / "journal.lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert [item["pid"] for item in told(watchdog, "silent")["hosts"]] == [host.pid]
        told(watchdog, "well")


def test_an_idle_host_is_never_silent(place: Place) -> None:
    with place.host(), place.watched("4s") as watchdog:
        told(watchdog, "well")
        first = max(beat["beat_ms"] for beat in place.beats())
        eventually(lambda: max(beat["beat_ms"] for beat in place.beats()) > first + 9000)
        assert place.rings() == []


def test_a_host_that_was_killed_is_missing_until_another_runs(place: Place) -> None:
    with place.host() as host, place.watched() as watchdog:
        told(watchdog, "well")
        host.kill()
        host.wait()
        # What it left behind does not pass for a host: its process is gone.
        assert [beat["pid"] for beat in place.beats()] == [host.pid]
        assert "is gone" in told(watchdog, "missing")["text"]
        eventually(place.rings)
        with place.host():
            told(watchdog, "well")
            assert len(place.beats()) == 1


def test_an_orderly_stop_counts_from_its_end_and_no_host_at_all_is_missing(place: Place) -> None:
    with place.watched() as watchdog, place.host() as host:
        host.send_signal(signal.SIGTERM)
        assert host.wait(timeout=40) == 0
        assert place.beats() == []
        said = told(watchdog, "missing")
        assert said["hosts"] == []
        assert 3000 < said["silence_ms"] < 20_000


def test_a_watchdog_that_was_stopped_itself_does_not_blame_the_host(place: Place) -> None:
    with place.host() as host, place.watched() as watchdog:
        told(watchdog, "well")
        for process in (host, watchdog):
            process.send_signal(signal.SIGSTOP)
        stopped = max(beat["beat_ms"] for beat in place.beats())
        eventually(lambda: time.clock_gettime(time.CLOCK_MONOTONIC) * 1000 > stopped + 6000)
        watchdog.send_signal(signal.SIGCONT)
        host.send_signal(signal.SIGCONT)
        first = max(beat["beat_ms"] for beat in place.beats())
        eventually(lambda: max(beat["beat_ms"] for beat in place.beats()) > first + 4000)
        assert place.rings() == []


@pytest.mark.parametrize("host", ["none", "well", "killed"])
def test_once_says_by_its_exit_code_whether_the_hosts_are_well(host: str, place: Place) -> None:
    with place.host() if host != "none" else contextlib.nullcontext() as process:
        if process is not None and host == "killed":
            process.kill()
            process.wait()
            first = place.beats()[0]["beat_ms"]
            eventually(lambda: time.clock_gettime(time.CLOCK_MONOTONIC) * 1000 > first + 2100)
        ran = place(
            "watchdog",
            "--once",
            "--json",
            "--after",
            "2s" if host == "killed" else "30s",
            "--command",
            "sh",
            "-c",
            f"cat > {place.rang}",
        )
        document = json.loads(ran.out.splitlines()[0])
        assert (ran.status, document["state"]) == ((0, "well") if host == "well" else (1, "missing")), ran
        assert len(place.rings()) == (host != "well")


def test_everything_behind_command_is_the_command(place: Place) -> None:
    ran = place("watchdog", "--once", "--command", "sh", "-c", 'echo "$@" >&2', "x", "--json", "--home", "$HOME", "--after")
    assert ran.status == 1
    assert "exit status 0, --json --home $HOME --after" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--after", "soon"], "not a duration"),
        (["--after", "100ms"], "too short"),
        (["--command"], "wants a program"),
        (["--command", "/no/such/program"], "no such program"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_use_is_refused_with_the_reason(arguments: list[str], said: str, place: Place) -> None:
    ran = place("watchdog", *arguments)
    assert ran.status == 2
    assert said in ran.err


def test_a_command_that_fails_is_told_and_the_watch_goes_on(place: Place) -> None:
    with place.running("watchdog", "--after", "2s", "--json", "--command", "sh", "-c", "echo no >&2; exit 3") as watchdog:
        told(watchdog, "missing")
        assert told(watchdog, "command")["exit_code"] == 3
        assert told(watchdog, "command")["exit_code"] == 3
