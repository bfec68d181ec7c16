"""What dead ones left behind is removed at the start of a host."""

import os
import subprocess
import sys
from pathlib import Path

from remediation.testing import running_host


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


async def test_requests_that_were_never_finished_are_removed_once_they_are_old(tmp_path: Path) -> None:
    async with running_host(tmp_path):
        pass
    inbox = tmp_path / "home" / "inbox"
    old, new, living = inbox / f".1.json.{dead_pid()}", inbox / f".2.json.{dead_pid()}", inbox / f".3.json.{os.getppid()}"
    for path in (old, new, living):
        path.write_text("{")
    for path in (old, living):
        os.utime(path, (1, 1))
    async with running_host(tmp_path):
        pass
    assert sorted(path.name for path in inbox.iterdir() if path.is_file()) == sorted([new.name, living.name])


async def test_what_an_interrupted_making_left_among_the_keys_is_removed(tmp_path: Path) -> None:
    async with running_host(tmp_path):
        pass
    keys = next(tmp_path.rglob("head.note")).parent
    before = sorted(path.name for path in keys.iterdir())
    for name in (".home.1", "..home.1.1", ".head.note.1.1"):
        (keys / name).write_text("x")
    async with running_host(tmp_path):
        pass
    assert sorted(path.name for path in keys.iterdir()) == before
