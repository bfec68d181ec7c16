"""
Tries a change in clones of the repository: without it the job must fail on the missing file, with it the job must succeed.

The job really runs, twice, with its own command and environment; only what of it lies in the repository is exchanged for the clone.
It is no sandbox: what a job does outside of its repository, it does in a trial too.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remediation.context import RemediationContext
from remediation.errors import ProcessError
from remediation.model.text import ending, printable
from remediation.ports.effect import Completed
from remediation.runbooks._volatile_path import CanNotHeal
from remediation.runbooks._volatile_path.job import Job
from remediation.runbooks._volatile_path.repository import Repository, git

_MISSING = re.compile(r"^FileNotFoundError: \[Errno 2\] [^:\n]*: ('(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")", re.MULTILINE)
_ABSOLUTE = re.compile(r"(?:(?<=[=:,])|^)/[^=:,]*")
_SAID = 600


@dataclass(frozen=True, slots=True)
class Tried:
    """How a trial ended."""

    line: str = ""
    """What was seen, for people, when the job succeeded."""
    missing: str = ""
    """The file that it missed next, when it came further and did not succeed."""


class Trials:
    """Runs of one job in clones of its repository."""

    def __init__(self, ctx: RemediationContext, repository: Repository, job: Job) -> None:
        self._ctx = ctx
        self._repository = repository
        self._job = job

    async def reproduce(self, missing: str) -> str:
        """
        Run the job without a change; what was seen, for people.

        Raises:
            CanNotHeal: it does not fail on the missing file.

        """
        done = await self._run(await self._clone())
        if done.exit_code == 0:
            raise CanNotHeal(
                "in a clone of the repository the job succeeds without any change: the failure can't be reproduced there"
            )
        if missing not in named_missing(done.stderr + "\n" + done.stdout):
            raise CanNotHeal(
                "in a clone of the repository the job fails in another way, so that nothing can be tried there (does it need files that "
                "are not committed?)",
                [f"the job said: {printable(_end(done))}"],
            )
        return f"reproduced: in a clone of {self._repository.head[:12]} the job fails on {printable(missing)}"

    async def prove(self, files: Mapping[str, bytes], added: Sequence[str], read: Sequence[str], missing: Sequence[str]) -> Tried:
        """
        Run the job with a change.

        Args:
            files: What is changed, by name in the repository.
            added: Those of them that are new.
            read: Names of the files that take the place of the missing ones.
            missing: Absolute paths, which must stay missing.

        Raises:
            CanNotHeal: it fails, or changes what it is to read.

        """
        clone = await self._clone()
        for name, data in files.items():
            file = clone / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        before = await self._status(clone, added), [_read(clone / name) for name in read]
        done = await self._run(clone)
        back = [path for path in missing if os.path.lexists(path)]
        if back:
            raise CanNotHeal(f"{printable(back[0])} came back while the change was tried: something makes it anew")
        if done.exit_code != 0:
            further = [path for path in named_missing(done.stderr + "\n" + done.stdout) if path not in missing]
            if further:
                return Tried(missing=further[-1])
            said = [f"the job said: {printable(_end(done))}"]
            raise CanNotHeal("with the change, the job still fails in a clone of the repository", said)
        if (await self._status(clone, added), [_read(clone / name) for name in read]) != before:
            raise CanNotHeal("with the change, the job writes to or beside the file that it reads: it is the job's own product")
        took = done.duration_ms / 1000
        return Tried(f"tried: in a clone of {self._repository.head[:12]} the changed job succeeds in {took:.1f} s")

    async def _clone(self) -> Path:
        clone = Path(tempfile.mkdtemp(prefix="trial-", dir=self._ctx.scratch)) / "clone"
        clone.mkdir()
        return await self._repository.clone(clone)

    async def _run(self, clone: Path) -> Completed:
        job = self._job
        env = {name: self._mapped(value, clone) for name, value in job.env}
        try:
            return await self._ctx.run(self._argv(clone), cwd=self._cwd(clone), env=env, timeout=job.timeout.total_seconds())
        except ProcessError as error:
            raise CanNotHeal(f"the job can't be tried in a clone of the repository: {error}") from error

    def _cwd(self, clone: Path) -> Path:
        """The job's folder in the clone; an empty folder for a job that runs outside of its repository."""
        inside = Path(os.path.realpath(self._job.cwd))
        place = (
            clone / inside.relative_to(self._repository.top)
            if inside.is_relative_to(self._repository.top)
            else clone.parent / "elsewhere"
        )
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _argv(self, clone: Path) -> list[str]:
        program, *arguments = self._job.argv
        mapped = self._mapped(program, clone)
        if "/" in program and not os.path.lexists(self._cwd(clone) / mapped):
            # A program that is not committed, such as the interpreter of a virtual environment in the work tree.
            mapped = str(self._job.cwd / program)
        return [mapped, *(self._mapped(argument, clone) for argument in arguments)]

    def _mapped(self, text: str, clone: Path) -> str:
        """`text` with each absolute path into the repository, however it is spelled, exchanged for that in the clone."""
        return _ABSOLUTE.sub(lambda match: self._moved(match[0], clone), text)

    def _moved(self, path: str, clone: Path) -> str:
        real = Path(os.path.realpath(path))
        top = self._repository.top
        return str(clone / real.relative_to(top)) if real.is_relative_to(top) else path

    async def _status(self, clone: Path, added: Sequence[str]) -> str:
        folders = sorted({posixpath.dirname(name) for name in added})
        if not folders:
            return ""
        arguments = ("status", "--porcelain", "-z", "--untracked-files=all", "--ignored", "--", *folders)
        return (await git(self._ctx, clone, *arguments)).stdout


def named_missing(text: str) -> list[str]:
    """The paths that FileNotFoundErrors in `text` name."""
    found = []
    for match in _MISSING.finditer(text):
        try:
            found.append(str(ast.literal_eval(match[1])))
        except (ValueError, SyntaxError):
            continue
    return found


def _end(done: Completed) -> str:
    return ending(done.stderr.strip() or done.stdout.strip(), _SAID)


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
