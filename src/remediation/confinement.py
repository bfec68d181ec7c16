"""
Which paths may be changed, and how they are opened without following links.

The rules: a path is absolute and lexically normal; it lies in an allowed root; it does not lie in the home or the keys; no
component below the root is a symbolic link, and the root still leads where it led when the host started. `open_parent` walks
down by directory descriptors (``O_NOFOLLOW``), so that a link put in the way between a check and a change is refused by the
kernel and not followed.

Non-guarantees: bind mounts are not seen (one inside a root extends it); nor are other names of a file, so effects refuse to change
files that have several.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from remediation.errors import OutsideRoots
from remediation.model.text import printable

_HOLDING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASSING = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Asks for search permission only, as the kernel itself does for the directories on the way."""


def normal(path: str | os.PathLike[str]) -> Path:
    """
    `path` as an absolute, lexically normal path.

    Raises:
        OutsideRoots: it is relative, empty, or holds NUL or ``..``.

    """
    return Path(_normal(path))


class AllowedRoots:
    """The roots an operator allows, and what is excluded from them whatever happens (the home, the keys)."""

    def __init__(self, roots: Sequence[Path], excluded: Sequence[Path] = ()) -> None:
        """
        Links in the way to a root are resolved once, here.

        Args:
            roots: Absolute paths of folders, or of single files.
            excluded: Absolute paths that are never allowed, nor anything below them.

        """
        self.roots = tuple(dict.fromkeys(Path(os.path.realpath(root)) for root in roots))
        self.excluded = tuple(Path(os.path.realpath(path)) for path in excluded)
        # Compared as text: this is asked several times for each effect, and pathlib would take longer than the kernel.
        self._roots = tuple(map(str, self.roots))
        self._excluded = tuple(map(str, self.excluded))
        spelled = {str(normal(root)): os.path.realpath(root) for root in roots}
        # The longest first: a root inside another one may be spelled through a link that the outer one does not know.
        self._spelled = sorted(spelled.items(), key=lambda pair: pair[0].count("/"), reverse=True)

    def check(self, path: str | os.PathLike[str]) -> Path:
        """See `ports.effect.Roots.check`. The result has the root's own links resolved."""
        return Path(self._checked(path))

    def _checked(self, path: str | os.PathLike[str]) -> str:
        wanted = self._respelled(_normal(path))
        root = self._root_of(wanted)
        if any(_holds(barred, wanted) for barred in self._excluded):
            raise OutsideRoots(f"{printable(wanted)} lies in the host's own home or keys; no runbook may touch those")
        for current in _way(root, wanted):
            try:
                mode = os.lstat(current).st_mode
            except FileNotFoundError:
                break
            except OSError as error:
                raise OutsideRoots(f"{printable(current)} can't be examined: {error.strerror}") from error
            if stat.S_ISLNK(mode):
                raise OutsideRoots(f"{printable(current)} is a symbolic link; runbooks change only what lies at its own path")
        return wanted

    def barred(self, path: str | os.PathLike[str]) -> bool:
        """See `ports.effect.Roots.barred`."""
        real = os.path.realpath(path)
        return any(_holds(barred, real) for barred in self._excluded)

    def _root_of(self, path: str) -> str:
        for root in self._roots:
            if _holds(root, path):
                return root
        allowed = ", ".join(self._roots) or "none"
        raise OutsideRoots(
            f"{printable(path)} is outside the allowed roots ({allowed}); "
            "if the host may change it, add its folder to [effects] roots"
        )

    @contextlib.contextmanager
    def open_parent(self, path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
        """
        A descriptor of the directory that holds `path`, and the last name; see `ports.effect.Roots.open_parent`.

        The walk begins at ``/`` and follows no link at all: a component of a root that was replaced by a link since the host
        started is refused like any other. The descriptor can be read and synced; the last name itself is not opened.
        """
        holder, name = os.path.split(self._checked(path))
        descriptor = _open_directory(holder)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _respelled(self, path: str) -> str:
        """`path` with the links of the root through which it is spelled resolved, as they were when the host started."""
        for spelled, real in self._spelled:
            if _holds(spelled, path):
                if spelled == real:
                    return path
                if os.path.realpath(spelled) != real:
                    raise OutsideRoots(
                        f"the root {printable(spelled)} led to {printable(real)} when the host started and leads elsewhere now; "
                        "restart the host"
                    )
                return real.rstrip("/") + path[len(spelled.rstrip("/")) :]
        return path


def _normal(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise OutsideRoots(f"{printable(text)!r} is not an absolute path without '..'")
    # POSIX leaves the meaning of exactly two leading slashes to the system, and normpath keeps them; here they mean one.
    return os.path.normpath("/" + text.lstrip("/"))


def _holds(folder: str, path: str) -> bool:
    """Whether `path` is `folder` or lies below it; both normal."""
    return path == folder or path.startswith(folder if folder == "/" else f"{folder}/")


def _way(root: str, path: str) -> Iterator[str]:
    """`root` and each path on the way from there to `path`."""
    current = root
    yield current
    for part in filter(None, path[len(root) :].split("/")):
        current = f"{current.rstrip('/')}/{part}"
        yield current


def _open_directory(path: str) -> int:
    *way, last = path.strip("/").split("/")
    current = os.open("/", _PASSING)
    for part in way:
        current = _enter(current, part, _PASSING, path)
    return _enter(current, last or ".", _HOLDING, path)


def _enter(current: int, part: str, flags: int, path: str) -> int:
    """Open `part` of the directory `current`, and close that."""
    try:
        return os.open(part, flags, dir_fd=current)
    except NotADirectoryError as error:
        raise OutsideRoots(f"{printable(path)}: {printable(part)!r} on the way is a link or no directory") from error
    finally:
        os.close(current)
