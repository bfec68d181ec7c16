"""
Kills a real process between two steps of an effect.

`Crasher` keeps one small server process that has everything imported; each crash is a fork of it, so that a round takes milliseconds.
A step is a call that changes the world or starts a process; the child is killed with SIGKILL right before the step that is asked for.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("fsync", "rename", "unlink", "link", "write", "fchmod", "fchown", "mkdir", "rmdir", "utime", "remove")
NEVER = 10**6
_PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])


def run_python(script: str) -> str:
    """What a script prints that may import the package and the tests' support."""
    environment = os.environ | {"PYTHONPATH": _PATHS}
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode in {0, -signal.SIGKILL}, ran.stderr
    return ran.stdout


class Crasher:
    """The server, as a context manager."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing"],
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

    def run(self, method: str, effect: Any, prepared: Any, base: Path, *, key: str, stop: int = NEVER) -> dict[str, Any]:
        """
        Call ``effect.method`` in a child and kill it right before its step number `stop`, counted from 0.

        The answer: ``killed``, the number of ``steps`` if it was not killed, and the ``error`` if there was one.
        """
        assert self._server.stdin
        assert self._server.stdout
        request = {
            "method": method,
            "record": effect.record().model_dump(),
            "prepared": prepared.model_dump_json(),
            "base": str(base),
            "key": key,
            "stop": stop,
        }
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def main() -> None:
    import tests.support.world  # noqa: F401 - imported once, for all forks

    for line in sys.stdin:
        request = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            os.setpgid(0, 0)
            _child(request, write)
        os.close(write)
        with os.fdopen(read) as answers:
            said = answers.read()
        _, status = os.waitpid(child, 0)
        answer = json.loads(said) if said else {}
        print(json.dumps({"steps": 0, "error": "", **answer, "killed": os.WIFSIGNALED(status)}), flush=True)


def _child(request: dict[str, Any], write: int) -> None:
    from tests.support.world import KINDS, EffectWorld

    from remediation.model.plan import EffectRecord
    from remediation.ports.effect import prepared_of

    world = EffectWorld(Path(request["base"]), key=request["key"])
    tempfile.tempdir = request["base"]  # what the killed child leaves there goes with the test's folder
    effect = KINDS.load(EffectRecord(**request["record"]))
    assert effect is not None
    prepared = prepared_of(effect, request["prepared"])
    arguments = (prepared, None) if request["method"] == "revert" else (prepared,)
    counter = _Counter(request["stop"])
    counter.watch()
    error = ""
    try:
        asyncio.run(getattr(effect, request["method"])(world, *arguments))
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    counter.stop = NEVER
    counter.real_write(write, json.dumps({"steps": counter.passed, "error": error}).encode())
    os._exit(0)


class _Counter:
    def __init__(self, stop: int) -> None:
        self.passed = 0
        self.stop = stop
        self.real_write = os.write

    def watch(self) -> None:
        from remediation.effects import renaming

        for name in STEPS:
            setattr(os, name, self._counted(getattr(os, name)))
        renaming._renamed = self._counted(renaming._renamed)
        subprocess.Popen = self._counted(subprocess.Popen)

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if self.passed == self.stop:
                os.kill(os.getpid(), signal.SIGKILL)
            self.passed += 1
            return real(*args, **kwargs)

        return step


if __name__ == "__main__":
    main()
