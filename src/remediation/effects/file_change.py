"""What the effects on one file share: prepare, apply, probe and revert as a compare-and-set."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from remediation.effects.diffs import TEXT_CAP, file_diff
from remediation.effects.fields import AbsolutePath, shown, touched
from remediation.effects.filestate import FileState, examine_and_keep, told
from remediation.effects.folders import folders_for, missing_folders, remove_folders
from remediation.effects.placing import Content, Place, carry, judge, take_back
from remediation.effects.threads import in_thread
from remediation.errors import EffectError, OutsideRoots
from remediation.model.plan import BlobRef, Probe, Promise
from remediation.ports.effect import BlobStore, Effect, EffectContext, Output, Prepared, Touches

_CHUNK = 1024 * 1024


class FilePrepared(Prepared):
    """The state of the file before and after, and where its content before is kept."""

    before: FileState
    after: FileState
    image: BlobRef | None = None
    """The content before, in the blob store; `None` where there was none or it was not to be kept."""
    folders: tuple[AbsolutePath, ...] = ()
    """Folders that are missing and will be made."""


class FileOutput(Output):
    """The file's content after the change; empty and 0 for none."""

    sha256: str
    size: int


class FileChange(Effect[FilePrepared, FileOutput], abc.ABC):
    """
    One regular file brought from one state to another. See docs/specs/effects.md for what is guaranteed.

    All work of a step is done in one worker thread, which is waited for even if the step is cancelled.
    """

    promise: ClassVar[Promise] = Promise.STATE

    path: AbsolutePath
    """The file; inside the allowed roots."""

    @abc.abstractmethod
    def planned(self, context: EffectContext, before: FileState) -> FileState:
        """The state that it shall have, given the one that it has. Reads only."""

    @abc.abstractmethod
    def new_content(self, context: EffectContext, prepared: FilePrepared) -> Content | None:
        """The new content; `None` for an effect that leaves no file."""

    def preview(self, context: EffectContext, prepared: FilePrepared) -> bytes | None:
        """The new content for a diff, if it is small."""
        return None

    def keeps_image(self) -> bool:
        """Whether the content before is kept."""
        return True

    def makes_folders(self) -> bool:
        """Whether missing folders are made."""
        return False

    def touches(self) -> Touches:
        return Touches(paths=(touched(self.path),))

    def diff(self, prepared: FilePrepared, context: EffectContext) -> str:
        old = None
        if prepared.image is not None and prepared.image.size <= TEXT_CAP:
            old = context.blobs.get_blocking(prepared.image)
        new = self.preview(context, prepared) if prepared.after.size <= TEXT_CAP else None
        return file_diff(self.path, prepared.before, prepared.after, old, new)

    async def prepare(self, context: EffectContext) -> FilePrepared:
        return await in_thread(self._prepare, context)

    async def apply(self, context: EffectContext, prepared: FilePrepared) -> FileOutput:
        return await in_thread(self._apply, context, prepared)

    async def probe(self, context: EffectContext, prepared: FilePrepared) -> Probe:
        return await in_thread(self._probe, context, prepared)

    async def revert(self, context: EffectContext, prepared: FilePrepared, output: FileOutput | None) -> None:
        await in_thread(self._revert, context, prepared)

    def already(self, prepared: FilePrepared) -> bool:
        return prepared.after.allows(prepared.before)

    def _prepare(self, context: EffectContext) -> FilePrepared:
        with told("prepare a change of", self.path):
            folders = missing_folders(context.roots, context.roots.check(self.path)) if self.makes_folders() else ()
            if folders:
                before, image = FileState(exists=False), None
            else:
                with context.roots.open_parent(self.path) as (parent, name):
                    before, image = examine_and_keep(parent, name, context.blobs if self.keeps_image() else None)
            return FilePrepared(before=before, after=self.planned(context, before), image=image, folders=folders)

    def _apply(self, context: EffectContext, prepared: FilePrepared) -> FileOutput:
        in_time(context, self.describe())
        with told("change", self.path), folders_for(context.roots, prepared.folders), place(context, self.path) as target:
            carry(target, prepared.before, prepared.after, self.new_content(context, prepared))
        return FileOutput(sha256=prepared.after.sha256, size=prepared.after.size)

    def _probe(self, context: EffectContext, prepared: FilePrepared) -> Probe:
        try:
            with told("look at", self.path), place(context, self.path) as target:
                return judge(target, prepared.before, prepared.after)
        except (EffectError, OutsideRoots):
            made = prepared.after.exists and not prepared.before.exists
            return Probe.NOT_APPLIED if made and self._folder_is_missing(context) else Probe.UNKNOWN

    def _folder_is_missing(self, context: EffectContext) -> bool:
        try:
            return bool(missing_folders(context.roots, context.roots.check(self.path)))
        except OutsideRoots:
            return False

    def _revert(self, context: EffectContext, prepared: FilePrepared) -> None:
        in_time(context, f"undo: {self.describe()}")
        with told("restore", self.path):
            if not missing_folders(context.roots, context.roots.check(self.path)):
                image = None if prepared.image is None else stored(context.blobs, prepared.image)
                with place(context, self.path) as target:
                    take_back(target, prepared.before, prepared.after, image)
            elif prepared.before.exists:
                raise EffectError(f"can't restore {shown(self.path)}: its folder is missing; make the folder first")
            remove_folders(context.roots, prepared.folders)


def in_time(context: EffectContext, what: str) -> None:
    """
    Refuse to begin after the deadline.

    Raises:
        EffectError: it has passed.

    """
    if context.clock.monotonic() > context.deadline:
        raise EffectError(f"the deadline passed before this began: {what}; nothing was changed")


@contextlib.contextmanager
def place(context: EffectContext, path: Path, suffix: str = "") -> Iterator[Place]:
    """`path` as a `Place` whose working names derive from the effect's key and `suffix`."""
    with context.roots.open_parent(path) as (parent, name):
        yield Place(parent, name, context.key + suffix, lambda: context.clock.monotonic() > context.deadline)


def stored(blobs: BlobStore, ref: BlobRef) -> Content:
    """The content of a blob, read in pieces; whoever writes it verifies the digest."""

    def pieces() -> Iterator[bytes]:
        try:
            file = blobs.path(ref).open("rb")
        except OSError as error:
            raise EffectError(f"blob {ref.sha256} can't be read ({error.strerror}); its content is lost here") from error
        with file:
            while chunk := file.read(_CHUNK):
                yield chunk

    return pieces


def replaced_by(before: FileState, sha256: str, size: int, mode: int | None) -> FileState:
    """`before` with other content: owner, mode (unless given) and attributes are kept; a new file has mode 0644."""
    if not before.exists:
        return FileState(exists=True, sha256=sha256, size=size, mode=0o644 if mode is None else mode)
    # File capabilities belong to the content, as the kernel sees it: it drops them at every write.
    kept = tuple(item for item in before.attributes or () if item[0] != "security.capability")
    return FileState(
        exists=True,
        sha256=sha256,
        size=size,
        mode=before.mode if mode is None else mode,
        uid=before.uid,
        gid=before.gid,
        attributes=kept,
    )


def digest_of(descriptor: int) -> tuple[str, int]:
    """SHA-256 and size of an open file, read from its start."""
    digest, size = hashlib.sha256(), 0
    os.lseek(descriptor, 0, os.SEEK_SET)
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
