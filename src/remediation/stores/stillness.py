"""
A journal that stands still, so that it can be looked into without a trace.

Whoever opens a database in WAL mode changes it: an index is made beside it, and the last one who closes moves the write-ahead log into
the database and removes it. A verifier must not do that to what it examines: the log may be the evidence. So it looks at

- the database itself, opened as immutable (https://www.sqlite.org/uri.html#uriimmutable), if nothing but the database is there;
- otherwise a private copy of the database, its write-ahead log and its rollback journal (which SQLite would play back: so a copy without
  it would be another database than the one that a host opens).

The copy is made under the journal's writer lock, where this user may take it: then nobody commits meanwhile, nor moves pages of the
write-ahead log. Otherwise it is made again until nothing moved. A child process copies: closing a file drops all locks that its process
holds on it (fcntl(2)), and this process may be the host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from remediation.errors import JournalUnavailable

T = TypeVar("T")
BESIDE = ("-wal", "-journal")
"""What SQLite keeps beside a database and needs to read it. ``-shm`` is an index that it makes itself."""
TRIES = 5
LOCK_SECONDS = 5.0
_UNSURE = 3
_COPY = """
import fcntl, os, shutil, signal, sys

FICLONE = 0x40049409  # ioctl_ficlone(2): the blocks are shared until somebody writes
lock, seconds, *names = sys.argv[1:]


def give_up(*_):
    raise TimeoutError


status = 0
signal.signal(signal.SIGALRM, give_up)
try:
    descriptor = os.open(lock, os.O_RDONLY)
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    fcntl.flock(descriptor, fcntl.LOCK_EX)
except OSError:
    status = 3
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
for source, target in zip(names[::2], names[1::2]):
    try:
        with open(source, "rb") as old, open(target, "xb") as new:
            try:
                fcntl.ioctl(new, FICLONE, old.fileno())
            except OSError:
                shutil.copyfileobj(old, new, 1 << 20)
    except FileNotFoundError:
        pass
sys.exit(status)
"""
_Seen = tuple[tuple[int, ...] | None, ...]


def while_still(path: Path, look: Callable[[Path, bool], T], *, lock: Path | None = None) -> T:
    """
    What `look` finds in the database `path`, as of one moment; nothing in or beside it is changed.

    Args:
        path: The database.
        look: Called with the path of a database that stands still, and whether it must be opened as immutable. May be called twice.
        lock: The file of the journal's writer lock; by default ``journal.lock`` beside the database, if it is there.

    Raises:
        JournalUnavailable: there is no such file, it can't be read, or there is no room for a copy.

    """
    if not path.exists():
        raise JournalUnavailable(f"there is no journal at {path}; `remediation init` makes one")
    if not path.is_file():
        raise JournalUnavailable(f"{path} is not a file; a journal is")
    before = _seen(path)
    if not any(before[1:]):
        try:
            found = look(path, True)
        except Exception:
            if _seen(path) == before:
                raise
        else:
            if _seen(path) == before:
                return found
    with _copied(path, lock or path.with_name("journal.lock")) as copy:
        return look(copy, False)


def _seen(path: Path) -> _Seen:
    """What tells whether the files were touched."""
    return tuple(_state(path.with_name(path.name + suffix)) for suffix in ("", *BESIDE))


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalUnavailable(f"{path} can't be read: {error.strerror}") from error
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextlib.contextmanager
def _copied(path: Path, lock: Path) -> Iterator[Path]:
    folder = _room(path)
    try:
        copy = folder / path.name
        for number in range(TRIES):
            before = _seen(path)
            if _copy(path, copy, lock) or _seen(path) == before:
                break
            time.sleep(0.05 * 2**number)
        else:
            raise JournalUnavailable(
                f"{path} is written to all the time, and its writer lock {lock} can't be taken; run this as the journal's owner"
            )
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _room(path: Path) -> Path:
    """A private folder that a copy fits into."""
    needed = sum(state[1] for state in _seen(path) if state is not None)
    # SQLite moves the write-ahead log of the copy into it, which may need as much again.
    where = [Path(tempfile.gettempdir()), path.parent.parent]
    for parent in where:
        with contextlib.suppress(OSError):
            if shutil.disk_usage(parent).free > 2 * needed:
                return Path(tempfile.mkdtemp(prefix="remediation-journal-", dir=parent))
    raise JournalUnavailable(
        f"there is no room for a copy of {path} ({needed} bytes) to look into; make some in {where[0]}, or name another place with TMPDIR"
    )


def _copy(path: Path, copy: Path, lock: Path) -> bool:
    """Copy what is there; returns whether nobody could write meanwhile. The lock ends with the child that copies."""
    words = [str(lock), str(LOCK_SECONDS)]
    for suffix in ("", *BESIDE):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
        words += [str(path) + suffix, str(copy) + suffix]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _COPY, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, _UNSURE) or not copy.exists():
        said = done.stderr.strip().rpartition("\n")[2] or "it was removed meanwhile"
        raise JournalUnavailable(f"{path} can't be copied to look into it: {said}")
    return done.returncode == 0
