"""An event loop for commands that call foreign code: signals end it, and code that blocks it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from remediation.errors import RemediationError

T = TypeVar("T")
BEAT = 0.5
BLOCKED = 40.0
"""Seconds without a beat after which whatever runs is interrupted; more than the time that a step has by default."""


class LoopBlocked(RemediationError):
    """Raised in code that let nothing else run for `BLOCKED` seconds."""


class Ended(RemediationError):
    """A signal ended the work. What was under way was cancelled, and has cleaned up after itself."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"received {number.name}")
        self.code = 128 + number


def run(work: Coroutine[Any, Any, T], *, blocked: float = BLOCKED) -> T:
    """
    Run `work` in the main thread. Tasks that it leaves behind are not waited for: they end with the process.

    Non-guarantee: code that blocks without ever coming back to Python (a library in C) is not interrupted; SIGKILL ends it.

    Args:
        blocked: See `BLOCKED`.

    Raises:
        Ended: SIGTERM or SIGINT came.

    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    beat = time.monotonic()
    received: list[signal.Signals] = []

    def alive() -> None:
        nonlocal beat
        beat = time.monotonic()
        loop.call_later(BEAT, alive)

    def stop(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        loop.call_soon_threadsafe(task.cancel)

    def look(_: int, __: object) -> None:
        nonlocal beat
        now = time.monotonic()
        # Whoever asked for the end should not have to wait for one who blocks.
        if now - beat > (2.0 if received else blocked):
            silent, beat = now - beat, now
            raise LoopBlocked(f"it blocked everything else for {silent:.0f} s, and was interrupted")

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGALRM: look}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.setitimer(signal.ITIMER_REAL, BEAT, BEAT)
    loop.call_soon(alive)
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        if received:
            raise Ended(received[0]) from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        for left in asyncio.all_tasks(loop):
            left.cancel()
        # One round for those that end when they are asked to.
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(asyncio.sleep(0))
