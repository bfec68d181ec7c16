"""Runbooks that misbehave: each is contained, told and journaled, and what other runbooks heal is healed meanwhile."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.hosts import applies, broken, entries_of, is_mended, only, runbook, write_mended

from remediation import DegradationEvent
from remediation.authoring import (
    DeleteFile,
    Finding,
    Plan,
    RemediationContext,
    Timeouts,
    Verdict,
    WriteFile,
)
from remediation.bootstrap import Host
from remediation.core.incident import Incident
from remediation.engine import steps
from remediation.errors import ContextSealed
from remediation.model.entries import AttemptPlanned, RunbookFaulted, RunbookQuarantined
from remediation.model.runbook import Escalation
from remediation.testing import FakeClock, eventually, running_host

BAD = "BAD"
SHORT = Timeouts(decide="300ms", apply="2s", verify="300ms")


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "GRACE", 0.3)


async def healed_meanwhile(host: Host, tmp_path: Path, bad: Any) -> Incident:
    """The bad incident, settled; another one, reported after it, was healed without waiting for it."""
    other = await host.wait_for(await host.report(broken(tmp_path, "other")), timeout=15)
    assert other.status == "resolved"
    incident = await host.wait_for(bad, timeout=15)
    assert not host.halted
    # And afterwards, too.
    last = await host.wait_for(await host.report(broken(tmp_path, "last")), timeout=15)
    assert last.status == "resolved"
    return incident


async def faults(host: Host, name: str = "bad") -> list[RunbookFaulted]:
    return [entry for entry in only(RunbookFaulted, await entries_of(host)) if entry.runbook == name]


def raising(error: BaseException) -> Callable[..., Awaitable[Any]]:
    async def step(ctx: RemediationContext) -> Any:
        raise error

    return step


ERRORS = {
    "an error": KeyError("oops"),
    "an error with a hostile message": ValueError("\x1b[2J\ud800" + "x" * 100_000),
    "an exit": SystemExit(3),
    "a cancellation": asyncio.CancelledError(),
    "endless recursion": RecursionError("maximum recursion depth exceeded"),
    "a group": ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    "a generator's end": StopAsyncIteration(),
    "an assertion": AssertionError(),
}


@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize("step", ["precondition", "action", "verify"])
async def test_a_step_that_raises_is_a_fault_of_its_runbook_only(tmp_path: Path, step: str, what: str) -> None:
    bad = runbook("bad", code=BAD, **{step: raising(ERRORS[what])})
    async with running_host(tmp_path, bad, runbook()) as host:
        reported = await host.report(broken(tmp_path, code=BAD))
        incident = await healed_meanwhile(host, tmp_path, reported)
        assert incident.status == "escalated"
        (fault,) = await faults(host)
        assert step in fault.error
        assert len(fault.error) <= 2200
        assert fault.error.isprintable()
        assert host._state.runbooks["bad"].faults == 1
        # A fault is no verdict: it does not count as a failed one.
        assert host._state.runbooks["bad"].failed == 0


@pytest.mark.parametrize("what", ERRORS)
async def test_an_escalate_that_raises_is_replaced_by_the_plain_facts(tmp_path: Path, what: str) -> None:
    async def decline(ctx: RemediationContext) -> Finding:
        return Finding.declined("not mine")

    bad = runbook("bad", code=BAD, precondition=decline, escalate=raising(ERRORS[what]))
    async with running_host(tmp_path, bad, runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert "not mine" in incident.analysis
        assert len(await faults(host)) == 1


@pytest.mark.parametrize("what", ["an error", "an exit", "a cancellation", "endless recursion"])
async def test_a_matches_that_raises_disables_its_runbook_and_no_other(tmp_path: Path, what: str) -> None:
    def matches(event: DegradationEvent) -> bool:
        raise ERRORS[what]

    books = (runbook("bad", code=BAD, matches=matches), runbook("good", code=BAD), runbook())
    async with running_host(tmp_path, *books) as host:
        reported = await host.report(broken(tmp_path, code=BAD))
        incident = await healed_meanwhile(host, tmp_path, reported)
        assert incident.status == "resolved"
        assert incident.attempts[0].runbook == "good"
        (fault,) = await eventually(lambda: faults(host))
        assert fault.step == "matches"
        again = await host.wait_for(await host.report(broken(tmp_path, "again", code=BAD)), timeout=10)
        assert again.status == "resolved"
        assert len(await faults(host)) == 1


async def test_when_the_only_runbook_s_matches_raises_the_degradation_is_escalated(tmp_path: Path) -> None:
    def matches(event: DegradationEvent) -> bool:
        raise KeyError("oops")

    async with running_host(tmp_path, runbook("bad", code=BAD, matches=matches), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"


@pytest.mark.parametrize("step", ["precondition", "action", "verify", "escalate"])
async def test_a_step_that_hangs_is_cancelled_at_its_timeout(tmp_path: Path, step: str) -> None:
    cancelled: list[str] = []

    async def hang(ctx: RemediationContext) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(step)

    async def decline(ctx: RemediationContext) -> Finding:
        return Finding.declined("not mine")

    steps_ = {step: hang} if step != "escalate" else {"precondition": decline, "escalate": hang}
    async with running_host(tmp_path, runbook("bad", code=BAD, timeouts=SHORT, **steps_), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert cancelled == [step]
        (fault,) = await faults(host)
        assert "overran 0.3 s and was cancelled" in fault.error
        assert host._state.runbooks["bad"].state == "degraded"


@pytest.mark.parametrize("step", ["precondition", "action", "verify"])
async def test_a_step_that_ignores_its_cancellation_quarantines_its_runbook_and_keeps_its_subject_locked(
    tmp_path: Path, step: str
) -> None:
    let_go = asyncio.Event()
    held: list[RemediationContext] = []

    async def deaf(ctx: RemediationContext) -> Any:
        held.append(ctx)
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return Finding.declined("late")

    bad, second = runbook("bad", code=BAD, timeouts=SHORT, **{step: deaf}), runbook("z-second", code=BAD)
    async with running_host(tmp_path, bad, second, runbook(), limits={"cooldown": 0}) as host:
        event = broken(tmp_path, code=BAD)
        incident = await healed_meanwhile(host, tmp_path, await host.report(event))
        assert incident.status == "escalated"
        assert "does not stop" in incident.reason
        # Nobody else acts on a subject on which something still runs.
        assert [attempt.runbook for attempt in incident.attempts] in ([], ["bad"])
        assert host._state.runbooks["bad"].state == "quarantined"
        assert [entry.by for entry in only(RunbookQuarantined, await entries_of(host))] == ["engine"]
        with pytest.raises(ContextSealed):
            held[0].subject_path()
        same_subject = await host.report(event.model_copy(update={"code": "BROKEN"}))
        assert (await host.wait_for(await host.report(broken(tmp_path, "third")), timeout=15)).status == "resolved"
        assert host.incident(same_subject.incident).open
        assert not host.incident(same_subject.incident).attempts
        let_go.set()
        assert (await host.wait_for(same_subject, timeout=15)).status == "resolved"


async def test_a_host_with_a_step_that_never_stops_can_be_stopped_itself(tmp_path: Path) -> None:
    async def deaf(ctx: RemediationContext) -> Any:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    async with running_host(tmp_path, runbook("bad", code=BAD, timeouts=SHORT, precondition=deaf)) as host:
        await host.wait_for(await host.report(broken(tmp_path, code=BAD)), timeout=10)
        begin = time.monotonic()
    assert time.monotonic() - begin < 3


async def test_a_step_during_which_the_clock_leaps_has_not_blocked_the_loop(tmp_path: Path) -> None:
    clock = FakeClock()

    async def verify(ctx: RemediationContext) -> Verdict:
        clock.advance(12 * 3600)
        return await is_mended(ctx)

    async with running_host(tmp_path, runbook(verify=verify), clock=clock) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=15)
        assert incident.status == "resolved"


@pytest.mark.parametrize("step", ["precondition", "action", "verify"])
async def test_a_step_that_blocks_the_loop_longer_than_its_timeout_is_a_fault(tmp_path: Path, step: str) -> None:
    async def block(ctx: RemediationContext) -> Any:
        time.sleep(1.0)
        return {"precondition": Finding.applies(), "action": Plan(), "verify": Verdict.healthy()}[step]

    async with running_host(tmp_path, runbook("bad", code=BAD, timeouts=SHORT, **{step: block}), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        (fault,) = await faults(host)
        assert "0.3 s" in fault.error


WRONG = {
    "nothing": None,
    "text": "yes",
    "a plan": Plan(),
    "a finding": Finding.applies(),
    "a verdict": Verdict.healthy(),
    "a class": Finding,
}


@pytest.mark.parametrize("step", ["precondition", "action", "verify", "escalate"])
@pytest.mark.parametrize("what", WRONG)
async def test_a_step_that_returns_what_it_must_not_is_a_fault(tmp_path: Path, step: str, what: str) -> None:
    if (step, what) in (("precondition", "a finding"), ("action", "a plan"), ("verify", "a verdict")):
        return

    async def wrong(ctx: RemediationContext) -> Any:
        return WRONG[what]

    async def decline(ctx: RemediationContext) -> Finding:
        return Finding.declined("not mine")

    steps_ = {step: wrong} if step != "escalate" else {"precondition": decline, "escalate": wrong}
    async with running_host(tmp_path, runbook("bad", code=BAD, **steps_), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        (fault,) = await faults(host)
        assert f"{step} returned" in fault.error


async def test_a_step_that_an_instance_makes_not_async_is_a_fault(tmp_path: Path) -> None:
    class Bad(runbook("bad", code=BAD)):
        def __init__(self) -> None:
            self.precondition = lambda ctx: Finding.applies()

    async with running_host(tmp_path, Bad, runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert "async" in (await faults(host))[0].error


async def test_a_plan_that_pydantic_refuses_is_told_on_one_line(tmp_path: Path) -> None:
    async def plan(ctx: RemediationContext) -> Plan:
        return Plan(DeleteFile(path="relative"))

    async with running_host(tmp_path, runbook("bad", code=BAD, action=plan)) as host:
        await host.wait_for(await host.report(broken(tmp_path, code=BAD)), timeout=15)
        (fault,) = await faults(host)
        assert fault.error.startswith("action raised ValidationError: path: ")
        assert not [word for word in ("Value error", "\\n", "pydantic", "\n") if word in fault.error]


async def test_a_faulty_runbook_is_passed_over_and_the_next_one_heals(tmp_path: Path) -> None:
    books = (runbook("bad", code=BAD, precondition=raising(KeyError("oops"))), runbook("good", code=BAD))
    async with running_host(tmp_path, *books) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path, code=BAD)), timeout=10)
        assert incident.status == "resolved"
        planned = only(AttemptPlanned, await entries_of(host, incident.id))[0]
        assert planned.runbook == "good"
        assert dict(planned.skipped).keys() == {"bad"}


# -- contexts -----------------------------------------------------------------------------------------------------------------


async def test_a_context_kept_after_its_attempt_raises(tmp_path: Path) -> None:
    kept: list[RemediationContext] = []

    async def keep(ctx: RemediationContext) -> Finding:
        kept.append(ctx)
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=keep)) as host:
        await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        ctx = kept[0]
        await eventually(lambda: ctx._sealed)
        for use in (ctx.subject_path, lambda: ctx.secret("x"), lambda: ctx.scratch, lambda: ctx.process_alive(1)):
            with pytest.raises(ContextSealed, match="its attempt ended"):
                use()
        for call in (ctx.read_text("/etc/hostname"), ctx.exists("/"), ctx.run(["true"]), ctx.glob("/*"), ctx.keep("/etc/hostname")):
            with pytest.raises(ContextSealed):
                await call
        public = {name for name in dir(RemediationContext) if not name.startswith("_")} - {"seal", "advance"}
        assert {"event", "log", "now", "deadline", "has_control", "may_change"} <= public
        given = {"run": [["true"]], "disposable_glob": ["/x"], "has_control": ["x"], "process_alive": [1], "secret": ["x"]}
        given |= {name: ["/x"] for name in ["confined", "may_change", "read_bytes", "read_text", "exists", "stat", "glob", "keep"]}
        for name in public:
            with pytest.raises(ContextSealed, match="its attempt ended"):
                used = getattr(ctx, name)(*given.get(name, []))
                await used
        import pickle

        with pytest.raises(ContextSealed, match="pickled"):
            pickle.dumps(ctx)


async def test_a_context_of_a_runbook_that_declined_is_sealed_for_it(tmp_path: Path) -> None:
    kept: list[RemediationContext] = []

    async def keep(ctx: RemediationContext) -> Finding:
        kept.append(ctx)
        return Finding.declined("not mine")

    async def look(ctx: RemediationContext) -> Finding:
        with pytest.raises(ContextSealed):
            kept[0].subject_path()
        return Finding.applies()

    async with running_host(tmp_path, runbook("a", precondition=keep), runbook("b", precondition=look)) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"


async def test_a_context_is_of_no_use_in_another_process(tmp_path: Path) -> None:
    said: list[int] = []

    async def fork(ctx: RemediationContext) -> Finding:
        child = os.fork()
        if child == 0:
            try:
                ctx.subject_path()
            except ContextSealed:
                os._exit(7)
            os._exit(0)
        said.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=fork)) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"
    assert said == [7]


async def test_scratch_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    seen: list[Path] = []

    async def work(ctx: RemediationContext) -> Finding:
        (ctx.scratch / "big").write_text("x")
        seen.append(ctx.scratch)
        assert ctx.scratch.stat().st_mode & 0o777 == 0o700
        done = await ctx.run(["ls"])
        assert done.stdout == "big\n"
        return Finding.applies()

    async with running_host(tmp_path, runbook("a", precondition=work), runbook("b", code=BAD, precondition=work)) as host:
        for code in ("BROKEN", BAD):
            assert (await host.wait_for(await host.report(broken(tmp_path, code, code=code)), timeout=10)).status == "resolved"
        assert seen[0] != seen[1]
        await eventually(lambda: not [path for path in seen if path.exists()])
    assert not list((tmp_path / "home" / "scratch").iterdir())


# -- processes ------------------------------------------------------------------------------------------------------------------


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_children_that_outlive_a_command_are_ended_with_their_process_group(tmp_path: Path) -> None:
    pids: list[int] = []

    async def leave_a_child(ctx: RemediationContext) -> Finding:
        done = await ctx.run(["/bin/sh", "-c", "sleep 300 & echo $!"])
        pids.append(int(done.stdout))
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=leave_a_child)) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"
        assert not running(pids[0])


async def test_a_command_of_a_step_that_overran_is_ended_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    async def endless(ctx: RemediationContext) -> Finding:
        await ctx.run(["/bin/sh", "-c", f"echo $$ > {pid_file}; exec sleep 300"], timeout=200)
        return Finding.applies()

    async with running_host(tmp_path, runbook("bad", code=BAD, timeouts=SHORT, precondition=endless), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert not running(int(pid_file.read_text()))


# -- what a runbook claims -----------------------------------------------------------------------------------------------------


async def test_a_runbook_that_claims_to_be_reversible_can_not_plan_what_is_not(tmp_path: Path) -> None:
    async def for_good(ctx: RemediationContext) -> Plan:
        return Plan(DeleteFile(path=ctx.subject_path(), keep=False))

    async with running_host(tmp_path, runbook(action=for_good)) as host:
        event = broken(tmp_path)
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "escalated"
        planned = only(AttemptPlanned, await entries_of(host, incident.id))[0]
        assert planned.gate.decision == "refuse"
        assert "irreversible" in incident.reason
        assert Path(event.subject).exists()


@pytest.mark.parametrize("subject", ["outside", "link", "link on the way", "dots", "home", "keys", "not a path"])
async def test_a_subject_that_the_host_may_not_touch_is_declined(tmp_path: Path, subject: str) -> None:
    async with running_host(tmp_path, runbook("bad", code=BAD), runbook()) as host:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "thing").write_text("broken\n")
        world = tmp_path / "world"
        (world / "link").symlink_to(outside / "thing")
        (world / "folder").symlink_to(outside)
        path = {
            "outside": outside / "thing",
            "link": world / "link",
            "link on the way": world / "folder" / "thing",
            "dots": world / ".." / "outside" / "thing",
            "home": tmp_path / "home" / "journal.sqlite3",
            "keys": tmp_path / "keys" / "signing.key",
            "not a path": "the mail queue",
        }[subject]

        incident = await healed_meanwhile(
            host, tmp_path, await host.report(DegradationEvent(code=BAD, subsystem="t", subject=str(path)))
        )
        assert incident.status == "escalated"
        assert "declined" in incident.reason
        assert (outside / "thing").read_text() == "broken\n"
        assert not await faults(host)


@pytest.mark.parametrize("declared", [(), ("other",)])
async def test_a_secret_that_was_not_declared_is_refused(tmp_path: Path, declared: tuple[str, ...]) -> None:
    async def peek(ctx: RemediationContext) -> Finding:
        return Finding.applies(evidence=[ctx.secret("token")])

    bad = runbook("bad", code=BAD, precondition=peek, credentials=declared)
    async with running_host(tmp_path, bad, runbook(), secrets={"token": "s3cr3t", "other": "x"}) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert "did not declare" in (await faults(host))[0].error
        assert "s3cr3t" not in str(await entries_of(host))


async def test_the_use_of_a_declared_secret_is_journaled_by_name_only(tmp_path: Path) -> None:
    async def use(ctx: RemediationContext) -> Finding:
        assert ctx.secret("token") == "s3cr3t"
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=use, credentials=("token",)), secrets={"token": "s3cr3t"}) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        told = await entries_of(host, incident.id)
        assert [(entry.name, entry.runbook) for entry in told if entry.type == "credential.used"] == [("token", "mend")]
        assert "s3cr3t" not in str(told)


# -- too much ------------------------------------------------------------------------------------------------------------------------

HUGE = {"plain": "x" * 1_000_000, "wide": "\U0001f600" * 500_000, "controls": "\x01" * 500_000, "surrogates": "\udc80" * 500_000}


@pytest.mark.parametrize("text", HUGE)
async def test_huge_findings_verdicts_and_escalations_are_cut_and_the_heal_goes_on(tmp_path: Path, text: str) -> None:
    lines = [HUGE[text]] * 200

    async def much(ctx: RemediationContext) -> Finding:
        return Finding.applies(evidence=lines, reason=HUGE[text])

    async def too_much(ctx: RemediationContext) -> Verdict:
        verdict = await is_mended(ctx)
        return Verdict(status=verdict.status, reason=verdict.reason).healthy(HUGE[text], evidence=lines)

    async with running_host(tmp_path, runbook(precondition=much, verify=too_much)) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=15)).status == "resolved"


@pytest.mark.parametrize("text", HUGE)
async def test_huge_reasons_and_escalations_do_not_keep_an_incident_open(tmp_path: Path, text: str) -> None:
    async def fail(ctx: RemediationContext) -> Verdict:
        return Verdict.failed(HUGE[text], evidence=[HUGE[text]] * 200)

    async def tell(ctx: RemediationContext) -> Escalation:
        return Escalation(title=HUGE[text], analysis=HUGE[text], actions=tuple([HUGE[text]] * 200))

    async with running_host(tmp_path, runbook("bad", code=BAD, verify=fail, escalate=tell), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "heal_failed"


async def test_a_plan_too_large_for_the_journal_is_declined(tmp_path: Path) -> None:
    async def large(ctx: RemediationContext) -> Plan:
        folder = ctx.subject_path().parent
        return Plan(*(WriteFile(path=folder / f"part{number}", content="\x01" * 60_000) for number in range(8)))

    async with running_host(tmp_path, runbook("bad", code=BAD, action=large), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert "too large" in incident.reason
        assert not list((tmp_path / "world").glob("part*"))


async def test_many_runbooks_that_decline_at_length_do_not_keep_an_incident_open(tmp_path: Path) -> None:
    async def decline(ctx: RemediationContext) -> Finding:
        return Finding.declined("\U0001f600" * 3000)

    books = [runbook(f"bad-{number}", code=BAD, precondition=decline) for number in range(150)]
    async with running_host(tmp_path, *books, runbook(), runbook("z-last", code=BAD, priority=-1)) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "resolved"
        assert incident.attempts[0].runbook == "z-last"
    async with running_host(tmp_path, *books, runbook(), limits={"cooldown": 0}) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, "second", code=BAD)))
        assert incident.status == "escalated"


async def test_confidence_out_of_range_is_a_fault(tmp_path: Path) -> None:
    async def sure(ctx: RemediationContext) -> Finding:
        return Finding.applies(confidence=1000)

    async with running_host(tmp_path, runbook("bad", code=BAD, precondition=sure), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert len(await faults(host)) == 1


async def test_what_an_action_puts_into_a_plan_must_be_an_effect(tmp_path: Path) -> None:
    async def wrong(ctx: RemediationContext) -> Plan:
        return Plan("rm -rf /")

    async with running_host(tmp_path, runbook("bad", code=BAD, precondition=applies, action=wrong), runbook()) as host:
        incident = await healed_meanwhile(host, tmp_path, await host.report(broken(tmp_path, code=BAD)))
        assert incident.status == "escalated"
        assert "Plan takes effects, not str" in (await faults(host))[0].error


async def test_a_step_can_not_see_what_other_attempts_were_lent(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(action=write_mended)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert not [path for path in (tmp_path / "home" / "scratch").rglob("*") if path.is_file()]
