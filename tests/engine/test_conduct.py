"""What a step does beside its work: seen, ended or put back, named in the journal; other runbooks heal meanwhile."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.hosts import broken, entries_of, only, runbook

from remediation.authoring import Finding, Plan, RemediationContext, Verdict, WriteFile
from remediation.core.incident import Incident
from remediation.engine import conduct, steps
from remediation.model.entries import RunbookFaulted
from remediation.testing import eventually, running_host

BAD = "BAD"
kept: list[Any] = []


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "GRACE", 0.3)
    monkeypatch.setattr(conduct, "GRACE", 0.3)


async def faulted(folder: Path, precondition: Any, **spec: Any) -> tuple[Incident, RunbookFaulted, str]:
    """What becomes of an incident whose only runbook has that precondition; another one is healed at the same time."""
    bad = runbook("bad", code=BAD, precondition=precondition, **spec)
    async with running_host(folder, bad, runbook()) as host:
        reported = await host.report(broken(folder, code=BAD))
        other = await host.wait_for(await host.report(broken(folder, "other")), timeout=15)
        assert other.status == "resolved"
        incident = await host.wait_for(reported, timeout=15)
        last = await host.wait_for(await host.report(broken(folder, "last")), timeout=15)
        assert last.status == "resolved"
        found = only(RunbookFaulted, await entries_of(host))
        assert [entry.runbook for entry in found] == ["bad"]
        assert found[0].incident == incident.id
        return incident, found[0], host._state.runbooks["bad"].state


async def nothing_said(folder: Path, precondition: Any) -> None:
    """The step of that precondition is no fault, and the incident is healed."""
    async with running_host(folder, runbook(precondition=precondition)) as host:
        incident = await host.wait_for(await host.report(broken(folder)), timeout=15)
        found = only(RunbookFaulted, await entries_of(host))
        assert found == []
        assert incident.status == "resolved"


# -- tasks ------------------------------------------------------------------------------------------------------------------------


async def test_a_task_that_a_step_leaves_behind_is_cancelled_and_named(tmp_path: Path) -> None:
    left: list[asyncio.Task[Any]] = []

    async def lingering() -> None:
        await asyncio.Event().wait()

    async def leak(ctx: RemediationContext) -> Finding:
        left.append(asyncio.create_task(lingering()))
        return Finding.applies()

    incident, fault, state = await faulted(tmp_path, leak)
    assert incident.status == "escalated"
    assert "precondition left a task running" in fault.error
    assert "lingering" in fault.error
    assert state == "degraded"
    assert left[0].cancelled()


async def test_tasks_of_tasks_count_too(tmp_path: Path) -> None:
    left: list[asyncio.Task[Any]] = []

    async def lingering() -> None:
        await asyncio.Event().wait()

    async def between() -> None:
        left.extend(asyncio.create_task(lingering()) for _ in range(5))

    async def leak(ctx: RemediationContext) -> Finding:
        await asyncio.create_task(between())
        return Finding.applies()

    _, fault, _ = await faulted(tmp_path, leak)
    assert "left 5 tasks running" in fault.error
    assert all(task.cancelled() for task in left)


async def test_a_task_that_ignores_its_cancellation_quarantines_its_runbook(tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def deaf() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    async def leak(ctx: RemediationContext) -> Finding:
        kept.append(asyncio.create_task(deaf()))
        return Finding.applies()

    _, fault, state = await faulted(tmp_path, leak)
    assert "does not stop" in fault.error
    assert state == "quarantined"
    let_go.set()


async def test_tasks_that_end_with_their_step_are_no_fault(tmp_path: Path) -> None:
    async def tidy(ctx: RemediationContext) -> Finding:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.01))
        first, second = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(60))
        await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        second.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        await asyncio.to_thread(time.sleep, 0.01)
        return Finding.applies()

    await nothing_said(tmp_path, tidy)


async def test_a_step_that_raises_and_leaves_a_task_is_told_of_both(tmp_path: Path) -> None:
    async def leak(ctx: RemediationContext) -> Finding:
        kept.append(asyncio.create_task(asyncio.sleep(60)))
        raise KeyError("oops")

    _, fault, _ = await faulted(tmp_path, leak)
    assert "raised KeyError: 'oops'; it also left a task running" in fault.error


@pytest.mark.parametrize("step", ["action", "verify", "escalate"])
async def test_every_step_is_looked_after(tmp_path: Path, step: str) -> None:
    left: list[asyncio.Task[Any]] = []

    async def leak(ctx: RemediationContext) -> Any:
        left.append(asyncio.create_task(asyncio.sleep(60)))
        return {"action": Plan(WriteFile(path=ctx.subject_path(), content="mended\n")), "verify": Verdict.healthy()}.get(step)

    async def decline(ctx: RemediationContext) -> Finding:
        return Finding.declined("not mine")

    more = {step: leak, **({"precondition": decline} if step == "escalate" else {})}
    async with running_host(tmp_path, runbook(**more)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=15)
        assert incident.status == "escalated"
        (fault,) = only(RunbookFaulted, await entries_of(host))
        assert f"{step} left a task running" in fault.error
        assert left[0].cancelled()


# -- processes and threads ----------------------------------------------------------------------------------------------------------


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_forked_child_that_is_left_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids: list[int] = []

    async def fork(ctx: RemediationContext) -> Finding:
        child = os.fork()
        if child == 0:
            os.execvp("/bin/sh", ["sh", "-c", f"sleep 300 & echo $! > {tmp_path}/grandchild; wait"])
        pids.append(child)
        while not (tmp_path / "grandchild").exists() or not (tmp_path / "grandchild").read_text().strip():
            await asyncio.sleep(0.01)
        pids.append(int((tmp_path / "grandchild").read_text()))
        return Finding.applies()

    _, fault, state = await faulted(tmp_path, fork)
    assert f"left the process {pids[0]} (sh) running; it was ended" in fault.error
    assert state == "degraded"
    for pid in pids:
        await eventually(lambda pid=pid: gone(pid))


async def test_a_subject_is_free_again_after_its_step_s_child_was_ended(tmp_path: Path) -> None:
    async def fork(ctx: RemediationContext) -> Finding:
        if os.fork() == 0:
            time.sleep(300)
            os._exit(0)
        return Finding.applies()

    # The child holds copies of every descriptor: the subject's lock and the journal's among them.
    books = (runbook("bad", code=BAD, precondition=fork), runbook())
    async with running_host(tmp_path, *books, limits={"cooldown": 0}) as host:
        event = broken(tmp_path, code=BAD)
        assert (await host.wait_for(await host.report(event), timeout=15)).status == "escalated"
        again = await host.report(event.model_copy(update={"code": "BROKEN"}))
        assert (await host.wait_for(again, timeout=15)).status == "resolved"


async def test_a_step_that_goes_on_in_the_child_does_not_make_two_hosts_of_one(tmp_path: Path) -> None:
    async def split(ctx: RemediationContext) -> Finding:
        (pid := os.fork()) and pids.append(pid)
        await asyncio.sleep(0.01)
        return Finding.applies()

    pids: list[int] = []
    async with running_host(tmp_path, runbook(precondition=split)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=15)
        assert incident.status in ("resolved", "escalated")
        await eventually(lambda: gone(pids[0]))
        assert len([entry for entry in await entries_of(host) if entry.type == "incident.settled"]) == 1


async def test_a_process_that_was_waited_for_is_none_that_is_left_but_ctx_run_is_for_that(tmp_path: Path) -> None:
    async def run(ctx: RemediationContext) -> Finding:
        subprocess.run(["true"], check=True)
        return Finding.applies()

    _, fault, _ = await faulted(tmp_path, run)
    assert "started true itself, where ctx.run would have bounded it" in fault.error
    assert "left the process" not in fault.error


async def test_a_thread_that_is_left_is_named(tmp_path: Path) -> None:
    end = threading.Event()

    async def start(ctx: RemediationContext) -> Finding:
        threading.Thread(target=end.wait, name="my-poller", daemon=True).start()
        return Finding.applies()

    try:
        _, fault, state = await faulted(tmp_path, start)
    finally:
        end.set()
    assert "left the thread my-poller running" in fault.error
    assert state == "degraded"


# -- what belongs to others ------------------------------------------------------------------------------------------------------------


def write(path: Path) -> None:
    path.write_text("x")


def descriptor(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


CHANGES = {
    "a file": (write, "opened for writing"),
    "a descriptor": (descriptor, "opened for writing"),
    "a removal": (lambda path: Path(f"{path}.old").unlink(), "removed"),
    "a renaming": (lambda path: os.rename(f"{path}.old", path), "renamed"),
    "a folder": (os.mkdir, "made the folder"),
    "a link": (lambda path: os.symlink("/", path), "made the link"),
    "a mode": (lambda path: os.chmod(f"{path}.old", 0o600), "changed the mode of"),
    "a length": (lambda path: os.truncate(f"{path}.old", 0), "cut"),
    "a temporary file": (lambda path: tempfile.NamedTemporaryFile().close(), "opened for writing"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("how", ["itself", "in a thread", "in a task"])
async def test_a_change_outside_an_effect_is_named_with_its_path(tmp_path: Path, what: str, how: str) -> None:
    change, verb = CHANGES[what]
    target = tmp_path / "target"
    Path(f"{target}.old").write_text("old")

    async def task() -> None:
        change(target)

    async def mutate(ctx: RemediationContext) -> Finding:
        if how == "itself":
            change(target)
        elif how == "in a thread":
            await asyncio.to_thread(change, target)
        else:
            await asyncio.create_task(task())
        return Finding.applies()

    incident, fault, state = await faulted(tmp_path, mutate)
    assert verb in fault.error
    if "temporary" not in what:
        assert str(target) in fault.error
    assert "outside an effect" in fault.error
    assert (incident.status, state) == ("escalated", "degraded")


async def test_a_signal_to_another_process_is_one_for_an_effect(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])

    async def kill(ctx: RemediationContext) -> Finding:
        os.kill(child.pid, 0)  # asks whether it is there, no more
        os.kill(child.pid, signal.SIGTERM)
        return Finding.applies()

    _, fault, _ = await faulted(tmp_path, kill)
    child.wait()
    assert f"sent SIGTERM to {child.pid}" in fault.error


async def test_scratch_keep_run_reading_importing_and_logging_are_what_steps_may_do(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "imported_by_a_step.py").write_text("X = 1\n")
    import logging

    handler = logging.FileHandler(tmp_path / "log", delay=True)
    logging.getLogger("mine").addHandler(handler)

    async def work(ctx: RemediationContext) -> Finding:
        (ctx.scratch / "folder").mkdir()
        (ctx.scratch / "folder" / "big").write_text("x" * 100)
        await ctx.keep(ctx.scratch / "folder" / "big")
        assert (await ctx.run(["sh", "-c", "ls > listing; cat listing"])).exit_code == 0
        assert (ctx.scratch / "listing").read_text()
        os.rename(ctx.scratch / "listing", ctx.scratch / "other")
        await ctx.read_text(ctx.event.subject)
        await ctx.glob(f"{tmp_path}/**")
        assert ctx.process_alive(os.getpid())
        sys.path.insert(0, str(tmp_path / "modules"))
        import imported_by_a_step  # noqa: F401

        logging.getLogger("mine").error("hello")
        ctx.log.info("hello")
        with open("/dev/null", "w") as nowhere:
            nowhere.write("x")
        return Finding.applies()

    try:
        await nothing_said(tmp_path, work)
    finally:
        logging.getLogger("mine").removeHandler(handler)
        handler.close()
        sys.path.remove(str(tmp_path / "modules"))
    assert (tmp_path / "log").read_text()


async def test_with_strict_steps_off_changes_are_not_looked_for(tmp_path: Path) -> None:
    async def mutate(ctx: RemediationContext) -> Finding:
        (tmp_path / "target").write_text("x")
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=mutate), host={"strict_steps": False}) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=15)).status == "resolved"


async def test_what_effects_and_the_embedding_program_do_is_not_blamed_on_steps(tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def wait(ctx: RemediationContext) -> Finding:
        await let_go.wait()
        return Finding.applies()

    async with running_host(tmp_path, runbook("slow", code=BAD, precondition=wait), runbook()) as host:
        slow = await host.report(broken(tmp_path, "slow", code=BAD))
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=15)).status == "resolved"
        (tmp_path / "mine").write_text("x")
        subprocess.run(["true"], check=True)
        let_go.set()
        assert (await host.wait_for(slow, timeout=15)).status == "resolved"
        assert only(RunbookFaulted, await entries_of(host)) == []


async def test_the_working_directory_the_environment_and_signal_handlers_are_put_back_at_once(tmp_path: Path) -> None:
    before = (os.getcwd(), os.environ.get("HOME"), signal.getsignal(signal.SIGTERM))
    seen: list[Any] = []

    async def alter(ctx: RemediationContext) -> Finding:
        os.chdir("/")
        os.environ["HOME"] = "/nowhere"
        os.environ["ADDED_BY_A_STEP"] = "1"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        await asyncio.sleep(0)
        seen.append((os.getcwd(), os.environ.get("HOME"), signal.getsignal(signal.SIGTERM)))
        return Finding.applies()

    _, fault, _ = await faulted(tmp_path, alter)
    assert seen == [before]
    assert (os.getcwd(), os.environ.get("HOME"), signal.getsignal(signal.SIGTERM)) == before
    assert "ADDED_BY_A_STEP" not in os.environ
    for what in ("working directory", "variable HOME", "variable ADDED_BY_A_STEP", "SIGTERM"):
        assert what in fault.error


async def test_the_umask_is_put_back_within_two_beats(tmp_path: Path) -> None:
    before = conduct.umask()

    async def alter(ctx: RemediationContext) -> Finding:
        os.umask(0)
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=alter)) as host:
        beats: list[int] = []
        host.on_beat(lambda: beats.append(1), 0.05)
        await eventually(lambda: beats)
        await host.wait_for(await host.report(broken(tmp_path)), timeout=15)
        await eventually(lambda: conduct.umask() == before)


async def test_a_long_turn_is_measured_and_waiting_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LONGEST_TURN", 0.2)

    async def block(ctx: RemediationContext) -> Finding:
        time.sleep(0.8)
        return Finding.applies()

    async def wait(ctx: RemediationContext) -> Finding:
        await asyncio.sleep(0.8)
        return Finding.applies()

    async with running_host(tmp_path, runbook("bad", code=BAD, precondition=block), runbook(precondition=wait)) as host:
        good = await host.report(broken(tmp_path, "good"))
        bad = await host.report(broken(tmp_path, code=BAD))
        assert (await host.wait_for(good, timeout=15)).status == "resolved"
        assert (await host.wait_for(bad, timeout=15)).status == "escalated"
        (fault,) = only(RunbookFaulted, await entries_of(host))
        assert "precondition blocked the event loop for 0.8 s" in fault.error
