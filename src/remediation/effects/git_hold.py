"""
Holding a working tree while it is changed: git's own index lock, recognisable after a crash as this effect's.

While ``index.lock`` exists, git refuses to add, commit, check out, merge or reset here. It is a hard link to a file in a folder
of our own beside it, so that whoever finds it later can tell by the inode whose it is. The folder is made before anything is
changed and removed after everything is done: where it exists, the change was begun and is not complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from remediation.effects.fields import shown
from remediation.effects.git_plumbing import Location
from remediation.errors import EffectConflict


@dataclass(frozen=True, slots=True)
class Hold:
    """The lock of one working tree, for the effect with this key."""

    location: Location
    key: str

    @property
    def folder(self) -> Path:
        """The mark of a change that is under way."""
        return self.location.git_dir / f"remediation-{hashlib.sha256(self.key.encode()).hexdigest()[:20]}"

    @property
    def index(self) -> Path:
        """The new index, until it is installed."""
        return self.folder / "index"

    def is_marked(self) -> bool:
        """Whether an earlier run was interrupted (or is running)."""
        return self.folder.is_dir()

    def take(self) -> None:
        """
        Mark and lock; what is marked and locked already stays so.

        Raises:
            EffectConflict: somebody else holds the lock; nothing was changed.

        """
        marked = self.is_marked()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._own.touch(mode=0o600)
        try:
            os.link(self._own, self._lock)
        except FileExistsError as error:
            if not self.is_held():
                if not marked:
                    shutil.rmtree(self.folder)
                raise EffectConflict(
                    f"somebody is working in {shown(self.location.work_tree)}: {shown(self._lock)} exists; nothing was changed. "
                    "If no git command is running there, remove that file"
                ) from error
        _sync(self.location.git_dir)

    def begin_index(self) -> None:
        """Copy the index, to be changed apart from the one that is in use."""
        self.discard_index()
        shutil.copyfile(self.location.git_dir / "index", self.index)

    def discard_index(self) -> None:
        """Forget the new index."""
        for leftover in (self.index, self.folder / "index.lock"):
            leftover.unlink(missing_ok=True)

    def install_index(self) -> None:
        """
        Put the new index in place; done already is done.

        It gets the time of the old one: by that git knows on which files' times it may not rely (racy-git.txt), and it was not given
        the files to look at them again.
        """
        if self.index.exists():
            target = self.location.git_dir / "index"
            found = target.stat()
            os.utime(self.index, ns=(found.st_atime_ns, found.st_mtime_ns))
            with self.index.open("rb") as file:
                os.fsync(file.fileno())
            self.index.rename(target)

    def release(self) -> None:
        """Unlock and remove the mark."""
        if self.is_held():
            self._lock.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        _sync(self.location.git_dir)

    @property
    def _own(self) -> Path:
        return self.folder / "lock"

    @property
    def _lock(self) -> Path:
        return self.location.git_dir / "index.lock"

    def is_held(self) -> bool:
        """Whether the lock is there, and this effect's."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.lstat(self._own), os.lstat(self._lock))
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
