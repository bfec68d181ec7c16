"""
Conduct: what a runbook's step does beside what it returns, seen while it runs, and put right when it ends.

A step reads, and returns a value. Whatever else it does is a fault of its runbook: it blocks the event loop, leaves tasks, threads or
processes behind, changes files, or alters what belongs to the whole process. What is seen, and what can't be, stands in
``docs/explanation/promises-and-limits.md``. This is no sandbox.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Coroutine, Generator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import coroutine
from typing import Any, TypeVar

import psutil
import structlog

from remediation.coordination.processes import ours
from remediation.effects import threads as effect_threads

T = TypeVar("T")
NOTED = 10
"""Notes about one step that are kept."""
GRACE = 2.0
"""Seconds that what a step left behind has to end once it was told to."""
LONGEST_TURN = 5.0
"""Seconds that one turn of a step may keep the event loop from everybody else."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM)
"""Those that a host relies on, or that are set to interrupt it."""
_handler = _signal.getsignal
"""Without the wrapper of `signal`: it makes an enum of the answer, and where that fails words an error that shows the whole handler."""


@dataclass(slots=True, eq=False)
class Scope:
    """One call of a step, as far as it is seen."""

    runbook: str
    step: str
    incident: str
    strict: bool = True
    may_write: tuple[str, ...] = ()
    """Folders, each with a slash at its end."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    threads: list[threading.Thread] = field(default_factory=list)
    children: set[int] = field(default_factory=set)
    before_fork: set[int] | None = None
    notes: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Seconds of its longest turn."""
    folder: str | None = None
    """The working directory before the step changed it."""
    environment: dict[bytes, Any] = field(default_factory=dict)
    """Variables that it changed, as they were."""
    pid: int = field(default_factory=os.getpid)

    def note(self, what: str) -> None:
        """Remember something that a step must not do."""
        if what not in self.notes and len(self.notes) < NOTED:
            self.notes.append(what)

    @property
    def clean(self) -> bool:
        """Whether there is nothing to put right."""
        return not (self.notes or self.threads or self.children) and all(task.done() for task in self.tasks)

    def started(self, thread: threading.Thread) -> None:
        """Remember a thread that must not outlive the step."""
        if thread not in self.threads and not _pooled(thread):
            self.threads.append(thread)


STEP: ContextVar[Scope | None] = ContextVar("remediation_step", default=None)
"""The step that the running code belongs to; copied to its tasks, and to threads that were started with a copy of the context."""


@contextlib.contextmanager
def ours_to_do() -> Iterator[None]:
    """What happens inside is done by the engine on behalf of a step, and not by the step."""
    token = STEP.set(None)
    try:
        yield
    finally:
        STEP.reset(token)


@contextlib.contextmanager
def marking_tasks() -> Iterator[None]:
    """Let the running loop tell each step of the tasks that it makes, also through what it calls."""
    loop = asyncio.get_running_loop()
    before: Any = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> Any:
        task = before(loop, work, **options) if before is not None else asyncio.Task(work, loop=loop, **options)
        scope = STEP.get()
        if scope is not None and isinstance(task, asyncio.Task):
            scope.tasks.add(task)
        return task

    factory: Any = make
    loop.set_task_factory(factory)
    try:
        yield
    finally:
        # Whoever set another one meanwhile builds on ours, which does no harm.
        if loop.get_task_factory() is factory:
            loop.set_task_factory(before)


class Conduct:
    """
    What a host sees of its runbooks' steps.

    Args:
        may_write: Folders in which steps may write: scratch, and where `keep` puts what it keeps.
        strict: Whether changes of files and of the process count; they are seen only after `audit.install`.

    """

    def __init__(self, *may_write: Path, strict: bool = False) -> None:
        self._strict = strict
        self._may_write = tuple(f"{os.path.abspath(folder)}/" for folder in may_write)
        self.executing: tuple[Scope, float] | None = None
        """The step that has the event loop at this moment, and since when (`time.monotonic`). Read by a thread."""
        self._umask: int | None = None
        self._ran: set[str] = set()
        self._log = structlog.get_logger("remediation.engine")

    def scope(self, runbook: str, step: str, incident: str) -> Scope:
        """The scope for one call of a step."""
        self._ran.add(runbook)
        return Scope(runbook, step, incident, self._strict, self._may_write)

    @coroutine
    def drive(self, work: Coroutine[Any, Any, T], scope: Scope) -> Generator[Any, Any, T]:
        """Await `work`, the step of `scope`, turn by turn: each is timed, and what it altered of the process is put back."""
        error: BaseException | None = None
        while True:
            began, threads = time.monotonic(), threading.active_count()
            handlers = [_handler(number) for number in _SIGNALS] if scope.strict else None
            self.executing = (scope, began)
            try:
                awaited = work.send(None) if error is None else work.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the coroutine returned
            finally:
                self.executing = None
                _after_turn(scope, began, threads, handlers)
            error = None
            try:
                yield awaited
            except GeneratorExit:
                work.close()
                raise
            except BaseException as thrown:
                error = thrown

    def look(self) -> None:
        """Now and then: put the umask back, which can't be watched turn by turn. Whose it was is known if only one runbook ran."""
        ran, self._ran = self._ran, set()
        now = umask()
        if self._umask is None:
            self._umask = now
        elif now != self._umask:
            os.umask(self._umask)
            self._log.error("the umask of the process was changed, and was put back", umask=oct(now), ran=sorted(ran))


async def put_right(scope: Scope) -> tuple[str, asyncio.Task[Any] | None]:
    """
    End what the step left behind, and put back what it altered.

    Returns:
        What it did, as one line, empty if nothing; and what of it could not be stopped.

    """
    tasks = await _end_tasks(scope)
    _put_back(scope)
    await _end_children(scope)
    await _note_threads(scope)
    return "; ".join(scope.notes), asyncio.create_task(_all(tasks)) if tasks else None


async def _all(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


async def _end_tasks(scope: Scope) -> list[asyncio.Task[Any]]:
    """Cancel the tasks that are left; returns those that don't stop."""
    left = _pending(scope)
    for _ in range(3):
        if not left:
            return []
        # One that was told to stop needs a turn to do so.
        await asyncio.sleep(0)
        left = _pending(scope)
    if not left:
        return []
    names = ", ".join(sorted(_name(task) for task in left)[:3])
    number = f"{len(left)} tasks" if len(left) > 1 else "a task"
    scope.note(f"left {number} running ({names}{', …' if len(left) > 3 else ''})")
    for task in left:
        task.cancel()
    await asyncio.wait(left, timeout=GRACE)
    for task in left:
        if task.done() and not task.cancelled():
            task.exception()
    return _pending(scope)


def _pending(scope: Scope) -> list[asyncio.Task[Any]]:
    return [task for task in scope.tasks if not task.done() and task is not asyncio.current_task()]


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "") or task.get_name()


def _pooled(thread: threading.Thread) -> bool:
    """Whether it belongs to the event loop's pool, anyio's or that of effects, which keep their threads for whoever comes next."""
    if type(thread).__module__.startswith("anyio."):
        return True
    # Taken apart because a pool that a step makes for itself has threads of the same kind, and should not outlive it.
    arguments = getattr(thread, "_args", ())
    owner = arguments[0]() if arguments and callable(arguments[0]) else None
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    return owner is not None and owner in (effect_threads.POOL, getattr(loop, "_default_executor", None))


async def _note_threads(scope: Scope) -> None:
    left = [thread for thread in scope.threads if thread.is_alive()]
    deadline = time.monotonic() + 0.2
    while left and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
        left = [thread for thread in left if thread.is_alive()]
    for thread in left:
        scope.note(f"left the thread {thread.name} running; a thread can't be ended from outside")


async def _end_children(scope: Scope) -> None:
    left = [child for child in map(_alive, scope.children) if child is not None]
    for child in left:
        with contextlib.suppress(psutil.Error):
            scope.note(f"left the process {child.pid} ({child.name()}) running; it was ended")
        family = [child]
        with contextlib.suppress(psutil.Error):
            family += child.children(recursive=True)
        for each in family:
            with contextlib.suppress(psutil.Error):
                each.kill()
    deadline = time.monotonic() + GRACE
    while any(_alive(child.pid) for child in left) and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel sets no Event
        await asyncio.sleep(0.01)
    for pid in scope.children:
        # What was forked by hand has nobody else who would wait for it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG


def _alive(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if process.ppid() == os.getpid() and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _after_turn(scope: Scope, began: float, threads: int, handlers: list[Any] | None) -> None:
    if os.getpid() != scope.pid:
        # A step that forked and went on in the child: two hosts must not come of one.
        os._exit(70)
    scope.longest = max(scope.longest, time.monotonic() - began)
    if (more := threading.active_count() - threads) > 0:
        for thread in threading.enumerate()[-more:]:  # the newest stand last
            scope.started(thread)
    if scope.before_fork is not None:
        scope.children |= children() - scope.before_fork - ours()
        scope.before_fork = None
    if scope.folder is not None or scope.environment:
        _put_back(scope)
    if handlers is not None and threading.current_thread() is threading.main_thread():
        for number, before in zip(_SIGNALS, handlers, strict=True):
            if before is not None and (now := _handler(number)) is not before and now != before:
                signal.signal(number, before)
                scope.note(f"changed what is done at {number.name}; it was put back")


def _put_back(scope: Scope) -> None:
    with ours_to_do():
        if scope.folder is not None:
            folder, scope.folder = scope.folder, None
            with contextlib.suppress(OSError):
                os.chdir(folder)
        environment, scope.environment = scope.environment, {}
        for name, value in environment.items():
            if value is None:
                os.environb.pop(name, None)
            else:
                os.environb[name] = value


def children() -> set[int]:
    """Pids of this process's children."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text("ascii").split()))
    except OSError:
        pass
    return found or {child.pid for child in psutil.Process().children()}


def umask() -> int:
    """The mask that files are made with, read without changing it for a moment."""
    try:
        for line in Path("/proc/self/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022
