"""The gate at work in a host: who may act, how much, and that every decision can be read in the journal."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import asked, broken, entries_of, only, records_of, runbook, ticked, types_of, write_mended
from tests.support.world import tree

from remediation.authoring import Finding, Plan, RemediationContext, Verdict, WriteFile
from remediation.bootstrap import Host
from remediation.engine.session import Session
from remediation.errors import JournalUnavailable
from remediation.model.entries import (
    AttemptFinished,
    AttemptPlanned,
    PauseStarted,
    RunbookPromoted,
    RunbookQuarantined,
    RunbookRegistered,
)
from remediation.testing import FakeClock, eventually, running_host


async def withheld(host: Host, tmp_path: Path, decision: str, **event: Any) -> Any:
    """The incident of a plan that was not allowed to act: nothing is changed, and the plan stands in the journal."""
    made = broken(tmp_path, **event)
    before = tree(tmp_path / "world")
    incident = await host.wait_for(await host.report(made), timeout=10)
    assert incident.status == "escalated"
    assert incident.held
    assert tree(tmp_path / "world") == before
    planned = only(AttemptPlanned, await entries_of(host, incident.id))[0]
    assert planned.gate.decision == decision
    assert [item.line for item in planned.plan.effects] == [f"write 7 bytes to {made.subject}"]
    assert "-broken" in planned.plan.effects[0].diff
    assert "+mended" in planned.plan.effects[0].diff
    finished = only(AttemptFinished, await entries_of(host, incident.id))[0]
    assert finished.outcome == "withheld"
    assert all(reason.reason in incident.reason for reason in planned.gate.reasons if reason.decision == decision)
    return incident


async def test_under_the_profile_observe_nothing_changes_and_the_plan_is_readable(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), profile="observe") as host:
        incident = await withheld(host, tmp_path, "observe")
        assert "observe" in incident.reason


async def test_under_the_profile_supervised_a_person_is_asked_with_the_plan_attached(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), profile="supervised") as host:
        incident = await withheld(host, tmp_path, "ask")
        assert "supervised" in incident.reason
        assert incident.attempts[0].plan.effects


async def test_the_default_profile_is_supervised() -> None:
    from remediation import Settings

    assert Settings().gate.profile == "supervised"


async def test_a_runbook_that_is_only_registered_observes(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), live=[]) as host:
        incident = await withheld(host, tmp_path, "observe")
        assert 'set [runbooks."mend"] state = "live"' in incident.reason


async def test_a_quarantined_runbook_observes(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), runbooks={"mend": {"state": "quarantined"}}) as host:
        await withheld(host, tmp_path, "observe")


@pytest.mark.parametrize(("confidence", "acts"), [(69, False), (70, True)])
async def test_low_confidence_asks(tmp_path: Path, confidence: int, acts: bool) -> None:
    async def unsure(ctx: RemediationContext) -> Finding:
        return Finding.applies(confidence=confidence)

    async with running_host(tmp_path, runbook(precondition=unsure)) as host:
        if acts:
            assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"
        else:
            await withheld(host, tmp_path, "ask")


@pytest.mark.parametrize("how", ["loses something", "is declared so", "is tagged"])
async def test_what_loses_something_or_is_tagged_asks_even_an_autonomous_host(tmp_path: Path, how: str) -> None:
    async def risky(ctx: RemediationContext) -> Plan:
        effects = (await write_mended(ctx)).effects
        if how == "loses something":
            return Plan(*effects, loses="the old words")
        return Plan(*effects, reversibility="partial") if how == "is declared so" else Plan(*effects, tags=["payments"])

    async with running_host(tmp_path, runbook(action=risky, reversibility="partial")) as host:
        await withheld(host, tmp_path, "ask")


async def test_a_plan_worse_than_declared_is_refused_whatever_the_profile(tmp_path: Path) -> None:
    async def worse(ctx: RemediationContext) -> Plan:
        return Plan(*(await write_mended(ctx)).effects, reversibility="partial")

    async with running_host(tmp_path, runbook(action=worse)) as host:
        incident = await withheld(host, tmp_path, "refuse")
        assert "declares reversible at worst" in incident.reason


async def test_a_later_stage_that_is_not_allowed_takes_back_the_earlier_ones(tmp_path: Path) -> None:
    async def two(ctx: RemediationContext) -> Plan:
        if ctx.stage == 0:
            return Plan(WriteFile(path=ctx.subject_path(), content="half\n"), more=True)
        return Plan(*(await write_mended(ctx)).effects, loses="something")

    async with running_host(tmp_path, runbook(action=two, reversibility="partial")) as host:
        event = broken(tmp_path)
        before = tree(tmp_path / "world")
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "escalated"
        assert tree(tmp_path / "world") == before
        assert (await types_of(host, incident.id))[-3:] == ["attempt.finished", "effect.reverted", "incident.settled"]


# -- lifecycle -------------------------------------------------------------------------------------------------------------------


async def life(host: Host, name: str = "mend") -> list[str]:
    stream = f"runbook/{name}"
    return [record.head.type for record in await records_of(host) if record.head.stream == stream]


async def test_live_by_configuration_is_journaled_as_a_promotion_with_the_code_s_digest(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        told = await entries_of(host)
        (registered,) = [entry for entry in only(RunbookRegistered, told) if entry.runbook == "mend"]
        (promoted,) = only(RunbookPromoted, told)
        assert (promoted.by, promoted.code_digest) == ("configuration", registered.code_digest)
        assert await life(host) == ["runbook.registered", "runbook.promoted"]
    async with running_host(tmp_path, runbook()) as host:
        # A restart with the same code and configuration has nothing to add.
        assert await life(host) == ["runbook.registered", "runbook.promoted"]


def coded(folder: Path, name: str, text: str) -> Any:
    """A plugin module of its own file with a runbook that writes `text`."""
    import importlib.util

    path = folder / f"{name}.py"
    path.write_text(
        "from remediation.authoring import *\n"
        "class Mend(Runbook):\n"
        "    spec = RunbookSpec(id='mend', handles=(Handles(code='BROKEN'),), blast_radius='process', reversibility='reversible', level='recovery')\n"
        "    async def precondition(self, ctx): return Finding.applies()\n"
        f"    async def action(self, ctx): return Plan(WriteFile(path=ctx.subject_path(), content={text!r}))\n"
        "    async def verify(self, ctx): return Verdict.healthy()\n"
        "@hookimpl\n"
        "def remediation_runbooks(): return [Mend]\n"
    )
    import sys

    found = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


async def test_changed_code_is_registered_again_and_promoted_again_by_configuration(tmp_path: Path) -> None:
    first = coded(tmp_path, "coded_runbook", "mended\n")
    async with running_host(tmp_path, plugins=[first], live=["mend"]) as host:
        before = host._state.runbooks["mend"].code_digest
    second = coded(tmp_path, "coded_runbook", "changed\n")
    async with running_host(tmp_path, plugins=[second], live=["mend"]) as host:
        assert await life(host) == ["runbook.registered", "runbook.promoted"] * 2
        assert host._state.runbooks["mend"].code_digest != before
        assert host._state.runbooks["mend"].state == "live"


async def test_changed_code_observes_when_only_a_person_promoted_the_old(tmp_path: Path) -> None:
    first = coded(tmp_path, "coded_runbook", "mended\n")
    async with running_host(tmp_path, plugins=[first], live=[]) as host:
        digest = host._state.runbooks["mend"].code_digest
        await host.journal.append("runbook/mend", [RunbookPromoted(runbook="mend", code_digest=digest, by="uid:0")])
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"
    second = coded(tmp_path, "coded_runbook", "changed\n")
    async with running_host(tmp_path, plugins=[second], live=[]) as host:
        assert host._state.runbooks["mend"].state == "registered"
        incident = await host.wait_for(await host.report(broken(tmp_path, "other")), timeout=10)
        assert incident.status == "escalated"


async def test_a_host_does_not_act_by_the_promotion_of_code_that_another_host_runs(tmp_path: Path) -> None:
    first = coded(tmp_path, "coded_one", "one\n")
    second = coded(tmp_path, "coded_two", "two\n")
    async with (
        running_host(tmp_path, plugins=[first], live=[]) as old,
        running_host(tmp_path, plugins=[second], live=["mend"]) as new,
    ):
        await old.journal.refresh()
        assert old._state.runbooks["mend"].state == "live"
        item = old._remediator._registry.runbooks["mend"]
        assert old._remediator._policy.runbook_state(old._state, "mend", item.code_digest) == "registered"
        item = new._remediator._registry.runbooks["mend"]
        assert new._remediator._policy.runbook_state(new._state, "mend", item.code_digest) == "live"


async def test_configured_as_registered_again_a_runbook_observes_again(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        assert host._state.runbooks["mend"].state == "live"
    async with running_host(tmp_path, runbook(), runbooks={"mend": {"state": "registered"}}) as host:
        assert host._state.runbooks["mend"].state == "registered"
        await withheld(host, tmp_path, "observe")


async def test_what_configuration_promoted_is_taken_back_when_configuration_no_longer_says_so(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()):
        pass
    async with running_host(tmp_path, runbook(), live=[]) as host:
        assert host._state.runbooks["mend"].state == "registered"


async def test_what_a_person_promoted_stays_when_configuration_says_nothing(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), live=[]) as host:
        digest = host._state.runbooks["mend"].code_digest
        await host.journal.append("runbook/mend", [RunbookPromoted(runbook="mend", code_digest=digest, by="uid:0")])
    async with running_host(tmp_path, runbook(), live=[]) as host:
        assert host._state.runbooks["mend"].state == "live"


async def test_failing_in_two_incidents_quarantines_and_the_third_is_only_observed(tmp_path: Path) -> None:
    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    async with running_host(tmp_path, runbook(verify=never)) as host:
        for name, state in (("one", "degraded"), ("two", "quarantined")):
            incident = await host.wait_for(await host.report(broken(tmp_path, name)), timeout=10)
            assert incident.status == "heal_failed"
            await eventually(lambda state=state: host._state.runbooks["mend"].state == state)
        (quarantined,) = only(RunbookQuarantined, await entries_of(host))
        assert (quarantined.by, "2 incidents" in quarantined.reason) == ("record", True)
        await withheld(host, tmp_path, "observe", name="three")
    async with running_host(tmp_path, runbook(verify=never)) as host:
        # Neither a restart nor the configuration ends it.
        assert host._state.runbooks["mend"].state == "quarantined"


async def test_a_quarantine_that_a_crash_kept_from_the_journal_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no good")

    async def killed(self: Session, runbook: str, reason: str) -> None:
        raise JournalUnavailable("the host was killed here")

    async with running_host(tmp_path, runbook(verify=fails), limits={"cooldown": 0}) as host:
        await host.wait_for(await host.report(broken(tmp_path, "a")), timeout=10)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "_blame", killed)
            second = await host.report(broken(tmp_path, "b"))
            await eventually(lambda: host.incident(second.incident).attempts and host.incident(second.incident).attempts[0].outcome)
        assert len(host._state.runbooks["mend"].failures) == 2
        third = await host.wait_for(await host.report(broken(tmp_path, "c")), timeout=20)
        assert (third.status, Path(third.event.subject).read_text()) == ("escalated", "broken\n")
    async with running_host(tmp_path, runbook(verify=fails)) as host:
        record = host._state.runbooks["mend"]
        assert record.state == "quarantined"
        assert "failed verdicts in 2 incidents" in record.why


async def test_a_runbook_that_failed_lets_the_next_one_try_and_comes_after_it_from_then_on(tmp_path: Path) -> None:
    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    bad, good = runbook("a-bad", verify=never, retries=5, backoff=()), runbook("b-good")
    async with running_host(tmp_path, bad, good, limits={"attempts_per_incident": 2}) as host:
        for name, tried in (("one", ["a-bad", "b-good"]), ("two", ["b-good"])):
            incident = await host.wait_for(await host.report(broken(tmp_path, name)), timeout=10)
            assert incident.status == "resolved"
            assert [attempt.runbook for attempt in incident.attempts] == tried
        assert host._state.runbooks["a-bad"].state == "degraded"


async def test_live_runbooks_go_before_those_that_only_observe(tmp_path: Path) -> None:
    books = (runbook("a-registered"), runbook("b-live"))
    async with running_host(tmp_path, *books, live=["b-live"]) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert incident.ladder == ("b-live", "a-registered")


# -- limits ------------------------------------------------------------------------------------------------------------------------


async def test_more_changes_an_hour_than_allowed_pause_everything_and_escalate(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock, limits={"changes_per_hour": 3}) as host:
        for number in range(3):
            assert (await host.wait_for(await host.report(broken(tmp_path, f"f{number}")), timeout=10)).status == "resolved"
        event = broken(tmp_path, "one-too-many")
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "escalated"
        assert "changes_per_hour" in incident.reason
        assert Path(event.subject).read_text() == "broken\n"
        (pause,) = only(PauseStarted, await entries_of(host))
        assert pause.by == "limit"
        waiting = await host.report(broken(tmp_path, "later"))
        await eventually(lambda: host.incident(waiting.incident).wait)
        await ticked(clock, lambda: not host.incident(waiting.incident).open, 20, within=30)
        assert host.incident(waiting.incident).status == "resolved"
        assert len(only(PauseStarted, await entries_of(host))) == 1


async def test_the_change_rate_survives_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    for number in range(3):
        async with running_host(tmp_path, runbook(), clock=clock, limits={"changes_per_hour": 2}) as host:
            incident = await host.wait_for(await host.report(broken(tmp_path, f"f{number}")), timeout=10)
            assert incident.status == ("resolved" if number < 2 else "escalated")


async def test_many_incidents_at_once_do_not_slip_through_the_change_rate(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), limits={"changes_per_hour": 5}) as host:
        reported = [await host.report(broken(tmp_path, f"f{number}")) for number in range(30)]
        await eventually(
            lambda: not [item for item in reported if host.incident(item.incident).open and not host.incident(item.incident).wait]
        )
        healed = [item for item in reported if host.incident(item.incident).status == "resolved"]
        assert len(healed) == 5
        assert len([path for path in (tmp_path / "world").iterdir() if path.read_text() == "mended\n"]) == 5


async def test_two_hosts_share_the_change_rate(tmp_path: Path) -> None:
    limits = {"changes_per_hour": 4}
    async with running_host(tmp_path, runbook(), limits=limits) as one, running_host(tmp_path, runbook(), limits=limits) as two:
        for number in range(10):
            await (one, two)[number % 2].report(broken(tmp_path, f"f{number}"))
        await eventually(lambda: not [item for item in one.incidents() if item.open and not item.wait], within=20)
        await eventually(lambda: not [item for item in two.incidents() if item.open and not item.wait], within=20)
        assert len([path for path in (tmp_path / "world").iterdir() if path.read_text() == "mended\n"]) == 4


async def test_a_pause_by_limit_can_be_ended_by_a_person(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), limits={"changes_per_hour": 1}) as host:
        for number in range(2):
            await host.wait_for(await host.report(broken(tmp_path, f"f{number}")), timeout=10)
        await eventually(lambda: host._state.pauses)
        asked(tmp_path, "resume", {})
        await eventually(lambda: not host._state.pauses)
