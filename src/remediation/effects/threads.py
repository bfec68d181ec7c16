"""Blocking work of effects: in a worker thread, and never left alone there."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
POOL = ThreadPoolExecutor(40, thread_name_prefix="remediation effect")
"""Its threads stay for whoever comes next. As many as anyio allows: one that hangs on a dead disk must not keep the others waiting."""


def _begin_anew() -> None:
    """A child that was forked has none of the threads, and a pool that waits for them."""
    global POOL  # noqa: PLW0603 - it is this process that is another one
    POOL = ThreadPoolExecutor(40, thread_name_prefix="remediation effect")


os.register_at_fork(after_in_child=_begin_anew)


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """
    `function(*args)` in a worker thread: one hop for all blocking work of a step.

    A thread can't be stopped. So a step that is cancelled, however often, waits here until the function has returned, and only then
    is cancelled: nothing may be taken back, or done again, beside work that still goes on.
    """
    # Not anyio's way: what that adds for its own scopes takes half as long again as the hop, and a heal makes two.
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(wake)

    outcome = POOL.submit(contextvars.copy_context().run, function, *args)
    outcome.add_done_callback(tell)
    cancelled: asyncio.CancelledError | None = None
    while not outcome.done():
        try:
            await waiter
        except asyncio.CancelledError as error:
            cancelled = error
            waiter = loop.create_future()
    if cancelled is not None:
        raise cancelled
    # An exit too comes out here, and not in the thread.
    return outcome.result()
