"""Anchors: they get the newest head at their pace, only after head.note has it; they never stop healing; what they know is believed."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.journals import said

from remediation.anchors.command import CommandAnchor
from remediation.anchors.file import FileAnchor
from remediation.anchors.git import GitAnchor
from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.bootstrap.anchors import read_anchors
from remediation.cli.anchor_checks import look_at_anchors
from remediation.engine import anchoring
from remediation.errors import JournalDamaged, JournalRolledBack, ProcessError, RegistrationError
from remediation.hooks import hookimpl
from remediation.keys import SigningKey
from remediation.ports.anchor import AnchorError
from remediation.ports.channel import Notice
from remediation.proof import Checkpoint, claimed_size
from remediation.proof.anchored import head_of
from remediation.settings import Home
from remediation.testing import FakeClock, eventually, settings_in

ORIGIN = "atlas/remediation/00"


class Told:
    """A channel that remembers."""

    name = "told"

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        self.notices.append(notice)

    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]


class Kept:
    """An anchor of a plugin: in memory; fails, hangs, or forgets, as the test says."""

    def __init__(self, home: Home, *, every: float = 60.0, timeout: float = 5.0) -> None:
        self.name = "kept"
        self.every = every
        self.timeout = timeout
        self.home = home
        self.notes: list[str] = []
        self.calls = 0
        self.failing = ""
        self.hangs = False

    async def keep(self, note: str) -> None:
        self.calls += 1
        assert claimed_size(self.home.head_note.read_text()) >= claimed_size(note), "head.note must have it first"
        if self.hangs:
            await asyncio.sleep(3600)
        if self.failing:
            raise RuntimeError(self.failing)
        self.notes.append(note)

    async def heads(self) -> Sequence[str]:
        return self.notes

    @hookimpl
    def remediation_anchors(self) -> list[Any]:
        return [self]

    def sizes(self) -> list[int]:
        return [claimed_size(note) for note in self.notes]


def notes_of(*sizes: int, key: SigningKey, origin: str = ORIGIN, root: int = 0) -> list[str]:
    return [Checkpoint(origin, size, bytes([root]) * 32).sign([key.signer(origin)]) for size in sizes]


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.create(tmp_path / "some.key")


@contextlib.asynccontextmanager
async def host_with(folder: Path, *plugins: Any, told: Told | None = None, clock: Any = None, **tables: Any) -> AsyncIterator[Host]:
    settings = settings_in(folder, **tables)
    boot = RemediatorBootstrap(settings, plugins=plugins, channels=[told] if told else [], clock=clock)
    async with boot.start(watch=False) as host:
        yield host


def home_of(folder: Path) -> Home:
    return settings_in(folder).home


async def test_each_anchor_has_the_last_head_when_the_host_has_stopped(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "heads.git"], check=True)
    anchors = {
        "file": [{"path": "kept/head.note"}, {"path": "kept/history", "history": True}],
        "command": [{"command": ["sh", "-c", "cat > kept/by-command"]}],
        "git": [{"repository": "heads.git"}],
    }
    async with host_with(tmp_path, anchors=anchors) as host:
        await host.journal.append("s", [said(1)])
    head = home_of(tmp_path).head_note.read_text()
    assert (tmp_path / "kept/head.note").read_text() == head
    assert json.loads((tmp_path / "kept/history").read_text().splitlines()[-1])["note"] == head
    assert (tmp_path / "kept/by-command").read_text() == head
    assert (await GitAnchor(tmp_path / "heads.git").heads())[-1] == head
    record = json.loads(home_of(tmp_path).anchors.read_text())["anchors"]
    assert {noted["kept"] for noted in record.values()} == {claimed_size(head)}


async def test_heads_are_given_at_the_pace_and_only_when_there_are_new_entries(tmp_path: Path) -> None:
    clock, kept = FakeClock(), Kept(home_of(tmp_path), every=60.0)
    async with host_with(tmp_path, kept, clock=clock) as host:
        await eventually(lambda: len(kept.notes) == 1)
        for number in range(20):
            await host.journal.append("s", [said(number)])
        assert len(kept.notes) == 1
        clock.advance(61)
        await eventually(lambda: len(kept.notes) == 2)
        assert kept.sizes()[-1] == host.journal.size
        for _ in range(5):
            clock.advance(61)
            await asyncio.sleep(0.01)
        assert kept.calls == 2, "nothing new, nothing given"


async def test_an_anchor_that_fails_is_tried_later_and_later_told_once_and_heals_nothing_less(tmp_path: Path) -> None:
    clock, kept, told = FakeClock(), Kept(home_of(tmp_path), every=60.0), Told()
    kept.failing = "the tape is full"
    async with host_with(tmp_path, kept, told=told, clock=clock) as host:
        await eventually(lambda: kept.calls == 1)
        times = []
        for _ in range(1200):
            clock.advance(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            if len(times) < kept.calls:
                times += [clock.monotonic()] * (kept.calls - len(times))
        assert 5 <= kept.calls <= 12, "2, 4, 8, … seconds, not a busy loop"
        await eventually(lambda: "anchor_failed" in told.kinds())
        assert told.kinds().count("anchor_failed") == 1
        assert "the tape is full" in told.notices[-1].title
        await host.journal.append("s", [said("all the same")])
        kept.failing = ""
        await eventually(lambda: clock.advance(60) or "anchor_recovered" in told.kinds())
        assert kept.sizes()[-1] == host.journal.size


async def test_a_stuck_anchor_delays_the_stop_by_a_few_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchoring, "FAREWELL_SECONDS", 0.3)
    kept, told = Kept(home_of(tmp_path), timeout=600.0), Told()
    kept.hangs = True
    anchors = {"command": [{"command": ["sh", "-c", "trap '' TERM; sleep 600 & wait; sleep 600"], "timeout": 600}]}
    async with host_with(tmp_path, kept, told=told, anchors=anchors):
        await eventually(lambda: kept.calls == 1)
        begin = time.monotonic()
    assert time.monotonic() - begin < 10
    assert told.kinds().count("anchor_failed") == 2, "that its last entries are not anchored is said, too"


async def test_a_journal_that_was_rolled_back_with_its_head_note_is_not_started(tmp_path: Path) -> None:
    """Home and keys from one old copy: consistent, and only the anchor knows better."""
    kept = Kept(home_of(tmp_path))
    async with host_with(tmp_path, kept) as host:
        await host.journal.append("s", [said(1)])
    shutil.copytree(tmp_path / "home", tmp_path / "old-home")
    shutil.copytree(tmp_path / "keys", tmp_path / "old-keys")
    async with host_with(tmp_path, kept) as host:
        await host.journal.append("s", [said(2)])
    for name in ("home", "keys"):
        shutil.rmtree(tmp_path / name)
        shutil.move(tmp_path / f"old-{name}", tmp_path / name)
    before, known = home_of(tmp_path).head_note.read_text(), list(kept.notes)
    with pytest.raises(JournalRolledBack, match="was rolled back, and its head"):
        async with host_with(tmp_path, kept):
            raise AssertionError("it started")
    assert home_of(tmp_path).head_note.read_text() == before, "nothing was signed"
    assert kept.notes == known
    async with host_with(tmp_path):
        pass  # without the anchor nobody can tell


async def test_another_history_that_the_key_signed_is_not_started(tmp_path: Path) -> None:
    kept = Kept(home_of(tmp_path))
    async with host_with(tmp_path, kept) as host:
        origin, size = host.journal.origin, host.journal.size
    key = SigningKey.load(home_of(tmp_path).signing_key)
    kept.notes = notes_of(size, key=key, origin=origin, root=7)
    with pytest.raises(JournalDamaged, match="two histories"):
        async with host_with(tmp_path, kept):
            raise AssertionError("it started")


async def test_heads_by_a_strange_key_are_told_of_and_kept_as_they_are(tmp_path: Path, key: SigningKey) -> None:
    """Whoever may only write to the anchor must not be able to stop the host; nor may the host wipe what might be true."""
    kept, told = Kept(home_of(tmp_path)), Told()
    async with host_with(tmp_path, kept) as host:
        origin = host.journal.origin
    kept.notes = notes_of(500, key=key, origin=origin)
    known = list(kept.notes)
    async with host_with(tmp_path, kept, told=told) as host:
        await host.journal.append("s", [said("goes on")])
        await eventually(lambda: "anchor_failed" in told.kinds())
    assert "not signed by this log's key" in told.notices[0].title
    assert kept.notes == known


async def test_an_anchor_that_can_not_be_read_does_not_stop_the_start(tmp_path: Path) -> None:
    anchors = {"file": [{"path": "not-mounted/head.note"}], "git": [{"repository": "no.git", "remote": "nowhere"}]}
    told = Told()
    async with host_with(tmp_path, told=told, anchors=anchors) as host:
        await host.journal.append("s", [said(1)])
    assert told.kinds() == ["anchor_failed", "anchor_failed"]
    assert not (tmp_path / "not-mounted").exists(), "what is not mounted is not written around"


async def test_two_anchors_of_one_name_or_what_is_none_are_refused(tmp_path: Path) -> None:
    class Nothing:
        @hookimpl
        def remediation_anchors(self) -> list[Any]:
            return [object()]

    for plugins, why in (([Nothing()], "is no anchor"), ([Kept(home_of(tmp_path)), Kept(home_of(tmp_path))], "two anchors")):
        with pytest.raises(RegistrationError, match=why):
            async with host_with(tmp_path, *plugins):
                raise AssertionError("it started")


@pytest.mark.parametrize("history", [False, True])
async def test_a_file_keeps_the_largest_head_and_never_a_smaller_or_another_one(
    tmp_path: Path, key: SigningKey, history: bool
) -> None:
    anchor = FileAnchor(tmp_path / "head.note", history=history)
    one, two, three = notes_of(1, 2, 3, key=key)
    for note in (one, three, two, three):
        await anchor.keep(note)
    assert await anchor.heads() == ([one, three] if history else [three])
    (other,) = notes_of(3, key=key, root=1)
    with pytest.raises(AnchorError, match="was rewritten"):
        await anchor.keep(other)
    (new_log,) = notes_of(1, key=key, origin="atlas/remediation/11")
    await anchor.keep(new_log)
    if history:
        assert await anchor.heads() == [one, three, new_log]
    else:
        assert (await anchor.heads(), (tmp_path / "head.note.00").read_text()) == ([new_log], three)


async def test_a_line_that_a_crash_cut_off_costs_no_other_line(tmp_path: Path, key: SigningKey) -> None:
    anchor = FileAnchor(tmp_path / "heads", history=True)
    one, two = notes_of(1, 2, key=key)
    await anchor.keep(one)
    with (tmp_path / "heads").open("a") as file:
        file.write('{"note": "atlas/remed')
    assert await anchor.heads() == [one]
    await anchor.keep(two)
    assert await anchor.heads() == [one, two]


async def test_what_somebody_damaged_is_put_aside_and_not_overwritten(tmp_path: Path, key: SigningKey) -> None:
    anchor = FileAnchor(tmp_path / "head.note")
    (tmp_path / "head.note").write_bytes(b"\xff nonsense")
    (note,) = notes_of(4, key=key)
    await anchor.keep(note)
    assert (tmp_path / "head.note").read_text() == note
    assert (tmp_path / "head.note.damaged").read_bytes() == b"\xff nonsense"


async def test_a_command_that_fails_hangs_or_is_not_there_has_not_kept_the_head(tmp_path: Path) -> None:
    with pytest.raises(AnchorError, match="ended with 3: no tape"):
        await CommandAnchor(["sh", "-c", "echo no tape >&2; exit 3"], tmp_path).keep("note")
    with pytest.raises(ProcessError):
        await CommandAnchor(["no-such-program"], tmp_path).keep("note")
    begin = time.monotonic()
    with pytest.raises(ProcessError, match="ended after"):
        await CommandAnchor(["sleep", "600"], tmp_path, timeout=0.2).keep("note")
    assert time.monotonic() - begin < 5


async def test_a_ref_grows_by_one_commit_for_each_head_and_its_history_is_read(tmp_path: Path, key: SigningKey) -> None:
    for bare in (True, False):
        repository = tmp_path / f"repository-{bare}"
        subprocess.run(["git", "init", "-q", *(["--bare"] if bare else []), repository], check=True)
        anchor = GitAnchor(repository)
        assert await anchor.heads() == []
        one, two = notes_of(1, 2, key=key)
        (other,) = notes_of(9, key=key, origin="hera/remediation/22")
        for note in (one, two, one, other):
            await anchor.keep(note)
        assert sorted(await anchor.heads()) == sorted([one, two, other])
        assert [head.size for note in await anchor.heads() if (head := head_of(note)) and head.origin == ORIGIN] == [1, 2]
        log = subprocess.run(
            ["git", "-C", repository, "log", "--format=%s", anchor._ref], check=True, capture_output=True, text=True
        ).stdout
        assert log.splitlines() == ["hera/remediation/22: 9 entries", f"{ORIGIN}: 2 entries", f"{ORIGIN}: 1 entries"]
        (forked,) = notes_of(2, key=key, root=1)
        with pytest.raises(AnchorError, match="was rewritten"):
            await anchor.keep(forked)


async def test_a_remote_is_what_is_read_back_and_refuses_what_does_not_continue_it(tmp_path: Path, key: SigningKey) -> None:
    for name in ("here.git", "there.git", "elsewhere.git"):
        subprocess.run(["git", "init", "-q", "--bare", tmp_path / name], check=True)
    here = GitAnchor(tmp_path / "here.git", remote=str(tmp_path / "there.git"))
    one, two = notes_of(1, 2, key=key)
    await here.keep(one)
    await here.keep(two)
    old = GitAnchor(tmp_path / "elsewhere.git", remote=str(tmp_path / "there.git"))
    assert await old.heads() == [one, two], "a repository that was rolled back hears of what the remote knows"
    with pytest.raises(AnchorError, match="push failed"):
        await old.keep(one)
    assert await here.heads() == [one, two]
    shutil.move(tmp_path / "there.git", tmp_path / "gone.git")
    found, silent = await read_anchors([here], 10.0)
    assert not found
    assert "ls-remote failed" in silent[here.name]


async def test_doctor_believes_the_anchor_and_not_the_hosts_record(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    anchors = {"file": [{"path": "kept/head.note"}], "command": [{"command": ["false"]}]}
    async with host_with(tmp_path, anchors=anchors):
        pass
    settings = settings_in(tmp_path, anchors=anchors)

    def levels() -> list[tuple[str, str]]:
        return [(level, message) for level, message, _ in look_at_anchors(settings)]

    sound = await asyncio.to_thread(levels)
    assert [level for level, _ in sound] == ["ok", "warning", "warning"]
    assert "keeps the head over" in sound[0][1]
    assert "ended with 1" in sound[2][1]
    (tmp_path / "kept/head.note").unlink()
    emptied = await asyncio.to_thread(levels)
    assert emptied[0][0] == "problem"
    assert "and keeps none" in emptied[0][1]
    settings.home.anchors.write_text("[nonsense")
    forgotten = await asyncio.to_thread(levels)
    assert [level for level, _ in forgotten] == ["warning", "warning"]
