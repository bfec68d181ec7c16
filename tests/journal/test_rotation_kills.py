"""A rotation is killed before every step that it makes: the home opens, goes on, and every note is signed as it must be."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.appending import Writers, acknowledged
from tests.support.journals import entries_of, make_home

from remediation.bootstrap import open_journal
from remediation.bootstrap.keys import open_keys, rotate
from remediation.journal import IntentJournal
from remediation.keys import SigningKey
from remediation.ports.clock import SystemClock
from remediation.proof import verify_export
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.stores.exporting import export_journal

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


def place(home: Home) -> dict[str, str]:
    return {"home": str(home.root), "keys": str(home.keys)}


def check(home: Home) -> int:
    """The home is whole and verifies with its first key; returns how many keys the log had."""

    async def work() -> int:
        journal = await open_journal(home, SystemClock())
        try:
            await journal.append("s", entries_of("after"))
            await journal.publish()
            return len(journal.keys)
        finally:
            await journal.close()

    number = asyncio.run(work())
    vkeys = home.verifier_keys.read_text().split()
    assert len(vkeys) == number
    own = SigningKey.load(home.signing_key)
    assert str(own.vkey(vkeys[0].partition("+")[0])) == vkeys[-1]
    assert not home.signing_key.with_name("signing.key.old").exists()
    note = home.head_note.read_text()
    assert verify_journal(home.journal, own=vkeys, known_head=note).ok
    lines: list[bytes] = []
    export_journal(home.journal, note, vkeys, lines.append)
    assert verify_export(lines, vkeys=vkeys[:1]).ok
    return number


def test_a_rotation_that_is_killed_before_any_step_is_done_or_not_begun(tmp_path: Path, writers: Writers) -> None:
    """Steps are calls that change a file, a lock or a database, in the process that rotates."""
    found = []
    for stop in itertools.count(0, 3 if not os.environ.get("REMEDIATION_THOROUGH") else 1):
        home = make_home(tmp_path / str(stop))
        status = writers.start("rotate", **place(home), stop=stop).wait()
        found.append(check(home))
        if status == 0:
            break
        assert status < 0, "it was not killed, and failed"
    assert found[0] == 1
    assert found[-1] == 2
    assert found == sorted(found), "once the log has turned, it never turns back"
    assert found.count(2) > 3, "it was killed after its commit, too"
    assert len(found) > 20


def test_a_rotation_that_was_killed_is_begun_again(tmp_path: Path, writers: Writers) -> None:
    home = make_home(tmp_path)
    for stop in (30, 45, 60, 75, 90):
        writers.start("rotate", **place(home), stop=stop).wait()
    writers.start("rotate", **place(home)).wait()
    assert check(home) >= 2
    assert sorted(path.name for path in home.keys.iterdir() if not path.name.startswith(".")) == [
        "head.note",
        "head.note.acknowledged",
        "home",
        "rotation.lock",
        "signing.key",
        "signing.vkey",
    ]


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=st.lists(st.sampled_from(["rotate", "append", "kill"]), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_two_processes_append_while_the_key_is_rotated_again_and_again(
    tmp_path_factory: pytest.TempPathFactory, writers: Writers, turns: list[str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("rotating")
    home = make_home(folder)
    outs = [folder / "out0", folder / "out1"]
    running = [writers.start("append", **place(home), out=str(out), callers=3, seed=seed + n) for n, out in enumerate(outs)]

    async def turn(journal: IntentJournal) -> None:
        await rotate(home, open_keys(home), journal)

    async def work() -> int:
        journal = await open_journal(home, SystemClock())
        done = 0
        try:
            for what in turns:
                if what == "rotate":
                    await turn(journal)
                    done += 1
                elif what == "append":
                    await journal.append("s", entries_of("between"))
                else:
                    running[0].kill()
                    running[0] = writers.start("append", **place(home), out=str(outs[0]), callers=3, seed=seed + 100 + done)
                before = [len(acknowledged(out)) for out in outs]
                async with asyncio.timeout(30):
                    while len(acknowledged(outs[1])) < before[1] + 3:
                        await asyncio.sleep(0.01)
        finally:
            await journal.close()
        return done

    try:
        done = asyncio.run(work())
    finally:
        for writer in running:
            writer.kill()
    assert check(home) == done + 1
