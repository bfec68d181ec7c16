"""Heals of several stages, durable timers, retries: decided from recorded facts, across restarts."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.hosts import broken, entries_of, is_mended, only, runbook, ticked, types_of, write_mended
from tests.support.world import tree

from remediation.authoring import Finding, Plan, RemediationContext, Verdict, Wait, WriteFile
from remediation.core import progress
from remediation.model.entries import AttemptFinished, AttemptPlanned, IncidentWaiting, StageApplied
from remediation.testing import FakeClock, eventually, running_host


def part(ctx: RemediationContext, name: str, text: str = "x\n") -> WriteFile:
    return WriteFile(path=ctx.subject_path().with_name(name), content=text)


async def in_three(ctx: RemediationContext) -> Plan:
    match ctx.stage:
        case 0:
            return Plan(part(ctx, "one"), part(ctx, "two"), more=True)
        case 1:
            return Plan(part(ctx, "three"), more=True)
    return await write_mended(ctx)


async def test_each_stage_is_decided_with_the_receipts_of_the_ones_before(tmp_path: Path) -> None:
    seen: list[tuple[int, list[str]]] = []

    async def plan(ctx: RemediationContext) -> Plan:
        seen.append((ctx.stage, [f"{receipt.key.partition(':')[2]} {receipt.outcome}" for receipt in ctx.receipts]))
        return await in_three(ctx)

    async with running_host(tmp_path, runbook(action=plan)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert seen == [
            (0, []),
            (1, ["0:0 applied", "0:1 applied"]),
            (2, ["0:0 applied", "0:1 applied", "1:0 applied"]),
        ]
        assert await types_of(host, incident.id) == [
            "degradation.reported",
            "incident.opened",
            "attempt.planned",
            "stage.applied",
            "attempt.planned",
            "stage.applied",
            "attempt.planned",
            "attempt.finished",
            "incident.settled",
        ]
        assert len(incident.attempts) == 1
        assert [plan.stage for plan in incident.attempts[0].plans] == [0, 1, 2]


async def test_the_precondition_is_asked_once_for_all_stages_and_its_finding_stays(tmp_path: Path) -> None:
    asked: list[int] = []

    async def once(ctx: RemediationContext) -> Finding:
        asked.append(1)
        return Finding.applies(confidence=77)

    async def plan(ctx: RemediationContext) -> Plan:
        assert ctx.finding is not None
        assert ctx.finding.confidence == 77
        return await in_three(ctx)

    async with running_host(tmp_path, runbook(precondition=once, action=plan)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert asked == [1]


async def test_a_failed_verdict_takes_back_all_stages_newest_first(tmp_path: Path) -> None:
    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    async with running_host(tmp_path, runbook(action=in_three, verify=never)) as host:
        event = broken(tmp_path)
        before = tree(tmp_path / "world")
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "heal_failed"
        assert tree(tmp_path / "world") == before
        finished = only(AttemptFinished, await entries_of(host, incident.id))[0]
        assert [key.partition(":")[2] for key in finished.revert] == ["2:0", "1:0", "0:1", "0:0"]


@pytest.mark.parametrize("how", ["raises", "leaves the roots", "can't be prepared"])
async def test_a_later_stage_that_can_not_be_decided_takes_back_the_earlier_ones(tmp_path: Path, how: str) -> None:
    async def plan(ctx: RemediationContext) -> Plan:
        if ctx.stage == 0:
            return Plan(part(ctx, "one"), more=True)
        if how == "raises":
            raise KeyError("oops")
        if how == "leaves the roots":
            ctx.confined("/etc/passwd")
        return Plan(WriteFile(path="/etc/passwd", content=""))

    async with running_host(tmp_path, runbook(action=plan)) as host:
        event = broken(tmp_path)
        before = tree(tmp_path / "world")
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "heal_failed"
        assert tree(tmp_path / "world") == before


async def test_a_wait_is_a_durable_timer_that_calls_the_same_stage_again(tmp_path: Path) -> None:
    clock = FakeClock()
    calls: list[int] = []

    async def plan(ctx: RemediationContext) -> Plan | Wait:
        calls.append(ctx.stage)
        if ctx.stage == 0:
            return Plan(part(ctx, "one"), more=True)
        return Wait("30s", "until the run has stopped") if len(calls) == 2 else await write_mended(ctx)

    async with running_host(tmp_path, runbook(action=plan), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
        waiting = only(IncidentWaiting, await entries_of(host, reported.incident))[0]
        assert (waiting.why, waiting.reason) == ("stage", "until the run has stopped")
        clock.advance(29)
        assert calls == [0, 1]
        await ticked(clock, lambda: not host.incident(reported.incident).open)
        assert calls == [0, 1, 1]
        assert host.incident(reported.incident).status == "resolved"


async def test_a_wait_goes_on_after_a_restart_of_the_host(tmp_path: Path) -> None:
    clock = FakeClock()
    calls: list[int] = []

    async def plan(ctx: RemediationContext) -> Plan | Wait:
        calls.append(ctx.stage)
        if ctx.stage == 0:
            return Plan(part(ctx, "one"), more=True)
        assert [receipt.outcome for receipt in ctx.receipts] == ["applied"]
        return Wait("30s", "not yet") if len(calls) == 2 else await write_mended(ctx)

    async with running_host(tmp_path, runbook(action=plan), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
    clock.advance(10)
    async with running_host(tmp_path, runbook(action=plan), clock=clock) as host:
        clock.advance(10)
        assert host.incident(reported.incident).wait
        await ticked(clock, lambda: not host.incident(reported.incident).open)
        assert host.incident(reported.incident).status == "resolved"
        assert calls == [0, 1, 1]
        assert len(host.incident(reported.incident).attempts) == 1


async def test_a_wait_that_was_over_while_the_host_was_down_ends_with_its_start(tmp_path: Path) -> None:
    clock = FakeClock()
    calls: list[int] = []

    async def plan(ctx: RemediationContext) -> Plan | Wait:
        calls.append(1)
        return Wait("30s", "not yet") if len(calls) == 1 else await write_mended(ctx)

    async with running_host(tmp_path, runbook(action=plan), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
    clock.advance(3600)
    async with running_host(tmp_path, runbook(action=plan), clock=clock) as host:
        assert (await host.wait_for(reported.incident, timeout=10)).status == "resolved"


async def test_a_timer_is_by_the_wall_clock_and_notices_when_it_is_set(tmp_path: Path) -> None:
    clock = FakeClock()
    calls: list[int] = []

    async def plan(ctx: RemediationContext) -> Plan | Wait:
        calls.append(1)
        return Wait("1h", "not yet") if len(calls) == 1 else await write_mended(ctx)

    async with running_host(tmp_path, runbook(action=plan), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
        clock.jump(3601)
        await ticked(clock, lambda: not host.incident(reported.incident).open, 1)
        assert clock.monotonic() < 1_060


async def test_a_runbook_that_only_waits_is_stopped_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAITS_CAP", 5)
    clock = FakeClock()

    async def wait(ctx: RemediationContext) -> Wait:
        return Wait(0, "never mind")

    async with running_host(tmp_path, runbook(action=wait), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await ticked(clock, lambda: not host.incident(reported.incident).open)
        incident = host.incident(reported.incident)
        assert incident.status == "escalated"
        assert "asked to wait 5 times" in incident.reason
        assert len(only(IncidentWaiting, await entries_of(host, incident.id))) == 5
        # A wait of no time is one of a tenth of a second: it must not fill the journal.
        assert clock.monotonic() >= 1_000.5


async def test_a_verify_that_only_waits_is_inconclusive_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAITS_CAP", 5)
    clock = FakeClock()

    async def wait(ctx: RemediationContext) -> Wait:
        return Wait(0, "never mind")

    async with running_host(tmp_path, runbook(verify=wait), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await ticked(clock, lambda: not host.incident(reported.incident).open)
        incident = host.incident(reported.incident)
        assert incident.status == "escalated"
        assert incident.attempts[0].outcome == "inconclusive"


async def test_a_failed_runbook_is_tried_again_after_its_pauses(tmp_path: Path) -> None:
    clock = FakeClock()
    tries: list[float] = []

    async def plan(ctx: RemediationContext) -> Plan:
        tries.append(clock.monotonic())
        return await (write_mended(ctx) if len(tries) == 3 else Plan_of("worse\n", ctx))

    async def Plan_of(text: str, ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=ctx.subject_path(), content=text))

    book = runbook(action=plan, retries=2, backoff=(timedelta(seconds=30), timedelta(seconds=90)))
    async with running_host(tmp_path, book, clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await ticked(clock, lambda: not host.incident(reported.incident).open, 1)
        incident = host.incident(reported.incident)
        assert incident.status == "resolved"
        assert [attempt.outcome for attempt in incident.attempts] == ["failed", "failed", "healed"]
        assert tries[1] - tries[0] >= 30
        assert tries[2] - tries[1] >= 90
        keys = [plan.effects[0].key for attempt in incident.attempts for plan in attempt.plans]
        assert len(set(keys)) == 3


async def test_the_stored_plan_is_applied_after_a_restart_and_never_computed_again(tmp_path: Path) -> None:
    decided: list[int] = []

    async def plan(ctx: RemediationContext) -> Plan:
        decided.append(1)
        return Plan(WriteFile(path=ctx.subject_path(), content="mended\n" if len(decided) == 1 else "other\n"))

    class Died(BaseException):
        pass

    real = WriteFile.apply

    async def dies(self: WriteFile, context: object, prepared: object) -> object:
        await asyncio_forever()

    async def asyncio_forever() -> None:
        import asyncio

        started.set()
        await asyncio.Event().wait()

    import asyncio

    started = asyncio.Event()
    WriteFile.apply = dies
    try:
        async with running_host(tmp_path, runbook(action=plan)) as host:
            reported = await host.report(broken(tmp_path))
            await asyncio.wait_for(started.wait(), 10)
    finally:
        WriteFile.apply = real
    async with running_host(tmp_path, runbook(action=plan)) as host:
        incident = await host.wait_for(reported.incident, timeout=10)
        assert incident.status == "resolved"
        assert decided == [1]
        planned = only(AttemptPlanned, await entries_of(host, incident.id))
        assert len(planned) == 1


async def test_receipts_of_a_finished_stage_are_those_of_its_entry(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(action=in_three, verify=is_mended)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        stages = only(StageApplied, await entries_of(host, incident.id))
        assert [stage.stage for stage in stages] == [0, 1]
        assert incident.attempts[0].receipts[:3] == (*stages[0].receipts, *stages[1].receipts)


async def test_two_effects_of_one_stage_on_one_file_are_refused_before_anything_is_planned(tmp_path: Path) -> None:
    async def twice(ctx: RemediationContext) -> Plan:
        path = ctx.subject_path()
        return Plan(WriteFile(path=path, content="half\n"), WriteFile(path=path, content="mended\n"))

    async with running_host(tmp_path, runbook(action=twice)) as host:
        event = broken(tmp_path)
        incident = await host.wait_for(await host.report(event), timeout=15)
        assert (incident.status, incident.attempts) == ("escalated", ())
        assert "effects 1 and 2 of the stage both change" in incident.reason
        assert "put it into the next stage" in incident.reason
        assert Path(event.subject).read_text() == "broken\n"


async def test_two_effects_on_one_file_in_two_stages_are_carried_out(tmp_path: Path) -> None:
    async def once_each(ctx: RemediationContext) -> Plan:
        text = ("half\n", "mended\n")[ctx.stage]
        return Plan(WriteFile(path=ctx.subject_path(), content=text), more=ctx.stage == 0)

    async with running_host(tmp_path, runbook(action=once_each)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=15)
        assert incident.status == "resolved"
