"""Limits beyond the change rate: held back is queued, shown and goes on by itself; each holds over all that a home has."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.hosts import asked, broken, entries_of, only, runbook, ticked, write_mended

from remediation import DegradationEvent
from remediation.authoring import Plan, RemediationContext, Verdict
from remediation.bootstrap import Host
from remediation.model.entries import IncidentWaiting, PauseStarted
from remediation.ports.channel import Notice
from remediation.testing import FakeClock, eventually, plugin, running_host

BEGIN = FakeClock().now()


class Listening:
    """A channel that keeps what kinds of notices it was given, of which incidents."""

    name = "listening"

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def send(self, notice: Notice) -> None:
        self.told.append((notice.kind, notice.incident))


async def waits(host: Host, incident: str, what: str) -> None:
    await eventually(lambda: (wait := host.incident(incident).wait) is not None and what in wait.reason)


async def test_a_runbook_beyond_its_window_waits_until_there_is_room_and_goes_on(tmp_path: Path) -> None:
    clock = FakeClock()
    limits = {"runbook_changes": 2, "runbook_window": "10m", "changes_per_hour": 100}
    async with running_host(tmp_path, runbook(), clock=clock, limits=limits) as host:
        for number in range(2):
            assert (await host.wait_for(await host.report(broken(tmp_path, f"f{number}")), timeout=10)).status == "resolved"
        third = (await host.report(broken(tmp_path, "third"))).incident
        await waits(host, third, "runbook_changes")
        wait = host.incident(third).wait
        assert wait is not None
        assert 590_000 <= wait.until - clock.now().timestamp() * 1000 <= 600_000
        await ticked(clock, lambda: not host.incident(third).open, 10)
        assert host.incident(third).status == "resolved"


async def test_another_runbook_is_not_held_back_by_the_window_of_one(tmp_path: Path) -> None:
    limits = {"runbook_changes": 1, "runbook_window": "1h"}
    async with running_host(tmp_path, runbook(), runbook("other", code="OTHER"), limits=limits) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path, "a")), timeout=10)).status == "resolved"
        assert (await host.wait_for(await host.report(broken(tmp_path, "b", code="OTHER")), timeout=10)).status == "resolved"


async def test_a_group_below_its_quorum_waits_until_others_are_well(tmp_path: Path) -> None:
    events = [broken(tmp_path, name) for name in ("a", "b", "c")]
    group = {"name": "files", "subjects": [event.subject for event in events], "min_healthy": 2}
    sick = DegradationEvent(code="UNKNOWN", subsystem="test", subject=events[1].subject)
    async with running_host(tmp_path, runbook(), limits={"groups": [group]}) as host:
        other = await host.wait_for(await host.report(sick), timeout=10)
        assert other.held
        first = (await host.report(events[0])).incident
        await waits(host, first, "files")
        assert Path(events[0].subject).read_text() == "broken\n"
        asked(tmp_path, "close", {"incident": other.id, "reason": "it is well again"})
        assert (await host.wait_for(first, timeout=10)).status == "resolved"
        told = [entry for entry in only(IncidentWaiting, await entries_of(host, first)) if entry.why == "limit"]
        assert len(told) == 1


async def test_no_more_attempts_of_a_runbook_act_at_a_time_than_allowed_and_all_have_their_turn(tmp_path: Path) -> None:
    acting, most, going = 0, 0, asyncio.Event()

    async def verify(ctx: RemediationContext) -> Any:
        nonlocal acting, most
        acting += 1
        most = max(most, acting)
        await asyncio.wait_for(going.wait(), 10)
        await asyncio.sleep(0)
        acting -= 1
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=verify), limits={"concurrency_per_runbook": 2}) as host:
        reported = [await host.report(broken(tmp_path, f"f{number}")) for number in range(6)]
        await eventually(lambda: sum(host.incident(item.incident).wait is not None for item in reported) == 4)
        assert acting == 2
        going.set()
        for item in reported:
            assert (await host.wait_for(item, timeout=20)).status == "resolved"
        assert most == 2


async def test_what_may_reach_the_machine_is_bounded_by_itself(tmp_path: Path) -> None:
    going = asyncio.Event()

    async def slow(ctx: RemediationContext) -> Plan:
        return await write_mended(ctx)

    async def verify(ctx: RemediationContext) -> Any:
        await asyncio.wait_for(going.wait(), 10)
        return Verdict.healthy()

    wide = runbook("wide", code="WIDE", blast_radius="machine", action=slow, verify=verify)
    async with running_host(tmp_path, wide, runbook(), limits={"concurrency_machine": 1}) as host:
        first = await host.report(broken(tmp_path, "w1", code="WIDE"))
        await eventually(lambda: host._state.tallies.acting)
        second = await host.report(broken(tmp_path, "w2", code="WIDE"))
        await waits(host, second.incident, "machine")
        assert (await host.wait_for(await host.report(broken(tmp_path, "narrow")), timeout=10)).status == "resolved"
        going.set()
        for item in (first, second):
            assert (await host.wait_for(item, timeout=10)).status == "resolved"


async def test_in_a_storm_nothing_new_is_begun_until_it_has_been_over_for_a_while(tmp_path: Path) -> None:
    clock = FakeClock()
    limits = {"storm_subjects": 3, "storm_exit": "5m"}
    async with running_host(tmp_path, runbook(), clock=clock, limits=limits) as host:
        asked(tmp_path, "pause", {"reason": "so that all are open at once"})
        await eventually(lambda: host._state.pauses)
        reported = [await host.report(broken(tmp_path, f"f{number}")) for number in range(5)]
        assert len({item.incident for item in reported}) == 4
        asked(tmp_path, "resume", {})
        await ticked(clock, lambda: not host._state.pauses, 1)
        for item in reported[:3]:
            await waits(host, item.incident, "common cause")
        await ticked(clock, lambda: all(not host.incident(item.incident).open for item in reported[:3]), 10)
        assert {host.incident(item.incident).status.value for item in reported[:3]} == {"resolved"}
        assert host.incident(reported[3].incident).held


async def test_subjects_that_are_reported_all_at_once_open_no_more_incidents_than_the_cap_of_a_storm(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), limits={"storm_subjects": 3}) as host:
        reported = await asyncio.gather(*(host.report(broken(tmp_path, f"f{number}")) for number in range(12)))
        opened = {item.incident for item in reported}
        assert len([id_ for id_ in opened if host.incident(id_).event.subject != "(storm)"]) == 3
        assert len(opened) == 4


async def test_of_many_changes_beyond_the_rate_one_is_given_to_people_and_the_rest_waits(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), limits={"changes_per_hour": 2}) as host:
        reported = await asyncio.gather(*(host.report(broken(tmp_path, f"f{number}")) for number in range(12)))
        incidents = [item.incident for item in reported]
        await eventually(lambda: all(not (it := host.incident(id_)).open or it.wait is not None for id_ in incidents))
        found = [host.incident(id_) for id_ in incidents]
        assert sum(incident.status == "resolved" for incident in found) == 2
        assert sum(incident.held for incident in found) == 1
        assert {incident.wait.why for incident in found if incident.wait is not None} == {"pause"}
        assert len(only(PauseStarted, await entries_of(host))) == 1


async def test_limits_are_counted_from_the_journal_also_after_a_restart(tmp_path: Path) -> None:
    limits = {"runbook_changes": 1, "runbook_window": "1h"}
    async with running_host(tmp_path, runbook(), limits=limits) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path, "a")), timeout=10)).status == "resolved"
    async with running_host(tmp_path, runbook(), limits=limits) as host:
        second = (await host.report(broken(tmp_path, "b"))).incident
        await waits(host, second, "runbook_changes")


async def test_who_waits_for_a_cooldown_and_for_others_goes_on_when_both_are_over_also_after_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    events = [broken(tmp_path, name) for name in ("a", "b", "c")]
    group = {"name": "files", "subjects": [event.subject for event in events], "min_healthy": 2}
    sick = DegradationEvent(code="UNKNOWN", subsystem="test", subject=events[1].subject)
    more = {"limits": {"groups": [group], "cooldown": "1m"}, "clock": clock}
    books = (runbook(), runbook("other", code="OTHER"))
    async with running_host(tmp_path, *books, **more) as host:
        assert (await host.wait_for(await host.report(events[0]), timeout=10)).status == "resolved"
        other = await host.wait_for(await host.report(sick), timeout=10)
        held = (await host.report(broken(tmp_path, "a", code="OTHER"))).incident
        await waits(host, held, "files")
        # A wait without a date is for what others do, whatever else it is for.
        assert host.incident(held).wait.why == "limit"
        asked(tmp_path, "close", {"incident": other.id, "reason": "it is well again"})
        await ticked(clock, lambda: not host.incident(other.id).held, 0.1)
    async with running_host(tmp_path, *books, **more) as host:
        await ticked(clock, lambda: not host.incident(held).open, 10)
        assert host.incident(held).status == "resolved"


async def test_subjects_of_a_group_are_never_folded_into_a_storm(tmp_path: Path) -> None:
    events = [broken(tmp_path, name, code="UNKNOWN") for name in ("a", "b", "c", "d")]
    group = {"name": "files", "subjects": [event.subject for event in events], "min_healthy": 2}
    async with running_host(tmp_path, runbook(), limits={"groups": [group], "storm_subjects": 2}) as host:
        for event in events[:3]:
            await host.wait_for(await host.report(event), timeout=10)
        reported = await host.report(broken(tmp_path, "d"))
        await waits(host, reported.incident, "files")


async def test_who_waits_for_others_is_told_of_again_every_four_hours(tmp_path: Path) -> None:
    clock, heard = FakeClock(), Listening()
    events = [broken(tmp_path, name) for name in ("a", "b", "c")]
    group = {"name": "files", "subjects": [event.subject for event in events], "min_healthy": 2}
    sick = DegradationEvent(code="UNKNOWN", subsystem="test", subject=events[1].subject)
    channels = [plugin(channels=[heard])]
    async with running_host(tmp_path, runbook(), plugins=channels, clock=clock, limits={"groups": [group]}) as host:
        await host.wait_for(await host.report(sick), timeout=10)
        reported = await host.report(events[0])
        await waits(host, reported.incident, "files")
        await ticked(clock, lambda: heard.told.count(("reminder", reported.incident)) == 2, 600)
        assert ("held_back", reported.incident) in heard.told
        assert clock.now() >= BEGIN + timedelta(hours=8)
