"""The journal can't be written: nothing more is applied, people are told, and it goes on when it can."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.crashing import run_python
from tests.support.hosts import asked, broken, records_of, runbook, types_of

from remediation import Reporter
from remediation.authoring import Plan, RemediationContext, WriteFile
from remediation.bootstrap import Host
from remediation.errors import HostStopped, JournalError, JournalUnavailable
from remediation.settings import Home
from remediation.testing import eventually, plugin, running_host


class Told:
    """A channel that remembers."""

    name = "told"

    def __init__(self) -> None:
        self.kinds: list[str] = []

    async def send(self, notice: Any) -> None:
        self.kinds.append(notice.kind)


@contextlib.contextmanager
def broken_disk(host: Host, when: Callable[[list[str]], bool] = lambda types: True) -> Iterator[list[list[str]]]:
    """Commits fail as on a full disk, from the first one for which `when` says so; yields the types of the refused entries."""
    store = host.journal._store
    real, refused = store.commit, []

    async def commit(unit: Any) -> None:
        types = [row.type for row in unit.rows]
        if refused or when(types):
            refused.append(types)
            raise JournalUnavailable("the disk is full")
        await real(unit)

    store.commit = commit
    try:
        yield refused
    finally:
        store.commit = real


def at(kind: str) -> Callable[[list[str]], bool]:
    return lambda types: kind in types


async def test_nothing_is_applied_when_the_plan_can_not_be_journaled_and_it_is_when_it_can(tmp_path: Path) -> None:
    told = Told()
    async with running_host(tmp_path, runbook(), plugins=[plugin(channels=[told])]) as host:
        event = broken(tmp_path)
        with broken_disk(host, at("attempt.planned")) as refused:
            reported = await host.report(event)
            await eventually(lambda: host.halted)
            assert "the disk is full" in host.halted
            await eventually(lambda: "host_failed" in told.kinds)
            assert Path(event.subject).read_text() == "broken\n"
            # It is tried again and again, and refused.
            await eventually(lambda: len(refused) >= 2)
            assert Path(event.subject).read_text() == "broken\n"
        incident = await host.wait_for(reported, timeout=15)
        assert incident.status == "resolved"
        await eventually(lambda: not host.halted)
        await eventually(lambda: "host_recovered" in told.kinds)
        assert (await types_of(host, incident.id)).count("attempt.planned") == 1


async def test_what_was_applied_and_not_told_is_found_and_not_applied_again(tmp_path: Path) -> None:
    applied: list[str] = []
    real = WriteFile.apply

    async def counted(self: WriteFile, context: Any, prepared: Any) -> Any:
        applied.append(str(self.path))
        return await real(self, context, prepared)

    WriteFile.apply = counted
    try:
        async with running_host(tmp_path, runbook()) as host:
            with broken_disk(host, at("attempt.finished")):
                reported = await host.report(broken(tmp_path))
                await eventually(lambda: host.halted)
            incident = await host.wait_for(reported, timeout=15)
            assert incident.status == "resolved"
            assert len(applied) == 1
            assert incident.attempts[0].receipts[0].outcome == "found-applied"
    finally:
        WriteFile.apply = real


async def test_a_report_that_is_not_durable_is_an_error_and_can_be_made_again(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        event = broken(tmp_path)
        with broken_disk(host):
            with pytest.raises(JournalError, match="full"):
                await host.report(event)
        assert (await host.wait_for(await host.report(event), timeout=15)).status == "resolved"
        assert len([record for record in await records_of(host) if record.head.type == "degradation.reported"]) == 1


async def test_what_lies_in_the_inbox_waits_there(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        with broken_disk(host) as refused:
            event = broken(tmp_path)
            Reporter(Home(tmp_path / "home")).report(event)
            asked(tmp_path, "pause", {"reason": "later"})
            asked(tmp_path, "resume", {})
            await eventually(lambda: refused)
            assert len(list((tmp_path / "home" / "inbox").glob("*.json"))) == 3
        await eventually(lambda: [item for item in host.incidents() if not item.open], within=20)
        assert not list((tmp_path / "home" / "inbox").glob("*.json"))


async def test_one_who_waits_for_an_incident_is_not_told_of_a_failure_that_passes(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        with broken_disk(host, at("incident.settled")):
            reported = await host.report(broken(tmp_path))
            waiting = asyncio.ensure_future(host.wait_for(reported, timeout=20))
            await eventually(lambda: host.halted)
            assert not waiting.done()
        assert (await waiting).status == "resolved"


async def test_one_who_waits_while_another_host_settles_it_is_told(tmp_path: Path) -> None:
    """The news comes with the reading of a journal that failed before, not as a single entry."""
    async with running_host(tmp_path, runbook(), live=[]) as other, running_host(tmp_path, runbook()) as host:
        with broken_disk(other):
            with pytest.raises(JournalError):
                await other.report(broken(tmp_path, "x"))
            reported = await host.report(broken(tmp_path))
            assert (await host.wait_for(reported, timeout=10)).status == "resolved"
        await eventually(lambda: reported.incident in {item.id for item in other.incidents()})
        assert (await other.wait_for(reported.incident, timeout=10)).status == "resolved"


async def test_a_failure_stops_the_effects_of_other_heals_before_the_next_one(tmp_path: Path) -> None:
    gate, reached = asyncio.Event(), asyncio.Event()
    real = WriteFile.apply

    async def held(self: WriteFile, context: Any, prepared: Any) -> Any:
        output = await real(self, context, prepared)
        if self.path.name == "first":
            reached.set()
            await gate.wait()
        return output

    async def two(ctx: RemediationContext) -> Plan:
        folder = ctx.subject_path().parent
        return Plan(WriteFile(path=folder / "first", content="x"), WriteFile(path=ctx.subject_path(), content="mended\n"))

    WriteFile.apply = held
    try:
        async with running_host(tmp_path, runbook(action=two), runbook("other", code="OTHER")) as host:
            event = broken(tmp_path)
            reported = await host.report(event)
            await asyncio.wait_for(reached.wait(), 10)
            with broken_disk(host, at("attempt.planned")) as refused:
                await host.report(broken(tmp_path, "other", code="OTHER"))
                await eventually(lambda: host.halted)
                gate.set()
                await eventually(lambda: len(refused) >= 3)
                assert Path(event.subject).read_text() == "broken\n"
            assert (await host.wait_for(reported, timeout=15)).status == "resolved"
    finally:
        WriteFile.apply = real


async def test_a_host_whose_journal_fails_can_be_stopped_and_loses_nothing(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        with broken_disk(host, at("attempt.planned")):
            reported = await host.report(broken(tmp_path))
            await eventually(lambda: host.halted)
            waiting = asyncio.ensure_future(host.wait_for(reported))
            await asyncio.sleep(0)
            await host._remediator.stop()
            with pytest.raises(HostStopped):
                await waiting
            with pytest.raises(HostStopped):
                await host.report(broken(tmp_path, "late"))
    async with running_host(tmp_path, runbook()) as host:
        assert (await host.wait_for(reported.incident, timeout=10)).status == "resolved"


def test_on_a_disk_that_is_really_full_the_host_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    said = run_python(
        f"""
import asyncio, resource, sys
from pathlib import Path
from tests.support.hosts import broken, runbook
from remediation.errors import JournalError
from remediation.testing import eventually, running_host

async def main():
    folder = Path({str(tmp_path)!r})
    async with running_host(folder, runbook()) as host:
        incident = await host.wait_for(await host.report(broken(folder, "one")), timeout=10)
        print(incident.status.value)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        wal = folder / "home" / "journal.sqlite3-wal"
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, hard))
        refused = ""
        for number in range(3):
            try:
                await host.report(broken(folder, f"full{{number}}"))
            except JournalError as error:
                refused = type(error).__name__
        print(refused)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        reported = await host.report(broken(folder, "two"))
        incident = await host.wait_for(reported, timeout=20)
        print(incident.status.value)
        await eventually(lambda: not host.halted)

asyncio.run(main())
"""
    )
    words = [line for line in said.splitlines() if line in ("resolved", "JournalUnavailable")]
    assert words == ["resolved", "JournalUnavailable", "resolved"]
