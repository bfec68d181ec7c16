"""Moving a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from remediation.effects.fields import AbsolutePath, shown, touched
from remediation.effects.file_change import FileOutput, in_time
from remediation.effects.filestate import FileState, examine, glance, told
from remediation.effects.folders import folders_for, missing_folders, remove_folders
from remediation.effects.renaming import remove_if_there, rename_new
from remediation.effects.threads import in_thread
from remediation.errors import EffectConflict, EffectError, EffectRefused, OutsideRoots
from remediation.model.plan import Probe, Promise
from remediation.ports.effect import Effect, EffectContext, Prepared, Roots, Touches


class MovePrepared(Prepared):
    """The file that is to be moved."""

    state: FileState
    folders: tuple[AbsolutePath, ...] = ()
    """Folders that are missing and will be made."""


class MoveFile(Effect[MovePrepared, FileOutput]):
    """
    Move a file to a name that is free, on the same file system. Revert moves it back.

    The file stays the same one: everything about it is kept, and programs that have it open go on using it.
    """

    kind: ClassVar[str] = "file.move"
    promise: ClassVar[Promise] = Promise.STATE

    source: AbsolutePath
    """The file; inside the allowed roots."""
    path: AbsolutePath
    """Its new name; inside the allowed roots, and free."""
    parents: bool = False
    """Make missing folders (0755 less the umask)."""

    @model_validator(mode="after")
    def _two_names(self) -> Self:
        if self.source == self.path:
            raise ValueError("source and path are one name")
        return self

    def touches(self) -> Touches:
        return Touches(paths=(touched(self.source), touched(self.path)))

    def describe(self) -> str:
        return f"move {shown(self.source)} to {shown(self.path)}"

    def diff(self, prepared: MovePrepared, context: EffectContext) -> str:
        return f"rename from {shown(self.source)}\nrename to {shown(self.path)}\n"

    async def prepare(self, context: EffectContext) -> MovePrepared:
        return await in_thread(self._prepare, context)

    async def apply(self, context: EffectContext, prepared: MovePrepared) -> FileOutput:
        return await in_thread(self._apply, context, prepared)

    async def probe(self, context: EffectContext, prepared: MovePrepared) -> Probe:
        return await in_thread(self._probe, context, prepared)

    async def revert(self, context: EffectContext, prepared: MovePrepared, output: FileOutput | None) -> None:
        await in_thread(self._revert, context, prepared)

    def _prepare(self, context: EffectContext) -> MovePrepared:
        folders = missing_folders(context.roots, context.roots.check(self.path)) if self.parents else ()
        with told("prepare to move", self.source), context.roots.open_parent(self.source) as (parent, name):
            state = examine(parent, name, sole=False)
        if not state.exists:
            raise EffectConflict(f"{shown(self.source)} is missing, so it can't be moved")
        holder = folders[0].parent if folders else self.path.parent
        with told("prepare to move to", self.path), context.roots.open_parent(holder / self.path.name) as (parent, name):
            if os.fstat(parent).st_dev != state.device:
                raise EffectRefused(
                    f"{shown(self.path)} lies on another file system than {shown(self.source)}; copy the file, then delete it"
                )
            if not folders and _taken(parent, name):
                raise EffectConflict(f"{shown(self.path)} exists already; move the file to a free name")
        return MovePrepared(state=state, folders=folders)

    def _apply(self, context: EffectContext, prepared: MovePrepared) -> FileOutput:
        in_time(context, self.describe())
        with told("move to", self.path), folders_for(context.roots, prepared.folders):
            _move(context.roots, self.source, self.path, prepared.state)
        return FileOutput(sha256=prepared.state.sha256, size=prepared.state.size)

    def _probe(self, context: EffectContext, prepared: MovePrepared) -> Probe:
        try:
            there, here = _look(context.roots, self.source), _look(context.roots, self.path)
        except (EffectError, OutsideRoots):
            return Probe.UNKNOWN
        if _both_names(there, here):
            return Probe.NOT_APPLIED if prepared.state.allows(here) else Probe.UNKNOWN
        if not there.exists and prepared.state.allows(here):
            return Probe.APPLIED
        return Probe.NOT_APPLIED if prepared.state.allows(there) and not here.exists else Probe.UNKNOWN

    def _revert(self, context: EffectContext, prepared: MovePrepared) -> None:
        in_time(context, f"undo: {self.describe()}")
        with told("move back to", self.source):
            there, here = _look(context.roots, self.source), _look(context.roots, self.path)
            if here.exists or not prepared.state.allows(there):
                _move(context.roots, self.path, self.source, prepared.state)
            remove_folders(context.roots, prepared.folders)


def _move(roots: Roots, source: Path, target: Path, state: FileState) -> None:
    with roots.open_parent(source) as (old, name), roots.open_parent(target) as (new, wanted):
        found = examine(old, name, sole=False)
        if not state.allows(found):
            raise EffectConflict(
                f"{shown(source)} is no longer the file that it was when the plan was made; nothing was moved, make a new plan"
            )
        if _both_names(found, glance(new, wanted)):
            # Interrupted between link and unlink, where the file system can't rename without replacing.
            remove_if_there(old, name)
        else:
            _rename(source, target, old, new, found)
        os.fsync(new)
        os.fsync(old)


def _rename(source: Path, target: Path, old: int, new: int, found: FileState) -> None:
    try:
        rename_new(old, source.name, new, target.name)
    except FileExistsError as error:
        raise EffectConflict(f"{shown(target)} exists already; nothing was moved, make a new plan") from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise EffectRefused(
                f"{shown(target)} lies on another file system than {shown(source)}; copy the file, then delete it"
            ) from error
        raise
    if found.is_one_with(glance(new, target.name)):
        return
    try:
        rename_new(new, target.name, old, source.name)
    except OSError as error:
        raise EffectError(
            f"{shown(source)} was replaced by somebody else in the very moment of the move, and lies at {shown(target)} now; "
            "compare what is at both names and put it right by hand"
        ) from error
    raise EffectConflict(f"{shown(source)} was replaced by somebody else in the very moment of the move; it was put back")


def _look(roots: Roots, path: Path) -> FileState:
    try:
        with told("look at", path), roots.open_parent(path) as (parent, name):
            return examine(parent, name, sole=False)
    except EffectConflict:
        return FileState(exists=False)


def _both_names(one: FileState, other: FileState) -> bool:
    return one.exists and other.exists and (one.device, one.inode) == (other.device, other.inode)


def _taken(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
