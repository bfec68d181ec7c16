"""Blocking work of effects: in a worker thread, and never left alone there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import anyio.to_thread

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """
    `function(*args)` in a worker thread: one hop for all blocking work of a step.

    A thread can't be stopped. So a step that is cancelled, however often, waits here until the function has returned, and only then
    is cancelled: nothing may be taken back, or done again, beside work that still goes on.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(function(*args))
        except BaseException as error:  # an exit too: raised within a task, it would end the loop and not the step
            outcome.set_exception(error)

    # A task of its own, as `run_sync` itself is shielded only from the scopes of anyio, and not from `Task.cancel`.
    running = asyncio.ensure_future(anyio.to_thread.run_sync(work))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    running.result()
    return outcome.result()
