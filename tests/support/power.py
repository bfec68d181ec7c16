"""
What a power cut would leave of a host's files: only what the host had asked the disk to keep, at each moment at which it asked.

The kernel tells us of each fsync and fdatasync (`tests.support.syscalls`). A file then has the content that is kept; a folder, the names
that are kept: a new name without one is gone, a file that was never asked for is empty. Everything in between is the worst case.

Not imitated: writes that reach the disk although nobody asked, in any order or torn (kill -9 imitates that all of them do); folders that
are lost; disks that lie. The world beyond the machine (what a command told others) loses nothing.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.support import syscalls
from tests.support.crashing import _PATHS, ROOT

KEPT = ("home", "keys", "world")
"""Folders of a scene that a power cut touches."""


class PowerCuts:
    """The server, as a context manager."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.power"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": _PATHS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()

    def run(self, base: Path, kind: str, out: Path) -> dict[str, Any]:
        """
        Run a host on the detour `kind` at `base`; after each call that makes something durable, what is durable is a folder in `out`.

        Returns:
            ``status`` of the process; ``points``: for each folder, the call, and the reports that were acknowledged by then.

        """
        assert self._server.stdin
        assert self._server.stdout
        request = {
            "job": "heal",
            "folder": str(base),
            "at": -1,
            "error": 0,
            "lasting": False,
            "more": {"kind": kind},
            "out": str(out),
        }
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


class Disk(syscalls._Judge):
    """Lets every call go on, and keeps what is durable."""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__(request)
        self._base, self._out = Path(request["folder"]), Path(request["out"])
        self._content: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._entries: dict[str, dict[str, tuple[int, int]]] = {}
        self.points: list[tuple[str, dict[str, str]]] = []
        for top in KEPT:
            for folder, _, files in os.walk(self._base / top):
                for name in files:
                    self._keep(os.path.join(folder, name))
                self._list(folder)
        self._cut("the beginning")

    def errno_of(self, pid: int, number: int, arguments: tuple[int, ...]) -> int:
        name = self._names[number]
        if name not in ("fsync", "fdatasync"):
            return 0
        path = self._path(pid, name, arguments)
        inside = path.removeprefix(f"{self._base}/")
        if inside.split("/")[0] not in KEPT or path.endswith(("-shm", " (deleted)")):
            return 0
        if os.path.isdir(path):
            self._list(path)
        else:
            self._keep(path)
        self._cut(f"{name} {inside}")
        return 0

    def _keep(self, path: str) -> None:
        found = os.stat(path)
        self._content[found.st_dev, found.st_ino] = Path(path).read_bytes(), found.st_mode & 0o7777

    def _list(self, folder: str) -> None:
        with os.scandir(folder) as entries:
            files = [entry.stat(follow_symlinks=False) and entry for entry in entries if entry.is_file(follow_symlinks=False)]
            self._entries[folder] = {item.name: (item.stat().st_dev, item.stat().st_ino) for item in files}

    def _cut(self, call: str) -> None:
        """Lay out what a cut at this moment would leave."""
        place = self._out / f"{len(self.points):04}"
        for top in KEPT:
            for folder, _, _ in os.walk(self._base / top):
                there = place / Path(folder).relative_to(self._base)
                there.mkdir(parents=True)
                there.chmod(os.stat(folder).st_mode & 0o7777)
                for name, inode in self._entries.get(folder, {}).items():
                    if not name.endswith("-shm"):
                        content, mode = self._content.get(inode, (b"", 0o600))
                        (there / name).write_bytes(content)
                        (there / name).chmod(mode)
        for item in self._base.iterdir():
            if item.name not in KEPT:
                (shutil.copytree if item.is_dir() else shutil.copy2)(item, place / item.name)
        told = self._base / "told"
        acknowledged = [line.split() for line in told.read_text().splitlines()] if told.exists() else []
        self.points.append((call, {name: incident for name, incident in acknowledged}))  # noqa: C416 - pairs are lists


async def heal(base: Path, kind: str) -> dict[str, Any]:
    """A host that settles the detour `kind`; acknowledged reports are lines in ``told``."""
    from tests.support.paths import Detour

    detour = Detour(base, kind)

    def told(name: str, incident: str) -> None:
        with (base / "told").open("a") as file:
            file.write(f"{name} {incident}\n")

    async with detour.boot().start(watch=False) as host:
        await detour.live(host, detour.subjects, told, answers=True)
    return {}


def main() -> None:
    import tests.support.paths  # noqa: F401 - imported once, for all forks

    syscalls.JOBS["heal"] = heal
    for line in sys.stdin:
        request = json.loads(line)
        disk = Disk(request)
        ran = syscalls._run(request, disk)
        print(json.dumps({"status": ran["status"], "points": disk.points}), flush=True)


if __name__ == "__main__":
    main()
