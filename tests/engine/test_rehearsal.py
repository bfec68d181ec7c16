"""Rehearsals: the plan that a host would make and the gate's word on it, and nothing touched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import asked, broken, entries_of, only, runbook, write_mended
from tests.support.untouched import Seen, everything

from remediation.authoring import CallHost, Finding, Plan, RemediationContext, Wait, WriteFile
from remediation.bootstrap import RemediatorBootstrap
from remediation.bootstrap.rehearsing import FOLDER, Stage, open_stage
from remediation.engine.rehearsal import PROFILES
from remediation.model.entries import AttemptPlanned
from remediation.model.runbook import Timeouts
from remediation.runbook import Runbook
from remediation.testing import eventually, plugin, running_host, settings_in

SHORT = Timeouts(decide=timedelta(seconds=0.2), apply=timedelta(seconds=0.2), verify=timedelta(seconds=0.2))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files in which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@asynccontextmanager
async def stage(folder: Path, *runbooks: type[Runbook[Any]], live: bool = True, **tables: Any) -> AsyncIterator[Stage]:
    """A stage for a host with these runbooks in the home of `folder`; the world and the home must be left as they were."""
    settings = settings_in(folder, live=[kind.spec.id for kind in runbooks] if live else [], **tables)
    before = untouchable(folder)
    async with open_stage(settings, plugins=[plugin(*runbooks)]) as made:
        yield made
    assert not list((folder / "temporary").iterdir())
    assert untouchable(folder) == before


def untouchable(folder: Path) -> Seen:
    """All of the world, the home and the keys. The home's own time of change is left out: SQLite has a file there while it reads."""
    seen = everything(folder, leave_out=("temporary",))
    return {name: facts if name not in (".", "home") else (facts[0], facts[-1]) for name, facts in seen.items()}


async def declines(ctx: RemediationContext) -> Finding:
    return Finding.declined("not for me")


@pytest.mark.parametrize("profile", PROFILES)
async def test_what_is_rehearsed_is_what_a_host_records(profile: str, tmp_path: Path) -> None:
    event = broken(tmp_path)
    async with stage(tmp_path, runbook(), profile=profile) as rehearsed:
        told = await rehearsed.rehearse(event)
    chosen = told.chosen
    assert chosen is not None
    assert chosen.planned is not None
    async with running_host(tmp_path, runbook(), profile=profile) as host:
        incident = await host.wait_for(await host.report(event), timeout=10)
        (planned,) = only(AttemptPlanned, await entries_of(host, incident.id))
    assert chosen.planned.gate == planned.gate
    assert chosen.planned.finding == planned.finding
    assert (chosen.runbook, chosen.planned.code_digest) == (planned.runbook, planned.code_digest)
    assert [(item.effect, item.prepared, item.line, item.diff) for item in chosen.planned.plan.effects] == [
        (item.effect, item.prepared, item.line, item.diff) for item in planned.plan.effects
    ]
    assert told.acts == (incident.status == "resolved") == (profile in ("collaborative", "autonomous"))
    assert told.answer == planned.gate.decision


async def test_the_gate_is_asked_under_every_profile(tmp_path: Path) -> None:
    event = broken(tmp_path)
    async with stage(tmp_path, runbook(), profile="supervised") as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.chosen is not None
    assert [(profile, record.decision) for profile, record in told.chosen.profiles] == [
        ("observe", "observe"),
        ("supervised", "ask"),
        ("collaborative", "proceed"),
        ("autonomous", "proceed"),
    ]
    assert all(record.reasons for _, record in told.chosen.profiles)


async def test_a_runbook_that_declines_is_passed_over_and_one_behind_the_plan_is_asked_for_its_finding_only(tmp_path: Path) -> None:
    planned: list[str] = []

    async def never(ctx: RemediationContext) -> Plan:
        planned.append("third")
        return await write_mended(ctx)

    books = (
        runbook("first", precondition=declines, priority=3),
        runbook("second", priority=2),
        runbook("third", action=never, priority=1),
    )
    event = broken(tmp_path)
    async with stage(tmp_path, *books) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert [(rung.runbook, rung.result, rung.reason) for rung in told.ladder] == [
        ("first", "declined", "not for me"),
        ("second", "planned", ""),
        ("third", "applies", ""),
    ]
    assert told.chosen is not None
    assert told.chosen.runbook == "second"
    assert told.acts
    assert planned == []


async def test_a_runbook_that_is_not_live_observes_whatever_the_profile_and_comes_last(tmp_path: Path) -> None:
    event = broken(tmp_path)
    async with stage(tmp_path, runbook(), live=False) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.answer == "observe"
    assert not told.acts
    assert told.ladder[0].state == "registered"
    assert {record.decision for _, record in told.ladder[0].profiles} == {"observe"}
    assert "escalated" in told.outcome


async def test_without_a_runbook_it_would_be_escalated(tmp_path: Path) -> None:
    event = broken(tmp_path, code="UNHEARD_OF")
    async with stage(tmp_path, runbook()) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert (told.answer, told.ladder) == ("none", ())
    assert "no runbook handles UNHEARD_OF" in told.outcome


async def test_what_the_journal_knows_counts_a_pause_a_cooldown_and_an_open_incident(tmp_path: Path) -> None:
    other = broken(tmp_path, "other")
    healed = broken(tmp_path, "healed")
    held = broken(tmp_path, "held", code="UNHEARD_OF")
    async with running_host(tmp_path, runbook()) as host:
        await host.wait_for(await host.report(healed), timeout=10)
        holding = await host.wait_for(await host.report(held), timeout=10)
        asked(tmp_path, "pause", {"reason": "a migration", "until": 0, "panic": False})
        await eventually(lambda: host._state.pauses)
    broken(tmp_path, "healed")
    async with stage(tmp_path, runbook()) as rehearsed:
        paused, again, joined = [await rehearsed.rehearse(event) for event in (other, healed, held)]
    assert paused.answer == "wait"
    assert "a migration" in paused.outcome
    assert paused.chosen is not None
    assert paused.chosen.planned is not None  # the plan is shown all the same
    assert again.answer == "wait"
    assert "healed a short while ago" in again.outcome
    assert (joined.answer, joined.joins) == ("joins", holding.id)
    assert "held until a person releases it" in joined.outcome


async def test_it_works_beside_a_running_host_which_does_not_notice(tmp_path: Path) -> None:
    event = broken(tmp_path)
    async with running_host(tmp_path, runbook(), profile="observe") as host:
        entries, known = host.journal.size, [incident.id for incident in host.incidents()]
        settings = settings_in(tmp_path, live=["mend"], profile="observe")
        async with open_stage(settings, plugins=[plugin(runbook())]) as rehearsed:
            told = await rehearsed.rehearse(event)
        assert told.answer == "observe"
        assert rehearsed.notes == []
        assert host.journal.size == entries
        assert [incident.id for incident in host.incidents()] == known
        assert list((tmp_path / "home" / "inbox").glob("*.json")) == []


async def test_a_host_that_runs_with_other_settings_is_told_of(tmp_path: Path) -> None:
    event = broken(tmp_path)
    async with running_host(tmp_path, runbook(), profile="observe"):
        async with open_stage(settings_in(tmp_path, live=["mend"], profile="autonomous"), plugins=[plugin(runbook())]) as rehearsed:
            told = await rehearsed.rehearse(event)
        assert told.acts
        assert any("other settings" in note for note in rehearsed.notes)


async def test_a_plan_of_more_stages_and_one_that_wants_to_wait(tmp_path: Path) -> None:
    async def more(ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=ctx.subject_path(), content="half\n"), more=True)

    async def waits(ctx: RemediationContext) -> Wait:
        return Wait("30s", "until the run has stopped")

    event = broken(tmp_path)
    async with stage(tmp_path, runbook(action=more)) as rehearsed:
        told = await rehearsed.rehearse(event)
        assert told.chosen is not None
        assert told.chosen.planned is not None
        assert told.chosen.planned.plan.more
    async with stage(tmp_path, runbook(action=waits)) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.answer == "wait"
    assert "until the run has stopped" in told.outcome


async def test_a_credential_is_not_lent_as_its_use_could_not_be_journaled(tmp_path: Path) -> None:
    async def reads(ctx: RemediationContext) -> Finding:
        return Finding.applies(confidence=90, evidence=[ctx.secret("token")])

    from remediation.keys.credentials import Credentials

    settings = settings_in(tmp_path, live=["mend"])
    book = runbook(precondition=reads, credentials=("token",))
    given = Credentials({"token": "a-very-secret-value"})
    async with open_stage(settings, plugins=[plugin(book)], given=given) as rehearsed:
        told = await rehearsed.rehearse(broken(tmp_path))
    assert told.answer == "unknown"
    assert not told.acts
    assert "token" in told.outcome
    assert "--profile observe" in told.outcome
    assert "a-very-secret-value" not in repr(told)


async def test_a_plan_with_a_secret_would_be_refused_and_is_shown_masked(tmp_path: Path) -> None:
    token = "ghp_" + "a1B2" * 9

    async def leaks(ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=ctx.subject_path(), content=f"token = {token}\n"))

    event = broken(tmp_path)
    async with stage(tmp_path, runbook(action=leaks)) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.answer == "refuse"
    assert token not in repr(told)


async def raises(ctx: RemediationContext) -> Finding:
    raise RuntimeError("out of order")


async def hangs(ctx: RemediationContext) -> Finding:
    await asyncio.sleep(60)
    return Finding.declined("never said")


async def exits(ctx: RemediationContext) -> Finding:
    raise SystemExit(3)


@pytest.mark.parametrize(("step", "said"), [(raises, "out of order"), (hangs, "overran"), (exits, "SystemExit")])
async def test_a_faulty_runbook_is_contained_and_the_next_one_asked(step: Any, said: str, tmp_path: Path) -> None:
    event = broken(tmp_path)
    books = (runbook("bad", precondition=step, priority=9, timeouts=SHORT), runbook("good"))
    async with stage(tmp_path, *books) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert [rung.result for rung in told.ladder] == ["faulted", "planned"]
    assert said in told.ladder[0].reason
    assert told.acts


async def test_a_matches_that_raises_is_told(tmp_path: Path) -> None:
    def broken_matches(event: Any) -> bool:
        raise ValueError("which?")

    event = broken(tmp_path)
    async with stage(tmp_path, runbook(matches=broken_matches)) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.answer == "none"
    assert "which?" in told.outcome


async def test_what_can_not_be_stopped_is_told_and_not_asked_again(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def stays(ctx: RemediationContext) -> Finding:
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue
        return Finding.declined("at last")

    event = broken(tmp_path)
    async with stage(tmp_path, runbook(precondition=stays, timeouts=SHORT)) as rehearsed:
        first, second = [await rehearsed.rehearse(event) for _ in range(2)]
        assert rehearsed.stuck == ["mend"]
    done.set()
    assert first.answer == second.answer == "refuse"
    assert "does not stop" in first.outcome
    assert "not asked again" in second.outcome


async def test_a_plan_outside_the_roots_can_not_be_prepared(tmp_path: Path) -> None:
    async def outside(ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=tmp_path / "elsewhere", content="x"))

    event = broken(tmp_path)
    async with stage(tmp_path, runbook(action=outside)) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.ladder[0].result == "unprepared"
    assert told.answer == "none"


async def test_a_plan_that_is_too_large_to_be_journaled_is_none(tmp_path: Path) -> None:
    async def huge(ctx: RemediationContext) -> Plan:
        return Plan(*(WriteFile(path=ctx.subject_path().with_name(letter), content=letter * 60_000) for letter in "abcdef"))

    event = broken(tmp_path)
    async with stage(tmp_path, runbook(action=huge)) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.ladder[0].result == "unprepared"
    assert "too large to be journaled" in told.ladder[0].reason


async def test_before_images_are_kept_apart_from_the_host_and_removed(tmp_path: Path) -> None:
    seen: list[Path] = []

    async def looks(ctx: RemediationContext) -> Plan:
        (ctx.scratch / "note").write_text("x")
        seen.append(ctx.scratch)
        return await write_mended(ctx)

    event = broken(tmp_path)
    async with stage(tmp_path, runbook(action=looks)) as rehearsed:
        await rehearsed.rehearse(event)
        assert [path for path in (tmp_path / "temporary").rglob("blobs/*/*") if path.is_file()]
    assert seen[0].parent.parent.name.startswith(FOLDER)
    assert not seen[0].exists()


def test_a_storm_is_rehearsed_as_a_storm(tmp_path: Path) -> None:
    async def work() -> None:
        tables: dict[str, Any] = {"limits": {"storm_subjects": 2}}
        events = [broken(tmp_path, f"thing{number}") for number in range(3)]
        async with running_host(tmp_path, runbook(), profile="observe", **tables) as host:
            for event in events[:2]:
                await host.wait_for(await host.report(event), timeout=10)
        async with stage(tmp_path, runbook(), profile="observe", **tables) as rehearsed:
            told = await rehearsed.rehearse(events[2])
        assert told.event.subject == "(storm)"
        assert not told.acts

    asyncio.run(work())


async def test_an_embedding_program_rehearses_with_its_own_controls(tmp_path: Path) -> None:
    rung: list[str] = []

    async def rings(ctx: RemediationContext) -> Plan:
        return Plan(CallHost(control="ring", args={}))

    boot = RemediatorBootstrap(settings_in(tmp_path, live=["mend"]), plugins=[plugin(runbook(action=rings))])
    boot.controls.register("ring", lambda key: rung.append(key), idempotent=True, undo=lambda key: None)
    told = await boot.rehearse(broken(tmp_path))
    assert told.acts
    assert rung == []
    assert not (tmp_path / "home").exists()


async def test_a_step_that_writes_by_itself_is_at_fault_in_a_rehearsal_too(tmp_path: Path) -> None:
    async def writes(ctx: RemediationContext) -> Finding:
        Path(ctx.event.subject).with_name("marker").write_text("x")
        return Finding.applies(confidence=90)

    event = broken(tmp_path)
    settings = settings_in(tmp_path, live=["mend"])
    async with open_stage(settings, plugins=[plugin(runbook(precondition=writes))]) as rehearsed:
        told = await rehearsed.rehearse(event)
    assert told.ladder[0].result == "faulted"
    assert "marker" in told.ladder[0].reason
