"""The runbook in a real host: what it removes, and what it leaves alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import stale_lock

from remediation import DegradationEvent, Incident
from remediation.testing import WORLD, running_host


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / WORLD).mkdir()
    return tmp_path / WORLD / "app.lock"


def killed_process() -> int:
    """The id of a process that was killed, and that nobody has to bury any more."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        process.send_signal(signal.SIGKILL)
    return process.pid


async def reported(tmp_path: Path, subject: Path) -> Incident:
    """The incident of a report about `subject`, settled by a host in which the runbook may act."""
    async with running_host(tmp_path, stale_lock.StaleLockFile) as host:
        event = DegradationEvent(code="LOCK_STALE", subsystem="app", subject=str(subject))
        return await host.wait_for(await host.report(event), timeout=30)


async def test_the_lock_of_a_killed_process_is_removed(tmp_path: Path, lock: Path) -> None:
    lock.write_text(f"{killed_process()}\n")
    incident = await reported(tmp_path, lock)
    assert incident.status == "resolved"
    assert not lock.exists()


async def test_the_lock_of_a_live_process_is_left_alone(tmp_path: Path, lock: Path) -> None:
    lock.write_text(f"{os.getpid()}\n")
    incident = await reported(tmp_path, lock)
    assert incident.status == "escalated"
    assert f"{os.getpid()} is alive" in incident.reason
    assert lock.read_text() == f"{os.getpid()}\n"


async def test_a_file_without_a_process_id_is_left_alone(tmp_path: Path, lock: Path) -> None:
    lock.write_text("not a number\n")
    incident = await reported(tmp_path, lock)
    assert incident.status == "escalated"
    assert "not a pid file" in incident.reason
    assert lock.exists()


async def test_a_lock_that_is_gone_by_the_time_somebody_looks_is_nothing_to_do(tmp_path: Path, lock: Path) -> None:
    incident = await reported(tmp_path, lock)
    assert incident.status == "escalated"
    assert "the lock is gone" in incident.reason
    assert "FileNotFoundError" not in incident.reason


@pytest.mark.parametrize("text", ["", "-1", "12 34", "9" * 5000, "\uff11\uff12"], ids=range(5))
def test_what_is_no_process_id(text: str) -> None:
    assert stale_lock.parse_pid(text) is None


async def test_a_file_outside_the_roots_is_left_alone(tmp_path: Path, lock: Path) -> None:
    elsewhere = tmp_path / "elsewhere.lock"
    elsewhere.write_text("4194304\n")
    lock.symlink_to(elsewhere)
    for subject in (elsewhere, lock):
        incident = await reported(tmp_path, subject)
        assert incident.status == "escalated"
        assert elsewhere.exists()
