"""
`MachineLock`: the locks of subjects and radii, over all processes of a machine (`remediation.ports.locking.Locks`).

A lock belongs to an open file description: an attempt's children inherit the descriptor, so that the lock outlives a killed host until
its children are gone, and no longer. How the file is laid out is in `lock_file`; why it is one file, in ADR 0003; the line and the
number, in ADR 0007.

An attempt that starts children notes them, with their deadlines, in ``children-<hash>.json``, so that whoever takes over can end those
that overran. It notes before each start that one is to come: a host may be killed between the start and the note of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
from dataclasses import replace
from pathlib import Path

import psutil

from remediation.coordination import lock_file
from remediation.coordination.lock_file import PLACES, digest_of, lock, locked, offset_of, unlock
from remediation.model.base import epoch_ms
from remediation.ports.clock import Clock
from remediation.ports.locking import Claim, HeldLock, Holder

FILE = "machine.lock"
MARK = "REMEDIATION_CHILD_OF"
"""The variable by which a child is known that its host had no time to note."""
PASSED_OVER = 1.0
"""Seconds that a free lock is left to those in line for it: who does not take it meanwhile was stopped, and loses its turn."""
_POLL = 0.001
_SLOWEST = 0.01
_NOBODY = Claim()


class MachineLocked:
    """One held lock; see `remediation.ports.locking.HeldLock`."""

    def __init__(self, descriptor: int, digest: bytes, holder: Holder, folder: Path) -> None:
        self._descriptor = descriptor
        self._digest = digest
        self._holder = holder
        self._folder = folder
        self._children: list[tuple[int, float, float]] = []
        self._expected: list[float] = []
        self._token = secrets.token_hex(8)
        self._joined: list[HeldLock] = []

    @property
    def number(self) -> int:
        return self._holder.number

    @property
    def descriptors(self) -> tuple[int, ...]:
        own = (self._descriptor,) if self._descriptor >= 0 else ()
        return (*own, *(descriptor for other in self._joined for descriptor in other.descriptors))

    def tell(self, attempt: str) -> None:
        """See `HeldLock.tell`."""
        if self._descriptor >= 0 and attempt != self._holder.claim.attempt:
            self._holder = replace(self._holder, claim=replace(self._holder.claim, attempt=attempt))
            lock_file.write_record(self._descriptor, self._digest, self._holder)

    def expect_child(self, deadline: float) -> dict[str, str]:
        """See `HeldLock.expect_child`."""
        self._expected = [*self._expected[-63:], deadline]
        self._note()
        return {MARK: self._token}

    def record_child(self, pid: int, deadline: float) -> None:
        """See `HeldLock.record_child`."""
        if deadline in self._expected:
            self._expected.remove(deadline)
        with contextlib.suppress(psutil.Error):  # it is gone already
            self._children = [*self._children[-63:], (pid, psutil.Process(pid).create_time(), deadline)]
        self._note()

    def _note(self) -> None:
        path = _children_of(self._folder, self._digest)
        temporary = path.with_suffix(".tmp")
        owner = (os.getpid(), psutil.Process().create_time())
        noted = {"owner": owner, "children": self._children, "expected": self._expected, "mark": self._token}
        temporary.write_text(json.dumps(noted), "utf-8")
        os.rename(temporary, path)

    def join(self, other: HeldLock) -> None:
        """See `HeldLock.join`."""
        self._joined.append(other)

    def release(self) -> None:
        """See `HeldLock.release`. What was noted of children goes with the lock."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        if self._children or self._expected:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_children_of(self._folder, self._digest))
        os.close(descriptor)
        for other in self._joined:
            other.release()


class MachineLock:
    """
    Locks by name for all processes that use one folder, as one host instance takes them; see `remediation.ports.locking.Locks`.

    Fairness: a lock has a line of eight places. Who waits in it is served in order; nobody new is let in before, but one who looked
    before the line began. Who comes when the line is full competes for its last place, in no order. One in line that was stopped loses
    its turn after `PASSED_OVER` seconds.

    Non-guarantees: a lock file that somebody removes takes the locks and the numbers with it; only processes that use the same folder
    exclude each other.

    Args:
        folder: Where the lock file is, on a local disk.
        clock: The host's time.

    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._clock = clock
        self._boot = lock_file.boot_id()
        self._passed: dict[bytes, tuple[float, bytes]] = {}
        """Free locks that were left to those in line: since when, and the record as it was then."""

    def try_acquire(self, name: str, claim: Claim = _NOBODY) -> MachineLocked | None:
        """
        The lock, or `None` while somebody holds it, or waits in line for it.

        Raises:
            OSError: the lock file can't be used.

        """
        descriptor = lock_file.opened(self._path)
        held = None
        try:
            held = self._take(descriptor, digest_of(name), PLACES, claim)
        finally:
            if held is None:
                os.close(descriptor)
        return held

    async def acquire(self, name: str, claim: Claim = _NOBODY, *, within: float) -> MachineLocked | None:
        """
        Wait in line for the lock, `within` seconds at most; `None` when they are over.

        Raises:
            OSError: the lock file can't be used.

        """
        digest, end = digest_of(name), self._clock.monotonic() + within
        first, place, pause = offset_of(digest), PLACES + 1, _POLL
        descriptor = lock_file.opened(self._path)
        held = None
        try:
            while True:
                held = self._take(descriptor, digest, place - 1, claim)
                if held is not None:
                    if place <= PLACES:
                        unlock(descriptor, first + place)
                    return held
                while place > 1 and lock(descriptor, first + place - 1):
                    if place <= PLACES:
                        unlock(descriptor, first + place)
                    place, pause = place - 1, _POLL
                if self._clock.monotonic() >= end:
                    return None
                await self._clock.sleep(pause)
                pause = min(_SLOWEST, pause * 1.5)
        finally:
            if held is None:
                os.close(descriptor)

    def holder(self, name: str) -> Holder | None:
        """Who holds the lock; `None` for nobody, or for somebody who can't be named."""
        descriptor = lock_file.opened(self._path)
        try:
            return lock_file.holder_of(descriptor, digest_of(name))
        finally:
            os.close(descriptor)

    def end_orphans(self, name: str) -> None:
        """End children that a dead host left with the lock, if they are past their deadline."""
        try:
            known = json.loads(_children_of(self._folder, digest_of(name)).read_text("utf-8"))
            owner, owner_born = int(known["owner"][0]), float(known["owner"][1])
            children = [(int(pid), float(born), float(deadline)) for pid, born, deadline in known["children"]]
            expected, mark = [float(deadline) for deadline in known["expected"]], str(known["mark"])
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
        if expected and self._clock.monotonic() >= max(expected):
            # The host died after it had started a child, and before it noted which one.
            for pid in _marked(mark):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def forget_children(self) -> None:
        """Remove the notes about children that no longer hold a lock: those that killed hosts left."""
        for path in self._folder.glob("children-*"):
            with contextlib.suppress(ValueError):
                digest = bytes.fromhex(path.stem.removeprefix("children-"))
                descriptor = lock_file.opened(self._path)
                try:
                    if lock(descriptor, offset_of(digest)):
                        path.unlink(missing_ok=True)
                finally:
                    os.close(descriptor)

    def _take(self, descriptor: int, digest: bytes, ahead: int, claim: Claim) -> MachineLocked | None:
        """The lock, if nobody holds it and nobody waits at one of the `ahead` first places."""
        first = offset_of(digest)
        if ahead and locked(descriptor, first + 1, ahead) and not self._passed_over(descriptor, digest):
            return None
        if not lock(descriptor, first):
            return None
        number = lock_file.next_number(descriptor, self._path, self._boot)
        if not number:
            unlock(descriptor, first)
            return None
        self._passed.pop(digest, None)
        holder = Holder(number, os.getpid(), epoch_ms(self._clock.now()), claim)
        lock_file.write_record(descriptor, digest, holder)
        return MachineLocked(descriptor, digest, holder, self._folder)

    def _passed_over(self, descriptor: int, digest: bytes) -> bool:
        """Whether the lock has been free for a while, and those in line did not take it."""
        if locked(descriptor, offset_of(digest)):
            self._passed.pop(digest, None)
            return False
        now, record = self._clock.monotonic(), lock_file.raw_record(descriptor, digest)
        since, then = self._passed.setdefault(digest, (now, record))
        if record != then:
            self._passed[digest] = (now, record)
            return False
        return now - since > PASSED_OVER


def _children_of(folder: Path, digest: bytes) -> Path:
    return folder / f"children-{digest[:16].hex()}.json"


def _marked(mark: str) -> list[int]:
    """The processes that were started with this mark, as far as this user may look at them."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def _runs(pid: int, born: float) -> bool:
    """Whether the process that was started at `born` (seconds since 1970) runs; its number may have been given to another one."""
    try:
        return abs(psutil.Process(pid).create_time() - born) < 1.0
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
