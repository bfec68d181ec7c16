"""systemd is told what sd_notify(3) says, over a real socket."""

import os
import socket
from pathlib import Path

import pytest

from remediation.cli.service_manager import ServiceManager


@pytest.fixture
def manager_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listening


def test_the_manager_hears_of_readiness_beats_and_the_end(manager_socket: socket.socket) -> None:
    manager = ServiceManager()
    manager.ready("host atlas")
    manager.beat()
    manager.stopping()
    assert [manager_socket.recv(1000) for _ in range(3)] == [b"READY=1\nSTATUS=host atlas", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_socket_in_the_abstract_namespace_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"remediation-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        ServiceManager().beat()
        assert listening.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("usec", "pid", "every"), [("4000000", None, 2.0), ("", None, None), ("x", None, None), ("4000000", "1", None)]
)
def test_the_watchdog_is_fed_at_twice_its_pace_when_it_is_ours(
    usec: str, pid: str | None, every: float | None, manager_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert ServiceManager().beat_every == every


def test_without_a_manager_nothing_is_told_and_nothing_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    ServiceManager().ready("x")
    assert ServiceManager().beat_every is None
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    ServiceManager().ready("x")
