"""The wall clock is set back or forward, the machine sleeps: no decision changes wrongly, and nothing waits longer than its date says."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import asked, broken, entries_of, is_mended, only, runbook, ticked, write_mended

from remediation.authoring import RemediationContext, Verdict, Wait
from remediation.bootstrap import Host
from remediation.core.incident import Incident
from remediation.model.base import epoch_ms
from remediation.model.entries import VerificationStarted
from remediation.testing import FakeClock, eventually, running_host

HOUR = 3600.0
SLACK = 400.0
"""Seconds of the fake clock that may pass while the host does its work in real time: far from the hour that matters."""


async def slept_until_settled(host: Host, clock: FakeClock, incident: str, step: float = 1.0, most: float = 10_000) -> float:
    """Let time pass until the incident is settled; returns how much did."""
    passed = 0.0

    def tick() -> bool:
        nonlocal passed
        if host.incident(incident).open:
            clock.advance(step)
            passed += step
        assert passed < most
        return not host.incident(incident).open

    await eventually(tick, within=30)
    return passed


async def test_twelve_hours_of_sleep_in_a_verification_of_ten_seconds_are_credited_to_nobody(tmp_path: Path) -> None:
    clock = FakeClock()
    samples: list[float] = []

    async def verify(ctx: RemediationContext) -> Verdict:
        samples.append(clock.monotonic())
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=verify, sustain="10s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: len(samples) == 1 and clock.naps.count(2.0) == 2)  # the next sample's, and the sweep's
        clock.advance(12 * HOUR)
        await eventually(lambda: len(samples) == 2)
        assert host.incident(reported.incident).open
        woken = samples[-1]
        await ticked(clock, lambda: not host.incident(reported.incident).open, 1)
        incident = host.incident(reported.incident)
        # What nobody saw is neither credited nor held against the heal: a whole window was watched after it.
        assert incident.status == "resolved"
        assert samples[-1] - woken >= 10
        assert len(only(VerificationStarted, await entries_of(host, incident.id))) == 2


async def test_after_a_week_of_sleep_a_verification_gets_no_further_time(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(sustain="10s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: clock.naps.count(2.0) == 2)
        clock.advance(8 * 24 * HOUR)
        await ticked(clock, lambda: not host.incident(reported.incident).open, 1)
        assert host.incident(reported.incident).attempts[0].outcome == "inconclusive"


@pytest.mark.parametrize("jump", [-HOUR, HOUR, 24 * HOUR])
async def test_a_jump_of_the_date_is_no_gap_in_a_verification(tmp_path: Path, jump: float) -> None:
    clock = FakeClock()
    samples: list[float] = []

    async def verify(ctx: RemediationContext) -> Verdict:
        samples.append(clock.monotonic())
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=verify, sustain="65s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: len(samples) == 1 and 13.0 in clock.naps)
        clock.jump(jump)
        for number in range(2, 7):
            clock.advance(13)
            await eventually(lambda number=number: len(samples) >= number or not host.incident(reported.incident).open)
            if not host.incident(reported.incident).open:
                break
            await eventually(lambda: 13.0 in clock.naps or not host.incident(reported.incident).open)
        incident = host.incident(reported.incident)
        if jump < 0:
            assert (incident.status, samples[-1] - samples[0]) == ("resolved", 65)
        else:
            # The last moment for a result is a date: it has passed. Nothing is taken back, and a person looks.
            assert incident.attempts[0].outcome == "inconclusive"


async def waiting(host: Host, incident: str, why: str) -> Incident:
    return await eventually(lambda: (found := host.incident(incident)).wait is not None and found.wait.why == why and found)


@pytest.mark.parametrize("jump", [0.0, -HOUR, HOUR])
async def test_a_cooldown_ends_when_its_date_says_so(tmp_path: Path, jump: float) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(level="heal"), clock=clock, limits={"cooldown": "5m"}) as host:
        event = broken(tmp_path)
        assert (await host.wait_for(await host.report(event), timeout=15)).status == "resolved"
        Path(event.subject).write_text("broken\n")
        clock.advance(1)
        again = await host.report(event)
        until = (await waiting(host, again.incident, "cooldown")).wait.until
        left = (until - epoch_ms(clock.now())) / 1000
        clock.jump(jump)
        passed = await slept_until_settled(host, clock, again.incident, step=5)
        wanted = max(0.0, left - jump)
        assert wanted - 5 <= passed <= wanted + SLACK


@pytest.mark.parametrize("jump", [0.0, -HOUR, HOUR])
@pytest.mark.parametrize("what", ["stage", "verify"])
async def test_what_a_runbook_waits_for_ends_when_its_date_says_so(tmp_path: Path, what: str, jump: float) -> None:
    clock = FakeClock()
    calls: list[str] = []

    async def action(ctx: RemediationContext) -> Any:
        calls.append("action")
        return Wait("60s", "settling") if what == "stage" and len(calls) == 1 else await write_mended(ctx)

    async def verify(ctx: RemediationContext) -> Any:
        calls.append("verify")
        return Wait("60s", "settling") if what == "verify" and calls.count("verify") == 1 else await is_mended(ctx)

    async with running_host(tmp_path, runbook(action=action, verify=verify), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await waiting(host, reported.incident, what)
        clock.jump(jump)
        passed = await slept_until_settled(host, clock, reported.incident, step=5)
        assert host.incident(reported.incident).status == "resolved"
        wanted = max(0.0, 60 - jump)
        assert wanted - 5 <= passed <= wanted + SLACK


@pytest.mark.parametrize("jump", [0.0, -HOUR, HOUR])
async def test_a_retry_comes_when_its_date_says_so(tmp_path: Path, jump: float) -> None:
    clock = FakeClock()
    verdicts: list[int] = []

    async def verify(ctx: RemediationContext) -> Verdict:
        verdicts.append(1)
        return Verdict.failed("not yet") if len(verdicts) == 1 else await is_mended(ctx)

    async with running_host(tmp_path, runbook(verify=verify, retries=1, backoff=("60s",)), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await waiting(host, reported.incident, "retry")
        clock.jump(jump)
        passed = await slept_until_settled(host, clock, reported.incident, step=5)
        assert host.incident(reported.incident).status == "resolved"
        wanted = max(0.0, 60 - jump)
        assert wanted - 5 <= passed <= wanted + SLACK


@pytest.mark.parametrize("jump", [0.0, -HOUR, HOUR])
async def test_a_pause_ends_when_its_date_says_so(tmp_path: Path, jump: float) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        until = epoch_ms(clock.now()) + 600_000
        asked(tmp_path, "pause", {"reason": "migration", "until": until})

        def paused() -> bool:
            clock.advance(0.5)
            return bool(host._state.pauses)

        await eventually(paused)
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait is not None)
        left = (until - epoch_ms(clock.now())) / 1000
        clock.jump(jump)
        passed = await slept_until_settled(host, clock, reported.incident, step=5)
        assert host.incident(reported.incident).status == "resolved"
        wanted = max(0.0, left - jump)
        assert wanted - 5 <= passed <= wanted + SLACK
