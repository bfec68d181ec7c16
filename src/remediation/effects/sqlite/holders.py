"""Who has a database open: found by the open files of all processes, without opening the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from remediation.effects.sqlite.children import LOOK, SUFFIXES, side
from remediation.errors import EffectError
from remediation.model.base import Frozen
from remediation.model.text import capped, printable, wellformed


class Holder(Frozen):
    """A process that has the database or one of its side files open."""

    pid: int
    name: str
    checking: bool = False
    """It is only this package's own look at it, which ends by itself."""

    def told(self) -> str:
        """For people."""
        return f"{self.pid} ({self.name})"


class Holders(Frozen):
    """
    Who has it open, and who might without our knowing.

    Non-guarantees: a process in another pid namespace is not seen (its locks are, see `children.lock_holders`); one that opens the
    database a moment later is not foreseen.
    """

    found: tuple[Holder, ...] = ()
    hidden: int = 0
    """Processes whose files could not be seen, and that file permissions would let write to it; root's don't count."""
    hidden_root: int = 0
    """Processes of root whose files could not be seen."""

    @property
    def others(self) -> tuple[Holder, ...]:
        """Those that do more than look."""
        return tuple(holder for holder in self.found if not holder.checking)

    def told(self) -> str:
        """For people."""
        return ", ".join(holder.told() for holder in self.found[:8]) or "nobody"


def holders(path: Path) -> Holders:
    """Who has the database at `path`, or one of its side files, open now. Blocks for some milliseconds."""
    identities = [identity for suffix in SUFFIXES if (identity := identity_of(side(path, suffix)))]
    return holding(identities, could_write=_writers(path))


def holding(
    identities: Iterable[tuple[int, int]], *, could_write: Callable[[int], bool] = lambda _: False, own: int = -1
) -> Holders:
    """
    Who has one of these files open.

    Args:
        identities: Device and inode of each.
        could_write: Whether a user, by id, could open them for writing.
        own: A descriptor of this process that does not count.

    Raises:
        EffectError: this system doesn't tell.

    """
    if not os.path.isdir("/proc/self/fd"):
        raise EffectError("can't tell which processes have a database open: this system has no /proc; see to it by hand")
    wanted = frozenset(identities)
    found, hidden, hidden_root = [], 0, 0
    for pid in psutil.pids():
        try:
            if wanted & _open_files(pid, own if pid == os.getpid() else -1):
                found.append(_holder(pid))
        except PermissionError:
            if _ended(pid):
                continue
            owner = _owner(pid)
            hidden_root += owner == 0
            hidden += owner > 0 and could_write(owner)
        except OSError:
            continue  # it has ended
    return Holders(found=tuple(found), hidden=hidden, hidden_root=hidden_root)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Device and inode of what is at `path`; `None` for nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_files(pid: int, but: int) -> set[tuple[int, int]]:
    folder = f"/proc/{pid}/fd"
    found = set()
    for name in os.listdir(folder):
        if name == str(but):
            continue
        try:
            told = os.stat(f"{folder}/{name}")
        except OSError:
            continue  # closed meanwhile
        found.add((told.st_dev, told.st_ino))
    return found


def _holder(pid: int) -> Holder:
    try:
        process = psutil.Process(pid)
        name = printable(capped(wellformed(process.name()), 64))
        return Holder(pid=pid, name=name, checking=str(LOOK) in process.cmdline())
    except psutil.Error:
        return Holder(pid=pid, name="?")


def _ended(pid: int) -> bool:
    """Whether it holds nothing any more, and only waits to be buried: what is left of it can't be looked into either."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return not psutil.pid_exists(pid)


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _writers(path: Path) -> Callable[[int], bool]:
    """Who could write to `path`, roughly: its owner and, if its mode lets groups or others, everybody."""
    try:
        found = os.stat(path)
    except OSError:
        return lambda _: False
    anybody = bool(found.st_mode & 0o022)
    return lambda uid: anybody or uid == found.st_uid
