"""Files that only their owner may read: made whole and durably, read with suspicion, and destroyed as well as a file can be."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from os import PathLike

from remediation.errors import ConfigurationError

MAX_BYTES = 16 * 1024
"""No file of a key is larger."""


class KeyFileRefused(ConfigurationError):
    """A key file can't be made, or must not be used as it is; the message says how to mend that. It never quotes the file."""


def create_private(path: str | PathLike[str], content: bytes) -> None:
    """
    Store `content` durably at `path`, mode 0600. The directory must exist.

    The file never replaces another, and is whole or not there, whenever the process is killed. When this returns, file and directory
    entry are on disk; when it raises, there is no file.

    Raises:
        FileExistsError: something is at `path` already.
        OSError: the file can't be written.

    """
    name = os.fspath(path)
    unfinished = _beside(name)
    try:
        _write_durably(unfinished, content)
        os.link(unfinished, name)
        try:
            sync_folder(os.path.dirname(os.path.abspath(name)))
        except BaseException:
            os.unlink(name)
            raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)


def replace_private(path: str | PathLike[str], content: bytes) -> None:
    """
    Put `content` durably in the place of the file at `path`, mode 0600: the old or the new one is there, whenever the process is killed.

    The old content's blocks are not overwritten; see `destroy`.

    Raises:
        OSError: it can't be written; the old file stands.

    """
    name = os.fspath(path)
    unfinished = _beside(name)
    try:
        _write_durably(unfinished, content)
        os.rename(unfinished, name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
    sync_folder(os.path.dirname(os.path.abspath(name)))


def destroy(path: str | PathLike[str]) -> None:
    """
    Overwrite a file in place, make that durable, remove it. Nothing at `path` is fine.

    Non-guarantee: a solid-state disk, a copy-on-write or journalling file system, a snapshot or a backup may keep the old blocks.

    Raises:
        OSError: it can't be done; the file may be there, whole or overwritten.

    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        length = os.fstat(descriptor).st_size
        left = b"\0" * length
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.unlink(path)
    sync_folder(os.path.dirname(os.path.abspath(os.fspath(path))))


def read_private(path: str | PathLike[str]) -> bytes:
    """
    The content of a file that nobody but this user can have read or written.

    Raises:
        KeyFileRefused: it is missing, a link, not this user's, readable or writable by others, or too large to be a key.

    """
    name = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise KeyFileRefused(f"there is no key at {name}; `remediation init` makes one, or restore it from a backup") from error
    except OSError as error:
        raise KeyFileRefused(
            f"the key file {name} can't be opened ({error.strerror}); it must be a regular file, not a link"
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileRefused(f"{name} is not a regular file")
        if found.st_uid != os.geteuid():
            raise KeyFileRefused(
                f"{name} belongs to the user with id {found.st_uid}, this process runs as {os.geteuid()}: "
                f"run as its owner, or `chown {os.geteuid()} {name}`"
            )
        if found.st_mode & 0o077:
            raise KeyFileRefused(
                f"{name} can be read or written by others (mode {stat.S_IMODE(found.st_mode):04o}): `chmod 600 {name}`; "
                "if somebody may have read it, rotate the key"
            )
        content = b""
        while len(content) <= MAX_BYTES and (part := os.read(descriptor, MAX_BYTES)):
            content += part
    except OSError as error:
        raise KeyFileRefused(f"the key file {name} can't be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise KeyFileRefused(f"{name} is too large to be a key")
    return content


def sync_folder(folder: str | PathLike[str]) -> None:
    """
    Make a folder's entries durable.

    Raises:
        OSError: that can't be done.

    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(name: str) -> str:
    return os.path.join(os.path.dirname(name), f".{os.path.basename(name)}.{secrets.token_hex(8)}")


def _write_durably(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
