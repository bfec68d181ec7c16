"""Calling a runbook's step: with a deadline, and contained, whatever the step does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from remediation.context import RemediationContext
from remediation.engine.conduct import LONGEST_TURN, STEP, Conduct, Scope, put_right
from remediation.errors import OutsideRoots, RemediationError
from remediation.model.runbook import Escalation, Finding, Verdict, Wait
from remediation.model.text import SUMMARY_CAP, capped, printable, reason_of
from remediation.ports.effect import Plan
from remediation.runbook import Runbook

T = TypeVar("T")
CONDUCT: ContextVar[Conduct] = ContextVar("remediation_conduct", default=Conduct())  # noqa: B039 - it keeps nothing
"""What the host that this code works for sees of its steps."""
GRACE = 2.0
"""Seconds that a cancelled step has to end."""
_RETURNS: dict[str, tuple[type, ...]] = {
    "precondition": (Finding,),
    "action": (Plan, Wait),
    "verify": (Verdict, Wait),
    "escalate": (Escalation,),
}


class StepFault(RemediationError):
    """A runbook's step failed by its own fault. `running` is the task that could not be stopped, if it goes on."""

    def __init__(self, message: str, running: asyncio.Task[Any] | None = None) -> None:
        super().__init__(message)
        self.running = running


class StillRunning(asyncio.CancelledError):
    """Cancelled, as the host stops; but `running` goes on, and what it holds must stay locked as long as it does."""

    def __init__(self, running: asyncio.Task[Any]) -> None:
        super().__init__()
        self.running = running


class StepDeclined(RemediationError):
    """The step met a path outside the roots: the runbook declines."""


async def call_step(runbook: Runbook[Any], name: str, ctx: RemediationContext, *, seconds: float) -> Any:
    """
    Call the step `name` and return what it returned, checked for its type.

    Raises:
        StepDeclined: the step let an OutsideRoots through.
        StepFault: it raised, overran `seconds`, would not stop, returned what it must not, or did what a step must not do.

    """
    conduct = CONDUCT.get()
    scope = conduct.scope(runbook.spec.id, name, ctx.incident.id)
    ctx.advance(
        deadline=time.monotonic() + seconds
    )  # the loop's own time, which `bounded` goes by, whichever clock decisions go by
    try:
        result = await _result(runbook, name, ctx, conduct, scope, seconds)
    except StepFault as error:
        if error.running is None:
            await _blame(scope, name, error)
        raise
    except asyncio.CancelledError:
        for task in scope.tasks:
            task.cancel()
        raise
    finally:
        ctx.advance(deadline=0.0)
    if isinstance(result, OutsideRoots):
        await _blame(scope, name)
        raise StepDeclined(str(result)) from result
    longest = min(LONGEST_TURN, seconds) + GRACE
    if scope.longest > longest:
        scope.note(f"blocked the event loop for {scope.longest:.1f} s, its limit is {min(LONGEST_TURN, seconds):g} s")
    await _blame(scope, name)
    if not isinstance(result, _RETURNS[name]):
        wanted = " or ".join(kind.__name__ for kind in _RETURNS[name])
        raise StepFault(f"{name} returned {type(result).__name__} where {wanted} is due")
    return result


async def _result(runbook: Runbook[Any], name: str, ctx: RemediationContext, conduct: Conduct, scope: Scope, seconds: float) -> Any:
    """What the step returned, or the `OutsideRoots` that it let through."""
    token = STEP.set(scope)
    try:
        coroutine = getattr(runbook, name)(ctx)
        if not asyncio.iscoroutine(coroutine):
            raise StepFault(f"{name} is not an async function")
        return await bounded(_driven(coroutine, conduct, scope), seconds, name)
    except OutsideRoots as error:
        return error
    except StepFault:
        raise
    except Exception as error:
        raise StepFault(f"{name} raised {describe_error(error)}") from error
    finally:
        STEP.reset(token)


async def _driven(coroutine: Coroutine[Any, Any, Any], conduct: Conduct, scope: Scope) -> Any:
    return await conduct.drive(coroutine, scope)


async def _blame(scope: Scope, name: str, error: StepFault | None = None) -> None:
    """
    Put right what the step did beside its work.

    Raises:
        StepFault: if there was anything; behind what `error` says.

    """
    if scope.clean:
        return
    did, running = await put_right(scope)
    if did or running is not None:
        before = f"{error}; it also " if error is not None else f"{name} "
        raise StepFault(before + did + (" and does not stop" if running is not None else ""), running) from error


async def contained(coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """
    What `coroutine` returns or raises; an attempt to end the process, or a cancellation that nobody asked for, is its own fault.

    Raises:
        StepFault: as said. Either would otherwise end more than the plugin that it came from.

    """
    try:
        return await coroutine
    except SystemExit as error:
        raise StepFault(f"{name} raised {describe_error(error)}: nothing in a host may end its process") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise StepFault(f"{name} cancelled itself") from None


async def bounded(coroutine: Coroutine[Any, Any, T], seconds: float, name: str) -> T:
    """
    Like `contained`, and cancelled after `seconds`.

    Raises:
        StepFault: also when it overran; with `running` when it doesn't stop within GRACE seconds more.

    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not ended.done():
            ended.set_result(None)

    async def work() -> T:
        try:
            return await contained(coroutine, name)
        finally:
            end()  # a turn of the loop before the task's callbacks, and the task is done by the time that anybody looks

    task = asyncio.ensure_future(work())
    task.add_done_callback(end)  # one that is cancelled before it begins never comes to the end of its work
    overran = False

    def overrun() -> None:
        nonlocal overran
        overran = True
        task.cancel()
        stuck.append(loop.call_later(GRACE, end))

    stuck: list[asyncio.TimerHandle] = []
    timer = loop.call_later(seconds, overrun)
    try:
        await ended
    except asyncio.CancelledError:
        # The engine itself is stopping: the step goes with it, and is given a moment to do so.
        task.cancel()
        with contextlib.suppress(BaseException):
            await asyncio.wait({task}, timeout=GRACE)
        if not task.done():
            raise StillRunning(task) from None
        raise
    finally:
        timer.cancel()
        for handle in stuck:
            handle.cancel()
    limit = f"{round(seconds, 2):g} s"  # what is left of a stage's time has no round figure
    if not task.done():
        raise StepFault(f"{name} overran {limit} and does not stop", running=task)
    if overran:
        if not task.cancelled():
            task.exception()
        raise StepFault(f"{name} overran {limit} and was cancelled")
    return task.result()


def describe_error(error: BaseException) -> str:
    """An exception as one safe line: its type and message, never a value of a local variable."""
    reason = reason_of(error)
    text = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return capped(printable(text), SUMMARY_CAP)
