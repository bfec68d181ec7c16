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
    text = os.fspath(path)
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise OutsideRoots(f"{printable(text)!r} is not an absolute path without '..'")
    # POSIX leaves the meaning of exactly two leading slashes to the system, and normpath keeps them; here they mean one.
    return Path(os.path.normpath("/" + text.lstrip("/")))


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
        spelled = {normal(root): Path(os.path.realpath(root)) for root in roots}
        # The longest first: a root inside another one may be spelled through a link that the outer one does not know.
        self._spelled = sorted(spelled.items(), key=lambda pair: len(pair[0].parts), reverse=True)

    def check(self, path: str | os.PathLike[str]) -> Path:
        """See `ports.effect.Roots.check`. The result has the root's own links resolved."""
        wanted = self._respelled(normal(path))
        root = self.root_of(wanted)
        for barred in self.excluded:
            if wanted == barred or barred in wanted.parents:
                raise OutsideRoots(f"{printable(str(wanted))} lies in the host's own home or keys; no runbook may touch those")
        current = root
        for part in ("", *wanted.relative_to(root).parts):
            current = current / part
            try:
                mode = os.lstat(current).st_mode
            except FileNotFoundError:
                break
            except OSError as error:
                raise OutsideRoots(f"{printable(str(current))} can't be examined: {error.strerror}") from error
            if stat.S_ISLNK(mode):
                raise OutsideRoots(f"{printable(str(current))} is a symbolic link; runbooks change only what lies at its own path")
        return wanted

    def barred(self, path: str | os.PathLike[str]) -> bool:
        """See `ports.effect.Roots.barred`."""
        real = Path(os.path.realpath(path))
        return any(real == barred or barred in real.parents for barred in self.excluded)

    def root_of(self, path: Path) -> Path:
        """
        The root that holds `path`.

        Raises:
            OutsideRoots: none does.

        """
        for root in self.roots:
            if path == root or root in path.parents:
                return root
        allowed = ", ".join(str(root) for root in self.roots) or "none"
        raise OutsideRoots(
            f"{printable(str(path))} is outside the allowed roots ({allowed}); "
            "if the host may change it, add its folder to [effects] roots"
        )

    @contextlib.contextmanager
    def open_parent(self, path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
        """
        A descriptor of the directory that holds `path`, and the last name; see `ports.effect.Roots.open_parent`.

        The walk begins at ``/`` and follows no link at all: a component of a root that was replaced by a link since the host
        started is refused like any other. The descriptor can be read and synced; the last name itself is not opened.
        """
        wanted = self.check(path)
        descriptor = _open_directory(wanted.parent)
        try:
            yield descriptor, wanted.name
        finally:
            os.close(descriptor)

    def _respelled(self, path: Path) -> Path:
        """`path` with the links of the root through which it is spelled resolved, as they were when the host started."""
        for spelled, real in self._spelled:
            if path == spelled or spelled in path.parents:
                if spelled != real and Path(os.path.realpath(spelled)) != real:
                    raise OutsideRoots(
                        f"the root {printable(str(spelled))} led to {printable(str(real))} when the host started "
                        "and leads elsewhere now; restart the host"
                    )
                return real / path.relative_to(spelled)
        return path


def _open_directory(path: Path) -> int:
    current = os.open("/", _PASSING)
    for part in path.parts[1:-1]:
        current = _enter(current, part, _PASSING, path)
    return _enter(current, path.parts[-1] if len(path.parts) > 1 else ".", _HOLDING, path)


def _enter(current: int, part: str, flags: int, path: Path) -> int:
    """Open `part` of the directory `current`, and close that."""
    try:
        return os.open(part, flags, dir_fd=current)
    except NotADirectoryError as error:
        raise OutsideRoots(f"{printable(str(path))}: {printable(part)!r} on the way is a link or no directory") from error
    finally:
        os.close(current)
