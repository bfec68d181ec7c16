"""Folders that a file needs: made on request, remembered, and removed again if they are still empty."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from remediation.errors import OutsideRoots
from remediation.ports.effect import Roots


def missing_folders(roots: Roots, path: Path) -> tuple[Path, ...]:
    """The folders above `path` that are not there, from the top down."""
    missing: list[Path] = []
    for folder in path.parents:
        if os.path.lexists(folder):
            break
        missing.append(roots.check(folder))
    return tuple(reversed(missing))


@contextlib.contextmanager
def folders_for(roots: Roots, folders: Sequence[Path]) -> Iterator[None]:
    """
    Make those of `folders` that are missing, durably, relative to descriptors that were opened without following links.

    If the block fails, those that are empty are removed again.
    """
    try:
        for folder in folders:
            with roots.open_parent(folder) as (parent, name), contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
                os.fsync(parent)
        yield
    except BaseException:
        with contextlib.suppress(OSError, OutsideRoots):
            remove_folders(roots, folders)
        raise


def remove_folders(roots: Roots, folders: Sequence[Path]) -> None:
    """Remove those of `folders` that are empty, the deepest first; what somebody uses meanwhile stays."""
    for folder in reversed(folders):
        try:
            with roots.open_parent(folder) as (parent, name):
                os.rmdir(name, dir_fd=parent)
                os.fsync(parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            raise
