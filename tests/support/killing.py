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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
_PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
NEVER = 10**9
CALLS = ("fsync", "rename", "unlink", "link", "fchmod", "mkdir", "rmdir")
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

    def run(self, base: Path, kind: str, *, report: bool, stop: int = NEVER, after: float = 0.0) -> dict[str, Any]:
        """
        Run a host on the scene until everything is settled, or it was killed.

        Args:
            report: Whether the host is told of the degradation.
            stop: The step before which it kills itself, counted from 0.
            after: Seconds after which it is killed from outside; 0: never.

        Returns:
            ``killed``; ``steps`` (how many were counted, if it was not killed); ``told``: the incident whose report was acknowledged;
            ``error``; ``trail``: the steps.

        """
        return self._ask(base=str(base), kind=kind, report=report, stop=stop, after=after)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def main() -> None:
    import tests.support.heals  # noqa: F401 - imported once, for all forks

    from remediation.discovery import BUILTIN

    for name in BUILTIN:
        __import__(name)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("make"):
            from tests.support.heals import Scene

            Scene(Path(request["base"]), request["kind"]).make()
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
    with os.fdopen(read) as answers:
        said = answers.read().splitlines()
    _, status = os.waitpid(child, 0)
    answer: dict[str, Any] = {"steps": 0, "error": "", "told": "", "trail": []}
    for line in said:
        # A killed child may have been cut off in the middle of its last word.
        with contextlib.suppress(ValueError):
            answer |= json.loads(line)
    return {**answer, "killed": os.WIFSIGNALED(status)}


def _child(request: dict[str, Any], write: int) -> None:
    from tests.support.heals import Scene

    log = os.open(Path(request["base"]) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    counter = Counter(request["stop"])
    counter.watch()
    answer: dict[str, Any] = {}

    def told(incident: str) -> None:
        counter.write(write, json.dumps({"told": incident}).encode() + b"\n")

    try:
        asyncio.run(_heal(Scene(Path(request["base"]), request["kind"]), request["report"], told))
    except BaseException as error:
        import traceback

        answer["error"] = f"{type(error).__name__}: {error}\n{traceback.format_exc()[-3000:]}"
    counter.stop = NEVER
    answer |= {"steps": counter.passed, "trail": counter.trail}
    counter.write(write, json.dumps(answer).encode() + b"\n")
    os._exit(0)


async def _heal(scene: Any, report: bool, told: Callable[[str], None]) -> None:
    async with scene.boot().start(watch=False) as host:
        if report:
            told((await host.report(scene.event)).incident)
        await host.settle()
        end = time.monotonic() + PATIENCE
        while any(incident.open for incident in host.incidents()):
            if time.monotonic() > end:
                raise TimeoutError(f"open after {PATIENCE} s: {[incident for incident in host.incidents() if incident.open]}")
            await asyncio.sleep(0.005)


class Counter:
    """Counts steps, and kills this process before the one that it was told."""

    def __init__(self, stop: int) -> None:
        self.passed = 0
        self.stop = stop
        self.trail: list[str] = []
        self.write = os.write

    def step(self, name: str) -> None:
        if self.passed == self.stop:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        self.passed += 1
        self.trail.append(name)

    def watch(self) -> None:
        """Count from now on."""
        from remediation.bootstrap import host as hosting
        from remediation.coordination.machine_lock import MachineLock, MachineLocked
        from remediation.effects import BUILTIN_KINDS, renaming
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
