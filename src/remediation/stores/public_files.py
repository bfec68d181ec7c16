"""The files of a published log: compared with what they should hold, and written where they hold something else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_TOGETHER = 1024
"""Files that are made durable together."""
_NAMED = 20


class PublicFiles:
    """
    Brings files below `folder` to what they should hold; makes them durable together, which costs a fraction of doing it one by one.

    A reader sees all of a file, or what was there before.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mended: list[str] = []
        """The first files that held something else than they should, or were missing."""
        self.mendings = 0
        """How many those were."""
        self._fresh: list[str] = []

    def read(self, name: str, most: int) -> bytes | None:
        """The first `most` bytes of a file; None if it is missing."""
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(most)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def bring(self, name: str, data: bytes, *, published: bool) -> None:
        """
        Make `name` a file with this content, unless it is.

        Args:
            name: The file.
            data: What it should hold.
            published: Whether it has to be there already, and to be durable.

        """
        found = self.read(name, len(data) + 1)
        if found == data:
            if not published:
                self._made(name)  # whoever wrote it was perhaps killed before it was durable
            return
        if published or found is not None:
            self.mending(name)
        self.write(name, data)

    def mending(self, name: str) -> None:
        """Count a file as one that is not what it should be."""
        self.mendings += 1
        if self.mendings <= _NAMED:
            self.mended.append(name)

    def partials(self, name: str) -> Iterator[int]:
        """The widths of the partial tiles that are there of the full tile `name`."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for found in os.listdir(self.folder / f"{name}.p"):
                if found.isascii() and found.isdigit() and found == str(int(found)):
                    yield int(found)

    def write(self, name: str, data: bytes) -> None:
        """Make `name` a file with this content."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._made(name)

    def settle(self) -> None:
        """Return once all that was written survives a crash."""
        folders = {self.folder}
        for name in self._fresh:
            path = self.folder / name
            _sync(path)
            while (path := path.parent) not in folders:
                folders.add(path)
        for path in folders:
            _sync(path)
        self._fresh.clear()

    def _made(self, name: str) -> None:
        self._fresh.append(name)
        if len(self._fresh) >= _TOGETHER:
            self.settle()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
