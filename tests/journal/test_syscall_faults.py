"""
Every system call around a commit and `head.note` fails once, or from some moment on: what was acknowledged is there, nothing is half
there, and once the fault is gone the same process goes on.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.ground import in_memory
from tests.support.journals import Seen, Stored, audit, entries_of, head_size, make_home, opened
from tests.support.syscalls import Faulty

from remediation.model.entries import decode
from remediation.settings import Home

pytestmark = pytest.mark.crash
CLEAR = ("JournalUnavailable: ", "OSError: ", "PermissionError: ")
APPENDS = ("a", "b", "c")


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with Faulty() as server:
        yield server


@pytest.fixture
def template() -> Iterator[Path]:
    with in_memory("faults") as folder:
        make_home(folder / "template")
        yield folder / "template"


def said_in(row: Stored) -> str:
    assert row.body is not None
    return getattr(decode(row.type, row.body), "reason", "")


def check(folder: Path, said: dict[str, list[str]]) -> None:
    """What was acknowledged is there once and whole, what was not is there whole or not at all, and each error was a clear one."""
    home = Home(folder / "home", folder / "keys")
    stored = [said_in(row) for row in audit(home)]
    assert head_size(home) <= len(stored)
    for name in APPENDS:
        acknowledged = "done" in said.get(name, [])
        assert stored.count(f"{name} 0 2") == stored.count(f"{name} 1 2") <= 1
        assert stored.count(f"{name} 0 2") == 1 or not acknowledged, f"{name} was acknowledged and is lost: {said}"
    for told in said.values():
        assert all(text == "done" or text.startswith(CLEAR) for text in told), told


def walk(faulty: Faulty, template: Path, error: int, *, lasting: bool, step: int = 1) -> Iterator[tuple[Path, dict[str, Any]]]:
    """One run for each call that can fail, each on a home of its own; the caller looks at what is left."""
    at = 0
    while True:
        folder = template.parent / "run"
        shutil.copytree(template, folder)
        ran = faulty.run("append", folder, at=at, error=error, lasting=lasting)
        if not ran["hit"]:
            assert at > 40
            return
        assert ran["status"] == 0, f"{ran['hit']}: the process ended with {ran['status']}"
        yield folder, ran
        shutil.rmtree(folder)
        at += step


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=os.strerror)
async def test_a_call_that_fails_once_is_told_and_then_the_same_process_goes_on(faulty: Faulty, template: Path, error: int) -> None:
    told: dict[str, int] = {}
    for folder, ran in walk(faulty, template, error, lasting=False):
        said = ran["said"]
        check(folder, said)
        assert [name for name, ends in said.items() if ends[-1] != "done"] == [], f"{ran['hit']}: {said}"
        failed = sum(end != "done" for ends in said.values() for end in ends)
        told[ran["hit"].split()[0]] = told.get(ran["hit"].split()[0], 0) + (failed > 0)
        async with opened(Home(folder / "home", folder / "keys"), seen := Seen()) as journal:
            await journal.append("after", entries_of("after"))
            assert len(seen.records) == journal.size == 7
    print(f"{os.strerror(error)}: how many failures of each call somebody was told of: {told}")
    assert told["pwrite64"] > 10
    assert told["fdatasync"] >= 1
    assert told["rename"] >= 1
    assert told["fsync"] >= 1


@pytest.mark.parametrize(("error", "step"), [(errno.ENOSPC, 2), (errno.EROFS, 5), (errno.EACCES, 5), (errno.EDQUOT, 5)])
async def test_a_disk_that_stays_full_or_unwritable_stops_everything_and_loses_nothing(
    faulty: Faulty, template: Path, error: int, step: int
) -> None:
    for folder, ran in walk(faulty, template, error, lasting=True, step=step):
        said = ran["said"]
        check(folder, said)
        assert "the journal is closed" not in str(said), "also who only reads is told why that can't be"
        home = Home(folder / "home", folder / "keys")
        before = len(audit(home))
        async with opened(home, seen := Seen()) as journal:
            await journal.append("after", entries_of("after"))
            assert len(seen.records) == journal.size == before + 1
        assert len(audit(home)) == before + 1


def test_a_head_that_can_t_be_written_is_told_to_whoever_wants_to_publish_and_to_nobody_else(
    faulty: Faulty, template: Path
) -> None:
    folder = template.parent / "run"
    for call in ("write keys/.", "fsync keys/", "rename keys/", "fsync keys"):
        shutil.copytree(template, folder)
        calls = faulty.run("append", folder)["calls"]
        shutil.rmtree(folder)
        at = next(index for index, found in enumerate(calls) if found.startswith(call))
        shutil.copytree(template, folder)
        ran = faulty.run("append", folder, at=at, error=errno.EIO)
        said = ran["said"]
        assert ran["hit"].startswith(call)
        assert [said[name] for name in APPENDS] == [["done"]] * 3
        assert [text.partition("error")[0] for text in said["publish"]] == ["OSError: [Errno 5] Input/output ", "done"]
        check(folder, said)
        shutil.rmtree(folder)
