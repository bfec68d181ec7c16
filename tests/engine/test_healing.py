"""A host heals: the example of the design, what it leaves alone, and what it takes back."""

import os
from pathlib import Path

from tests.support.hosts import BROKEN, broken, entries_of, only, records_of, runbook, types_of, write_mended
from tests.support.world import tree

from remediation import DegradationEvent
from remediation.authoring import DeleteFile, Finding, Handles, Plan, RemediationContext, Runbook, RunbookSpec, Verdict, WriteFile
from remediation.model.entries import AttemptFinished, AttemptPlanned, IncidentSettled
from remediation.testing import running_host


def parse_pid(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


class StaleLockFile(Runbook):
    spec = RunbookSpec(
        id="stale-lock-file",
        handles=(Handles(code="LOCK_STALE"),),
        blast_radius="process",
        reversibility="reversible",
        level="patch",
        tier="none",
        credentials=(),
        sustain="0s",
    )

    async def precondition(self, ctx: RemediationContext) -> Finding:
        lock = ctx.subject_path()
        pid = parse_pid(await ctx.read_text(lock))
        if pid is None:
            return Finding.declined("not a pid file")
        if ctx.process_alive(pid):
            return Finding.declined(f"{pid} is alive")
        return Finding.applies(confidence=95, evidence=[f"pid {pid} is gone"])

    async def action(self, ctx: RemediationContext) -> Plan:
        return Plan(DeleteFile(path=ctx.subject_path()))

    async def verify(self, ctx: RemediationContext) -> Verdict:
        return Verdict.failed("still there") if await ctx.exists(ctx.subject_path()) else Verdict.healthy()


async def test_the_example_of_the_design_heals(tmp_path: Path) -> None:
    async with running_host(tmp_path, StaleLockFile) as host:
        event = broken(tmp_path, "x.lock", text="4194303\n", code="LOCK_STALE")
        reported = await host.report(event)
        incident = await host.wait_for(reported, timeout=10)
        assert incident.status == "resolved"
        assert not Path(event.subject).exists()
        assert await types_of(host, incident.id) == [
            "degradation.reported",
            "incident.opened",
            "attempt.planned",
            "attempt.finished",
            "incident.settled",
        ]
        planned, finished = (await entries_of(host, incident.id))[2:4]
        assert planned.finding.evidence == ("pid 4194303 is gone",)
        assert planned.gate.decision == "proceed"
        assert [item.line for item in planned.plan.effects] == [f"delete {event.subject}"]
        assert planned.plan_digest == planned.plan.digest
        assert finished.outcome == "healed"
        assert finished.verdict.status == "healthy"


async def test_a_healthy_heal_of_one_stage_takes_two_commits_beyond_the_report(tmp_path: Path) -> None:
    async with running_host(tmp_path, StaleLockFile) as host:
        reported = await host.report(broken(tmp_path, "x.lock", text="4194303\n", code="LOCK_STALE"))
        await host.wait_for(reported, timeout=10)
        records = await records_of(host, reported.incident)
        # Entries of one commit share its time only by chance; the plan is durable before the effect, the rest after it.
        assert [record.head.type for record in records][1:3] == ["incident.opened", "attempt.planned"]
        assert records[1].head.time == records[2].head.time
        assert records[3].head.time == records[4].head.time


async def test_a_runbook_that_declines_changes_nothing_and_the_incident_is_escalated_with_its_reason(tmp_path: Path) -> None:
    async with running_host(tmp_path, StaleLockFile) as host:
        event = broken(tmp_path, "x.lock", text=f"{os.getpid()}\n", code="LOCK_STALE")
        before = tree(tmp_path / "world")
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "escalated"
        assert incident.held
        assert f"{os.getpid()} is alive" in incident.reason
        assert tree(tmp_path / "world") == before
        assert not incident.attempts


async def test_a_degradation_that_no_runbook_handles_is_escalated_in_the_commit_of_its_report(tmp_path: Path) -> None:
    async with running_host(tmp_path, StaleLockFile) as host:
        reported = await host.report(DegradationEvent(code="STRANGE", subsystem="test", subject="x"))
        incident = host.incident(reported.incident)
        assert incident.status == "escalated"
        records = await records_of(host, reported.incident)
        assert [record.head.type for record in records] == ["degradation.reported", "incident.settled"]
        assert "no runbook handles STRANGE" in incident.reason


async def test_what_failed_verification_is_taken_back_byte_for_byte(tmp_path: Path) -> None:
    async def spoil(ctx: RemediationContext) -> Plan:
        folder = ctx.subject_path().parent
        return Plan(
            WriteFile(path=ctx.subject_path(), content="worse\n", mode=0o600),
            DeleteFile(path=folder / "other"),
            WriteFile(path=folder / "made" / "new", content="new\n", parents=True),
        )

    async with running_host(tmp_path, runbook(action=spoil)) as host:
        event = broken(tmp_path)
        thing, other = Path(event.subject), tmp_path / "world" / "other"
        other.write_bytes(b"\x00\xff other")
        for path, mode, changed in ((thing, 0o640, 10**18 + 123), (other, 0o604, 10**18 + 456)):
            path.chmod(mode)
            os.utime(path, ns=(changed, changed))
        before = tree(tmp_path / "world")
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "heal_failed"
        assert tree(tmp_path / "world") == before
        assert not incident.dirty
        finished = only(AttemptFinished, await entries_of(host, incident.id))[0]
        assert finished.outcome == "failed"
        assert [key.rpartition(":")[2] for key in finished.revert] == ["2", "1", "0"]
        assert (await types_of(host, incident.id)).count("effect.reverted") == 3


async def test_after_a_failed_verdict_the_next_runbook_of_the_ladder_is_tried(tmp_path: Path) -> None:
    async def write_worse(ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=ctx.subject_path(), content="worse\n"))

    first = runbook("a-first", action=write_worse)
    second = runbook("b-second")
    async with running_host(tmp_path, second, first) as host:
        event = broken(tmp_path)
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "resolved"
        assert [attempt.runbook for attempt in incident.attempts] == ["a-first", "b-second"]
        assert [attempt.number for attempt in incident.attempts] == [1, 2]
        assert Path(event.subject).read_text() == "mended\n"


async def test_heal_failed_after_as_many_attempts_as_are_allowed(tmp_path: Path) -> None:
    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    books = [runbook(f"book-{number}", verify=never) for number in range(5)]
    async with running_host(tmp_path, *books, limits={"attempts_per_incident": 3}) as host:
        event = broken(tmp_path)
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "heal_failed"
        assert "3 attempts" in incident.reason
        assert [attempt.runbook for attempt in incident.attempts] == ["book-0", "book-1", "book-2"]
        assert Path(event.subject).read_text() == "broken\n"


async def test_levels_order_the_ladder_and_configuration_goes_before_them(tmp_path: Path) -> None:
    async def decline(ctx: RemediationContext) -> Finding:
        return Finding.declined("not mine")

    books = [runbook(level, level=level, precondition=decline) for level in ("heal", "recovery", "patch")]
    async with running_host(tmp_path, *books) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.ladder == ("recovery", "patch", "heal")
    async with running_host(tmp_path, *books, ladder={"order": ["heal"]}) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path, "other")), timeout=10)
        assert incident.ladder == ("heal", "recovery", "patch")


async def test_an_empty_plan_is_a_plan_and_verification_decides(tmp_path: Path) -> None:
    async def nothing(ctx: RemediationContext) -> Plan:
        return Plan(summary="it mends itself")

    async with running_host(tmp_path, runbook(action=nothing)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path, text="mended\n")), timeout=10)
        assert incident.status == "resolved"


async def test_a_conflict_is_no_failure_of_the_runbook_and_a_new_plan_is_made(tmp_path: Path) -> None:
    seen: list[str] = []

    async def plan(ctx: RemediationContext) -> Plan:
        seen.append(await ctx.read_text(ctx.subject_path()))
        return Plan(
            WriteFile(path=ctx.subject_path().with_name("gate"), content="x"),
            WriteFile(path=ctx.subject_path(), content="mended\n"),
        )

    real = WriteFile.apply

    async def meddled(self: WriteFile, context: object, prepared: object) -> object:
        if self.path.name == "gate" and len(seen) == 1:
            (self.path.parent / "thing").write_text("meddled\n")
        return await real(self, context, prepared)

    WriteFile.apply = meddled
    try:
        async with running_host(tmp_path, runbook(action=plan)) as host:
            event = broken(tmp_path)
            incident = await host.wait_for(await host.report(event), timeout=10)
            assert [attempt.outcome for attempt in incident.attempts] == ["conflict", "healed"]
            assert seen == ["broken\n", "meddled\n"]
            assert host._state.runbooks["mend"].failed == 0
    finally:
        WriteFile.apply = real


async def test_the_plan_is_durable_before_anything_is_applied(tmp_path: Path) -> None:
    found: list[list[str]] = []
    real = WriteFile.apply

    async def watched(self: WriteFile, context: object, prepared: object) -> object:
        from remediation.bootstrap import open_reader

        async with open_reader(host_home) as reader:
            found.append([record.head.type async for record in reader.read(stream="incident/")])
        return await real(self, context, prepared)

    WriteFile.apply = watched
    try:
        async with running_host(tmp_path, runbook()) as host:
            from remediation.settings import Home

            host_home = Home(tmp_path / "home")
            await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
    finally:
        WriteFile.apply = real
    assert found == [["degradation.reported", "incident.opened", "attempt.planned"]]


async def test_prior_attempts_are_told_to_later_ones_newest_first(tmp_path: Path) -> None:
    told: list[tuple[tuple[str, str], ...]] = []

    async def listen(ctx: RemediationContext) -> Finding:
        told.append(tuple((prior.runbook, prior.outcome) for prior in ctx.attempts))
        return Finding.applies()

    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    books = [
        runbook("a", precondition=listen, verify=never),
        runbook("b", precondition=listen, verify=never),
        runbook("c", precondition=listen),
    ]
    async with running_host(tmp_path, *books) as host:
        await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
    assert told == [(), (("a", "failed"),), (("b", "failed"), ("a", "failed"))]


async def test_only_the_code_of_an_event_finds_a_runbook_and_globs_narrow_it(tmp_path: Path) -> None:
    handles = (Handles(code=BROKEN, subsystem="web*", subject="*/web-?"),)
    async with running_host(tmp_path, runbook(handles=handles)) as host:
        for subsystem, name, status in (
            ("web1", "web-1", "resolved"),
            ("mail", "web-2", "escalated"),
            ("web1", "mail-3", "escalated"),
        ):
            event = broken(tmp_path, name).model_copy(update={"subsystem": subsystem})
            incident = await host.wait_for(await host.report(DegradationEvent(**event.model_dump())), timeout=10)
            assert incident.status == status


async def test_the_settlement_says_what_was_lost(tmp_path: Path) -> None:
    async def lossy(ctx: RemediationContext) -> Plan:
        plan = await write_mended(ctx)
        return Plan(*plan.effects, loses="the old words")

    # What loses something asks a person; that it is told is seen in the plan.
    async with running_host(tmp_path, runbook(action=lossy, reversibility="partial")) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        planned = only(AttemptPlanned, await entries_of(host, incident.id))[0]
        assert planned.plan.loses == "the old words"
        assert planned.gate.decision == "ask"
        settled = only(IncidentSettled, await entries_of(host, incident.id))[0]
        assert "the old words" in settled.reason
