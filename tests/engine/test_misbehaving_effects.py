"""Effect kinds that misbehave: contained, told, taken back as far as can be known, and never run twice."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.support.hosts import applies, broken, entries_of, is_mended, only, runbook, types_of
from tests.support.world import tree

from remediation.authoring import (
    CallHost,
    DeleteFile,
    Effect,
    EffectConflict,
    EffectContext,
    EffectError,
    Output,
    Plan,
    Prepared,
    Probe,
    Promise,
    RemediationContext,
    RunCommand,
    Timeouts,
    Touches,
    Verdict,
    WriteFile,
)
from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.core.incident import Incident
from remediation.engine import steps
from remediation.model.entries import AttemptFinished, EffectReverted, EffectRevertFailed, EffectUncertain, RunbookFaulted
from remediation.testing import eventually, plugin, running_host

BAD = "BAD"
SHORT = Timeouts(decide="300ms", apply="500ms", verify="300ms")
Step = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "GRACE", 0.3)


class Odd(Effect[Prepared, Output]):
    """An effect whose steps a test sets. It makes the file `path`."""

    kind: ClassVar[str] = "test.odd"
    promise: ClassVar[Promise] = Promise.STATE
    path: str
    said: ClassVar[list[str]] = []
    steps: ClassVar[dict[str, Step]] = {}

    def touches(self) -> Touches:
        return Touches(paths=(self.path,))

    def describe(self) -> str:
        return self.steps["describe"]() if "describe" in self.steps else f"make {self.path}"

    async def _do(self, name: str, otherwise: Callable[[], Any]) -> Any:
        self.said.append(name)
        return await self.steps[name](self) if name in self.steps else otherwise()

    async def prepare(self, context: EffectContext) -> Prepared:
        return await self._do("prepare", Prepared)

    async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
        return await self._do("apply", self.make)

    async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
        return await self._do("probe", lambda: Probe.APPLIED if Path(self.path).exists() else Probe.NOT_APPLIED)

    async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
        await self._do("revert", lambda: Path(self.path).unlink(missing_ok=True))

    def make(self) -> Output:
        Path(self.path).write_text("odd\n")
        return Output()


class OddOnce(Odd):
    kind: ClassVar[str] = "test.odd-once"
    promise: ClassVar[Promise] = Promise.ONCE


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Odd.said.clear()
    Odd.steps.clear()


def book(kind: type[Odd] = Odd, **more: Any) -> Any:
    async def plan(ctx: RemediationContext) -> Plan:
        path = ctx.subject_path()
        return Plan(
            WriteFile(path=path, content="mended\n"),
            kind(path=str(path.with_name("odd"))),
            WriteFile(path=path.with_name("after"), content="x"),
        )

    return runbook("bad", code=BAD, action=plan, timeouts=SHORT, **more)


def odd_plugins() -> list[Any]:
    return [plugin(effects=[Odd, OddOnce])]


async def ended(host: Host, tmp_path: Path, bad: Any) -> Incident:
    other = await host.wait_for(await host.report(broken(tmp_path, "other")), timeout=15)
    assert other.status == "resolved"
    incident = await host.wait_for(bad, timeout=15)
    assert not host.halted
    return incident


def raising(error: BaseException) -> Step:
    async def step(effect: Odd) -> Any:
        raise error

    return step


ERRORS = {
    "an error": KeyError("oops"),
    "an effect error": EffectError("no"),
    "an exit": SystemExit(3),
    "a cancellation": asyncio.CancelledError(),
    "a timeout": TimeoutError("inner"),
    "a hostile message": ValueError("\x1b[2J\ud800" + "x" * 100_000),
}


@pytest.mark.parametrize("what", ERRORS)
async def test_an_effect_that_can_not_be_prepared_leaves_everything_as_it_was(tmp_path: Path, what: str) -> None:
    Odd.steps["prepare"] = raising(ERRORS[what])
    async with running_host(tmp_path, book(), runbook(), plugins=odd_plugins()) as host:
        event = broken(tmp_path, code=BAD)
        incident = await ended(host, tmp_path, await host.report(event))
        assert incident.status == "escalated"
        assert Path(event.subject).read_text() == "broken\n"
        assert "apply" not in Odd.said
        assert "attempt.planned" not in await types_of(host, incident.id)


@pytest.mark.parametrize("kind", [Odd, OddOnce])
@pytest.mark.parametrize("what", [*ERRORS, "a conflict"])
async def test_an_apply_that_raises_fails_the_attempt_and_all_is_taken_back(tmp_path: Path, what: str, kind: type[Odd]) -> None:
    Odd.steps["apply"] = raising(ERRORS[what] if what in ERRORS else EffectConflict("changed"))
    async with running_host(tmp_path, book(kind), runbook(), plugins=odd_plugins(), limits={"attempts_per_incident": 1}) as host:
        event = broken(tmp_path, code=BAD)
        before = tree(tmp_path / "world")
        reported = await host.report(event)
        incident = await host.wait_for(reported, timeout=15)
        assert incident.status == ("escalated" if what == "a conflict" else "heal_failed")
        assert tree(tmp_path / "world") == before
        assert Odd.said.count("apply") == 1
        assert incident.attempts[0].outcome == ("conflict" if what == "a conflict" else "failed")
        assert [item.outcome for item in incident.attempts[0].receipts] == ["applied", "failed"]
        assert (await ended(host, tmp_path, reported)).attempts == incident.attempts


@pytest.mark.parametrize("value", [None, "done", 3, Prepared()])
async def test_an_apply_that_returns_no_output_fails_and_is_taken_back(tmp_path: Path, value: Any) -> None:
    async def wrong(effect: Odd) -> Any:
        effect.make()
        return value

    Odd.steps["apply"] = wrong
    async with running_host(tmp_path, book(), runbook(), plugins=odd_plugins(), limits={"attempts_per_incident": 1}) as host:
        event = broken(tmp_path, code=BAD)
        before = tree(tmp_path / "world")
        incident = await host.wait_for(await host.report(event), timeout=15)
        assert incident.status == "heal_failed"
        assert "where an Output is due" in incident.reason
        assert tree(tmp_path / "world") == before
        assert Odd.said.count("apply") == 1


@pytest.mark.parametrize("method", ["apply", "revert", "prepare"])
async def test_a_step_that_hangs_is_cancelled_at_the_deadline(tmp_path: Path, method: str) -> None:
    async def hang(effect: Odd) -> Any:
        await asyncio.Event().wait()

    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    Odd.steps[method] = hang
    from remediation.engine import acting

    acting_seconds, acting.REVERT_SECONDS = acting.REVERT_SECONDS, 0.3
    try:
        books = (book(verify=never), runbook())
        async with running_host(tmp_path, *books, plugins=odd_plugins(), limits={"attempts_per_incident": 1}) as host:
            incident = await ended(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
            assert incident.status == ("escalated" if method == "prepare" else "heal_failed")
            assert incident.dirty == (method == "revert")
    finally:
        acting.REVERT_SECONDS = acting_seconds


@pytest.mark.parametrize("kind", [Odd, OddOnce])
async def test_an_apply_that_does_not_stop_is_uncertain_and_keeps_its_subject_locked(tmp_path: Path, kind: type[Odd]) -> None:
    let_go = asyncio.Event()

    async def deaf(effect: Odd) -> Any:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return effect.make()

    Odd.steps["apply"] = deaf
    async with running_host(tmp_path, book(kind), runbook(), plugins=odd_plugins(), limits={"cooldown": 0}) as host:
        event = broken(tmp_path, code=BAD)
        incident = await ended(host, tmp_path, await host.report(event))
        assert incident.status == "escalated"
        assert incident.attempts[0].uncertain
        assert host._state.runbooks["bad"].state == "quarantined"
        assert [entry.step for entry in only(RunbookFaulted, await entries_of(host))] == ["apply"]
        assert not {"revert", "probe"} & set(Odd.said)
        same = await host.report(event.model_copy(update={"code": "BROKEN"}))
        assert (await host.wait_for(await host.report(broken(tmp_path, "third")), timeout=15)).status == "resolved"
        assert host.incident(same.incident).open
        let_go.set()
        assert (await host.wait_for(same, timeout=15)).status == "resolved"


async def test_a_revert_that_raises_fences_the_subject_and_the_others_are_still_taken_back(tmp_path: Path) -> None:
    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    Odd.steps["revert"] = raising(KeyError("oops"))
    async with running_host(tmp_path, book(verify=never), runbook(), plugins=odd_plugins()) as host:
        event = broken(tmp_path, code=BAD)
        incident = await ended(host, tmp_path, await host.report(event))
        assert (incident.status, incident.dirty) == ("heal_failed", True)
        assert "fenced" in incident.reason
        assert Path(event.subject).read_text() == "broken\n"
        assert not (tmp_path / "world" / "after").exists()
        assert len(only(EffectRevertFailed, await entries_of(host, incident.id))) == 1
        # Nothing acts on the subject until a person has looked.
        fenced = await host.wait_for(await host.report(event.model_copy(update={"code": "BROKEN"})), timeout=15)
        assert fenced.status == "escalated"
        assert incident.id in fenced.reason
        assert Path(event.subject).read_text() == "broken\n"


async def test_a_revert_that_does_nothing_has_failed_and_fences_the_subject(tmp_path: Path) -> None:
    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    async def nothing(effect: Odd) -> None:
        return None

    Odd.steps["revert"] = nothing
    async with running_host(tmp_path, book(verify=never), runbook(), plugins=odd_plugins()) as host:
        incident = await ended(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert (incident.status, incident.dirty) == ("heal_failed", True)
        (failed,) = only(EffectRevertFailed, await entries_of(host, incident.id))
        assert "its probe says that it is still in place" in failed.error
        assert Odd.said.count("revert") == 1


async def test_what_was_so_before_is_left_so_by_a_revert_and_nothing_has_failed(tmp_path: Path) -> None:
    async def plan(ctx: RemediationContext) -> Plan:
        path = ctx.subject_path()
        return Plan(
            WriteFile(path=path, content="broken\n"),
            DeleteFile(path=path.with_name("missing")),
            RunCommand(argv=["false"], undo=["false"], observe=["true"]),
        )

    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    idle = runbook("idle", code=BAD, action=plan, verify=never)
    async with running_host(tmp_path, idle, limits={"attempts_per_incident": 1}) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path, code=BAD)), timeout=15)
        assert (incident.status, incident.dirty) == ("heal_failed", False), incident.reason
        assert len(only(EffectReverted, await entries_of(host, incident.id))) == 3


async def stopped_in_apply(tmp_path: Path, kind: type[Odd]) -> str:
    """Stop the host while the odd effect is applied, after it has done its work."""
    reached = asyncio.Event()

    async def done_but_not_told(effect: Odd) -> Any:
        effect.make()
        reached.set()
        await asyncio.Event().wait()

    Odd.steps["apply"] = done_but_not_told
    async with running_host(tmp_path, book(kind), runbook(), plugins=odd_plugins()) as host:
        reported = await host.report(broken(tmp_path, code=BAD))
        await asyncio.wait_for(reached.wait(), 10)
    del Odd.steps["apply"]
    return reported.incident


async def test_an_effect_that_a_probe_finds_done_is_not_done_again(tmp_path: Path) -> None:
    incident_id = await stopped_in_apply(tmp_path, Odd)
    async with running_host(tmp_path, book(), runbook(), plugins=odd_plugins()) as host:
        incident = await ended(host, tmp_path, incident_id)
        assert incident.status == "resolved"
        assert Odd.said.count("apply") == 1
        assert [item.outcome for item in incident.attempts[0].receipts] == ["found-applied", "found-applied", "applied"]


@pytest.mark.parametrize("said", [Probe.UNKNOWN, "who knows", None, KeyError("oops"), SystemExit(1), asyncio.CancelledError()])
async def test_an_effect_of_which_a_probe_can_not_tell_is_uncertain_and_not_done_again(tmp_path: Path, said: Any) -> None:
    incident_id = await stopped_in_apply(tmp_path, Odd)

    async def tell(effect: Odd) -> Any:
        if isinstance(said, BaseException):
            raise said
        return said

    Odd.steps["probe"] = tell
    async with running_host(tmp_path, book(), runbook(), plugins=odd_plugins()) as host:
        incident = await ended(host, tmp_path, incident_id)
        assert incident.status == "escalated"
        assert Odd.said.count("apply") == 1
        assert "revert" not in Odd.said
        # What was done before it is on record, and stays.
        assert [item.outcome for item in incident.attempts[0].receipts] == ["found-applied"]


async def test_an_effect_that_must_run_once_is_not_run_again_after_a_restart(tmp_path: Path) -> None:
    incident_id = await stopped_in_apply(tmp_path, OddOnce)
    async with running_host(tmp_path, book(OddOnce), runbook(), plugins=odd_plugins()) as host:
        incident = await ended(host, tmp_path, incident_id)
        assert incident.status == "escalated"
        assert Odd.said.count("apply") == 1
        assert "probe" not in Odd.said
        assert len(only(EffectUncertain, await entries_of(host, incident.id))) == 1


async def test_an_uncertain_effect_with_a_failed_verdict_takes_back_what_is_known_to_be_done(tmp_path: Path) -> None:
    incident_id = await stopped_in_apply(tmp_path, OddOnce)

    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("no")

    async with running_host(tmp_path, book(OddOnce, verify=never), runbook(), plugins=odd_plugins()) as host:
        incident = await ended(host, tmp_path, incident_id)
        assert incident.status == "escalated"
        assert (tmp_path / "world" / "thing").read_text() == "broken\n"
        assert not (tmp_path / "world" / "after").exists()
        assert "revert" not in Odd.said


@pytest.mark.parametrize("what", ["kind", "runbook", "fields"])
async def test_what_a_host_no_longer_knows_is_uncertain_or_inconclusive_never_guessed(tmp_path: Path, what: str) -> None:
    incident_id = await stopped_in_apply(tmp_path, Odd)
    books = (runbook(),) if what == "runbook" else (book(), runbook())

    class Changed(Odd):
        kind: ClassVar[str] = "test.odd"
        new: int

    plugins = {"kind": [], "runbook": odd_plugins(), "fields": [plugin(effects=[Changed])]}[what]
    async with running_host(tmp_path, *books, plugins=plugins) as host:
        incident = await ended(host, tmp_path, incident_id)
        assert incident.status == "escalated"
        assert Odd.said.count("apply") == 1


async def test_an_effect_kind_that_is_not_registered_can_not_be_planned(tmp_path: Path) -> None:
    async with running_host(tmp_path, book(), runbook()) as host:
        event = broken(tmp_path, code=BAD)
        incident = await ended(host, tmp_path, await host.report(event))
        assert incident.status == "escalated"
        assert "remediation_effects" in incident.reason
        assert Path(event.subject).read_text() == "broken\n"


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\x01" * 200_000, "\U0001f600" * 100_000])
async def test_an_output_too_large_for_the_journal_is_dropped_and_the_heal_goes_on(tmp_path: Path, text: str) -> None:
    async def much(effect: Odd) -> Any:
        effect.make()
        return Large(text=text)

    class Large(Output):
        text: str

    Odd.steps["apply"] = much
    async with running_host(tmp_path, book(), runbook(), plugins=odd_plugins()) as host:
        incident = await ended(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "resolved"
        receipt = incident.attempts[0].receipts[1]
        assert receipt.outcome == "applied"
        assert receipt.output == ""
        assert "too large" in receipt.error


async def test_a_plan_of_too_many_effects_is_declined(tmp_path: Path) -> None:
    async def plan(ctx: RemediationContext) -> Plan:
        folder = ctx.subject_path().parent
        return Plan(*(WriteFile(path=folder / f"f{number}", content="x") for number in range(201)))

    async with running_host(tmp_path, runbook("bad", code=BAD, action=plan), runbook()) as host:
        incident = await ended(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert "201 effects" in incident.reason


async def test_effects_that_would_start_after_the_time_is_over_are_not_started(tmp_path: Path) -> None:
    async def slow(effect: Odd) -> Any:
        import time

        time.sleep(0.7)
        return effect.make()

    Odd.steps["apply"] = slow
    async with running_host(tmp_path, book(), runbook(), plugins=odd_plugins(), limits={"attempts_per_incident": 1}) as host:
        event = broken(tmp_path, code=BAD)
        before = tree(tmp_path / "world")
        incident = await host.wait_for(await host.report(event), timeout=15)
        assert incident.status == "heal_failed"
        assert tree(tmp_path / "world") == before


@pytest.mark.parametrize("what", ["describe raises", "describe exits", "describe is no text"])
async def test_an_effect_that_can_not_be_described_is_not_planned(tmp_path: Path, what: str) -> None:
    def describe() -> Any:
        if what == "describe raises":
            raise KeyError("oops")
        if what == "describe exits":
            raise SystemExit(1)
        return 17

    Odd.steps["describe"] = describe
    async with running_host(tmp_path, book(), runbook(), plugins=odd_plugins()) as host:
        event = broken(tmp_path, code=BAD)
        incident = await ended(host, tmp_path, await host.report(event))
        assert incident.status == "escalated"
        assert Path(event.subject).read_text() == "broken\n"
        assert "apply" not in Odd.said


async def test_the_next_runbook_heals_what_a_bad_effect_could_not(tmp_path: Path) -> None:
    Odd.steps["apply"] = raising(KeyError("oops"))
    good = runbook("z-good", code=BAD, precondition=applies, verify=is_mended)
    async with running_host(tmp_path, book(), good, plugins=odd_plugins()) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path, code=BAD)), timeout=15)
        assert incident.status == "resolved"
        assert [attempt.outcome for attempt in incident.attempts] == ["failed", "healed"]
        assert [entry.outcome for entry in only(AttemptFinished, await entries_of(host, incident.id))] == ["failed", "healed"]
        await eventually(lambda: not list((tmp_path / "home" / "scratch").glob("*/*")))


async def test_a_plain_control_that_overruns_is_never_taken_back_while_it_runs(tmp_path: Path) -> None:
    let_go, undone = threading.Event(), []

    def mend(path: str) -> None:
        let_go.wait(15)
        Path(path).write_text("mended\n")

    def register(boot: RemediatorBootstrap) -> None:
        boot.controls.register("mend", mend, idempotent=True, undo=lambda path: undone.append(path))

    async def call(ctx: RemediationContext) -> Plan:
        return Plan(CallHost(control="mend", args={"path": ctx.event.subject}))

    bad = runbook("bad", code=BAD, action=call, timeouts=SHORT)
    async with running_host(tmp_path, bad, runbook(), prepare=register, limits={"cooldown": 0}) as host:
        event = broken(tmp_path, code=BAD)
        incident = await ended(host, tmp_path, await host.report(event))
        assert incident.status == "escalated"
        assert incident.attempts[0].uncertain
        assert "does not stop" in incident.attempts[0].reason
        assert (undone, Path(event.subject).read_text()) == ([], "broken\n")
        same = await host.report(event.model_copy(update={"code": "BROKEN"}))
        assert (await host.wait_for(await host.report(broken(tmp_path, "third")), timeout=15)).status == "resolved"
        assert host.incident(same.incident).open
        let_go.set()
        assert (await host.wait_for(same, timeout=15)).status == "resolved"
        assert undone == []
