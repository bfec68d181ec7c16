"""One subject, one attempt at a time: also while the attempt waits for something, and over all hosts of a home."""

import asyncio
from pathlib import Path

from tests.support.hosts import broken, is_mended, runbook, ticked, write_mended

from remediation import DegradationEvent
from remediation.authoring import Plan, RemediationContext, Verdict, Wait, WriteFile
from remediation.bootstrap import Host
from remediation.testing import FakeClock, eventually, running_host

LIMITS = {"cooldown": "1s"}


def other_of(event: DegradationEvent) -> DegradationEvent:
    """Something else about the same subject."""
    return event.model_copy(update={"code": "OTHER"})


async def held(host: Host, incident: str) -> None:
    """Wait until it waits for the incident that has its subject."""
    await eventually(lambda: (wait := host.incident(incident).wait) is not None and "same subject" in wait.reason)


async def both_settled(host: Host, clock: FakeClock, first: str, second: str) -> tuple[str, str]:
    await ticked(clock, lambda: not host.incident(first).open and not host.incident(second).open, 1)
    return host.incident(first).status, host.incident(second).status


def other() -> type:
    async def act(ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=ctx.subject_path(), content="other\n"))

    async def healthy(ctx: RemediationContext) -> Verdict:
        return Verdict.healthy()

    return runbook("other", code="OTHER", action=act, verify=healthy)


async def test_nobody_else_acts_between_two_stages_of_an_attempt(tmp_path: Path) -> None:
    clock = FakeClock()
    waited: list[int] = []

    async def act(ctx: RemediationContext) -> Plan | Wait:
        if ctx.stage == 0:
            return Plan(WriteFile(path=ctx.subject_path(), content="half\n"), more=True)
        if not waited:
            waited.append(ctx.stage)
            return Wait("30s", "until it has stopped")
        return await write_mended(ctx)

    async with running_host(tmp_path, runbook(action=act), other(), clock=clock, limits=LIMITS) as host:
        event = broken(tmp_path)
        first = (await host.report(event)).incident
        await eventually(lambda: waited and host.incident(first).wait)
        second = (await host.report(other_of(event))).incident
        await held(host, second)
        assert Path(event.subject).read_text() == "half\n"
        assert await both_settled(host, clock, first, second) == ("resolved", "resolved")
        assert Path(event.subject).read_text() == "other\n"


async def test_nobody_else_acts_while_what_was_done_is_verified_so_that_it_can_be_taken_back(tmp_path: Path) -> None:
    clock = FakeClock()
    looks: list[str] = []

    async def look(ctx: RemediationContext) -> Verdict | Wait:
        looks.append(ctx.incident.id)
        return Wait("30s", "until the next run") if len(looks) == 1 else Verdict.failed("no good")

    async with running_host(tmp_path, runbook(verify=look), other(), clock=clock, limits=LIMITS) as host:
        event = broken(tmp_path)
        first = (await host.report(event)).incident
        await eventually(lambda: looks and host.incident(first).wait)
        second = (await host.report(other_of(event))).incident
        await held(host, second)
        assert await both_settled(host, clock, first, second) == ("heal_failed", "resolved")
        assert not host.incident(first).dirty
        assert not host.incident(first).attempts[0].revert_failed


async def test_another_subject_does_not_wait(tmp_path: Path) -> None:
    going = asyncio.Event()

    async def look(ctx: RemediationContext) -> Verdict:
        await going.wait()
        return await is_mended(ctx)

    async with running_host(tmp_path, runbook(verify=look), other(), limits=LIMITS) as host:
        first = (await host.report(broken(tmp_path))).incident
        await eventually(lambda: host.incident(first).attempts)
        elsewhere = await host.report(broken(tmp_path, "elsewhere", code="OTHER"))
        assert (await host.wait_for(elsewhere, timeout=10)).status == "resolved"
        going.set()
        assert (await host.wait_for(first, timeout=10)).status == "resolved"


async def test_the_cooldown_of_a_subject_holds_no_attempt_under_way(tmp_path: Path) -> None:
    clock = FakeClock()
    going = asyncio.Event()

    async def act(ctx: RemediationContext) -> Plan:
        if ctx.stage == 0:
            return Plan(WriteFile(path=ctx.subject_path(), content="half\n"), more=True)
        await going.wait()
        return await write_mended(ctx)

    async with running_host(tmp_path, runbook(action=act), clock=clock) as host:
        event = broken(tmp_path)
        first = (await host.report(event)).incident
        await eventually(lambda: Path(event.subject).read_text() == "half\n")
        # As if a host without this rule had acted on it meanwhile.
        host._state.touched[event.subject] = ("somebody", round(clock.now().timestamp() * 1000))
        going.set()
        assert (await host.wait_for(first, timeout=10)).status == "resolved"
