"""A home for commands, with a plugin module of the test's own that a real process loads."""

import json
import os
from pathlib import Path
from typing import Any

from tests.support.untouched import Seen, everything
from tests.support.written_journal import Ran, remediation

PLUGIN = '''"""Mends files."""

import asyncio
import time

from remediation.authoring import Finding, Handles, Plan, Runbook, RunbookSpec, Timeouts, Verdict, WriteFile, hookimpl


class Mend(Runbook):
    spec = RunbookSpec(
        id="mend", handles=(Handles(code="BROKEN"),), blast_radius="process", reversibility="reversible", level="recovery",
        timeouts=Timeouts(decide=1, apply=1, verify=1),
    )

    async def precondition(self, ctx):
        text = await ctx.read_text(ctx.subject_path())
        if text == "blocking":
            while True:
                time.sleep(0.01)
        if text == "hanging":
            await asyncio.sleep(60)
        if text == "stubborn":
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        if text == "raising":
            raise RuntimeError("out of order")
        return Finding.declined("it is whole") if text == "mended" else Finding.applies(confidence=80, evidence=[f"it holds {text}"])

    async def action(self, ctx):
        return Plan(WriteFile(path=ctx.subject_path(), content="mended"))

    async def verify(self, ctx):
        return Verdict.healthy()


@hookimpl
def remediation_runbooks():
    return [Mend]
'''


class CommandHome:
    """A home in `folder` with its keys beside it; `world` is what may be changed."""

    def __init__(self, folder: Path, *, profile: str = "collaborative", state: str = "live", more: str = "") -> None:
        self.folder = folder
        self.world = folder / "world"
        self.temporary = folder / "temporary"
        self.home = folder / "home"
        self.keys = folder / "keys"
        for place in (self.world, self.temporary, self.home, folder / "plugins"):
            place.mkdir()
        (folder / "plugins" / "mending.py").write_text(PLUGIN)
        self.configure(profile=profile, state=state, more=more)
        made = self("init")
        assert made.status == 0, made.err

    def configure(self, *, profile: str, state: str = "live", more: str = "") -> None:
        """Write the settings."""
        (self.home / "remediation.toml").write_text(
            f'[host]\nid = "test"\nplugins = ["mending"]\n[gate]\nprofile = "{profile}"\n[keys]\ndir = {json.dumps(str(self.keys))}\n'
            f'[effects]\nroots = {json.dumps([str(self.world)])}\n[runbooks.mend]\nstate = "{state}"\n{more}'
        )

    @property
    def env(self) -> list[tuple[str, str]]:
        """The environment of its commands."""
        path = os.pathsep.join(part for part in (str(self.folder / "plugins"), os.environ.get("PYTHONPATH", "")) if part)
        return [("PYTHONPATH", path), ("TMPDIR", str(self.temporary)), ("PYTHONDONTWRITEBYTECODE", "1")]

    def __call__(self, *arguments: str) -> Ran:
        return remediation(*arguments, "--home", str(self.home), env=self.env, cwd=self.folder)

    def break_file(self, name: str = "thing", text: str = "broken") -> str:
        """A broken file; returns its path."""
        path = self.world / name
        path.write_text(text)
        return str(path)

    def report(self, subject: str, *more: str, code: str = "BROKEN") -> Ran:
        """`report` it."""
        return self("report", "--code", code, "--subsystem", "test", "--subject", subject, *more)

    def untouchable(self) -> Seen:
        """Everything; but in the home SQLite keeps a file while it reads, and what is private is kept among temporary files meanwhile."""
        seen = everything(self.folder)
        return {name: facts if name not in ("home", "temporary") else (facts[0], facts[-1]) for name, facts in seen.items()}

    def incidents(self) -> list[dict[str, Any]]:
        """`incidents --json`."""
        found: list[dict[str, Any]] = json.loads(self("incidents", "--json").out)
        return found
