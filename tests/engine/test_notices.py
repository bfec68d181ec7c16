"""People hear of everything at least once: what a host did not get round to telling is told by the next one."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import asked, broken, runbook

from remediation.authoring import Finding, RemediationContext, Verdict
from remediation.bootstrap import Host, initialise
from remediation.engine.told import Told
from remediation.ports.channel import Notice
from remediation.settings import Home
from remediation.testing import eventually, plugin, running_host, settings_in


class Line:
    """A channel that can be deaf: then nothing gets through, and whoever sends waits."""

    name = "line"

    def __init__(self) -> None:
        self.deaf = False
        self.broken = False
        self.heard: list[Notice] = []
        self.asked = 0

    async def send(self, notice: Notice) -> None:
        self.asked += 1
        if self.deaf:
            await asyncio.Event().wait()
        if self.broken:
            raise ConnectionError("nobody answers")
        self.heard.append(notice)

    @property
    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.heard]


async def decline(ctx: RemediationContext) -> Finding:
    return Finding.declined("not mine")


async def heard(tmp_path: Path, line: Line, *runbooks: Any, **settings: Any) -> list[str]:
    """What another host of the same home tells before it stops; the line is in order again."""
    line.deaf = line.broken = False
    line.heard.clear()
    async with running_host(tmp_path, *runbooks, plugins=[plugin(channels=[line])], **settings) as host:
        notices = host._remediator._notices
        await eventually(lambda: notices._caught_up and not notices._queue)
    return line.kinds


async def settled_untold(tmp_path: Path, line: Line, book: Any, *, how: str = "deaf", **settings: Any) -> Host:
    setattr(line, how, True)
    async with running_host(tmp_path, book, plugins=[plugin(channels=[line])], **settings) as host:
        await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        await eventually(lambda: line.asked)
    assert not line.heard
    return host


@pytest.mark.parametrize("how", ["deaf", "broken"])
@pytest.mark.parametrize(("book", "kind"), [(runbook(precondition=decline), "escalated"), (runbook(), "resolved")])
async def test_what_was_settled_and_not_told_is_told_by_the_next_host_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, book: Any, kind: str, how: str
) -> None:
    monkeypatch.setattr("remediation.engine.notices.DRAIN", 0.2)
    line = Line()
    await settled_untold(tmp_path, line, book, how=how)
    assert await heard(tmp_path, line, book) == [kind]
    assert await heard(tmp_path, line, book) == []


async def test_a_channel_that_does_not_answer_does_not_keep_a_host_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remediation.engine.notices.DRAIN", 0.2)
    line = Line()
    async with running_host(tmp_path, runbook(), plugins=[plugin(channels=[line])]) as host:
        line.deaf = True
        await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        began = time.monotonic()
    assert time.monotonic() - began < 3


async def test_a_notice_that_is_being_sent_when_the_host_stops_is_sent_all_the_same(tmp_path: Path) -> None:
    line = Line()
    line.deaf = True
    async with running_host(tmp_path, runbook(), plugins=[plugin(channels=[line])]) as host:
        await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        await eventually(lambda: line.asked)
        line.deaf = False
    assert line.kinds == ["resolved"]


async def test_a_request_for_consent_that_nobody_heard_of_is_told_with_its_diff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remediation.engine.notices.DRAIN", 0.2)
    (tmp_path / "signers").write_text("")
    settings = {"profile": "supervised", "approvals": {"allowed_signers": tmp_path / "signers"}}
    line = Line()
    line.deaf = True
    async with running_host(tmp_path, runbook(), plugins=[plugin(channels=[line])], **settings) as host:
        await host.report(broken(tmp_path))
        await eventually(lambda: line.asked)
    assert await heard(tmp_path, line, runbook(), **settings) == ["approval_requested"]
    assert "+mended" in line.heard[0].analysis
    assert await heard(tmp_path, line, runbook(), **settings) == []


async def test_that_a_runbook_was_quarantined_is_told_although_the_host_that_did_it_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remediation.engine.notices.DRAIN", 0.2)

    async def useless(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    line = Line()
    line.deaf = True
    async with running_host(tmp_path, book := runbook(verify=useless), plugins=[plugin(channels=[line])]) as host:
        for name in ("one", "two"):
            await host.wait_for(await host.report(broken(tmp_path, name)), timeout=10)
    assert sorted(await heard(tmp_path, line, book)) == ["heal_failed", "heal_failed", "runbook_quarantined"]


async def test_without_a_record_of_what_was_told_all_that_is_held_is_told_again(tmp_path: Path) -> None:
    line = Line()
    book = runbook(precondition=decline)
    async with running_host(tmp_path, book, plugins=[plugin(channels=[line])]) as host:
        await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
    assert line.kinds == ["escalated"]
    record = Home(tmp_path / "home").told
    for content in (None, "", "{", '{"format": "remediation-told/1", "origin": "of another log", "position": 9}'):
        record.unlink()
        if content is not None:
            record.write_text(content)
        assert await heard(tmp_path, line, book) == ["escalated"]
        assert await heard(tmp_path, line, book) == []


async def test_what_a_person_settled_meanwhile_is_not_told_as_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remediation.engine.notices.DRAIN", 0.2)
    line = Line()
    book = runbook(precondition=decline)
    host = await settled_untold(tmp_path, line, book)
    (incident,) = host.incidents()
    async with running_host(tmp_path, book) as host:
        asked(tmp_path, "close", {"incident": incident.id, "reason": "mended by hand"})
        await eventually(lambda: not host.incident(incident.id).held)
    assert await heard(tmp_path, line, book) == []


def test_a_record_says_what_was_written_last_and_nothing_of_another_log(tmp_path: Path) -> None:
    told = Told(tmp_path / "told.json", "a")
    assert told.read() is None
    told.write(7)
    assert told.read() == 7
    assert Told(tmp_path / "told.json", "b").read() is None
    assert [path.name for path in tmp_path.iterdir()] == ["told.json"]


def test_a_record_that_can_not_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    told = Told(tmp_path / "missing" / "told.json", "a")
    told.write(7)
    assert told.read() is None


def test_a_home_that_was_just_made_has_no_record(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    initialise(settings)
    assert not settings.home.told.exists()


async def test_a_home_has_a_record_before_there_is_anything_to_tell(tmp_path: Path) -> None:
    async with running_host(tmp_path, plugins=[plugin(channels=[Line()])]) as host:
        assert Told(Home(tmp_path / "home").told, host.journal.origin).read() is not None
