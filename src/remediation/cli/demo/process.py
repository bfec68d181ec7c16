"""The host as a user starts it, and the journal as it grows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from remediation.bootstrap import open_reader
from remediation.core.incident import Incident
from remediation.core.state import HostState
from remediation.errors import RemediationError
from remediation.journal import JournalReader
from remediation.model.entries import Record
from remediation.settings import Home

POLL = 0.01


class DemoFailed(RemediationError):
    """The demo did not go as it should; the message says what was awaited, and where the host's log is."""


def remediation(home: Path, *words: str) -> list[str]:
    """The command line ``remediation --home HOME WORDS`` of this very installation."""
    return [sys.executable, "-m", "remediation", "--home", str(home), *words]


class HostProcess:
    """``remediation run`` in a process of its own."""

    def __init__(self, home: Path, log: Path) -> None:
        self._home = home
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process; 0 for none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it; its log is appended to `log`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                remediation(self._home, "run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say good-bye."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit code."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.terminate()
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def check(self) -> None:
        """Raise DemoFailed when it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise DemoFailed(f"the host ended with exit code {self._process.returncode}; its log is {self.log}")


class Watcher:
    """Reads the journal while the host writes it, and tells each entry as it comes."""

    def __init__(self, reader: JournalReader, host: HostProcess, tell: Callable[[Record, HostState], None]) -> None:
        self._reader = reader
        self._host = host
        self._tell = tell
        self.state = HostState(keep_settled=None)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, home: Path, host: HostProcess, tell: Callable[[Record, HostState], None]) -> AsyncIterator[Watcher]:
        """Watch the journal of `home`."""
        async with open_reader(Home(home)) as reader:
            yield cls(reader, host, tell)

    async def until(self, what: str, done: Callable[[HostState], bool], *, seconds: float = 30.0) -> None:
        """
        Tell entries until `done`.

        Raises:
            DemoFailed: it did not come within `seconds`, or the host ended.

        """
        end = time.monotonic() + seconds
        while True:
            async for record in self._reader.read(after=self.state.position):
                self.state.apply(record)
                self._tell(record, self.state)
                if done(self.state):
                    return
            if done(self.state):
                return
            self._host.check()
            if time.monotonic() > end:
                raise DemoFailed(f"waited {seconds:g} s in vain: {what}; the host's log is {self._host.log}")
            await asyncio.sleep(POLL)

    def newest(self, code: str) -> Incident | None:
        """The newest incident of a code."""
        found = [incident for incident in self.state.incidents.values() if incident.event.code == code]
        return found[-1] if found else None
