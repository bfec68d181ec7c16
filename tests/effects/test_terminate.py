"""Processes are ended by identity: never one that was given the pid later."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError
from tests.support.world import EffectWorld, carry_out, prepare, stored

from remediation.effects import DeclaredDisposable, TerminateProcess, terminate
from remediation.errors import EffectConflict, EffectError, EffectRefused
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Reversibility

IGNORES = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(1000)"


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    return EffectWorld(tmp_path)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    started: list[subprocess.Popen] = []

    def begin(*argv: str, ready: bool = False) -> subprocess.Popen:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE if ready else None)
        started.append(process)
        if ready:
            assert process.stdout
            process.stdout.readline()
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


async def test_a_process_ends_at_sigterm(world: EffectWorld, start: Callable[..., subprocess.Popen]) -> None:
    process = start("sleep", "1000")
    effect = TerminateProcess.of(process.pid)
    assert stored(effect).promised(world) is Promise.STATE
    assert f"end process {process.pid} (started 20" in effect.describe()
    prepared, output = await carry_out(effect, world)
    assert effect.diff(prepared, world) == "ends 'sleep'\n"
    assert output.signal == "SIGTERM"
    assert await effect.probe(world, prepared) is Probe.APPLIED
    assert process.wait() == -signal.SIGTERM
    with pytest.raises(EffectError, match="brought back"):
        await effect.revert(world, prepared, output)


async def test_who_ignores_sigterm_is_killed_after_the_grace(world: EffectWorld, start: Callable[..., subprocess.Popen]) -> None:
    process = start(sys.executable, "-c", IGNORES, ready=True)
    _, output = await carry_out(TerminateProcess.of(process.pid, grace="100ms"), world)
    assert output.signal == "SIGKILL"
    assert process.wait() == -signal.SIGKILL


async def test_a_process_that_lives_is_not_ended_yet(world: EffectWorld, start: Callable[..., subprocess.Popen]) -> None:
    process = start("sleep", "1000")
    effect = TerminateProcess.of(process.pid)
    prepared = await prepare(effect, world)
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    await effect.revert(world, prepared, None)
    assert process.poll() is None


async def test_another_process_with_the_pid_is_never_hit(world: EffectWorld, start: Callable[..., subprocess.Popen]) -> None:
    process = start("sleep", "1000")
    effect = TerminateProcess(pid=process.pid, start_time=psutil.Process(process.pid).create_time() - 5)
    prepared, output = await carry_out(effect, world)
    assert (prepared.alive, output.signal) == (False, "")
    assert await effect.probe(world, prepared) is Probe.APPLIED
    effect = TerminateProcess.of(process.pid)
    prepared = await prepare(effect, world)
    given_away = prepared.model_copy(update={"ticks": prepared.ticks - 1})
    assert (await effect.apply(world, given_away)).signal == ""
    assert await effect.probe(world, given_away) is Probe.APPLIED
    rebooted = prepared.model_copy(update={"boot": "another"})
    assert (await effect.apply(world, rebooted)).signal == ""
    assert process.poll() is None


async def test_a_process_that_is_gone_is_ended_already(world: EffectWorld, start: Callable[..., subprocess.Popen]) -> None:
    process = start("sleep", "1000")
    effect = TerminateProcess.of(process.pid)
    alive = await prepare(effect, world)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert await effect.probe(world, alive) is Probe.APPLIED, "a zombie runs no more"
    process.wait()
    assert (await effect.apply(world, alive)).signal == ""
    prepared, output = await carry_out(effect, world)
    assert effect.diff(prepared, world) == "the process is gone already\n"
    await effect.revert(world, prepared, output)
    with pytest.raises(EffectConflict, match="no process"):
        TerminateProcess.of(process.pid)


async def test_a_pid_of_another_namespace_proves_nothing(world: EffectWorld, start: Callable[..., subprocess.Popen]) -> None:
    process = start("sleep", "1000")
    effect = TerminateProcess.of(process.pid)
    prepared = (await prepare(effect, world)).model_copy(update={"namespace": "pid:[1]"})
    assert await effect.probe(world, prepared) is Probe.UNKNOWN
    with pytest.raises(EffectConflict, match="namespace"):
        await effect.apply(world, prepared)


async def test_init_the_host_its_parent_and_the_kernel_are_refused(world: EffectWorld) -> None:
    for pid in (1, os.getpid(), os.getppid()):
        with pytest.raises(EffectRefused, match="no runbook may end"):
            await TerminateProcess.of(pid).prepare(world)
    kernel = [process.pid for process in psutil.process_iter() if process.pid == 2 and not process.cmdline()]
    for pid in kernel:
        with pytest.raises(EffectRefused, match="kernel"):
            await TerminateProcess.of(pid).prepare(world)


async def test_only_the_process_that_was_meant_is_planned(
    world: EffectWorld, start: Callable[..., subprocess.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("sleep", "1000")
    with pytest.raises(EffectConflict, match="command line"):
        await TerminateProcess.of(process.pid, argv=["nginx"]).prepare(world)
    with pytest.raises(EffectConflict, match="does not belong"):
        await TerminateProcess.of(process.pid, unit="app").prepare(world)
    await TerminateProcess.of(process.pid, argv=["sleep"]).prepare(world)
    monkeypatch.setattr(terminate, "_units", lambda pid: frozenset({"system.slice", "app.service"}))
    await TerminateProcess.of(process.pid, unit="app").prepare(world)


def test_the_units_of_a_process_are_read_from_its_control_group() -> None:
    assert isinstance(terminate._units(os.getpid()), frozenset)
    assert terminate._units(2**30) == frozenset()


def test_it_is_disposable_only_if_its_unit_or_command_was_declared(world: EffectWorld) -> None:
    world.disposable = DeclaredDisposable(units=["app.service"], argv_prefixes=[["worker"]])
    plain = {"pid": 5, "start_time": 1}
    assert TerminateProcess(**plain).reversibility(world) is Reversibility.IRREVERSIBLE
    assert TerminateProcess(**plain, unit="app").reversibility(world) is Reversibility.DISPOSABLE
    assert TerminateProcess(**plain, unit="other").reversibility(world) is Reversibility.IRREVERSIBLE
    assert TerminateProcess(**plain, argv=["worker", "-x"]).reversibility(world) is Reversibility.DISPOSABLE


async def test_it_does_not_begin_after_its_deadline(world: EffectWorld, start: Callable[..., subprocess.Popen]) -> None:
    process = start("sleep", "1000")
    effect = TerminateProcess.of(process.pid)
    prepared = await prepare(effect, world)
    world.deadline = world.clock.monotonic() - 1
    with pytest.raises(EffectError, match="deadline"):
        await effect.apply(world, prepared)
    assert process.poll() is None


async def test_a_process_that_will_not_die_is_an_error(
    world: EffectWorld, start: Callable[..., subprocess.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("sleep", "1000")
    effect = TerminateProcess.of(process.pid, grace="10ms")
    prepared = await prepare(effect, world)
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda handle, number: None)
    monkeypatch.setattr(terminate, "_KILL_SECONDS", 0.05)
    with pytest.raises(EffectError, match="did not end"):
        await effect.apply(world, prepared)


async def test_a_thread_is_no_process(world: EffectWorld) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        assert thread.native_id != os.getpid()
        with pytest.raises(EffectRefused, match="thread"):
            await TerminateProcess.of(thread.native_id).prepare(world)
    finally:
        release.set()
        thread.join()


def test_the_start_time_is_kept_in_whole_milliseconds() -> None:
    assert TerminateProcess(pid=5, start_time=1700000000.1234).start_time == 1700000000123
    assert TerminateProcess(pid=5, start_time=1700000000123).start_time == 1700000000123
    for fields in ({"pid": 0, "start_time": 1}, {"pid": -1, "start_time": 1}, {"pid": 5}):
        with pytest.raises(ValidationError):
            TerminateProcess(**fields)
