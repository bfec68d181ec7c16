"""
Git's plumbing, called so that nothing a repository configures is run.

Hooks, fsmonitor, signing, maintenance, pagers and network transports are off; the configuration of the user and the system is not
read. Git is shown an empty folder as its working tree: it would run clean filters even while it writes an index, on files whose times
leave it in doubt (Documentation/technical/racy-git.txt). Objects and refs are made durable (``core.fsync``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from remediation.effects.fields import shown
from remediation.errors import EffectConflict, EffectError, EffectRefused, ProcessError
from remediation.model.text import ending, printable
from remediation.ports.effect import Completed, EffectContext

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.attributesFile=/dev/null",
    "core.fsync=all",
    "core.logAllRefUpdates=true",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
)
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_PAGER": "cat",
    "LC_ALL": "C.UTF-8",
}
_TAIL = 400
# What git keeps in its folder while a person is in the middle of something.
_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "sequencer": "a sequence of picks",
    "BISECT_LOG": "a bisection",
}


@dataclass(frozen=True, slots=True)
class Location:
    """Where a working tree and its repository lie; all inside the allowed roots."""

    work_tree: Path
    git_dir: Path
    """Of this working tree: HEAD and the index."""
    common_dir: Path
    """Shared by all working trees of the repository: refs and objects."""

    def under_way(self) -> str:
        """What somebody is in the middle of, in words; empty for nothing."""
        return next((what for name, what in _UNDER_WAY.items() if os.path.lexists(self.git_dir / name)), "")


def locate(context: EffectContext, repository: Path) -> Location:
    """
    Find the repository of a working tree, by the rules of gitrepository-layout(5).

    Raises:
        EffectRefused: `repository` is no top of a working tree.
        OutsideRoots: part of the repository lies outside the allowed roots, or behind a link.

    """
    work_tree = context.roots.check(repository)
    dot_git = context.roots.check(work_tree / ".git")
    git_dir = dot_git
    if not dot_git.is_dir():
        pointer = _first_line(dot_git)
        if not pointer.startswith("gitdir: "):
            bare = (work_tree / "HEAD").exists() and (work_tree / "objects").is_dir()
            raise EffectRefused(
                f"{shown(work_tree)} is a bare repository; commits need a working tree"
                if bare
                else f"{shown(work_tree)} is not the top folder of a git working tree"
            )
        git_dir = context.roots.check(_joined(work_tree, pointer.removeprefix("gitdir: ")))
    common = _first_line(git_dir / "commondir")
    return Location(work_tree, git_dir, context.roots.check(_joined(git_dir, common)) if common else git_dir)


@contextlib.contextmanager
def opened_git(context: EffectContext, repository: Path) -> Iterator[Git]:
    """
    Git for the working tree `repository`, with a private folder that is removed afterwards.

    Raises:
        EffectRefused, OutsideRoots: see `locate`.

    """
    location = locate(context, repository)
    folder = Path(tempfile.mkdtemp(prefix="remediation-git-"))
    try:
        (folder / "empty").mkdir()
        yield Git(context, location, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Git:
    """Runs git on one repository, as one effect."""

    context: EffectContext
    location: Location
    folder: Path
    """Private; for indexes and contents."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment: the private index, the identity."""
    spare: float = 0.0
    """Seconds that each command has in any case, also after the deadline: for putting things back."""

    def with_variables(self, **variables: str) -> Git:
        """The same with more variables."""
        return replace(self, variables={**self.variables, **variables})

    async def ask(self, *words: str, stdin: bytes | None = None) -> str:
        """
        What git says.

        Raises:
            EffectError: it failed; the message holds its words.

        """
        done = await self.run(words, stdin=stdin)
        if done.exit_code != 0:
            raise EffectError(self._failure(words, done))
        return done.stdout

    async def find(self, *words: str) -> str | None:
        """Like `ask` for commands that say "no" by exit code 1: `None` then."""
        done = await self.run(words)
        if done.exit_code not in (0, 1):
            raise EffectError(self._failure(words, done))
        return done.stdout.strip() if done.exit_code == 0 else None

    async def run(self, words: Sequence[str], *, stdin: bytes | None = None) -> Completed:
        """
        Run git to its end, within the effect's deadline.

        Raises:
            EffectError: it could not be started, or took too long.

        """
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        environment = {
            **_ENVIRONMENT,
            "GIT_DIR": str(self.location.git_dir),
            "GIT_WORK_TREE": str(self.folder / "empty"),
            **self.variables,
        }
        left = self.context.deadline - self.context.clock.monotonic()
        try:
            return await self.context.run(
                ["git", "--no-pager", *settings, *words],
                cwd=self.folder / "empty",
                env=environment,
                stdin=stdin,
                timeout=max(self.spare, left),
            )
        except ProcessError as error:
            raise EffectError(f"git {words[0]} in {shown(self.location.work_tree)}: {error}") from error

    def _failure(self, words: Sequence[str], done: Completed) -> str:
        said = printable(ending(done.stderr.strip(), _TAIL)) or "nothing"
        return f"git {words[0]} in {shown(self.location.work_tree)} exited with {done.exit_code} and said: {said}"

    async def head(self) -> str:
        """The full name of the branch that is checked out here; empty if none is (HEAD is detached)."""
        return await self.find("symbolic-ref", "-q", "HEAD") or ""

    async def value(self, ref: str) -> str:
        """The commit that a ref or revision names; empty for none."""
        return await self.find("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}") or ""

    async def holds(self, commit: str, tip: str) -> bool:
        """Whether `commit` is `tip` or one of its ancestors; an unknown commit is not."""
        if commit == tip or not tip:
            return bool(tip)
        return (await self.run(("merge-base", "--is-ancestor", commit, tip))).exit_code == 0

    async def set_value(self, ref: str, commit: str, old: str, message: str) -> None:
        """
        Let a branch name `commit` instead of `old`; empty for no such branch.

        Raises:
            EffectConflict: it names something else, or somebody holds its lock; it is unchanged.

        """
        none = "0" * len(commit or old)
        words = ("update-ref", "-m", printable(message), ref, commit or none, old or none)
        done = await self.run(words)
        if done.exit_code != 0 and await self.value(ref) != commit:
            raise EffectConflict(f"the branch was moved by somebody else, and was left alone: {self._failure(words, done)}")

    async def checked_out_elsewhere(self, ref: str) -> bool:
        """Whether any working tree of the repository has `ref` checked out."""
        return f"\nbranch {ref}\n" in await self.ask("worktree", "list", "--porcelain")


def refuse_if_under_way(location: Location) -> None:
    """
    Leave people alone who are in the middle of something.

    Raises:
        EffectConflict: a merge, rebase or the like is under way.

    """
    what = location.under_way()
    if what:
        raise EffectConflict(f"{what} is under way in {shown(location.work_tree)}; nothing was changed, let it be finished first")


def _first_line(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape").split("\n", 1)[0]
    except OSError:
        return ""


def _joined(base: Path, path: str) -> Path:
    return Path(os.path.normpath(base / path))
