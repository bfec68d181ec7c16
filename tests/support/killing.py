"""
Kills a real host between any two steps of a heal.

`Killer` keeps one server process that has everything imported and no thread; each host is a fork of it. In the fork every step that a
crash could separate from the next is counted: a journal's append and its commit, each call of an effect, each system call that changes
a file, each lock. Asked to, the fork kills itself with SIGKILL right before step number `stop`.
"""

import asyncio
import contextlib
import functools
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
_PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
NEVER = 10**9
CALLS = ("fsync", "rename", "unlink", "link", "fchmod", "mkdir", "rmdir")
ASLEEP = 0.2
"""Seconds."""
PATIENCE = 30.0
"""Seconds of real time in which a host must have settled everything."""


class Killer:
    """The server, as a context manager. One request at a time."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killing"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": _PATHS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(20)
        self._server.stdout.close()

    def make(self, base: Path, kind: str) -> None:
        """Make the world of a `Scene`."""
        self._ask(base=str(base), kind=kind, make=True)

    def run(
        self,
        base: Path,
        kind: str,
        *,
        report: bool | Sequence[str],
        stop: int = NEVER,
        after: float = 0.0,
        by: int = signal.SIGKILL,
        answers: bool = True,
    ) -> dict[str, Any]:
        """
        Run a host on the scene until everything is settled, or it was killed.

        Args:
            report: Whether the host is told of the degradation; for a path (`tests.support.paths`), of which ones.
            stop: The step before which it signals itself, counted from 0.
            after: Seconds after which it is killed from outside; 0: never.
            by: The signal. After SIGTERM it is to stop; after SIGSTOP it sleeps for `ASLEEP`, and goes on.
            answers: Whether people answer what they are asked while it runs.

        Returns:
            ``killed``; ``steps`` (how many were counted, if it was not killed); ``told``: the incident whose report was acknowledged;
            ``acknowledged``: all of them, by subject; ``error``; ``trail``: the steps; ``took``: seconds from SIGTERM to its end.

        """
        return self._ask(base=str(base), kind=kind, report=report, stop=stop, after=after, by=by, answers=answers)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def main() -> None:
    import tests.support.heals
    import tests.support.paths  # noqa: F401 - imported once, for all forks

    from remediation.discovery import BUILTIN

    for name in BUILTIN:
        __import__(name)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("make"):
            _scene(request).make()
            print("{}", flush=True)
            continue
        print(json.dumps(_forked(request)), flush=True)


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            _child(request, write)
        finally:
            os._exit(1)
    os.close(write)
    if request["after"]:
        time.sleep(request["after"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    ended: int | None = None
    if request["by"] == signal.SIGSTOP:
        _, status = os.waitpid(child, os.WUNTRACED)
        ended = None if os.WIFSTOPPED(status) else status
        if ended is None:
            time.sleep(ASLEEP)
            os.kill(child, signal.SIGCONT)
    with os.fdopen(read) as answers:
        said = answers.read().splitlines()
    status = os.waitpid(child, 0)[1] if ended is None else ended
    answer: dict[str, Any] = {"steps": 0, "error": "", "told": "", "trail": [], "acknowledged": {}, "took": 0.0}
    for line in said:
        # A killed child may have been cut off in the middle of its last word.
        with contextlib.suppress(ValueError):
            news = json.loads(line)
            answer["acknowledged"] |= {news["subject"]: news["told"]} if "subject" in news else {}
            answer |= news
    return {**answer, "killed": os.WIFSIGNALED(status)}


def _scene(request: dict[str, Any]) -> Any:
    from tests.support import heals, paths

    kind: Any = paths.Detour if request["kind"] in paths.KINDS else heals.Scene
    return kind(Path(request["base"]), request["kind"])


def _child(request: dict[str, Any], write: int) -> None:
    log = os.open(Path(request["base"]) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    counter = Counter(request["stop"], request["by"])
    counter.watch()
    answer: dict[str, Any] = {}

    def told(subject: str, incident: str) -> None:
        counter.write(write, json.dumps({"subject": subject, "told": incident}).encode() + b"\n")

    try:
        asyncio.run(_until_told(_lives(_scene(request), request, told)))
    except BaseException as error:
        import traceback

        answer["error"] = f"{type(error).__name__}: {error}\n{traceback.format_exc()[-3000:]}"
    counter.stop = NEVER
    took = time.monotonic() - counter.signalled if counter.signalled else 0.0
    answer |= {"steps": counter.passed, "trail": counter.trail, "took": took}
    counter.write(write, json.dumps(answer).encode() + b"\n")
    os._exit(0)


async def _until_told(life: Coroutine[Any, Any, None]) -> None:
    """A host's life; SIGTERM ends it as it ends an embedding program's: the body of ``async with boot.start()`` is left."""
    living = asyncio.ensure_future(life)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, living.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await living


async def _lives(scene: Any, request: dict[str, Any], told: Callable[[str, str], None]) -> None:
    async with scene.boot().start(watch=False) as host:
        if hasattr(scene, "live"):
            await scene.live(host, request["report"], told, answers=request["answers"])
        else:
            await _heal(scene, host, request["report"], told)


async def _heal(scene: Any, host: Any, report: bool, told: Callable[[str, str], None]) -> None:
    if report:
        told("thing", (await host.report(scene.event)).incident)
    await host.settle()
    end = time.monotonic() + PATIENCE
    while any(incident.open for incident in host.incidents()):
        if time.monotonic() > end:
            raise TimeoutError(f"open after {PATIENCE} s: {[incident for incident in host.incidents() if incident.open]}")
        await asyncio.sleep(0.005)


class Counter:
    """Counts steps, and signals this process before the one that it was told."""

    def __init__(self, stop: int, by: int) -> None:
        self.passed = 0
        self.stop = stop
        self.by = by
        self.signalled = 0.0
        self.trail: list[str] = []
        self.write = os.write

    def step(self, name: str) -> None:
        if self.passed == self.stop:
            self.signalled = time.monotonic()
            os.kill(os.getpid(), self.by)
            if self.by == signal.SIGKILL:
                time.sleep(60)
        self.passed += 1
        self.trail.append(name)

    def watch(self) -> None:
        """Count from now on."""
        from tests.support.paths import Ear

        from remediation.bootstrap import host as hosting
        from remediation.coordination.machine_lock import MachineLock, MachineLocked
        from remediation.effects import BUILTIN_KINDS, renaming
        from remediation.engine.told import Told
        from remediation.engine.treatment import treat  # noqa: F401
        from remediation.journal import IntentJournal
        from remediation.journal.head import HeadNote
        from remediation.stores.sqlite import SqliteJournalStore

        for name in CALLS:
            setattr(os, name, self._around(getattr(os, name), name, after=False))
        renaming._renamed = self._around(renaming._renamed, "renameat2", after=False)
        places: list[tuple[type, str]] = [
            (IntentJournal, "append"),
            (SqliteJournalStore, "commit"),
            (HeadNote, "advance"),
            (Ear, "send"),
            (Told, "write"),
            (MachineLock, "try_acquire"),
            (MachineLocked, "release"),
        ]
        places += [(kind, name) for kind in BUILTIN_KINDS for name in ("prepare", "apply", "probe", "revert")]
        for kind, name in places:
            setattr(kind, name, self._around(getattr(kind, name), f"{kind.__name__}.{name}", after=True))
        assert hosting

    def _around(self, real: Callable[..., Any], name: str, *, after: bool) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(real):

            @functools.wraps(real)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                self.step(f"before {name}")
                result = await real(*args, **kwargs)
                self.step(f"after {name}")
                return result

            return awaited

        @functools.wraps(real)
        def called(*args: Any, **kwargs: Any) -> Any:
            self.step(f"before {name}")
            result = real(*args, **kwargs)
            if after:
                self.step(f"after {name}")
            return result

        return called


if __name__ == "__main__":
    main()
