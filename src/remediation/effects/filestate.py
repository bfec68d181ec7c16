"""What a regular file is, as far as an effect may depend on it: existence, content, mode, owner, extended attributes."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from remediation.effects.fields import BigInteger, shown
from remediation.errors import EffectConflict, EffectError, EffectRefused
from remediation.model.base import Frozen
from remediation.model.plan import BlobRef
from remediation.ports.effect import BlobStore

ATTRIBUTES_CAP = 64 * 1024
_CHUNK = 1024 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# The kernel's integrity measurement keeps these; they belong to the content and can't be carried over.
_MEASURED = frozenset({"security.ima", "security.evm"})


class FileState(Frozen):
    """
    A regular file, or its absence.

    Two states are the same if existence, SHA-256, mode, owner and attributes are; the rest is recorded as evidence, and to
    recognise one and the same file within one apply.
    """

    exists: bool
    sha256: str = ""
    mode: int = 0
    """Permission bits, with set-id and sticky."""
    uid: int | None = None
    """`None`: whoever creates it."""
    gid: int | None = None
    attributes: tuple[tuple[str, str], ...] | None = None
    """Extended attributes (POSIX ACLs and security labels among them), values in base64; `None`: whatever a new file gets."""
    size: BigInteger = 0
    mtime_ns: BigInteger = 0
    device: BigInteger = 0
    inode: BigInteger = 0

    def allows(self, found: FileState) -> bool:
        """Whether `found` is a file as this state describes it."""
        if not self.exists or not found.exists:
            return self.exists == found.exists
        return (
            (self.sha256, self.mode) == (found.sha256, found.mode)
            and self.uid in (None, found.uid)
            and self.gid in (None, found.gid)
            and self.attributes in (None, found.attributes)
        )

    def is_one_with(self, found: FileState) -> bool:
        """Whether both are one and the same file, unchanged between the two looks as far as size and time tell."""
        return (self.exists, self.device, self.inode, self.size, self.mtime_ns) == (
            found.exists,
            found.device,
            found.inode,
            found.size,
            found.mtime_ns,
        )

    def told(self) -> str:
        """A few words for people."""
        if not self.exists:
            return "no file"
        return f"{self.size} bytes, mode {self.mode:04o}, SHA-256 {self.sha256[:12]}…"


ABSENT = FileState(exists=False)


def examine(parent: int, name: str, *, sole: bool = True) -> FileState:
    """
    The state of `name` in the directory `parent`.

    Args:
        parent: A descriptor of the directory.
        name: A name in it.
        sole: Refuse a file that has other names (hard links).

    Raises:
        EffectRefused: it is no regular file, or has other names.
        EffectConflict: it changed while it was read.
        OSError: it can't be examined.

    """
    with opened(parent, name, sole=sole) as descriptor:
        if descriptor is None:
            return ABSENT
        before = os.fstat(descriptor)
        return _state(descriptor, name, _digest(descriptor), before)


def examine_and_keep(parent: int, name: str, blobs: BlobStore | None) -> tuple[FileState, BlobRef | None]:
    """Like `examine`; with `blobs` the content is stored durably, in the same pass."""
    if blobs is None:
        return examine(parent, name), None
    with opened(parent, name) as descriptor:
        if descriptor is None:
            return ABSENT, None
        before = os.fstat(descriptor)
        image = blobs.put_open_blocking(descriptor)
        return _state(descriptor, name, image.sha256, before), image


def glance(parent: int, name: str) -> FileState:
    """What a stat alone tells of `name` (for `FileState.is_one_with`); anything but a regular file counts as absent."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return ABSENT
    if not stat.S_ISREG(found.st_mode):
        return ABSENT
    return FileState(exists=True, size=found.st_size, mtime_ns=found.st_mtime_ns, device=found.st_dev, inode=found.st_ino)


@contextlib.contextmanager
def opened(parent: int | None, name: str | Path, *, sole: bool = True) -> Iterator[int | None]:
    """
    A descriptor to read the regular file `name` from, or `None` where there is nothing.

    Raises:
        EffectRefused: it is no regular file, or has other names and `sole` is asked for.

    """
    try:
        # Looked at before it is opened: opening a device can have effects of its own.
        _refuse_unless_regular(os.stat(name, dir_fd=parent, follow_symlinks=False), name, sole)
        descriptor = os.open(name, _OPEN, dir_fd=parent)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise EffectRefused(f"{shown(Path(name))} is a symbolic link; effects change regular files only") from error
        raise
    try:
        _refuse_unless_regular(os.fstat(descriptor), name, sole)
        yield descriptor
    finally:
        os.close(descriptor)


def attributes_of(descriptor: int) -> tuple[tuple[str, str], ...]:
    """
    The extended attributes of an open file, sorted by name.

    Raises:
        EffectRefused: more than 64 KiB of them.

    """
    if not hasattr(os, "listxattr"):
        return ()
    found = []
    try:
        for name in sorted(os.listxattr(descriptor)):
            if name not in _MEASURED:
                with _absent_attribute():
                    found.append((name, base64.b64encode(os.getxattr(descriptor, name)).decode("ascii")))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
    if sum(len(name) + len(value) for name, value in found) > ATTRIBUTES_CAP:
        raise EffectRefused(f"the file has more than {ATTRIBUTES_CAP} bytes of extended attributes; change it by hand")
    return tuple(found)


def set_attributes(descriptor: int, wanted: tuple[tuple[str, str], ...]) -> None:
    """Give an open file exactly the attributes `wanted`; what is as wanted already is not touched."""
    present = dict(attributes_of(descriptor))
    for name, value in wanted:
        if present.pop(name, None) != value:
            os.setxattr(descriptor, name, base64.b64decode(value))
    for name in present:
        with _absent_attribute():
            os.removexattr(descriptor, name)


@contextlib.contextmanager
def _absent_attribute() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _refuse_unless_regular(found: os.stat_result, name: str | Path, sole: bool) -> None:
    text = shown(Path(name))
    if stat.S_ISLNK(found.st_mode):
        raise EffectRefused(f"{text} is a symbolic link; effects change regular files only")
    if not stat.S_ISREG(found.st_mode):
        raise EffectRefused(f"{text} is no regular file; effects leave directories, devices, pipes and sockets alone")
    if sole and found.st_nlink > 1:
        raise EffectRefused(
            f"{text} has {found.st_nlink} names (hard links), and a change under one name would part them; remove the others first"
        )


def _digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _state(descriptor: int, name: str, sha256: str, before: os.stat_result) -> FileState:
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise EffectConflict(f"{shown(Path(name))} changed while it was read; somebody is writing to it")
    return FileState(
        exists=True,
        sha256=sha256,
        mode=stat.S_IMODE(after.st_mode),
        uid=after.st_uid,
        gid=after.st_gid,
        attributes=attributes_of(descriptor),
        size=after.st_size,
        mtime_ns=after.st_mtime_ns,
        device=after.st_dev,
        inode=after.st_ino,
    )


@contextlib.contextmanager
def told(what: str, path: Path) -> Iterator[None]:
    """
    An `OSError` in the block, told for people.

    Raises:
        EffectConflict: the folder of `path` is missing.
        EffectError: anything else.

    """
    try:
        yield
    except FileNotFoundError as error:
        raise EffectConflict(f"can't {what} {shown(path)}: its folder is missing; make the folder first") from error
    except OSError as error:
        raise EffectError(f"can't {what} {shown(path)}: {error.strerror}{_HINTS.get(error.errno or 0, '')}") from error


_HINTS = {
    errno.ENOSPC: "; free some space and try again",
    errno.EDQUOT: "; free some space and try again",
    errno.EFBIG: "; the host's limit on file sizes is too low",
    errno.EROFS: "; mount the file system writable first",
    errno.EACCES: "; the host's user may not do that",
    errno.EPERM: "; the host's user may not do that, or the file is marked immutable",
}
