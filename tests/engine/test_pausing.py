"""Pause, resume and panic, as people ask for them through the inbox."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.hosts import asked, broken, entries_of, only, runbook, ticked, types_of, write_mended

from remediation.authoring import Plan, RemediationContext, Verdict, Wait, WriteFile
from remediation.bootstrap import Host
from remediation.model.base import epoch_ms
from remediation.model.entries import AttemptPlanned, IncidentWaiting, PauseEnded, RunbookQuarantined
from remediation.testing import FakeClock, eventually, running_host


async def paused(host: Host, tmp_path: Path, **document: object) -> None:
    asked(tmp_path, "pause", {"reason": "maintenance", **document})
    await eventually(lambda: host._state.pauses)


async def test_nothing_is_planned_while_paused_and_healing_goes_on_after_resume(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        await paused(host, tmp_path)
        event = broken(tmp_path)
        reported = await host.report(event)
        await eventually(lambda: host.incident(reported.incident).wait)
        incident = host.incident(reported.incident)
        assert incident.wait.why == "pause"
        assert "maintenance" in incident.wait.reason
        assert Path(event.subject).read_text() == "broken\n"
        asked(tmp_path, "resume", {})
        incident = await host.wait_for(reported, timeout=10)
        assert incident.status == "resolved"


async def test_a_pause_with_an_end_ends(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        until = epoch_ms(clock.now()) + 60_000
        asked(tmp_path, "pause", {"until": until})
        await ticked(clock, lambda: host._state.pauses, 0.1)
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
        clock.advance(50)
        assert host.incident(reported.incident).open
        await ticked(clock, lambda: not host.incident(reported.incident).open, 5)
        assert host.incident(reported.incident).status == "resolved"


async def test_a_pause_outlives_a_restart_of_the_host_and_so_does_its_end(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        await paused(host, tmp_path)
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
    async with running_host(tmp_path, runbook()) as host:
        assert host.incident(reported.incident).open
        asked(tmp_path, "resume", {})
        assert (await host.wait_for(reported.incident, timeout=10)).status == "resolved"
    async with running_host(tmp_path, runbook()) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path, "other")), timeout=10)).status == "resolved"


async def test_a_pause_lets_an_attempt_under_way_finish(tmp_path: Path) -> None:
    stages: list[int] = []

    async def two(ctx: RemediationContext) -> Plan | Wait:
        stages.append(ctx.stage)
        return Plan(WriteFile(path=ctx.subject_path(), content="half\n"), more=True) if ctx.stage == 0 else await write_mended(ctx)

    async def hold(self: WriteFile, context: object, prepared: object) -> object:
        if self.content == "half\n":
            await paused(host, tmp_path)
        return await real(self, context, prepared)

    real, WriteFile.apply = WriteFile.apply, hold
    try:
        async with running_host(tmp_path, runbook(action=two)) as host:
            event = broken(tmp_path)
            reported = await host.report(event)
            # Its further stages too: what is half changed helps nobody.
            assert (await host.wait_for(reported, timeout=10)).status == "resolved"
            assert host._state.pauses
            assert stages == [0, 1]
    finally:
        WriteFile.apply = real


async def test_a_panic_stops_before_the_next_effect_and_reverts_nothing_until_it_ends(tmp_path: Path) -> None:
    async def three(ctx: RemediationContext) -> Plan:
        folder = ctx.subject_path().parent
        return Plan(*(WriteFile(path=folder / name, content="mended\n") for name in ("one", "thing", "three")))

    async def panics(self: WriteFile, context: object, prepared: object) -> object:
        output = await real(self, context, prepared)
        if self.path.name == "thing" and not host._state.pauses:
            await paused(host, tmp_path, panic=True)
        return output

    real, WriteFile.apply = WriteFile.apply, panics
    try:
        async with running_host(tmp_path, runbook(action=three)) as host:
            reported = await host.report(broken(tmp_path))
            await eventually(lambda: host.incident(reported.incident).wait)
            world = tmp_path / "world"
            assert sorted(path.name for path in world.iterdir()) == ["one", "thing"]
            asked(tmp_path, "resume", {})
            incident = await host.wait_for(reported, timeout=10)
            assert incident.status == "resolved"
            assert sorted(path.name for path in world.iterdir()) == ["one", "thing", "three"]
            outcomes = [receipt.outcome for receipt in incident.attempts[0].receipts]
            assert outcomes == ["found-applied", "found-applied", "applied"]
    finally:
        WriteFile.apply = real


@contextlib.contextmanager
def stopped_after(effect: str, stop: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Have `stop` done while the effect on the file of this name is applied, the first time."""
    done = False

    async def stops(self: WriteFile, context: object, prepared: object) -> object:
        nonlocal done
        output = await real(self, context, prepared)
        if self.path.name == effect and not done:
            done = True
            await stop()
        return output

    real, WriteFile.apply = WriteFile.apply, stops
    try:
        yield
    finally:
        WriteFile.apply = real


async def three(ctx: RemediationContext) -> Plan:
    folder = ctx.subject_path().parent
    return Plan(*(WriteFile(path=folder / name, content="mended\n") for name in ("one", "thing", "three")))


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "world").iterdir())


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_panic_takes_back_what_it_stopped_in_the_middle_if_asked_to_at_once_or_later(tmp_path: Path, at_once: bool) -> None:
    async with running_host(tmp_path, runbook(action=three)) as host:
        with stopped_after("thing", lambda: paused(host, tmp_path, panic=True, revert=at_once)):
            event = broken(tmp_path)
            reported = await host.report(event)
            if not at_once:
                await eventually(lambda: host.incident(reported.incident).wait)
                assert names(tmp_path) == ["one", "thing"]
                asked(tmp_path, "pause", {"reason": "it does harm", "panic": True, "revert": True})
            incident = await host.wait_for(reported, timeout=10)
        assert incident.status == "escalated"
        assert "taken back" in incident.reason
        assert names(tmp_path) == ["thing"]
        assert Path(event.subject).read_text() == "broken\n"
        assert host._state.pauses


async def test_between_two_stages_a_panic_takes_back_too(tmp_path: Path) -> None:
    async def two(ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=ctx.subject_path(), content=f"{ctx.stage}\n"), more=ctx.stage == 0)

    async with running_host(tmp_path, runbook(action=two)) as host:
        with stopped_after("thing", lambda: paused(host, tmp_path, panic=True)):
            event = broken(tmp_path)
            reported = await host.report(event)
            await eventually(lambda: host.incident(reported.incident).wait)
        assert Path(event.subject).read_text() == "0\n"
        asked(tmp_path, "pause", {"panic": True, "revert": True})
        assert (await host.wait_for(reported, timeout=10)).status == "escalated"
        assert Path(event.subject).read_text() == "broken\n"


async def test_a_runbook_that_was_quarantined_meanwhile_does_not_go_on_after_a_panic_and_is_taken_back(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(action=three)) as host:
        with stopped_after("thing", lambda: paused(host, tmp_path, panic=True)):
            reported = await host.report(broken(tmp_path))
            await eventually(lambda: host.incident(reported.incident).wait)
        await host.journal.append("runbook/mend", [RunbookQuarantined(runbook="mend", by="bob", reason="it is the culprit")])
        asked(tmp_path, "resume", {})
        incident = await host.wait_for(reported, timeout=10)
        assert incident.status == "escalated"
        assert "it is the culprit" in incident.reason
        assert names(tmp_path) == ["thing"]


async def test_a_quarantine_stops_an_attempt_before_its_next_effect(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(action=three)) as host:

        async def quarantine() -> None:
            await host.journal.append("runbook/mend", [RunbookQuarantined(runbook="mend", by="bob", reason="stop it")])

        with stopped_after("one", quarantine):
            incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "escalated"
        assert names(tmp_path) == ["thing"]


async def test_closing_what_is_acted_on_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(action=three)) as host:
        with stopped_after("thing", lambda: paused(host, tmp_path, panic=True)):
            reported = await host.report(broken(tmp_path))
            await eventually(lambda: host.incident(reported.incident).wait)
        asked(tmp_path, "close", {"incident": reported.incident})
        rejected = tmp_path / "home" / "inbox" / "rejected"
        await eventually(
            lambda: rejected.exists() and any("panic --revert" in file.read_text() for file in rejected.glob("*.reason"))
        )


async def test_a_pause_that_ends_by_itself_is_noticed_by_a_host_that_did_not_hear_of_it(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        asked(tmp_path, "pause", {"until": epoch_ms(clock.now()) + 7_200_000})
        await ticked(clock, lambda: host._state.pauses, 0.1)
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
        # As another host of the home journals it, which was killed before it could wake anybody.
        await host.journal.append("host/pauses", [PauseEnded(by="somebody")])
        begin = clock.monotonic()
        await ticked(clock, lambda: not host.incident(reported.incident).open, 1)
        assert clock.monotonic() - begin < 600


async def test_in_a_panic_even_reverts_wait(tmp_path: Path) -> None:
    looking, panicked = asyncio.Event(), asyncio.Event()

    async def fail_in_a_panic(ctx: RemediationContext) -> Verdict:
        looking.set()
        await panicked.wait()
        return Verdict.failed("no good")

    async with running_host(tmp_path, runbook(verify=fail_in_a_panic)) as host:
        event = broken(tmp_path)
        reported = await host.report(event)
        await looking.wait()
        await paused(host, tmp_path, panic=True)
        panicked.set()
        await eventually(lambda: host.incident(reported.incident).wait)
        assert Path(event.subject).read_text() == "mended\n"
        assert "effect.reverted" not in await types_of(host, reported.incident)
        asked(tmp_path, "resume", {})
        incident = await host.wait_for(reported, timeout=10)
        assert incident.status == "heal_failed"
        assert Path(event.subject).read_text() == "broken\n"


async def test_a_pause_is_waited_for_with_one_entry_not_one_a_look(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        asked(tmp_path, "pause", {})
        await ticked(clock, lambda: host._state.pauses, 0.1)
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
        for _ in range(20):
            clock.advance(5)
            await eventually(lambda: not host._remediator._schedule.running(reported.incident))
        assert len(only(IncidentWaiting, await entries_of(host, reported.incident))) == 1
        assert not only(AttemptPlanned, await entries_of(host, reported.incident))


@pytest.mark.parametrize(
    "document", [{"until": "soon"}, {"until": -5}, {"until": 2**60}, {"reason": "x" * 300_000}, {"reason": "\ud800"}]
)
async def test_a_malformed_pause_is_put_aside_or_made_harmless_and_the_inbox_works_on(
    tmp_path: Path, document: dict[str, object]
) -> None:
    async with running_host(tmp_path, runbook()) as host:
        asked(tmp_path, "pause", document)
        rejected = tmp_path / "home" / "inbox" / "rejected"
        await eventually(lambda: host._state.pauses or (rejected.exists() and list(rejected.glob("*.reason"))))
        asked(tmp_path, "resume", {})
        await eventually(lambda: not list((tmp_path / "home" / "inbox").glob("*.json")))
        assert not host._state.pauses
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"
