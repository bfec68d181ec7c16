"""
Kernel locks of hosts and subjects.

All subjects of a home share the file ``subjects.lock``; a subject's lock is an open file description lock (``F_OFD_SETLK``, fcntl(2)) on
one byte of it, at an offset that is a hash of the subject. It belongs to the open file description, as with ``flock``: the attempt's
children inherit the descriptor, so that the lock outlives a killed host until its children are gone. Unlike a file for each subject,
nothing has to be created and removed, which costs more than the rest of a small heal (ADR 0003).

An attempt that starts children notes them, with their deadlines, in ``children-<hash>.json``, so that whoever takes over can end those
that overran.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import struct
from pathlib import Path

import psutil

from remediation.ports.clock import Clock

_FLOCK = "hhqqi4x"


class HostLock:
    """Held by one host instance from start to end; `alive` tells others whether it still is."""

    def __init__(self, folder: Path, instance: str) -> None:
        self.path = folder / f"host-{instance}.lock"
        while True:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if _same(self.descriptor, self.path):
                return
            os.close(self.descriptor)  # `alive` met the file before it was locked, and removed it

    def release(self) -> None:
        """Give it back; the file goes too."""
        if self.descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            os.close(self.descriptor)
            self.descriptor = -1


def alive(path: Path) -> bool:
    """
    Whether some process holds the host lock file `path`: the host, or a child that inherited it.

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
        if _same(descriptor, path):
            os.unlink(path)
        return False
    finally:
        os.close(descriptor)


class SubjectLock:
    """One held lock. `descriptor` is what children inherit."""

    def __init__(self, descriptor: int, children: Path) -> None:
        self.descriptor = descriptor
        self._path = children
        self._children: list[tuple[int, float, float]] = []

    def record_child(self, pid: int, deadline: float) -> None:
        """Note a child and its deadline (seconds on the host's monotonic clock) for whoever has to take over."""
        try:
            born = psutil.Process(pid).create_time()
        except psutil.Error:
            return  # it is gone already
        self._children = [*self._children[-63:], (pid, born, deadline)]
        temporary = self._path.with_suffix(".tmp")
        owner = (os.getpid(), psutil.Process().create_time())
        temporary.write_text(json.dumps({"owner": owner, "children": self._children}), "utf-8")
        os.rename(temporary, self._path)

    def release(self) -> None:
        """Give the lock back. While a child still holds it, the subject stays locked; what was noted of children goes with the lock."""
        if self.descriptor < 0:
            return
        descriptor, self.descriptor = self.descriptor, -1
        if self._children:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        os.close(descriptor)


class SubjectLocks:
    """The locks of one home, as one host instance takes them."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._path = folder / "subjects.lock"
        self._clock = clock

    def try_acquire(self, subject: str) -> SubjectLock | None:
        """The lock of `subject`, or `None` while somebody holds it."""
        digest = _digest(subject)
        descriptor = self._locked(digest)
        return SubjectLock(descriptor, self._children(digest)) if descriptor is not None else None

    def _locked(self, digest: bytes) -> int | None:
        """A descriptor that holds the lock of the subject with this digest."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        offset = int.from_bytes(digest[:8], "big") >> 2
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _children(self, digest: bytes) -> Path:
        return self._folder / f"children-{digest[:16].hex()}.json"

    def end_orphans(self, subject: str) -> None:
        """End children that a dead host left with the lock of `subject`, if they are past their deadline."""
        try:
            known = json.loads(self._children(_digest(subject)).read_text("utf-8"))
            owner, owner_born = int(known["owner"][0]), float(known["owner"][1])
            children = [(int(pid), float(born), float(deadline)) for pid, born, deadline in known["children"]]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if _runs(owner, owner_born):
            return
        for pid, born, deadline in children:
            if self._clock.monotonic() < deadline:
                continue
            # The group's leader may be gone while members live on; its id stays taken as long as they do.
            if not psutil.pid_exists(pid) or _runs(pid, born):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)

    def forget_children(self) -> None:
        """Remove the notes about children that no longer hold their subject's lock: those that killed hosts left."""
        for path in self._folder.glob("children-*"):
            with contextlib.suppress(ValueError):
                descriptor = self._locked(bytes.fromhex(path.stem.removeprefix("children-")))
                if descriptor is not None:
                    path.unlink(missing_ok=True)
                    os.close(descriptor)


def _runs(pid: int, born: float) -> bool:
    """Whether the process that was started at `born` (seconds since 1970) runs; its number may have been given to another one."""
    try:
        return abs(psutil.Process(pid).create_time() - born) < 1.0
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _same(descriptor: int, path: Path) -> bool:
    """Whether `path` is the file that `descriptor` has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _digest(subject: str) -> bytes:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()
