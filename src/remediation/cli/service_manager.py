"""Tells systemd how the host is: ready, alive, stopping (sd_notify(3)). Without a service manager, nothing is told."""

from __future__ import annotations

import os
import socket


class ServiceManager:
    """The service manager that started this process, if one did and wants to know (``Type=notify``, ``WatchdogSec=``)."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._watchdog = (
            os.environ.get("WATCHDOG_USEC", "") if os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()) else ""
        )

    @property
    def beat_every(self) -> float | None:
        """Seconds between two beats: half of what the manager waits (sd_watchdog_enabled(3)); `None` if it doesn't."""
        microseconds = int(self._watchdog) if self._watchdog.isdigit() else 0
        return microseconds / 2_000_000 if self._address and microseconds else None

    def ready(self, status: str) -> None:
        """The host takes reports and acts."""
        self._tell(f"READY=1\nSTATUS={status}")

    def beat(self) -> None:
        """The host can do its work. One that is stuck sends none, and the manager restarts it."""
        self._tell("WATCHDOG=1")

    def stopping(self, why: str = "") -> None:
        """The host ends in an orderly way."""
        self._tell("STOPPING=1" + (f"\nSTATUS=stopping: {why}" if why else ""))

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # A leading @ means the abstract namespace (unix(7)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(state.encode(), address)
            except OSError:
                # A manager that went away is no reason to stop healing.
                return
