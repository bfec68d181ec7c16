"""
Kernel locks of hosts and subjects.

A subject's lock is a file under ``locks/`` that is held with ``flock`` while an attempt works on the subject. The attempt's children
inherit the descriptor, so that the lock outlives a killed host until its children are gone. The file holds, as JSON, who owns it and
which children were started with which deadline, so that whoever takes over can end those that overran it. A lock file is removed by
its last holder; whoever waited on the removed file notices (its inode is no longer the one at the path) and starts over.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil

from remediation.ports.clock import Clock

_POLL = 0.1


class HostLock:
    """Held by one host instance from start to end; `alive` tells others whether it still is."""

    def __init__(self, folder: Path, instance: str) -> None:
        self.path = folder / f"host-{instance}.lock"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give it back; the file goes too."""
        if self.descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            os.close(self.descriptor)
            self.descriptor = -1


def alive(path: Path) -> bool:
    """
    Whether some process holds the lock file `path`: the owner, or a child that inherited it.

    A file that nobody holds is removed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return False
    finally:
        os.close(descriptor)


class SubjectLock:
    """One held lock. `descriptor` is what children inherit."""

    def __init__(self, path: Path, descriptor: int, owner: dict[str, Any]) -> None:
        self._path = path
        self.descriptor = descriptor
        self._owner = owner
        self._children: list[dict[str, Any]] = []

    def record_child(self, pid: int, deadline: float) -> None:
        """Note a child and its deadline (seconds on the host's monotonic clock) for whoever has to take over."""
        try:
            born = psutil.Process(pid).create_time()
        except psutil.Error:
            return  # it is gone already
        self._children.append({"pid": pid, "born": born, "deadline": deadline})
        self.describe()

    def describe(self) -> None:
        """Write owner and children into the lock file."""
        text = json.dumps({**self._owner, "children": self._children[-64:]}).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text, 0)

    def release(self) -> None:
        """Give the lock back. If a child still holds it, the file stays, and the subject stays locked until that child is gone."""
        if self.descriptor < 0:
            return
        descriptor, self.descriptor = self.descriptor, -1
        if not self._children:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            os.close(descriptor)
            return
        os.close(descriptor)
        alive(self._path)


class SubjectLocks:
    """The locks of one home, as one host instance takes them."""

    def __init__(self, folder: Path, host: HostLock, clock: Clock) -> None:
        self._folder = folder
        self._host = host
        self._clock = clock

    def try_acquire(self, subject: str) -> SubjectLock | None:
        """The lock of `subject`, or `None` while somebody holds it."""
        path = self._path(subject)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            try:
                current = os.stat(path)
            except FileNotFoundError:
                current = None
            if current is not None and current.st_ino == os.fstat(descriptor).st_ino:
                lock = SubjectLock(path, descriptor, {"pid": os.getpid(), "host": self._host.path.name})
                lock.describe()
                return lock
            os.close(descriptor)

    async def acquire(self, subject: str) -> SubjectLock:
        """Wait for the lock of `subject`. Children that a dead host left behind are ended once they are past their deadline."""
        while True:
            lock = self.try_acquire(subject)
            if lock is not None:
                return lock
            self._end_orphans(subject)
            await self._clock.sleep(_POLL)

    def _path(self, subject: str) -> Path:
        return self._folder / f"subject-{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.lock"

    def _end_orphans(self, subject: str) -> None:
        try:
            known = json.loads(self._path(subject).read_text("utf-8"))
            owner = int(known["pid"])
            children = [(int(child["pid"]), float(child["born"]), float(child["deadline"])) for child in known["children"]]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if owner == os.getpid() or psutil.pid_exists(owner):
            return
        for pid, born, deadline in children:
            if self._clock.monotonic() < deadline:
                continue
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                # The group's leader may be gone while members live on; its id stays taken as long as they do.
                if not psutil.pid_exists(pid) or abs(psutil.Process(pid).create_time() - born) < 1.0:
                    os.killpg(pid, signal.SIGKILL)
