"""The threads in which effects do what blocks."""

import asyncio
import subprocess
import sys
import threading

import pytest

from remediation.effects.threads import in_thread

_FORKED = """
import asyncio, os, signal, threading, warnings
warnings.simplefilter("ignore")
from remediation.effects.threads import in_thread

async def three_at_once():
    together = threading.Barrier(3).wait
    await asyncio.gather(*(in_thread(together) for _ in range(3)))

asyncio.run(three_at_once())
child = os.fork()
if not child:
    signal.alarm(10)
    os._exit(0 if asyncio.run(in_thread(os.getpid)) == os.getpid() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


async def test_what_is_returned_or_raised_comes_out() -> None:
    assert await in_thread(max, 1, 3, 2) == 3
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


async def test_an_exit_in_a_thread_is_raised_where_it_is_awaited() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await in_thread(leave)


async def test_however_often_it_is_cancelled_it_ends_after_the_work_and_cancelled() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        may_end.wait(20)
        ended.append(True)

    task = asyncio.create_task(in_thread(work))
    assert await asyncio.to_thread(begun.wait, 20)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


def test_work_that_outlives_its_loop_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    may_end = threading.Event()
    loop = asyncio.new_event_loop()
    work = in_thread(may_end.wait, 20)
    task = loop.create_task(work)
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # that it is lost is what is tried here
    loop.close()
    may_end.set()
    assert asyncio.run(in_thread(max, 1, 2)) == 2
    work.close()
    assert capfd.readouterr().err == ""


def test_a_child_that_was_forked_has_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
