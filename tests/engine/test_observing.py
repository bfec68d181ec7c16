"""A host under the profile observe: it records plans, and applies and takes back nothing, whoever allowed it before."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.support.hosts import broken, entries_of, only, runbook
from tests.support.world import tree

from remediation.authoring import CallHost, Plan, RemediationContext, Verdict, WriteFile
from remediation.bootstrap import RemediatorBootstrap
from remediation.model.entries import AttemptPlanned, IncidentSettled
from remediation.testing import eventually, running_host


async def ring_and_write(ctx: RemediationContext) -> Plan:
    return Plan(WriteFile(path=ctx.subject_path(), content="mended\n"), CallHost(control="ring", args={}))


async def test_an_observed_incident_is_escalated_once_with_its_plan(tmp_path: Path) -> None:
    event = broken(tmp_path)
    before = tree(tmp_path / "world")
    async with running_host(tmp_path, runbook(), profile="observe") as host:
        incident = await host.wait_for(await host.report(event), timeout=10)
        again = await host.report(event)
        await host.settle()
        entries = await entries_of(host, incident.id)
    assert not again.opened
    assert len(only(AttemptPlanned, entries)) == len(only(IncidentSettled, entries)) == 1
    assert tree(tmp_path / "world") == before


async def test_what_an_earlier_host_left_half_done_waits_for_one_that_may_go_on(tmp_path: Path) -> None:
    begun, calls = asyncio.Event(), []

    async def hang(key: str) -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def ring(key: str) -> None:
        calls.append(key)

    def ringing(control: Callable[[str], object]) -> Callable[[RemediatorBootstrap], None]:
        return lambda boot: boot.controls.register("ring", control, idempotent=True, undo=ring)

    event = broken(tmp_path)
    book = runbook(action=ring_and_write)
    async with running_host(tmp_path, book, prepare=ringing(hang)) as host:
        reported = await host.report(event)
        await asyncio.wait_for(begun.wait(), 10)
    before = tree(tmp_path / "world")
    async with running_host(tmp_path, book, prepare=ringing(ring), profile="observe") as host:
        entries = host.journal.size
        await host.settle()
        assert host.incident(reported.incident).open
        assert host.journal.size == entries
        assert calls == []
        assert tree(tmp_path / "world") == before
    async with running_host(tmp_path, book, prepare=ringing(ring)) as host:
        assert (await host.wait_for(reported, timeout=10)).status == "resolved"
    assert len(calls) == 1


async def test_what_an_earlier_host_had_to_take_back_is_not_taken_back_by_one_that_observes(tmp_path: Path) -> None:
    stopped, undone = asyncio.Event(), []

    async def fails(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("it did not help")

    async def hang(key: str, output: object = None) -> None:
        stopped.set()
        await asyncio.sleep(3600)

    async def undo(key: str, output: object = None) -> None:
        undone.append(key)

    async def ring(key: str) -> None:
        return None

    def ringing(way_back: Callable[..., object]) -> Callable[[RemediatorBootstrap], None]:
        return lambda boot: boot.controls.register("ring", ring, idempotent=True, undo=way_back)

    event = broken(tmp_path)
    book = runbook(action=ring_and_write, verify=fails)
    async with running_host(tmp_path, book, prepare=ringing(hang)) as host:
        reported = await host.report(event)
        await asyncio.wait_for(stopped.wait(), 10)
    async with running_host(tmp_path, book, prepare=ringing(undo), profile="observe") as host:
        await host.settle()
        assert host.incident(reported.incident).open
        assert undone == []
        assert Path(event.subject).read_text() == "mended\n"
    async with running_host(tmp_path, book, prepare=ringing(undo)) as host:
        await eventually(lambda: not host.incident(reported.incident).open)
    assert len(undone) == 1
    assert Path(event.subject).read_text() == "broken\n"
