"""Committing to a git repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from remediation.effects.fields import AbsolutePath, shown, touched
from remediation.effects.file_change import in_time, place, stored
from remediation.effects.filestate import told
from remediation.effects.folders import missing_folders
from remediation.effects.git_advance import Advance, Step
from remediation.effects.git_hold import Hold
from remediation.effects.git_plan import GitFile, GitPrepared, Wish, plan
from remediation.effects.git_plumbing import Git, opened_git
from remediation.effects.git_tree import Entry, Signature, entries_of, make_commit, write_contents
from remediation.effects.placing import Content, judge
from remediation.effects.threads import in_thread
from remediation.errors import EffectConflict, EffectError, RemediationError
from remediation.model.plan import BlobRef, Probe, Promise
from remediation.model.text import capped, printable
from remediation.ports.effect import Effect, EffectContext, Output, Touches

CONTENT_CAP = 64 * 1024
# git-check-ref-format(1), for a name below refs/heads/; stricter in that it must begin with a letter, digit or underscore.
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[A-Za-z0-9_][^\x00-\x20\x7f~^:?*\[\\]{0,199}(?<![./])")
_AUTHOR = re.compile(r"[^<>\x00-\x1f]+ <[^<>\s\x00-\x1f]+>")


class GitOutput(Output):
    """The commit that was made."""

    commit: str
    ref: str


class GitCommit(Effect[GitPrepared, GitOutput]):
    """
    Make one commit on one branch, and bring the working tree along if it has the branch checked out.

    Contents are committed byte for byte. Nothing that the repository configures is run: no hooks, filters, signing, fsmonitor.
    People's uncommitted work is never touched: where it concerns the same files it is a conflict. Revert makes another commit
    that takes this one back, so that history stays evidence; a branch that this effect made and nobody used since is removed
    instead.
    """

    kind: ClassVar[str] = "git.commit"
    promise: ClassVar[Promise] = Promise.STATE

    repository: AbsolutePath
    """The top folder of the working tree; it and its ``.git`` inside the allowed roots."""
    branch: str | None = None
    """The branch's name; default: the one that is checked out. One that does not exist begins at HEAD."""
    files: tuple[tuple[str, str | BlobRef], ...] = ()
    """New contents, by path in the repository (a mapping is accepted): text, in all at most 64 KiB, or blobs from ``ctx.keep``."""
    deletes: tuple[str, ...] = ()
    """Paths in the repository."""
    message: str = Field(min_length=1, max_length=CONTENT_CAP)
    author: str = "Remediation <remediation@localhost>"
    """``Name <address>``; also the committer."""

    @field_validator("files", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @field_validator("branch")
    @classmethod
    def _branch_name(cls, value: str | None) -> str | None:
        if value is not None and (not _BRANCH.fullmatch(value) or value == "HEAD"):
            raise ValueError("is no name of a branch; see git check-ref-format")
        return value

    @field_validator("author")
    @classmethod
    def _author_form(cls, value: str) -> str:
        if not _AUTHOR.fullmatch(value):
            raise ValueError("must have the form 'Name <address>'")
        return value

    @model_validator(mode="after")
    def _paths_and_sizes(self) -> Self:
        paths = [path for path, _ in self.files] + list(self.deletes)
        if not paths or len(set(paths)) != len(paths):
            raise ValueError("name at least one path, and each only once")
        for path in paths:
            parts = path.split("/")
            if {"", ".", ".."} & set(parts) or any(part.lower() == ".git" for part in parts) or not path.isprintable():
                raise ValueError("paths are relative to the repository, without '.', '..', '.git' and control characters")
        if sum(len(content.encode()) for _, content in self.files if isinstance(content, str)) > CONTENT_CAP:
            raise ValueError(f"texts are longer than {CONTENT_CAP} bytes in all; pass larger ones as blobs from ctx.keep(path)")
        return self

    def touches(self) -> Touches:
        paths = [path for path, _ in self.files] + list(self.deletes)
        return Touches(paths=tuple(touched(self.repository / path) for path in paths))

    def describe(self) -> str:
        where = f"branch {self.branch}" if self.branch else "the checked-out branch"
        count = len(self.files) + len(self.deletes)
        files = f"{count} file{'' if count == 1 else 's'}"
        return printable(capped(f"commit {files} to {where} of {shown(self.repository)}: {self._subject()}", 1024))

    def diff(self, prepared: GitPrepared, context: EffectContext) -> str:
        return prepared.patch

    async def prepare(self, context: EffectContext) -> GitPrepared:
        contents = await in_thread(self._contents, context)
        with opened_git(context, self.repository) as git:
            return await plan(git, Wish(self.branch, contents, self.message, self.author))

    async def apply(self, context: EffectContext, prepared: GitPrepared) -> GitOutput:
        in_time(context, self.describe())
        with opened_git(context, self.repository) as git:

            async def done(current: str) -> bool:
                return await git.holds(prepared.commit, current)

            await self._forward(git, prepared).run(done)
        return GitOutput(commit=prepared.commit, ref=prepared.ref)

    async def probe(self, context: EffectContext, prepared: GitPrepared) -> Probe:
        try:
            with opened_git(context, self.repository) as git:
                return await self._seen(git, prepared)
        except RemediationError as error:
            context.log.warning("a repository could not be examined", key=context.key, error=str(error))
            return Probe.UNKNOWN

    async def _seen(self, git: Git, prepared: GitPrepared) -> Probe:
        current = await git.value(prepared.ref)
        contained = await git.holds(prepared.commit, current)
        if prepared.checked_out and Hold(git.location, git.context.key).is_marked():
            known = contained or await in_thread(self._files_are_known, git, prepared)
            return Probe.NOT_APPLIED if known else Probe.UNKNOWN
        if not contained:
            return Probe.NOT_APPLIED
        taken_back = await _entries(git, current, prepared) == {file.path: file.old for file in prepared.files}
        return Probe.NOT_APPLIED if taken_back else Probe.APPLIED

    async def revert(self, context: EffectContext, prepared: GitPrepared, output: GitOutput | None) -> None:
        in_time(context, f"undo: {self.describe()}")
        with opened_git(context, self.repository) as git:
            await self._take_back(git, prepared)

    async def _take_back(self, git: Git, prepared: GitPrepared) -> None:
        context = git.context
        await self._settle(git, prepared)
        tip = await git.value(prepared.ref)
        if not tip or not await git.holds(prepared.commit, tip):
            return
        if not prepared.tip and tip == prepared.commit and not await git.checked_out_elsewhere(prepared.ref):
            await git.set_value(prepared.ref, "", tip, f"remediation: undo {self._subject()}")
            return
        old = {file.path: file.old for file in prepared.files}
        found = await _entries(git, tip, prepared)
        hold = Hold(git.location, f"{context.key}:undo")
        if found == old and not hold.is_marked():
            return
        if found not in (old, {file.path: file.new for file in prepared.files}):
            raise EffectConflict(f"files of commit {prepared.commit[:12]} were changed by later commits; nothing was taken back")
        here = await git.head() == prepared.ref
        if here != prepared.checked_out or (not here and await git.checked_out_elsewhere(prepared.ref)):
            raise EffectConflict(
                f"another branch was checked out since {prepared.commit[:12]} was made on {prepared.ref}; nothing was changed, "
                f"take it back with `git revert {prepared.commit}`"
            )

        async def done(current: str) -> bool:
            return await _entries(git, current, prepared) == old

        await self._backward(git, prepared, tip, hold if here else None).run(done)

    def _forward(self, git: Git, prepared: GitPrepared) -> Advance:
        async def make(git: Git) -> str:
            await write_contents(git, await in_thread(self._contents, git.context))
            entries = {file.path: file.new for file in prepared.files}
            signature = Signature(self.author, prepared.when)
            commit = await make_commit(git, prepared.base, entries, self.message, signature)
            if commit != prepared.commit:
                raise EffectError(f"the commit became {commit} and not {prepared.commit}, as it was planned; it was not used")
            return commit

        steps = [self._step(git.context, number, file) for number, file in enumerate(prepared.files)]
        hold = Hold(git.location, git.context.key) if prepared.checked_out else None
        return Advance(git, prepared.ref, prepared.tip, steps, self._subject(), make, hold)

    def _backward(self, git: Git, prepared: GitPrepared, tip: str, hold: Hold | None) -> Advance:
        context = git.context
        when = int(context.clock.now().timestamp())
        message = f'Revert "{self._subject()}"\n\nThis reverts commit {prepared.commit}.'

        async def make(git: Git) -> str:
            entries = {file.path: file.old for file in prepared.files}
            return await make_commit(git, tip, entries, message, Signature(self.author, when))

        steps = []
        for number, file in enumerate(prepared.files):
            step = self._step(context, number, file)
            steps.append(
                Step(
                    path=file.path,
                    old=file.new,
                    new=file.old,
                    before=file.after,
                    # Restored now, for those who look at times to find out what to build again.
                    after=file.before.model_copy(update={"mtime_ns": 0}),
                    content=step.original,
                    original=step.content,
                    folders=missing_folders(context.roots, git.location.work_tree / file.path) if hold and file.old.oid else (),
                    suffix=f":undo:{number}",
                )
            )
        emptied = [folder for file in prepared.files for folder in file.folders]
        return Advance(git, prepared.ref, tip, steps, message.partition("\n")[0], make, hold, emptied)

    def _step(self, context: EffectContext, number: int, file: GitFile) -> Step:
        original = None if file.image is None else stored(context.blobs, file.image)
        return Step(
            path=file.path,
            old=file.old,
            new=file.new,
            before=file.before,
            after=file.after,
            content=self._content(context, file.path),
            original=original,
            folders=file.folders,
            suffix=f":{number}",
        )

    async def _settle(self, git: Git, prepared: GitPrepared) -> None:
        """Complete or put back what an interrupted apply left."""
        hold = Hold(git.location, git.context.key)
        if not prepared.checked_out or not hold.is_marked():
            return
        await in_thread(hold.take)
        advance = self._forward(git, prepared)
        if await git.holds(prepared.commit, await git.value(prepared.ref)):
            await advance.complete(hold, stale=True)
        else:
            await advance.put_back(hold, advance.steps)

    def _files_are_known(self, git: Git, prepared: GitPrepared) -> bool:
        """Whether each file in the working tree is as before, as after, or on the way."""
        for number, file in enumerate(prepared.files):
            path = git.location.work_tree / file.path
            if missing_folders(git.context.roots, path):
                if file.before.exists:
                    return False
                continue
            with told("look at", path), place(git.context, path, f":{number}") as target:
                if judge(target, file.before, file.after) is Probe.UNKNOWN:
                    return False
        return True

    def _contents(self, context: EffectContext) -> dict[str, bytes | None]:
        contents: dict[str, bytes | None] = dict.fromkeys(self.deletes)
        for path, content in self.files:
            contents[path] = content.encode() if isinstance(content, str) else context.blobs.get_blocking(content)
        return contents

    def _content(self, context: EffectContext, path: str) -> Content | None:
        content = dict(self.files).get(path)
        if isinstance(content, BlobRef):
            return stored(context.blobs, content)
        if content is not None:
            data = content.encode()
            return lambda: iter([data])
        return None

    def _subject(self) -> str:
        return printable(self.message.strip().partition("\n")[0][:200])


async def _entries(git: Git, commit: str, prepared: GitPrepared) -> dict[str, Entry]:
    return await entries_of(git, commit, [file.path for file in prepared.files])
