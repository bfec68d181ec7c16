"""
Which paths may be changed, and how they are opened without following links.

The rules: a path is absolute and lexically normal; it lies in an allowed root; it does not lie in the home or the keys; no component
below the root is a symbolic link. `open_parent` walks down from the root by directory descriptors (``O_NOFOLLOW``), so that a link put
in the way between a check and a change is refused by the kernel and not followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from remediation.errors import OutsideRoots
from remediation.model.text import printable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def normal(path: str | os.PathLike[str]) -> Path:
    """
    `path` as an absolute, lexically normal path.

    Raises:
        OutsideRoots: it is relative, empty, or holds NUL or ``..``.

    """
    text = os.fspath(path)
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise OutsideRoots(f"{printable(text)!r} is not an absolute path without '..'")
    return Path(os.path.normpath(text))


class AllowedRoots:
    """The roots an operator allows, and what is excluded from them whatever happens (the home, the keys)."""

    def __init__(self, roots: Sequence[Path], excluded: Sequence[Path] = ()) -> None:
        """Args: `roots` and `excluded`: absolute paths. A root may be a single file. Links in a root itself are resolved once, here."""
        self.roots = tuple(dict.fromkeys(Path(os.path.realpath(root)) for root in roots))
        self.excluded = tuple(Path(os.path.realpath(path)) for path in excluded)
        self._spelled = tuple((normal(root), Path(os.path.realpath(root))) for root in roots)

    def check(self, path: str | os.PathLike[str]) -> Path:
        """See `ports.effect.Roots.check`. The result has the root's own links resolved."""
        wanted = self._respelled(normal(path))
        root = self.root_of(wanted)
        for barred in self.excluded:
            if wanted == barred or barred in wanted.parents:
                raise OutsideRoots(
                    f"{printable(str(wanted))} lies in the host's own home or keys; no runbook may touch those"
                )
        current = root
        for part in wanted.relative_to(root).parts:
            current = current / part
            try:
                mode = os.lstat(current).st_mode
            except FileNotFoundError:
                break
            except OSError as error:
                raise OutsideRoots(f"{printable(str(current))} can't be examined: {error.strerror}") from error
            if stat.S_ISLNK(mode):
                raise OutsideRoots(
                    f"{printable(str(current))} is a symbolic link; runbooks change only what lies at its own path"
                )
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
            f"{printable(str(path))} is outside the allowed roots ({allowed}); if the host may change it, add its folder to [effects] roots"
        )

    @contextlib.contextmanager
    def open_parent(self, path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
        """
        A descriptor of the directory that holds `path`, opened without following links below the root, and the last name.

        Raises:
            OutsideRoots: as `check`, or a component turned into a link meanwhile.
            FileNotFoundError: a directory on the way is missing.

        """
        wanted = self.check(path)
        root = self.root_of(wanted)
        start = root if wanted != root else root.parent
        descriptor = os.open(start, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in wanted.parent.relative_to(start).parts:
                try:
                    child = os.open(part, _DIRECTORY, dir_fd=descriptor)
                except NotADirectoryError as error:
                    raise OutsideRoots(
                        f"{printable(str(wanted))}: {part!r} on the way is a link or no directory"
                    ) from error
                os.close(descriptor)
                descriptor = child
            yield descriptor, wanted.name
        finally:
            os.close(descriptor)

    def _respelled(self, path: Path) -> Path:
        for spelled, real in self._spelled:
            if path == spelled or spelled in path.parents:
                return real / path.relative_to(spelled)
        return path
