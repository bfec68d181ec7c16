"""
Kills a whole host between any two steps of a heal.

`Killer` keeps one server process that has everything imported; each run of a host is a fork of it, so that a round takes a fraction of a
second. A step is a commit of the journal, a method of an effect, or a call that changes the file system: the host is killed with
SIGKILL right before or after the step that is asked for.
"""

import asyncio
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import structlog

ROOT = Path(__file__).resolve().parents[2]
NEVER = 10**6
CALLS = ("fsync", "rename", "unlink", "link", "fchmod", "mkdir")
_PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])


class Killer:
    """The server, as a context manager."""

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
        self._server.wait(10)
        self._server.stdout.close()

    def run(self, base: Path, *, stop: int = NEVER, after: float = 0.0, fine: bool = False) -> dict[str, Any]:
        """
        Run a host on the scene in `base` until nothing is left to do.

        Kill it at step `stop` (from 0), or `after` seconds; with `fine`, calls that change the file system are steps too. The answer:
        ``killed``, ``steps`` passed and ``incidents`` if it was not.
        """
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps({"base": str(base), "stop": stop, "after": after, "fine": fine}), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def main() -> None:
    import tests.support.killing_scene  # noqa: F401 - imported once, for all forks

    for line in sys.stdin:
        request = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            os.setpgid(0, 0)
            _child(request, write)
        os.close(write)
        if request["after"]:
            _kill_after(child, request["after"])
        with os.fdopen(read) as answers:
            said = answers.read()
        _, status = os.waitpid(child, 0)
        answer = json.loads(said) if said else {}
        print(json.dumps({"steps": 0, "incidents": [], "error": "", **answer, "killed": os.WIFSIGNALED(status)}), flush=True)


def _kill_after(child: int, seconds: float) -> None:
    def kill() -> None:
        time.sleep(seconds)  # this is the fault that is injected, not a wait for anything
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            return

    threading.Thread(target=kill, daemon=True).start()


def _child(request: dict[str, Any], write: int) -> None:
    from tests.support.killing_scene import heal

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    counter = _Counter(request["stop"])
    counter.watch(fine=request["fine"])
    answer: dict[str, Any] = {}
    try:
        answer["incidents"] = asyncio.run(heal(Path(request["base"])))
    except Exception as raised:
        answer["error"] = f"{type(raised).__name__}: {raised}"
    counter.stop = NEVER
    os.write(write, json.dumps({"steps": counter.passed, **answer}).encode())
    os._exit(0)


class _Counter:
    def __init__(self, stop: int) -> None:
        self.passed = 0
        self.stop = stop
        self._lock = threading.Lock()

    def watch(self, *, fine: bool) -> None:
        """From here on, each step is counted."""
        from remediation.effects import BUILTIN_KINDS
        from remediation.stores.sqlite import SqliteJournalStore

        for name in CALLS if fine else ():
            setattr(os, name, self._before(getattr(os, name)))
        SqliteJournalStore.commit = self._around(SqliteJournalStore.commit)
        for kind in BUILTIN_KINDS:
            for name in ("prepare", "apply", "probe", "revert"):
                setattr(kind, name, self._around(getattr(kind, name)))

    def point(self) -> None:
        """One point between two steps."""
        with self._lock:
            if self.passed == self.stop:
                os.kill(os.getpid(), signal.SIGKILL)
            self.passed += 1

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.point()
            return real(*args, **kwargs)

        return step

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def step(*args: Any, **kwargs: Any) -> Any:
            self.point()
            result = await real(*args, **kwargs)
            self.point()
            return result

        return step


def seeds(number: int) -> list[int]:
    """Seeds for random rounds: always the same ones."""
    return random.Random(2026).sample(range(10**6), number)


if __name__ == "__main__":
    main()
