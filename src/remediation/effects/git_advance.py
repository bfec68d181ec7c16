"""
Advancing a branch by one commit, together with the working tree that has it checked out.

Order: hold the working tree (`git_hold`) · look at everything · objects · the new index, apart · the files, each by
compare-and-set · the branch, by compare-and-set: the commit point · install the index · let go. A run that fails before the
commit point puts the files back; one that was killed anywhere is completed by the next run, or put back by `retreat`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from remediation.effects.file_change import place
from remediation.effects.filestate import FileState, examine, told
from remediation.effects.folders import folders_for, missing_folders, remove_folders
from remediation.effects.git_hold import Hold
from remediation.effects.git_plumbing import Git, refuse_if_under_way
from remediation.effects.git_tree import Entry, change_index, staged
from remediation.effects.placing import Content, carry, conflict, judge, take_back
from remediation.effects.threads import in_thread
from remediation.errors import EffectConflict, EffectError, RemediationError
from remediation.model.plan import Probe
from remediation.model.text import printable

_SPARE = 15.0
"""Seconds for putting things back after a failure, also past the deadline."""


@dataclass(frozen=True, slots=True)
class Step:
    """One path that changes."""

    path: str
    """In the repository."""
    old: Entry
    new: Entry
    before: FileState
    """In the working tree."""
    after: FileState
    content: Content | None
    """Of `after`; `None` if it is absent."""
    original: Content | None
    """Of `before`; `None` if it is absent."""
    folders: tuple[Path, ...]
    """To be made before, and removed when put back."""
    suffix: str
    """Tells the step's working names apart from those of the others."""


@dataclass(frozen=True, slots=True)
class Advance:
    """A commit that is to be made on `ref`, whose value is `tip`."""

    git: Git
    ref: str
    tip: str
    steps: Sequence[Step]
    subject: str
    make: Callable[[Git], Awaitable[str]]
    """Writes the objects and returns the commit's id."""
    hold: Hold | None
    """`None` for a branch that is checked out nowhere."""
    emptied: Sequence[Path] = ()
    """Folders that are removed afterwards if nothing is in them."""
    carried: list[Step] = field(default_factory=list)
    """The steps that this run has brought to their after-state."""

    async def run(self, done: Callable[[str], Awaitable[bool]]) -> str:
        """
        Make the commit, or complete an interrupted run.

        Args:
            done: Whether the value of `ref` (given) shows that an earlier run came as far as the commit point.

        Returns:
            The value that `ref` has then.

        Raises:
            EffectConflict: somebody changed or holds what is to be changed; everything is as before.
            EffectError: it failed; everything is as before unless the message says otherwise.

        """
        if self.hold is None:
            commit = await self.make(self.git)
            await self.git.set_value(self.ref, commit, self.tip, f"remediation: {self.subject}")
            return commit
        hold = self.hold
        resuming = hold.is_marked()
        try:
            await in_thread(hold.take)
            current = await self.git.value(self.ref)
            if not (resuming and await done(current)):
                current = await self._advance(hold, current, resuming)
            await self.complete(hold, stale=resuming)
        except BaseException as error:
            if hold.is_held():
                with anyio.CancelScope(shield=True):
                    await self._give_up(hold, error, done, list(self.steps) if resuming else self.carried)
            raise
        return current

    async def complete(self, hold: Hold, *, stale: bool) -> None:
        """
        Do what comes after the commit point.

        Args:
            hold: The lock, held.
            stale: Whether the lock may have been gone meanwhile, so that the index may be another one by now.

        """
        if stale:
            found = await staged(self.git, [step.path for step in self.steps])
            if all(found[step.path] in (step.old, step.new) for step in self.steps):
                await self._begin_index(hold)
            else:
                await in_thread(hold.discard_index)
        await in_thread(self._finish, hold)

    def _finish(self, hold: Hold) -> None:
        hold.install_index()
        remove_folders(self.git.context.roots, self.emptied)
        hold.release()

    async def _begin_index(self, hold: Hold) -> None:
        await in_thread(hold.begin_index)
        private = self.git.with_variables(GIT_INDEX_FILE=str(hold.index))
        await change_index(private, {step.path: step.new for step in self.steps}, self.tip)

    async def _advance(self, hold: Hold, current: str, resuming: bool) -> str:
        if current != self.tip:
            raise EffectConflict(f"{self.ref} was moved by somebody else since the plan was made; make a new plan")
        await self._look(resuming)
        commit = await self.make(self.git)
        await self._begin_index(hold)
        await in_thread(self._carry, resuming)
        await self.git.set_value(self.ref, commit, self.tip, f"remediation: {self.subject}")
        return commit

    async def _look(self, resuming: bool) -> None:
        refuse_if_under_way(self.git.location)
        if await self.git.head() != self.ref:
            raise EffectConflict(f"another branch than {self.ref} is checked out now; make a new plan")
        found = await staged(self.git, [step.path for step in self.steps])
        for step in self.steps:
            if found[step.path] != step.old and not (resuming and found[step.path] == step.new):
                raise EffectConflict(f"somebody staged a change of {printable(step.path)!r}; nothing was changed")
        if not resuming:
            await in_thread(self._examine)

    def _examine(self) -> None:
        for step in self.steps:
            path = self._path(step)
            if step.folders and missing_folders(self.git.context.roots, path):
                continue
            with told("look at", path), place(self.git.context, path) as target:
                found = examine(target.parent, target.name)
                if not step.before.allows(found):
                    raise conflict(target, step.before, found)

    def _carry(self, resuming: bool) -> None:
        context = self.git.context
        for step in self.steps:
            path = self._path(step)
            with told("change", path), folders_for(context.roots, step.folders), place(context, path, step.suffix) as target:
                if not (resuming and judge(target, step.before, step.after) is Probe.APPLIED):
                    carry(target, step.before, step.after, step.content)
            self.carried.append(step)

    def _path(self, step: Step) -> Path:
        return self.git.location.work_tree / step.path

    async def _give_up(
        self, hold: Hold, error: BaseException, done: Callable[[str], Awaitable[bool]], begun: Sequence[Step]
    ) -> None:
        """After a failure: complete what passed the commit point, put back what did not."""
        patient = replace(self, git=replace(self.git, spare=_SPARE))
        try:
            if await done(await patient.git.value(self.ref)):
                await patient.complete(hold, stale=True)
            else:
                await patient.put_back(hold, begun)
        except (RemediationError, OSError) as second:
            raise EffectError(
                f"{error}; and it could not be put back: {second}. Look at {hold.folder} and `git status` there"
            ) from error

    async def put_back(self, hold: Hold, begun: Sequence[Step]) -> None:
        """
        Put the files of the steps `begun` back as they were before a run that did not reach the commit point, and let go.

        Raises:
            EffectConflict: somebody changed one of them since; the mark stays.

        """
        await in_thread(self._restore, begun)
        await in_thread(hold.release)

    def _restore(self, begun: Sequence[Step]) -> None:
        context = self.git.context
        for step in reversed(begun):
            path = self._path(step)
            if not missing_folders(context.roots, path):
                with told("restore", path), place(context, path, step.suffix) as target:
                    # Nothing may be refused for being late: it is on the way back.
                    take_back(replace(target, expired=lambda: False), step.before, step.after, step.original)
            remove_folders(context.roots, step.folders)
