"""
The blob store: content by digest, in plain files.

Layout: ``root/ab/cdef…`` for the SHA-256 ``abcdef…``, and ``root/incoming/`` for what is being written. A file gets its final
name only after its content is durable, so whatever lies under a digest is complete; `get` verifies it all the same.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio.to_thread

from remediation.errors import EffectError
from remediation.model.plan import BlobRef
from remediation.model.text import printable, wellformed

_CHUNK = 1024 * 1024
_DIGEST = re.compile("[0-9a-f]{64}")


class FileBlobStore:
    """
    A `BlobStore` in a folder of its own, which several processes may share.

    Opening it makes the folder (0700) and removes what killed writers left behind. Blobs are 0600, and deleted by `discard` only.

    Args:
        root: The folder; it must not be reachable for people who may not read what files held before they were changed.

    Raises:
        EffectError: the folder can't be made or read.

    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._synced: set[str] = set()
        with _told(f"open the blob store {root}"):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._incoming.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(root.parent)
            self._remove_leftovers()

    async def put(self, data: bytes) -> BlobRef:
        """
        Store bytes; they are durable when this returns.

        Raises:
            EffectError: they can't be stored (a full disk, for example).

        """
        return await anyio.to_thread.run_sync(self.put_blocking, data)

    async def put_file(self, path: Path) -> BlobRef:
        """
        Store the content of a regular file, read in pieces; it is durable when this returns.

        Non-guarantee: a file that is being written meanwhile is stored as the pieces were read.

        Raises:
            EffectError: it is missing, a link, no regular file, or can't be read or stored.

        """
        return await anyio.to_thread.run_sync(self._put_path, path)

    async def get(self, ref: BlobRef) -> bytes:
        """
        The content, verified.

        Raises:
            EffectError: missing or damaged.

        """
        return await anyio.to_thread.run_sync(self.get_blocking, ref)

    def path(self, ref: BlobRef) -> Path:
        """Where the content lies, whether it is there or not."""
        return self.root / ref.sha256[:2] / ref.sha256[2:]

    def held(self) -> set[str]:
        """
        The digests of all blobs.

        Raises:
            EffectError: the folder can't be read.

        """
        with _told(f"list the blob store {self.root}"):
            names = {
                f"{shard.name}{file.name}" for shard in self.root.iterdir() if shard != self._incoming for file in shard.iterdir()
            }
        return {name for name in names if _DIGEST.fullmatch(name)}

    def discard(self, digest: str, *, unused_since: float) -> bool:
        """
        Delete a blob, unless it was stored, perhaps once more, after `unused_since` (seconds since 1970 UTC): whoever did that may be
        about to refer to it. Returns whether it is gone.

        Raises:
            EffectError: it can't be deleted.

        """
        with _told(f"delete the blob {digest}"):
            try:
                descriptor = os.open(self.root / digest[:2] / digest[2:], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return True
            try:
                # `_holds` takes the same lock: either it finds the blob gone, or its new date is seen here.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_mtime > unused_since:
                    return False
                (self.root / digest[:2] / digest[2:]).unlink(missing_ok=True)
            finally:
                os.close(descriptor)
            _sync_directory(self.root / digest[:2])
        return True

    def put_blocking(self, data: bytes) -> BlobRef:
        """See `put`."""
        ref = BlobRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        with _told("store content"):
            if not self._holds(ref):
                self._write(lambda target: _fill(target, data, ref))
            self._settle(ref)
        return ref

    def put_open_blocking(self, descriptor: int) -> BlobRef:
        """See `ports.effect.BlobStore.put_open_blocking`."""
        with _told("store content"):
            ref = self._write(lambda target: _copy(descriptor, target))
            self._settle(ref)
        return ref

    def get_blocking(self, ref: BlobRef) -> bytes:
        """See `get`."""
        try:
            data = self.path(ref).read_bytes()
        except OSError as error:
            raise EffectError(f"blob {ref.sha256} can't be read ({error.strerror}); what it held is lost here") from error
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise EffectError(f"blob {ref.sha256} is damaged: its content has another digest; restore it from a copy of the home")
        return data

    def _put_path(self, path: Path) -> BlobRef:
        with _told(f"keep {path}"):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise EffectError(f"can't keep {printable(wellformed(str(path)))}: it is no regular file")
                return self.put_open_blocking(descriptor)
            finally:
                os.close(descriptor)

    def _holds(self, ref: BlobRef) -> bool:
        """Whether the content is there and whole, and then in use from now on; a damaged file counts as absent and will be replaced."""
        try:
            with self.path(ref).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                if not os.fstat(file.fileno()).st_nlink or hashlib.file_digest(file, "sha256").hexdigest() != ref.sha256:
                    return False
                os.utime(file.fileno())
                return True
        except FileNotFoundError:
            return False

    def _write(self, fill: Callable[[int], BlobRef]) -> BlobRef:
        """Write a file in incoming/ by `fill`, make it durable, and give it its name."""
        while True:
            name = self._incoming / secrets.token_hex(8)
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                # The lock tells a store that is opened meanwhile, in any process, that this file has a living writer.
                fcntl.flock(target, fcntl.LOCK_EX)
                ref = fill(target)
                if not self._holds(ref):
                    os.fsync(target)
                    self._make_shard(ref)
                    name.rename(self.path(ref))
            except FileNotFoundError:
                # Removed as a left-over in the instant between its creation and its lock.
                if os.fstat(target).st_nlink:
                    raise
            else:
                return ref
            finally:
                os.close(target)
                with contextlib.suppress(FileNotFoundError):
                    name.unlink()

    def _make_shard(self, ref: BlobRef) -> None:
        with contextlib.suppress(FileExistsError):
            self.path(ref).parent.mkdir(mode=0o700)

    def _settle(self, ref: BlobRef) -> None:
        """Make the name durable, also where another writer gave it and has not come so far."""
        shard = ref.sha256[:2]
        _sync_directory(self.root / shard)
        if shard not in self._synced:
            _sync_directory(self.root)
            self._synced.add(shard)

    def _remove_leftovers(self) -> None:
        for leftover in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    leftover.unlink()
                finally:
                    os.close(descriptor)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """An `OSError` in the block as an `EffectError` that people can act on."""
    try:
        yield
    except OSError as error:
        hint = "; free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
        raise EffectError(f"can't {printable(wellformed(what))}: {error.strerror}{hint}") from error


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _fill(target: int, data: bytes, ref: BlobRef) -> BlobRef:
    _write_all(target, data)
    return ref


def _copy(source: int, target: int) -> BlobRef:
    digest, size = hashlib.sha256(), 0
    os.lseek(source, 0, os.SEEK_SET)
    while chunk := os.read(source, _CHUNK):
        digest.update(chunk)
        size += len(chunk)
        _write_all(target, chunk)
    return BlobRef(sha256=digest.hexdigest(), size=size)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
