"""Renames that the kernel decides at once: without replacing, and exchanging; and what is left where a file system has neither."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
from collections.abc import Callable

_NOREPLACE = 1  # renameat2(2): RENAME_NOREPLACE and RENAME_EXCHANGE
_EXCHANGE = 2
# EINVAL: the file system knows no flags. ENOSYS: the kernel has no such call. EOPNOTSUPP: some network file systems say so.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def rename_new(source_parent: int, source: str, target_parent: int, target: str) -> None:
    """
    Rename a file to a name that is free.

    Where the file system can't do that in one step, the file has both names for a moment (link, then unlink).

    Raises:
        FileExistsError: the name is taken; nothing was changed.
        OSError: it can't be done.

    """
    if not _renamed(source_parent, source, target_parent, target, _NOREPLACE):
        os.link(source, target, src_dir_fd=source_parent, dst_dir_fd=target_parent, follow_symlinks=False)
        os.unlink(source, dir_fd=source_parent)


def exchange(parent: int, one: str, other: str) -> bool:
    """
    Let two files in one directory swap names at once.

    Returns:
        Whether it was done; `False` where the file system or kernel has no such operation.

    Raises:
        FileNotFoundError: one of them is missing; nothing was changed.

    """
    return _renamed(parent, one, parent, other, _EXCHANGE)


def remove_if_there(parent: int, name: str) -> None:
    """Unlink a name that is this package's own, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _renamed(source_parent: int, source: str, target_parent: int, target: str, flags: int) -> bool:
    call = _renameat2()
    if call is None or call(source_parent, os.fsencode(source), target_parent, os.fsencode(target), flags) == 0:
        return call is not None
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), source)


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The C library's renameat2 (glibc 2.28, musl 1.2.5 and newer), if it has one."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call
