"""
The lock file of a home: range locks, the fencing number, and who holds what.

Layout; integers are big-endian::

    0      8  the fencing number that was given last
    8      8  the bound: a number that none given in this boot exceeds, written durably before the first of them is given
    16    36  the boot id in which that is so (``/proc/sys/kernel/random/boot_id``)
    4096      1,024 records of 256 bytes, each at a hash of its lock's name: the first 16 bytes of SHA-256 of the name; the number, the
              holder's pid, and since when (milliseconds since 1970 UTC), 8 bytes each; instance (48), incident (96) and attempt (48)
              in UTF-8, padded with zeros
    2**40     lock bytes, never written: 16 for a name, at a hash of it

The first of a name's lock bytes is the lock; the next ones are the places in the line of those who wait for it, the first in the line
being the nearest. Locks are open file description locks (``F_OFD_SETLK``, fcntl(2); ADR 0003). The number is read and written under
the lock of byte 0.

A power cut may undo what was written to the file but not synced. So numbers are given below a bound that was synced before; after a
reboot they go on from the bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from remediation.ports.locking import Claim, Holder

PLACES = 8
"""Places in the line for one lock; who comes when all are taken, waits for the last of them."""
_FLOCK = "hhqqi4x"
_HEADER = struct.Struct(">QQ36s")
_NUMBER = struct.Struct(">Q")
_HELD = struct.Struct(">16sQQQ48s96s48s")
_RECORDS = 4096
_RECORD = 256
_SLOTS = 1024
_BYTES = 1 << 40
_STEP = 1 << 16
_TRIES = 100
_PAUSE = 0.0002
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names the time from this machine's last start to its next; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def digest_of(name: str) -> bytes:
    """What a lock's name is in the file."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def offset_of(digest: bytes) -> int:
    """The lock byte of a name."""
    return _BYTES + (int.from_bytes(digest[:8], "big") >> 6) * 16


def opened(path: Path) -> int:
    """A descriptor with an open file description of its own. Raises OSError, also for a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def lock(descriptor: int, offset: int) -> bool:
    """Lock one byte; whether that was possible."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(descriptor: int, offset: int) -> None:
    """Unlock one byte."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, offset, 1, 0))


def locked(descriptor: int, offset: int, length: int = 1) -> bool:
    """Whether another open file description holds a lock in the range."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, length, 0)
    kind, *_ = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


def next_number(descriptor: int, path: Path, boot: str) -> int:
    """
    The next fencing number; 0 when the file was busy for too long: somebody was stopped while taking a number.

    Guarantee: larger than every number that was returned before, in any process, also before a crash or power cut. Non-guarantee: a
    removed or replaced file begins anew.
    """
    for _ in range(_TRIES):
        if lock(descriptor, 0):
            break
        time.sleep(_PAUSE)
    else:
        return 0
    try:
        header = os.pread(descriptor, _HEADER.size, 0)
        number, bound, at = _header(header)
        same = at.rstrip(b"\0") == boot.encode()
        number = (number if same else max(number, bound)) + 1
        if number <= bound and same:
            os.pwrite(descriptor, _NUMBER.pack(number), 0)
        else:
            os.pwrite(descriptor, _HEADER.pack(number, number + _STEP, boot.encode()), 0)
            os.fsync(descriptor)
            if not header:
                _sync_folder(path.parent)
    finally:
        unlock(descriptor, 0)
    return number


def _header(raw: bytes) -> tuple[int, int, bytes]:
    return _HEADER.unpack(raw) if len(raw) == _HEADER.size else (0, 0, b"")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_record(descriptor: int, digest: bytes, holder: Holder) -> None:
    """Note who holds a lock. A record of another lock at the same place is lost: that holder can't be named until the next time."""
    claim = holder.claim
    told = (claim.instance.encode(), claim.incident.encode(), claim.attempt.encode())
    os.pwrite(descriptor, _HELD.pack(digest[:16], holder.number, holder.pid, holder.since, *told), _place(digest))


def raw_record(descriptor: int, digest: bytes) -> bytes:
    """The record at a lock's place as it is: it changes with every holder."""
    return os.pread(descriptor, _RECORD, _place(digest))


def holder_of(descriptor: int, digest: bytes) -> Holder | None:
    """Who holds the lock of that digest, if somebody holds it and can be named."""
    told = _told(raw_record(descriptor, digest))
    if told is None or told[0] != digest[:16] or not locked(descriptor, offset_of(digest)):
        return None
    return told[1]


def holders(path: Path) -> Iterator[Holder]:
    """All who hold a lock now and can be named. Works for whoever can read the file; nobody holds anything when there is none."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            content = os.pread(descriptor, _SLOTS * _RECORD, _RECORDS)
            for start in range(0, len(content), _RECORD):
                told = _told(content[start : start + _RECORD])
                # The first 16 bytes of a digest tell the place of its lock.
                if told is not None and locked(descriptor, offset_of(told[0])):
                    yield told[1]
        finally:
            os.close(descriptor)


def _told(raw: bytes) -> tuple[bytes, Holder] | None:
    """A record: the beginning of the digest, and the holder; `None` for an empty one."""
    if len(raw) < _HELD.size:
        return None
    name, number, pid, since, *told = _HELD.unpack_from(raw)
    if not number:
        return None
    return name, Holder(number, pid, since, Claim(*(text.rstrip(b"\0").decode("utf-8", "replace") for text in told)))


def _place(digest: bytes) -> int:
    return _RECORDS + int.from_bytes(digest[8:10], "big") % _SLOTS * _RECORD
