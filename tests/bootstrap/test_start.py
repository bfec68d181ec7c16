"""The order of start and stop: what happens to reports before, meanwhile and after, and what keeps a host from starting."""

import asyncio
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import broken, entries_of, only, runbook

from remediation import DegradationEvent, RemediatorBootstrap, Reporter
from remediation.authoring import Finding, RemediationContext, RunbookSpec
from remediation.coordination import beats
from remediation.errors import HostStopped, JournalError, JournalUnavailable, RegistrationError, RemediationError
from remediation.hooks import hookimpl
from remediation.model.entries import HostStarted
from remediation.model.entries import HostStopped as StoppedEntry
from remediation.ports.channel import Notice
from remediation.settings import Home
from remediation.testing import eventually, plugin, running_host, settings_in


def boot(folder: Path, *runbooks: Any, plugins: Any = (), channels: Any = (), **settings: Any) -> RemediatorBootstrap:
    settings.setdefault("live", [kind.spec.id for kind in runbooks if isinstance(getattr(kind, "spec", None), RunbookSpec)])
    return RemediatorBootstrap(settings_in(folder, **settings), plugins=[plugin(*runbooks), *plugins], channels=channels)


def inbox(folder: Path) -> list[Path]:
    return list((folder / "home" / "inbox").glob("*.json"))


async def test_what_was_reported_before_any_host_ran_is_healed_by_the_first(tmp_path: Path) -> None:
    async with running_host(tmp_path):
        pass
    event = broken(tmp_path)
    Reporter(tmp_path / "home").report(event)
    assert len(inbox(tmp_path)) == 1
    async with running_host(tmp_path, runbook()):
        await eventually(lambda: Path(event.subject).read_text() == "mended\n")
        await eventually(lambda: not inbox(tmp_path))


async def test_a_report_before_any_host_ran_makes_the_home_for_it(tmp_path: Path) -> None:
    event = broken(tmp_path)
    Reporter(tmp_path / "home").report(event)
    home = Home(tmp_path / "home")
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert (home.root / ".gitignore").read_text() == "*\n"
    async with running_host(tmp_path, runbook()):
        await eventually(lambda: Path(event.subject).read_text() == "mended\n")


def test_a_report_makes_no_home_out_of_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(JournalUnavailable, match="is not empty and no home"):
        Reporter(tmp_path).report(DegradationEvent(code="C", subsystem="s", subject="x"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


async def test_the_remediator_is_up_before_a_sentinel_looks(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        entries = await entries_of(host)
        assert isinstance(entries[0], HostStarted)
        # What a task that was made at once reports is heard: the host is ready when the body is entered.
        reported = await asyncio.create_task(host.report(broken(tmp_path)))
        assert (await host.wait_for(reported, timeout=15)).status == "resolved"


async def test_reports_that_come_while_the_host_starts_and_stops_are_all_there_in_the_end(tmp_path: Path) -> None:
    async with running_host(tmp_path):
        pass
    ended = threading.Event()
    ids: list[str] = []

    def report_on() -> None:
        reporter = Reporter(tmp_path / "home")
        while not ended.is_set() and len(ids) < 300:
            ids.append(reporter.report(DegradationEvent(code=f"NOBODYS_{len(ids) // 50}", subsystem="t", subject=f"s{len(ids)}")))

    thread = threading.Thread(target=report_on)
    thread.start()
    try:
        for _ in range(3):
            async with running_host(tmp_path) as host:
                seen = len(ids)
                await eventually(lambda seen=seen: len(ids) > seen or not thread.is_alive())
    finally:
        ended.set()
        thread.join()
    async with running_host(tmp_path) as host:
        await eventually(lambda: not inbox(tmp_path), within=60)
        subjects = {incident.event.subject for incident in host.incidents()}
        assert len(subjects) == len(ids)


async def test_a_host_that_stops_says_where_to_leave_a_report(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        pass
    event = broken(tmp_path)
    with pytest.raises(HostStopped, match="inbox"):
        await host.report(event)
    Reporter(tmp_path / "home").report(event)
    async with running_host(tmp_path, runbook()):
        await eventually(lambda: Path(event.subject).read_text() == "mended\n")


@pytest.mark.parametrize("why", ["no key", "garbage", "no permission to lock"])
async def test_when_the_journal_can_not_be_opened_reports_stay_and_nothing_is_lost(tmp_path: Path, why: str) -> None:
    async with running_host(tmp_path):
        pass
    home = Home(tmp_path / "home", tmp_path / "keys")
    broken_file = {"no key": home.signing_key, "garbage": home.journal, "no permission to lock": home.journal_lock}[why]
    good = broken_file.read_bytes()
    if why == "garbage":
        broken_file.write_bytes(b"garbage" * 1000)
    else:
        broken_file.unlink()
        broken_file.mkdir()
    event = broken(tmp_path)
    Reporter(tmp_path / "home").report(event)
    with pytest.raises(RemediationError) as refused:
        async with running_host(tmp_path, runbook()):
            raise AssertionError("it must not start")
    assert str(broken_file.parent) in str(refused.value)
    Reporter(tmp_path / "home").report(event)
    assert len(inbox(tmp_path)) == 2
    assert beats.beats_in(home.hosts) == []
    if broken_file.is_dir():
        broken_file.rmdir()
    broken_file.write_bytes(good)
    broken_file.chmod(0o600)
    async with running_host(tmp_path, runbook()):
        await eventually(lambda: Path(event.subject).read_text() == "mended\n")


class Nonsense:
    """A plugin whose hook returns what it is made with."""

    def __init__(self, *kinds: Any) -> None:
        self.kinds = kinds

    @hookimpl
    def remediation_runbooks(self) -> Any:
        return self.kinds


class Unmakeable(runbook("unmakeable")):
    def __init__(self) -> None:
        raise KeyError("nothing works")


REFUSED = {
    "no class": (Nonsense("stale-lock"), "'stale-lock' is no Runbook"),
    "no spec": (Nonsense(type("Blank", (runbook("x").__mro__[1],), {})), "runbook Blank has no spec"),
    "one that can't be made": (Nonsense(Unmakeable), "runbook 'unmakeable' can't be constructed: KeyError: 'nothing works'"),
    "two of one id": (Nonsense(runbook("same"), runbook("same")), "two runbooks are called 'same'"),
    "a credential that is missing": (Nonsense(runbook("asks", credentials=("token",))), "runbook 'asks' declares credentials"),
    "nothing at all": (Nonsense(), None),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_plugin_that_registers_nonsense_is_refused_by_name_before_anything_is_touched(tmp_path: Path, what: str) -> None:
    bad, said = REFUSED[what]
    made = boot(tmp_path, runbook("good"), plugins=[bad])
    if said is None:
        async with made.start():
            return
    with pytest.raises(RegistrationError) as refused:
        async with made.start():
            raise AssertionError("it must not start")
    assert said in str(refused.value)
    assert not (tmp_path / "home" / "journal.sqlite3").exists()


@pytest.mark.parametrize(
    ("text", "said"), [("import nosuch_thing", "nosuch_thing"), ("1 / 0", "ZeroDivisionError"), ("(", "SyntaxError")]
)
async def test_a_plugin_that_can_not_be_imported_is_refused_by_name(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_that_fails.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RegistrationError) as refused:
        async with boot(tmp_path, host={"plugins": ["plugin_that_fails"]}).start():
            raise AssertionError("it must not start")
    assert "'plugin_that_fails'" in str(refused.value)
    assert said in str(refused.value)


async def test_several_hosts_share_a_home_and_each_shows_itself(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as first:
        async with running_host(tmp_path, runbook()) as second:
            known = beats.beats_in(tmp_path / "home" / "hosts")
            assert {beat.instance for beat in known} == {first.instance, second.instance}
            assert (await second.wait_for(await second.report(broken(tmp_path)), timeout=15)).status == "resolved"
        assert [beat.instance for beat in beats.beats_in(tmp_path / "home" / "hosts")] == [first.instance]
        assert (await first.wait_for(await first.report(broken(tmp_path, "b")), timeout=15)).status == "resolved"
    assert list((tmp_path / "home" / "hosts").iterdir()) == []


async def test_the_ready_file_is_there_while_the_host_is_ready(tmp_path: Path) -> None:
    ready = tmp_path / "run" / "ready"
    async with running_host(tmp_path, host={"ready_file": "run/ready"}) as host:
        known = json.loads(ready.read_text())
        assert (known["instance"], known["pid"]) == (host.instance, os.getpid())
    assert not ready.exists()


async def test_a_beat_comes_again_and_again_and_needs_no_entry(tmp_path: Path) -> None:
    async with running_host(tmp_path) as host:
        heard: list[float] = []
        size = host.journal.size
        host.on_beat(lambda: heard.append(time.monotonic()), 0.05)
        await eventually(lambda: len(heard) > 10)
        assert host.journal.size == size


@pytest.mark.parametrize("turns", range(4))
async def test_a_host_that_is_stopped_as_soon_as_it_is_ready_leaves_no_beat_behind(tmp_path: Path, turns: int) -> None:
    async with running_host(tmp_path) as host:
        host.on_beat(lambda: None, 0.01)
        for _ in range(turns):
            await asyncio.sleep(0)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        await asyncio.sleep(0.01)
        assert beats.beats_in(tmp_path / "home" / "hosts") == []


async def test_a_listener_that_raises_does_not_end_the_beats(tmp_path: Path) -> None:
    async with running_host(tmp_path) as host:
        heard: list[int] = []

        def listener() -> None:
            heard.append(1)
            raise KeyError("oops")

        host.on_beat(listener, 0.05)
        await eventually(lambda: len(heard) > 3)


class Deaf:
    """A channel that never ends, whatever is asked of it."""

    name = "deaf"

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.called = False

    async def send(self, notice: Notice) -> None:
        self.called = True
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue


async def test_a_channel_that_hangs_does_not_keep_a_host_from_stopping(tmp_path: Path) -> None:
    channel = Deaf()
    made = boot(tmp_path, channels=[channel])
    async with made.start() as host:
        await host.report(DegradationEvent(code="NOBODYS", subsystem="t", subject="s"))
        await eventually(lambda: channel.called)
        began = time.monotonic()
    assert time.monotonic() - began < 33
    channel.let_go.set()
    async with running_host(tmp_path) as again:
        # The last word was said all the same.
        assert only(StoppedEntry, await entries_of(again))[-1].reason == "left"


async def test_a_step_that_never_ends_is_left_as_journaled_and_the_stop_is_bounded(tmp_path: Path) -> None:
    began_step = asyncio.Event()
    let_go = asyncio.Event()

    async def deaf(ctx: RemediationContext) -> Finding:
        began_step.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return Finding.declined("late")

    async with running_host(tmp_path, runbook(precondition=deaf)) as host:
        reported = await host.report(broken(tmp_path))
        await began_step.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 15
    async with running_host(tmp_path, runbook()) as again:
        # What still runs keeps its subject: nobody else may act on it.
        other = await again.report(broken(tmp_path, "other"))
        assert (await again.wait_for(other, timeout=30)).status == "resolved"
        assert again.incident(reported.incident).open
        assert not again.incident(reported.incident).attempts
        let_go.set()
        assert (await again.wait_for(reported, timeout=30)).status == "resolved"


async def test_a_journal_that_was_never_made_is_made_by_the_first_start(tmp_path: Path) -> None:
    async with boot(tmp_path).start() as host:
        assert host.journal.size > 0
    with pytest.raises(JournalError):
        await host.journal.append("x", [StoppedEntry(instance="a", reason="b")])


async def test_a_runbook_that_is_named_and_not_there_is_told_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"mend": {"state": "live"}, "mned": {"state": "live"}}
    async with running_host(tmp_path, runbook(), runbooks=named, ladder={"order": ["sqlite-corruptoin", "mend"]}):
        said = capsys.readouterr().out
    for name, meant in (("mned", "mend"), ("sqlite-corruptoin", "sqlite-corruption")):
        (line,) = [line for line in said.splitlines() if f"the settings name a runbook {name}, but there is none" in line]
        assert f"did you mean {meant}?" in line
    assert said.count("but there is none") == 2


async def test_asking_the_host_to_stop_may_be_awaited_or_not(tmp_path: Path) -> None:
    async with running_host(tmp_path) as host:
        host.stop("enough")
        await asyncio.wait_for(host.stop(), 5)
        await asyncio.wait_for(host.stopped(), 5)
        assert host.stopped_because == "enough"


async def test_an_incident_is_found_by_the_id_of_the_report_that_opened_it(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        id_ = Reporter(tmp_path / "home").report(broken(tmp_path))
        await eventually(lambda: host.incidents())
        incident = await host.wait_for(id_, timeout=15)
        assert incident.status == "resolved"
        assert host.incident(id_) == incident == host.incident(incident.id)
        for ask in (host.incident, host.wait_for):
            for unknown, said in (("0" * 32, "was not taken in yet"), ("nope", "no incident nope is known")):
                with pytest.raises(KeyError, match=said):
                    if asyncio.iscoroutine(answer := ask(unknown)):
                        await answer


async def test_what_is_no_event_and_what_are_no_settings_is_told_in_a_sentence(tmp_path: Path) -> None:
    async with running_host(tmp_path) as host:
        for wrong in (None, {"code": "C", "subsystem": "s", "subject": "x"}):
            with pytest.raises(TypeError, match=r"report takes a DegradationEvent, not"):
                await host.report(wrong)
            with pytest.raises(TypeError, match=r"report takes a DegradationEvent, not"):
                Reporter(tmp_path / "home").report(wrong)
    with pytest.raises(TypeError, match=r"takes Settings, not str: write Settings.load"):
        RemediatorBootstrap("remediation.toml")
