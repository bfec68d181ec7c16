"""Heals that touch everything that a crash could spoil: files, a command, a call of the host, a git commit; and what must be true after."""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.hosts import runbook
from tests.support.world import tree

from remediation import DegradationEvent
from remediation.authoring import (
    CallHost,
    DeleteFile,
    Finding,
    GitCommit,
    MoveFile,
    Plan,
    RemediationContext,
    RunCommand,
    Verdict,
    WriteFile,
)
from remediation.bootstrap import RemediatorBootstrap
from remediation.testing import WORLD, plugin, settings_in

SHELL = "/bin/sh"
GIT = ("git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")


class Receiver:
    """A service that does what it is told once under each key, and can take it back; durable in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ring(self, key: str, text: str) -> str:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._place("rung") / key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        return text

    def unring(self, key: str, text: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._place("rung") / key, self._place("unrung") / key)

    def keys(self, name: str) -> list[str]:
        """The keys under which it was ``rung``, or ``unrung``."""
        return sorted(path.name for path in self._place(name).iterdir())

    def _place(self, name: str) -> Path:
        (self.folder / name).mkdir(exist_ok=True)
        return self.folder / name


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class Scene:
    """One world below `base`, and the heal that is to be killed in it."""

    def __init__(self, base: Path, kind: str) -> None:
        self.base = base
        self.kind = kind
        self.world = base / WORLD
        self.thing = self.world / "thing"
        self.other = self.world / "other"
        self.moved = self.world / "sub" / "moved"
        self.repository = self.world / "repository"
        self.side = base / "side"
        self.receiver = Receiver(self.side)
        self.facts = base / "facts.json"

    @property
    def event(self) -> DegradationEvent:
        return DegradationEvent(code="BROKEN", subsystem="test", subject=str(self.thing))

    def make(self) -> None:
        """The world before."""
        self.world.mkdir(parents=True)
        self.side.mkdir()
        for path, text in ((self.thing, "broken\n"), (self.other, "other\n"), (self.world / "source", "source\n")):
            path.write_text(text)
            path.chmod(0o640)
            os.utime(path, ns=(10**18, 10**18))
        if self.kind == "stages":
            self.repository.mkdir()
            (self.repository / "page").write_text("broken\n")
            for arguments in (("init", "-q", "-b", "main"), ("add", "page"), ("commit", "-q", "-m", "first")):
                self.git(*arguments)
        self.facts.write_text(json.dumps({"head": self.git("rev-parse", "HEAD") if self.repository.exists() else ""}))
        (self.base / "before").write_text(repr(self.files()))

    def git(self, *arguments: str) -> str:
        ran = subprocess.run([*GIT, *arguments], cwd=self.repository, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    def files(self) -> dict[str, Any]:
        """What the file effects promise to put back, byte for byte."""
        return {name: state for name, state in tree(self.world).items() if not name.startswith("repository") and "/" not in name}

    def boot(self) -> RemediatorBootstrap:
        """A host for this world."""
        book = runbook(
            "mend",
            precondition=self.precondition,
            action=self.action,
            verify=self.verify,
            reversibility="reversible",
            blast_radius="machine",
        )
        limits = {"cooldown": 0, "changes_per_hour": 1000, "runbook_changes": 1000}
        settings = settings_in(self.base, live=["mend"], limits=limits)
        boot = RemediatorBootstrap(settings, plugins=[plugin(book)])
        boot.controls.register("ring", self.receiver.ring, idempotent=True, undo=self.receiver.unring)
        return boot

    # -- the runbook -----------------------------------------------------------------------------------------------------------

    async def precondition(self, ctx: RemediationContext) -> Finding:
        if await ctx.read_text(self.thing) == "mended\n":
            return Finding.declined("it is mended")
        return Finding.applies(confidence=100)

    async def action(self, ctx: RemediationContext) -> Plan:
        said = self.side / "said"
        end = "; exit 3" if self.kind == "spoilt" else ""
        command = RunCommand(
            argv=(SHELL, "-c", f"echo do $0 >> {said}{end}", f"{ctx.incident.id}/{len(ctx.attempts)}"),
            undo=(SHELL, "-c", f"echo undo $0 >> {said}", f"{ctx.incident.id}/{len(ctx.attempts)}"),
        )
        files = (
            WriteFile(path=self.thing, content="mended\n"),
            DeleteFile(path=self.other),
            MoveFile(source=self.world / "source", path=self.moved, parents=True),
        )
        ring = CallHost(control="ring", args={"text": "hello"})
        if self.kind != "stages":
            return Plan(files[0], command, files[1], ring, files[2])
        if ctx.stage == 0:
            return Plan(files[1], command, more=True)
        commit = GitCommit(repository=self.repository, files={"page": "mended\n"}, message="Mend the page")
        return Plan(commit, ring, files[0])

    async def verify(self, ctx: RemediationContext) -> Verdict:
        if self.kind == "failing":
            return Verdict.failed("it does not help")
        return Verdict.healthy() if await ctx.read_text(self.thing) == "mended\n" else Verdict.failed("still broken")

    # -- what must be true afterwards ----------------------------------------------------------------------------------------------

    def each_effect_kept_its_promise(self, status: str, *, dirty: bool, uncertain: bool) -> None:
        """Raise AssertionError unless it did, for an incident that ended as `status`."""
        said = _lines(self.side / "said")
        assert len(said) == len(set(said)), f"a command that must run once ran twice: {said}"
        rung, unrung = self.receiver.keys("rung"), self.receiver.keys("unrung")
        assert not set(rung) & set(unrung), "the receiver did something again that was taken back"
        before = eval((self.base / "before").read_text())
        thing = self.thing.read_text()
        assert thing in ("broken\n", "mended\n")
        if self.other.exists():
            assert self.files()["other"] == before["other"]
        assert (self.world / "source").exists() != self.moved.exists()
        left = [*self.world.rglob("*.remediation"), *self.world.rglob("*.lock")]
        assert not left, f"left behind: {left}"
        if status == "resolved":
            assert thing == "mended\n"
            assert not self.other.exists()
            assert [line.split()[0] for line in said] == ["do"]
            assert (len(rung), unrung) == (1, [])
            assert self.kind == "stages" or self.moved.read_text() == "source\n"
        elif not uncertain and not dirty:
            assert self.files() == before, "what failed was not taken back"
            assert [line.split()[0] for line in said] in ([], ["do", "undo"])
            assert not rung
        if self.repository.exists():
            self._the_repository_is_whole(status, uncertain=uncertain or dirty)

    def _the_repository_is_whole(self, status: str, *, uncertain: bool) -> None:
        self.git("fsck", "--strict")
        assert self.git("status", "--porcelain") == ""
        first = json.loads(self.facts.read_text())["head"]
        commits = self.git("rev-list", "HEAD").splitlines()
        assert commits[-1] == first
        page = (self.repository / "page").read_text()
        if status == "resolved":
            assert len(commits) == 2
            assert page == "mended\n"
        elif not uncertain:
            # A commit that was taken back stays in the history: one makes it, one takes it back.
            assert len(commits) in (1, 3)
            assert page == "broken\n"
