"""Commands end for certain, say what they said, and leave nothing behind that stayed in their group."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import psutil
import pytest

from remediation.coordination import processes
from remediation.coordination.processes import OUTPUT_CAP, clean_environment, run_process
from remediation.errors import ProcessError


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    await until(lambda: not [child for child in psutil.Process().children() if "sleep" in child.name()])
    assert len(os.listdir("/proc/self/fd")) <= len(before), "a descriptor leaked"


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def number_in(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


async def test_a_command_says_what_it_said() -> None:
    done = await run_process(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=10)
    assert (done.exit_code, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")
    assert 0 <= done.duration_ms < 10_000


async def test_no_shell_reads_the_arguments() -> None:
    done = await run_process(["printf", "%s|", "a b", "$HOME", "*"], timeout=10)
    assert done.stdout == "a b|$HOME|*|"


async def test_there_is_no_standard_input_unless_it_is_given() -> None:
    assert (await run_process(["cat"], timeout=10)).stdout == ""
    data = b"line\n" * 100_000
    assert (await run_process(["wc", "-c"], timeout=10, stdin=data)).stdout.strip() == str(len(data))
    assert (await run_process(["true"], timeout=10, stdin=data)).exit_code == 0


async def test_only_the_allow_listed_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("LANG", "C.UTF-8")
    done = await run_process(["env"], timeout=10, env={"GIVEN": "1"}, cwd=tmp_path)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert {"PATH", "LANG", "GIVEN"} <= names
    assert "DATABASE_PASSWORD" not in names
    assert "DATABASE_PASSWORD" not in clean_environment()
    assert (await run_process(["pwd"], timeout=10, cwd=tmp_path)).stdout.strip() == str(tmp_path)


async def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    for argv, cwd in ((["no-such-command"], None), (["true"], tmp_path / "missing"), (["true", "\0"], None)):
        with pytest.raises(ProcessError, match="can't start"):
            await run_process(argv, timeout=10, cwd=cwd)


async def test_a_signal_is_a_negative_exit_code() -> None:
    assert (await run_process(["sh", "-c", "kill -9 $$"], timeout=10)).exit_code == -signal.SIGKILL


async def test_at_the_timeout_the_whole_group_is_ended(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; echo waiting; wait"
    begin = time.monotonic()
    with pytest.raises(ProcessError, match=r"ended after 0\.3 s; it last said: 'waiting"):
        await run_process(["sh", "-c", script], timeout=0.3)
    assert time.monotonic() - begin < processes.GRACE
    assert not alive(number_in(tmp_path / "pid"))


async def test_a_host_that_has_more_than_a_thousand_files_open_ends_commands_all_the_same(tmp_path: Path) -> None:
    # select(2) knows no descriptor from 1024 on.
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(open(os.devnull, "rb"))
        with pytest.raises(ProcessError, match="ended after"):
            await run_process(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 1000"], timeout=0.3)
        assert not alive(number_in(tmp_path / "pid"))


async def test_who_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.3)
    script = f"trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $! > {tmp_path}/pid; wait; wait"
    with pytest.raises(ProcessError, match="ended after"):
        await run_process(["sh", "-c", script], timeout=0.3)
    assert not alive(number_in(tmp_path / "pid"))


async def test_what_a_command_leaves_running_in_its_group_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.3)
    for trap in ("", "trap '' TERM; "):
        script = f"({trap}exec sleep 1000) & echo $! > {tmp_path}/pid; sleep 0.1; echo done"
        done = await run_process(["sh", "-c", script], timeout=10)
        assert (done.exit_code, done.stdout) == (0, "done\n")
        pid = number_in(tmp_path / "pid")
        await until(lambda pid=pid: not alive(pid))


async def test_a_child_that_left_the_group_and_holds_the_output_does_not_hold_the_caller(tmp_path: Path) -> None:
    script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' & while [ ! -s {tmp_path}/pid ]; do :; done; echo done"
    begin = time.monotonic()
    done = await run_process(["sh", "-c", script], timeout=30)
    assert done.stdout == "done\n"
    assert time.monotonic() - begin < 5
    pid = number_in(tmp_path / "pid")
    assert alive(pid), "children that leave the group are outside the promise"
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid))


@pytest.mark.parametrize("cancels", [1, 5])
async def test_a_cancelled_caller_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancels: int) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.5)
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    task = asyncio.create_task(run_process(["sh", "-c", script], timeout=60))
    await until(lambda: number_in(tmp_path / "pid") > 0)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(number_in(tmp_path / "pid")), "it returned before the command was gone"


async def test_a_cancelled_scope_waits_until_the_command_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.3)
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    with anyio.move_on_after(0.5) as scope:
        await run_process(["sh", "-c", script], timeout=60)
    assert scope.cancelled_caught
    assert number_in(tmp_path / "pid")
    assert not alive(number_in(tmp_path / "pid"))


async def test_much_output_is_kept_at_both_ends_and_never_blocks_the_child() -> None:
    script = "import sys; sys.stdout.write('begin' + 'x' * 5_000_000 + 'end'); sys.stderr.write('e' * 3_000_000)"
    done = await run_process([sys.executable, "-c", script], timeout=30)
    assert done.exit_code == 0
    assert done.stdout.startswith("begin")
    assert done.stdout.endswith("end")
    assert "bytes cut]" in done.stdout
    assert len(done.stdout) <= OUTPUT_CAP + 100
    kept = len(done.stdout.replace("\n", "").partition("…")[0]) + len(done.stdout.rpartition("cut]\n")[2])
    assert int(done.stdout.partition("… [")[2].partition(" ")[0]) == 5_000_008 - kept


async def test_output_up_to_the_cap_is_whole() -> None:
    script = f"import sys; sys.stdout.write('x' * {OUTPUT_CAP})"
    assert len((await run_process([sys.executable, "-c", script], timeout=30)).stdout) == OUTPUT_CAP


async def test_output_that_is_no_text_is_readable_all_the_same() -> None:
    done = await run_process(["printf", r"\377\376ok"], timeout=10)
    assert done.stdout == "\ufffd\ufffdok"


async def test_a_lock_is_held_for_as_long_as_the_command_runs(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    script = f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    task = asyncio.create_task(run_process(["sh", "-c", script], timeout=30, inherit=[descriptor]))
    await until(lambda: number_in(tmp_path / "pid") > 0)
    os.close(descriptor)
    other = os.open(tmp_path / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (tmp_path / "go").touch()
        await task
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


async def test_descriptors_that_are_not_to_be_inherited_are_not(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        done = await run_process(["ls", "-l", "/proc/self/fd"], timeout=10)
    finally:
        os.close(descriptor)
    assert str(tmp_path) not in done.stdout


async def test_the_pid_is_told_right_after_the_start() -> None:
    pids: list[int] = []
    done = await run_process(["sh", "-c", "echo $$"], timeout=10, started=pids.append)
    assert pids == [int(done.stdout)]


async def test_a_child_whose_start_cannot_be_recorded_is_ended() -> None:
    pids: list[int] = []

    def fails(pid: int) -> None:
        pids.append(pid)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await run_process(["sleep", "1000"], timeout=10, started=fails)
    assert not alive(pids[0])


async def test_an_exit_status_that_other_code_took_is_not_called_success() -> None:
    def steal(pid: int) -> None:
        os.waitpid(pid, 0)

    with pytest.raises(ProcessError, match="took its exit status"):
        await run_process(["false"], timeout=10, started=steal)


async def test_without_pidfds_the_end_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(pid: int, flags: int = 0) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert (await run_process(["sh", "-c", "sleep 0.1; exit 4"], timeout=10)).exit_code == 4
    with pytest.raises(ProcessError, match="ended after"):
        await run_process(["sleep", "1000"], timeout=0.1)


async def test_many_commands_run_at_once() -> None:
    done = await asyncio.gather(*(run_process(["sh", "-c", f"echo {n}"], timeout=30) for n in range(20)))
    assert [item.stdout.strip() for item in done] == [str(n) for n in range(20)]


async def test_errors_are_safe_to_print() -> None:
    with pytest.raises(ProcessError) as raised:
        await run_process(["sh", "-c", "printf '\\033[2Jx' >&2; sleep 1000", "\x1b]0;x\x07"], timeout=0.3)
    assert str(raised.value).isprintable()
