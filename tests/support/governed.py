"""A home with two runbooks of its own, commands on it, a host beside them, and people with keys."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.ssh import made_key, public_key, stock_signature
from tests.support.written_journal import Ran, remediation

BOTH = "remediation-approval,remediation-trust"
PLUGIN = """
from remediation.authoring import Finding, Handles, Plan, Runbook, RunbookSpec, Verdict, WriteFile, hookimpl


class Mender(Runbook):
    spec = RunbookSpec(
        id="mender", handles=(Handles(code="BROKEN"),), blast_radius="process", reversibility="reversible", level="recovery"
    )

    async def precondition(self, ctx):
        return Finding.applies(confidence=90)

    async def action(self, ctx):
        return Plan(WriteFile(path=ctx.subject_path(), content="mended\\n"))

    async def verify(self, ctx):
        mended = await ctx.read_text(ctx.event.subject) == "mended\\n"
        return Verdict.healthy() if mended and "bad" not in ctx.event.subject else Verdict.failed("it does not say mended")


class Heart(Mender):
    spec = RunbookSpec(
        id="heart",
        handles=(Handles(code="HEART"),),
        blast_radius="process",
        reversibility="reversible",
        level="recovery",
        essential=True,
    )


@hookimpl
def remediation_runbooks():
    return [Mender, Heart]
"""


class Governed:
    """The home, in a folder of its own."""

    def __init__(self, folder: Path, *, profile: str = "autonomous", runbooks: str = "") -> None:
        self.folder = folder
        self.profile = profile
        self.keys = folder / "people"
        self.keys.mkdir()
        (folder / "app").mkdir()
        self.signers = folder / "allowed_signers"
        self.signers.write_text("")
        (folder / "governed_plugin.py").write_text(PLUGIN)
        self.configure(runbooks)
        assert self("init").status == 0

    def configure(self, runbooks: str = "", more: str = "") -> None:
        """Write the settings, with these tables of runbooks."""
        (self.folder / "remediation.toml").write_text(
            f'[host]\nid = "atlas"\nplugins = ["governed_plugin"]\nautoload = false\n[keys]\ndir = "{self.folder / "keys"}"\n'
            f'[gate]\nprofile = "{self.profile}"\n[limits]\ncooldown = 0\n[effects]\nroots = ["app"]\n[channels]\nlog = false\n'
            f'[approvals]\nallowed_signers = "allowed_signers"\n{more}\n{runbooks}'
        )

    @property
    def env(self) -> list[tuple[str, str]]:
        return [("HOME", str(self.folder)), ("SSH_AUTH_SOCK", ""), ("PYTHONPATH", _path(self.folder)), ("XDG_STATE_HOME", "")]

    def __call__(self, *arguments: str | Path, stdin: str | None = None) -> Ran:
        ran = remediation(*map(str, arguments), env=self.env, cwd=self.folder, stdin=stdin)
        assert "Traceback" not in ran.err
        assert "internal error" not in ran.err, ran.err
        return ran

    def done(self, *arguments: str | Path) -> Ran:
        """What a command did that must end well."""
        ran = self(*arguments)
        assert ran.status == 0, ran.err
        return ran

    def said(self, *arguments: str | Path) -> Any:
        """The JSON of a command that must end well."""
        return self.done(*arguments, "--json").json

    def refused(self, *arguments: str | Path) -> str:
        """Why a command was refused."""
        ran = self(*arguments)
        assert ran.status == 1, (ran.status, ran.out, ran.err)
        return ran.err

    def report(self, name: str, code: str = "BROKEN") -> Path:
        """A broken file that is reported."""
        path = self.folder / "app" / name
        path.write_text("broken\n")
        self.done("report", "--code", code, "--subsystem", "app", "--subject", path)
        return path

    def once(self) -> None:
        """A host that does what there is to do, and leaves."""
        assert self("run", "--once").status in (0, 1)

    def state(self, runbook: str = "mender") -> str:
        return str(self.said("runbooks", "show", runbook)["state"])

    def person(self, name: str, namespaces: str = BOTH) -> Path:
        key = made_key(self.keys, name=name)
        with self.signers.open("a") as file:
            file.write(f'{name} namespaces="{namespaces}" {public_key(key).line}\n')
        return key

    def signed(self, key: Path, document: str | bytes, namespace: str, name: str = "document") -> tuple[Path, Path]:
        """Files with a document and its signature."""
        file, signature = self.folder / name, self.folder / f"{name}.sig"
        file.write_bytes(document.encode() if isinstance(document, str) else document)
        signature.write_text(stock_signature(key, file.read_bytes(), namespace))
        return file, signature

    @contextlib.contextmanager
    def host(self) -> Iterator[None]:
        """A host that runs beside, as a process of its own."""
        environment = {**os.environ, **dict(self.env)}
        environment.pop("REMEDIATION_HOME", None)
        log = self.folder / "host.log"
        with log.open("w") as file:
            process = subprocess.Popen([sys.executable, "-m", "remediation", "run"], cwd=self.folder, env=environment, stderr=file)
        try:
            until(lambda: "ready" in log.read_text())
            yield
        finally:
            process.terminate()
            assert process.wait(20) == 0, log.read_text()


def until(condition: Callable[[], Any], within: float = 15.0) -> Any:
    """What `condition` returns, once that is true."""
    end = time.monotonic() + within
    while not (answer := condition()):
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.05)
    return answer


def _path(folder: Path) -> str:
    import remediation

    return os.pathsep.join([str(folder), str(Path(remediation.__file__).parents[1])])
