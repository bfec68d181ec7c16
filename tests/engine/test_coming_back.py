"""What was healed and comes back, what repeats, and what is no longer seen."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import asked, broken, entries_of, only, runbook, ticked, types_of
from tests.support.ssh import made_key

from remediation import DegradationEvent
from remediation.authoring import Finding, RemediationContext, Verdict
from remediation.bootstrap import Host
from remediation.model.entries import DegradationCoalesced, IncidentSettled
from remediation.testing import FakeClock, eventually, running_host

HOUR = 3600


async def healed(host: Host, event: DegradationEvent) -> Any:
    Path(event.subject).write_text("broken\n")
    return await host.wait_for(await host.report(event), timeout=10)


async def moved(clock: FakeClock, seconds: float) -> None:
    """Let time pass by a lot, with a moment for the host to look."""
    clock.advance(seconds)
    await asyncio.sleep(0.02)


async def test_within_the_cooldown_it_waits_and_is_then_handled(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        event = broken(tmp_path)
        assert (await healed(host, event)).status == "resolved"
        clock.advance(100)
        Path(event.subject).write_text("broken\n")
        again = await host.report(event)
        assert again.opened
        await eventually(lambda: host.incident(again.incident).wait)
        assert host.incident(again.incident).wait.why == "cooldown"
        clock.advance(199)
        await asyncio.sleep(0.05)
        assert host.incident(again.incident).open
        await ticked(clock, lambda: not host.incident(again.incident).open)
        assert host.incident(again.incident).status == "resolved"
        assert host.incident(again.incident).history


async def test_what_is_no_longer_seen_within_the_cooldown_resolves_by_itself(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        event = broken(tmp_path)
        await healed(host, event)
        clock.advance(1)
        again = await host.report(event)
        await eventually(lambda: host.incident(again.incident).wait)
        clock.advance(1)
        await host._remediator.intake.clear(event.code, event.subsystem, event.subject)
        await ticked(clock, lambda: not host.incident(again.incident).open, 100)
        incident = host.incident(again.incident)
        assert (incident.status, incident.attempts) == ("resolved", ())


async def test_what_a_person_mended_while_a_plan_waited_is_no_earlier_heal(tmp_path: Path) -> None:
    clock = FakeClock()
    signers = tmp_path / "allowed_signers"
    public = made_key(tmp_path).with_suffix(".pub").read_text()
    signers.write_text(f'alice namespaces="remediation-approval" {public}')

    async def looks(ctx: RemediationContext) -> Finding:
        mended = await ctx.read_text(ctx.event.subject) == "mended\n"
        return Finding.declined("it is mended") if mended else Finding.applies(confidence=90)

    settings = {"profile": "supervised", "approvals": {"allowed_signers": signers, "recheck": "10s"}}
    async with running_host(tmp_path, runbook(precondition=looks, level="patch"), clock=clock, **settings) as host:
        event = broken(tmp_path)
        for _ in range(2):
            Path(event.subject).write_text("broken\n")
            reported = await host.report(event)
            await eventually(lambda id_=reported.incident: host.incident(id_).approval)
            Path(event.subject).write_text("mended\n")
            await ticked(clock, lambda id_=reported.incident: not host.incident(id_).open, 5)
            assert host.incident(reported.incident).status == "resolved"
            clock.advance(400)


@pytest.mark.parametrize("level", ["patch", "heal"])
async def test_back_after_a_patch_it_is_given_to_people_with_the_history(tmp_path: Path, level: str) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(level=level), clock=clock) as host:
        event = broken(tmp_path)
        first = await healed(host, event)
        await moved(clock, 2 * HOUR)
        second = await healed(host, event)
        assert second.status == "escalated"
        assert first.id in second.reason
        assert second.history == (first.id,)
        assert not second.attempts


async def test_back_after_a_day_a_patch_may_heal_again(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(level="patch"), clock=clock) as host:
        event = broken(tmp_path)
        await healed(host, event)
        await moved(clock, 24 * HOUR + 1)
        assert (await healed(host, event)).status == "resolved"


async def test_three_recoveries_in_a_day_are_enough_across_restarts(tmp_path: Path) -> None:
    clock = FakeClock()
    event = broken(tmp_path)
    for number in range(4):
        async with running_host(tmp_path, runbook(level="recovery"), clock=clock) as host:
            incident = await healed(host, event)
            assert incident.status == ("resolved" if number < 3 else "escalated")
            await moved(clock, HOUR)
    assert "keeps coming back" in incident.reason


async def test_another_degradation_of_a_subject_that_was_just_changed_waits_for_the_cooldown(tmp_path: Path) -> None:
    clock = FakeClock()
    books = (runbook(), runbook("other", code="OTHER"))
    async with running_host(tmp_path, *books, clock=clock) as host:
        event = broken(tmp_path)
        await healed(host, event)
        other = await host.report(event.model_copy(update={"code": "OTHER"}))
        await eventually(lambda: host.incident(other.incident).wait)
        assert host.incident(other.incident).wait.why == "cooldown"
        elsewhere = broken(tmp_path, "elsewhere", code="OTHER")
        assert (await host.wait_for(await host.report(elsewhere), timeout=10)).status == "resolved"
        await ticked(clock, lambda: not host.incident(other.incident).open, 20)
        assert host.incident(other.incident).status == "resolved"


async def test_a_person_who_reopens_does_not_have_to_wait_for_the_cooldown(tmp_path: Path) -> None:
    tries: list[int] = []

    async def second_time(ctx: RemediationContext) -> Verdict:
        tries.append(1)
        return Verdict.healthy() if len(tries) > 1 else Verdict.failed("no")

    async with running_host(tmp_path, runbook(verify=second_time)) as host:
        reported = await host.report(broken(tmp_path))
        assert (await host.wait_for(reported, timeout=10)).status == "heal_failed"
        asked(tmp_path, "reopen", {"incident": reported.incident})
        await eventually(lambda: host.incident(reported.incident).status == "resolved")


# -- repeated reports -----------------------------------------------------------------------------------------------------------


async def decline(ctx: RemediationContext) -> Finding:
    return Finding.declined("not mine")


async def test_reports_of_an_open_or_held_incident_are_counted_and_written_once_a_second(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock) as host:
        event = broken(tmp_path)
        first = await host.report(event)
        await host.wait_for(first, timeout=10)
        for _ in range(500):
            again = await host.report(event)
            assert (again.incident, again.opened) == (first.incident, False)
        assert not only(DegradationCoalesced, await entries_of(host, first.incident))
        await ticked(clock, lambda: host.incident(first.incident).reports == 501, 1)
        for _ in range(10):
            await host.report(event)
        await ticked(clock, lambda: host.incident(first.incident).reports == 511, 1)
        counted = only(DegradationCoalesced, await entries_of(host, first.incident))
        assert [entry.count for entry in counted] == [501, 511]


async def test_counts_are_written_when_the_host_stops(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock) as host:
        event = broken(tmp_path)
        first = await host.report(event)
        await host.wait_for(first, timeout=10)
        for _ in range(5):
            await host.report(event)
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock) as host:
        assert host.incident(first.incident).reports == 6


async def test_counts_go_with_the_next_step_of_the_incident(tmp_path: Path) -> None:
    async def report_again(ctx: RemediationContext) -> Finding:
        for _ in range(7):
            await host.report(event)
        return Finding.declined("not mine")

    async with running_host(tmp_path, runbook(precondition=report_again)) as host:
        event = broken(tmp_path)
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.reports == 8
        (settled,) = only(IncidentSettled, await entries_of(host, incident.id))
        assert settled.reports == 8 or incident.reports == 8


async def test_a_worse_report_is_journaled_at_once(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(precondition=decline)) as host:
        event = broken(tmp_path, severity="P2")
        first = await host.report(event)
        await host.wait_for(first, timeout=10)
        worse = event.model_copy(update={"summary": "it is on fire"})
        await host.report(DegradationEvent(**{**worse.model_dump(), "severity": "P0"}))
        assert host.incident(first.incident).severity == "P0"
        (entry,) = only(DegradationCoalesced, await entries_of(host, first.incident))
        assert (entry.why, entry.summary) == ("severity", "it is on fire")


async def test_a_report_that_comes_while_the_incident_is_settled_opens_another_one(tmp_path: Path) -> None:
    """Seen after the effect and told in the instant between verdict and settlement: it may not get lost in 'resolved'."""
    clock = FakeClock()
    late: list[Any] = []

    async with running_host(tmp_path, runbook(), clock=clock) as host:
        event = broken(tmp_path)
        real = host.journal.append

        async def append(stream: str, entries: Any, **more: Any) -> Any:
            if not late and any(isinstance(entry, IncidentSettled) for entry in entries):
                clock.advance(0.5)
                late.append(await host.report(event))
            return await real(stream, entries, **more)

        host.journal.append = append
        first = await host.wait_for(await host.report(event), timeout=10)
        assert first.status == "resolved"
        assert late[0].incident == first.id
        clock.advance(1)
        await eventually(lambda: [item for item in host.incidents() if item.id != first.id])
        (second,) = (item for item in host.incidents() if item.id != first.id)
        assert second.fingerprint == first.fingerprint


async def test_a_storm_becomes_one_incident_that_people_are_told_of_and_nothing_acts_on(tmp_path: Path) -> None:
    acted: list[str] = []

    async def note(ctx: RemediationContext) -> Finding:
        acted.append(ctx.event.subject)
        return Finding.declined("not mine")

    limits = {"storm_subjects": 10, "storm_exit": 0}
    async with running_host(tmp_path, runbook(precondition=note), limits=limits) as host:
        reported = [
            await host.report(DegradationEvent(code="BROKEN", subsystem="t", subject=f"s{number}")) for number in range(200)
        ]
        storm = {item.incident for item in reported[10:]}
        assert len(storm) == 1
        incident = await host.wait_for(storm.pop(), timeout=10)
        assert incident.status == "escalated"
        assert incident.event.subject == "(storm)"
        assert "s10" in incident.event.summary
        for item in reported[:10]:
            await host.wait_for(item, timeout=10)
        assert sorted(acted) == sorted(f"s{number}" for number in range(10))
        assert len(host.incidents()) == 11


async def test_a_reporter_whose_clock_is_ahead_or_who_has_none_is_believed_up_to_now(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock) as host:
        now = round(clock.now().timestamp() * 1000)
        for name, at in (("ahead", now + 10**9), ("far", 2**62), ("before", -5)):
            incident = await host.wait_for(await host.report(broken(tmp_path, name, observed_at=at)), timeout=10)
            assert incident.observed_at == now


# -- held incidents -----------------------------------------------------------------------------------------------------------------


async def test_a_held_incident_is_released_when_its_reporter_has_not_seen_it_for_a_while(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock) as host:
        event = broken(tmp_path)
        first = await host.report(event)
        await host.wait_for(first, timeout=10)
        clock.advance(1)
        await host._remediator.intake.clear(event.code, event.subsystem, event.subject)
        await ticked(clock, lambda: not host.incident(first.incident).held, 20)
        incident = host.incident(first.incident)
        assert incident.status == "escalated"
        assert "no longer sees it" in incident.reason
        assert clock.monotonic() >= 1_300
        assert (await host.report(event)).opened


async def test_seen_again_before_that_it_stays_held(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock) as host:
        event = broken(tmp_path)
        first = await host.report(event)
        await host.wait_for(first, timeout=10)
        for _ in range(5):
            clock.advance(1)
            await host._remediator.intake.clear(event.code, event.subsystem, event.subject)
            clock.advance(100)
            await host.report(event)
        for _ in range(20):
            await moved(clock, 50)
        assert host.incident(first.incident).held
        assert (await types_of(host, first.incident)).count("degradation.cleared") == 5


async def test_saying_again_that_it_is_not_seen_costs_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock) as host:
        event = broken(tmp_path)
        first = await host.report(event)
        await host.wait_for(first, timeout=10)
        for _ in range(20):
            clock.advance(1)
            await host._remediator.intake.clear(event.code, event.subsystem, event.subject)
        await host._remediator.intake.clear("NEVER", "heard", "of")
        assert (await types_of(host)).count("degradation.cleared") == 1


async def test_people_are_reminded_of_held_incidents_every_four_hours(tmp_path: Path) -> None:
    clock = FakeClock()
    told: list[tuple[str, str]] = []

    class Told:
        name = "told"

        async def send(self, notice: Any) -> None:
            told.append((notice.kind, notice.incident))

    from remediation.testing import plugin

    plugins = [plugin(channels=[Told()])]
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock, plugins=plugins) as host:
        first = await host.report(broken(tmp_path))
        await host.wait_for(first, timeout=10)
        await eventually(lambda: told == [("escalated", first.incident)])
        for _ in range(9 * 60):
            clock.advance(60)
            await asyncio.sleep(0)
        await eventually(lambda: told[1:] == [("reminder", first.incident)] * 2)
        asked(tmp_path, "close", {"incident": first.incident, "reason": "mended by hand"})
        await ticked(clock, lambda: not host.incident(first.incident).held, 0.1)
        for _ in range(9 * 60):
            clock.advance(60)
            await asyncio.sleep(0)
        assert len(told) == 3


async def test_a_report_about_the_storm_itself_switches_nothing_off(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        storm = DegradationEvent(code="BROKEN", subsystem="test", subject="(storm)")
        assert (await host.wait_for(await host.report(storm), timeout=10)).event.subject == '"(storm)"'
        assert (await healed(host, broken(tmp_path))).status == "resolved"


async def test_incidents_that_were_given_to_people_long_ago_make_no_storm(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(precondition=decline), clock=clock, limits={"storm_subjects": 2}) as host:
        for name in ("a", "b"):
            assert (await host.wait_for(await host.report(broken(tmp_path, name)), timeout=10)).held
        clock.advance(59 * 60)
        assert (await host.wait_for(await host.report(broken(tmp_path, "c")), timeout=10)).event.subject == "(storm)"
        clock.advance(12 * HOUR)
        later = await host.wait_for(await host.report(broken(tmp_path, "d")), timeout=10)
        assert later.event.subject.endswith("/d")
