"""A user of the installed package: a folder with a home, keys, settings and a world, and nothing but commands to work on them."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.repository import ROOT

EXAMPLE = ROOT / "examples" / "stale-lock-plugin"
SECONDS = 60.0
"""How long one command may take on a busy machine."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as the JSON that programs expect: no NaN, nothing around it."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


def install(package: Path, target: Path) -> Path:
    """Build `package` and install it into the folder `target`, as pip does for anybody, without a network."""
    quiet = ["--disable-pip-version-check", "--quiet", "--no-input"]
    alone = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *quiet, *alone, "--target", str(target), str(package)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return target


def gone_pid() -> int:
    """The id of a process that has ended, and was buried."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes | str | None]]:
    """Every path below `folder` with its mode, its modification time (files only) and its content."""
    found: dict[str, tuple[int, int, bytes | str | None]] = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[path.relative_to(folder).as_posix()] = (state.st_mode, state.st_mtime_ns if path.is_file() else 0, content)
    return found


def eventually(condition: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
    """Ask `condition` until it returns something true; returns that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@dataclass
class User:
    """Somebody with a shell in `folder`. `packages` are folders with installed packages."""

    folder: Path
    packages: tuple[Path, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / ".remediation"

    @property
    def world(self) -> Path:
        """The folder that the host may change."""
        return self.folder / "app"

    def configure(self, text: str) -> None:
        """Write the settings, and make the home and the world."""
        (self.folder / "remediation.toml").write_text(text, "utf-8")
        self.world.mkdir(exist_ok=True)
        made = self.remediation("init")
        assert made.status == 0, made.err

    def environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REMEDIATION_", "XDG_", "PYTEST_"))}
        inherited = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        paths = [*map(str, self.packages), *inherited]
        fixed = {"XDG_STATE_HOME": str(self.folder / "state"), "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(paths)}
        return kept | fixed | self.variables

    def remediation(self, *arguments: str | bytes, stdin: str | bytes | None = None, timeout: float = SECONDS) -> Ended:
        """Run a command to its end. Whatever it does, it must not show a traceback."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        ended = subprocess.run(
            [sys.executable, "-m", "remediation", *arguments],
            cwd=self.folder,
            env=self.environment(),
            input=b"" if data is None else data,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        result = Ended(ended.returncode, ended.stdout.decode("utf-8"), ended.stderr.decode("utf-8"))
        assert "Traceback (most recent call last)" not in result.err, result.err
        assert "internal error" not in result.err, result.err
        return result

    def succeed(self, *arguments: str | bytes, stdin: str | bytes | None = None) -> Ended:
        """Run a command that must end with 0."""
        ended = self.remediation(*arguments, stdin=stdin)
        assert ended.status == 0, ended.err
        return ended

    def python(self, script: str | Path, *arguments: str) -> Ended:
        """Run a Python script (a path, or its text) to its end."""
        argv = [str(script)] if isinstance(script, Path) else ["-c", script]
        ended = subprocess.run(
            [sys.executable, *argv, *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def report(self, code: str, subject: str | Path, *more: str) -> str:
        """Report a degradation; returns its id."""
        return self.succeed("report", "--code", code, "--subsystem", "app", "--subject", str(subject), *more).out.strip()

    def incident(self, id_: str) -> Any:
        """One incident's post-mortem, by the id of a report."""
        return self.succeed("incident", "show", id_, "--json").json

    def types(self) -> list[str]:
        """The types of all entries of the journal, in order."""
        lines = self.succeed("journal", "tail", "-n", "1000000", "--json").out.splitlines()
        return [json.loads(line)["type"] for line in lines]

    @contextlib.contextmanager
    def process(self, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process of this user's beside the caller; killed at the end if it is still there."""
        process = subprocess.Popen(
            [sys.executable, *argv], cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @contextlib.contextmanager
    def host(self) -> Iterator[subprocess.Popen[bytes]]:
        """A running host, ready."""
        with self.process("-m", "remediation", "run") as process:
            said = wait_for_line(process, b"event=ready")
            assert process.poll() is None, said
            yield process


def wait_for_line(process: subprocess.Popen[bytes], wanted: bytes, *, stream: str = "stderr") -> bytes:
    """Read lines of `process` until one holds `wanted`; returns all of them."""
    pipe = getattr(process, stream)
    assert pipe is not None
    said = b""
    deadline = time.monotonic() + SECONDS
    while wanted not in said:
        readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(pipe.fileno(), 65536) if readable else b""
        if not piece:
            raise AssertionError(f"{wanted!r} was not printed; it said: {said.decode(errors='replace')}")
        said += piece
    return said
