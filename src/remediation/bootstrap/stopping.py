"""Stopping within a bound: what does not end is left behind, and told of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import structlog


def bounded(seconds: float, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """
    `work` for an exit stack: cancelled after `seconds`, and left behind if that doesn't end it within one more.

    What it raises is logged: one part that fails to stop must not keep the others from it.
    """

    async def run() -> None:
        log = structlog.get_logger("remediation.host")
        task = asyncio.create_task(work(), name=f"stopping {what}")
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
            log.error("something does not stop, and is left behind", what=what, seconds=seconds)
        if task.done() and not task.cancelled() and task.exception() is not None:
            log.error("something failed to stop", what=what, exc_info=task.exception())

    return run


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel `task`, and wait for its end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
