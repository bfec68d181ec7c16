"""
What self-healing hosts get wrong, and what must hold here instead: one test for each fault that was seen elsewhere.

This file is about deciding; `test_faults_of_keeping` is about crashes, records, keys and locks, `test_faults_of_growing` about growth
and declarations. Each test is a story with a real host, journal or processes. `test_a_story_fails_when_its_fault_is_put_back` plants
some of the faults and sees their stories fail: so that no test asserts the opposite of its name.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import broken, entries_of, only, records_of, runbook, types_of

from remediation import DegradationEvent
from remediation.authoring import Finding, Plan, RemediationContext, RunCommand, Verdict
from remediation.bootstrap import Host
from remediation.core.trust import Elevation, TrustElevationSource
from remediation.engine import proposing, steps
from remediation.engine.notices import Notices
from remediation.engine.registry import Registry
from remediation.model.base import epoch_ms
from remediation.model.entries import AttemptPlanned, DegradationCoalesced, TrustGranted, TrustRevoked
from remediation.model.runbook import Radius
from remediation.ports.channel import Notice
from remediation.testing import FakeClock, eventually, plugin, running_host, settings_in


class Told:
    """A channel that remembers what people were told."""

    name = "told"

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        self.notices.append(notice)

    def kinds(self, incident: str = "") -> list[str]:
        return [notice.kind for notice in self.notices if not incident or notice.incident == incident]


# -- stories ---------------------------------------------------------------------------------------------------------------------------


async def a_precondition_is_called_and_its_no_is_obeyed(folder: Path) -> None:
    called: list[str] = []

    async def declines(ctx: RemediationContext) -> Finding:
        called.append(ctx.incident.id)
        return Finding.declined("it looks well to me")

    async with running_host(folder, runbook(precondition=declines)) as host:
        event = broken(folder)
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert called == [incident.id]
        assert incident.status == "escalated"
        assert "it looks well to me" in incident.reason
        assert Path(event.subject).read_text() == "broken\n"
        assert "attempt.planned" not in await types_of(host, incident.id)


async def identical_failures_are_tried_three_times_and_no_more(folder: Path) -> None:
    ran: list[str] = []

    async def fails(ctx: RemediationContext) -> Verdict:
        ran.append(ctx.incident.id)
        return Verdict.failed("still broken")

    clock = FakeClock()
    book = runbook(verify=fails, retries=10, backoff=("1s",))
    event = broken(folder)
    for _ in range(2):
        # The cap is counted from the journal: a restart does not begin anew.
        async with running_host(folder, book, clock=clock) as host:
            for _ in range(100):
                reported = await host.report(event)
                clock.advance(5)
                await asyncio.sleep(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_passing(clock, lambda: len(ran) > 3 or not host.incident(reported.incident).open), 30)
            incident = host.incident(reported.incident)
            assert len(ran) == 3, f"it ran {len(ran)} times"
            assert incident.status == "heal_failed"
            assert Path(event.subject).read_text() == "broken\n"


async def trust_decides_what_a_plan_may_do(folder: Path) -> None:
    clock = FakeClock()

    async def reach_the_machine(ctx: RemediationContext) -> Plan:
        subject = str(ctx.subject_path())
        return Plan(RunCommand(argv=("/bin/sh", "-c", 'echo mended > "$0"', subject), undo=("/bin/true",), reach="machine"))

    book = runbook(blast_radius="machine", action=reach_the_machine)

    async def tried(host: Host, name: str) -> str:
        return (await host.wait_for(await host.report(broken(folder, name)), timeout=10)).status.value

    async with running_host(folder, book, profile="collaborative", clock=clock) as host:
        host_grant = TrustGranted(
            grant_id="g1",
            runbook="mend",
            scope="files of this test",
            by="alice",
            not_after=epoch_ms(clock.now()) + 3_600_000,
            reason="it proved itself",
            code_digest=host._state.runbooks["mend"].code_digest,
            radius=Radius.MACHINE,
        )
        assert await tried(host, "before") == "escalated"
        await host.journal.append("trust/mend", [host_grant])
        incident = await host.wait_for(await host.report(broken(folder, "granted")), timeout=10)
        assert incident.status == "resolved"
        (planned,) = only(AttemptPlanned, await entries_of(host, incident.id))
        assert any("granted by alice" in reason.reason for reason in planned.gate.reasons), "the journal says by whose authority"
        await host.journal.append("trust/mend", [TrustRevoked(grant_id="g1", by="alice", reason="that was enough")])
        assert await tried(host, "revoked") == "escalated"
        await host.journal.append("trust/mend", [host_grant.model_copy(update={"grant_id": "g2"})])
        clock.advance(3_601)
        assert await tried(host, "expired") == "escalated"


async def a_match_that_raises_stops_nobody_else(folder: Path) -> None:
    def raises(event: DegradationEvent) -> bool:
        raise ZeroDivisionError("in matches")

    async with running_host(folder, runbook("bad", matches=raises, priority=9), runbook()) as host:
        for name in ("first", "second"):
            incident = await host.wait_for(await host.report(broken(folder, name)), timeout=10)
            assert (incident.status, incident.runbook) == ("resolved", "mend")
        assert (await types_of(host)).count("runbook.faulted") == 1


async def people_hear_of_what_nothing_matches_with_everything_enabled(folder: Path) -> None:
    told = Told()
    async with running_host(folder, runbook(), plugins=[plugin(channels=[told])], profile="autonomous") as host:
        unknown = await host.wait_for(
            await host.report(DegradationEvent(code="UNHEARD_OF", subsystem="x", subject="y")), timeout=10
        )
        assert (unknown.status, unknown.held) == ("escalated", True)
        await eventually(lambda: "escalated" in told.kinds(unknown.id), within=5)
        resolved = await host.wait_for(await host.report(broken(folder)), timeout=10)
        await eventually(lambda: told.kinds(resolved.id) == ["resolved"])


async def one_event_is_counted_once_however_long_the_host_runs(folder: Path) -> None:
    clock = FakeClock()

    async def declines(ctx: RemediationContext) -> Finding:
        return Finding.declined("not now")

    async with running_host(folder, runbook(precondition=declines), clock=clock) as host:
        incident = await host.wait_for(await host.report(broken(folder)), timeout=10)
        await host.journal.durable(host._state.position)
        before = len(await records_of(host))
        for _ in range(200):
            clock.advance(1)
            await asyncio.sleep(0.001)
        assert host.incident(incident.id).reports == 1
        assert len(await records_of(host)) == before, "ticks leave no entries"
    async with running_host(folder, runbook(precondition=declines), clock=clock) as host:
        assert host.incident(incident.id).reports == 1


async def _passing(clock: FakeClock, condition: Callable[[], bool]) -> None:
    while not condition():
        clock.advance(1)
        await asyncio.sleep(0.005)


Story = Callable[[Path], Awaitable[None]]


async def test_a_declared_precondition_is_called_and_its_no_is_obeyed(tmp_path: Path) -> None:
    await a_precondition_is_called_and_its_no_is_obeyed(tmp_path)


async def test_two_hundred_identical_failures_are_at_most_three_runs(tmp_path: Path) -> None:
    await identical_failures_are_tried_three_times_and_no_more(tmp_path)


async def test_grants_of_trust_are_consulted_and_revoked_and_expired_ones_count_no_more(tmp_path: Path) -> None:
    await trust_decides_what_a_plan_may_do(tmp_path)


async def test_one_runbook_whose_match_raises_stops_no_other(tmp_path: Path) -> None:
    await a_match_that_raises_stops_nobody_else(tmp_path)


async def test_people_are_told_of_what_nothing_matches_when_everything_is_enabled(tmp_path: Path) -> None:
    await people_hear_of_what_nothing_matches_with_everything_enabled(tmp_path)


async def test_one_event_is_counted_once_and_not_again_at_each_tick(tmp_path: Path) -> None:
    await one_event_is_counted_once_however_long_the_host_runs(tmp_path)


# -- with every fault, its story fails ---------------------------------------------------------------------------------------------------


def preconditions_are_skipped(patch: pytest.MonkeyPatch) -> None:
    real = steps.call_step

    async def skipping(book: Any, name: str, *rest: Any, **more: Any) -> Any:
        return Finding.applies(confidence=100) if name == "precondition" else await real(book, name, *rest, **more)

    patch.setattr(proposing, "call_step", skipping)


def attempts_have_no_cap(patch: pytest.MonkeyPatch) -> None:
    real = settings_in.__globals__["Settings"]
    patch.setitem(
        settings_in.__globals__, "Settings", lambda **tables: real(**{**tables, "limits": {"attempts_per_incident": 100}})
    )


def trust_is_not_consulted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TrustElevationSource, "answer", lambda *_, **__: Elevation("", "nobody asks"))


def trust_is_taken_for_granted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TrustElevationSource, "answer", lambda *_, **__: Elevation("everybody", "granted by alice"))


def a_match_that_raises_gets_through(patch: pytest.MonkeyPatch) -> None:
    def match(self: Registry, event: DegradationEvent, *_: Any, **__: Any) -> list[Any]:
        return [item for item in self.runbooks.values() if item.runbook.matches(event)]

    patch.setattr(Registry, "match", match)


def nobody_is_told_of_escalations(patch: pytest.MonkeyPatch) -> None:
    real = Notices.noted

    def noted(self: Notices, incident: Any, record: Any) -> None:
        if incident.status != "escalated":
            real(self, incident, record)

    patch.setattr(Notices, "noted", noted)


def looking_counts_again(patch: pytest.MonkeyPatch) -> None:
    async def remind_on(self: Notices) -> None:
        while True:
            await self._clock.sleep(1)
            for incident in list(self._state.incidents.values()):
                await self._journal.append(
                    incident.stream,
                    [DegradationCoalesced(count=incident.reports + 1, severity=incident.severity, observed_at=0, why="count")],
                )

    patch.setattr(Notices, "remind_on", remind_on)


@pytest.mark.parametrize(
    ("fault", "story"),
    [
        (preconditions_are_skipped, a_precondition_is_called_and_its_no_is_obeyed),
        (attempts_have_no_cap, identical_failures_are_tried_three_times_and_no_more),
        (trust_is_not_consulted, trust_decides_what_a_plan_may_do),
        (trust_is_taken_for_granted, trust_decides_what_a_plan_may_do),
        (a_match_that_raises_gets_through, a_match_that_raises_stops_nobody_else),
        (nobody_is_told_of_escalations, people_hear_of_what_nothing_matches_with_everything_enabled),
        (looking_counts_again, one_event_is_counted_once_however_long_the_host_runs),
    ],
)
async def test_a_story_fails_when_its_fault_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None], story: Story
) -> None:
    fault(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError, ZeroDivisionError)):
        await story(tmp_path)
