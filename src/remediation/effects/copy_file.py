"""Copying a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import ClassVar, Self

from pydantic import model_validator

from remediation.effects.fields import AbsolutePath, shown
from remediation.effects.file_change import FileChange, FilePrepared, digest_of, replaced_by
from remediation.effects.filestate import FileState, opened
from remediation.effects.placing import Content
from remediation.errors import EffectConflict, EffectRefused
from remediation.ports.effect import EffectContext

_CHUNK = 1024 * 1024


class CopyFile(FileChange):
    """
    Give a file the content of another one; it is made if it is not there.

    The source may lie outside the allowed roots, never in the home or the keys. What is copied is the content that it had when
    the plan was made; if that changed, nothing is. An existing file keeps its owner, mode and attributes; a new one gets the
    mode of the source and, if the host runs as root, its owner. The modification time is the source's.
    """

    kind: ClassVar[str] = "file.copy"

    source: AbsolutePath
    """A regular file (not a link)."""
    parents: bool = False
    """Make missing folders (0755 less the umask)."""

    @model_validator(mode="after")
    def _two_files(self) -> Self:
        if self.source == self.path:
            raise ValueError("source and path are one file")
        return self

    def describe(self) -> str:
        return f"copy {shown(self.source)} to {shown(self.path)}"

    def makes_folders(self) -> bool:
        return self.parents

    def planned(self, context: EffectContext, before: FileState) -> FileState:
        if context.roots.barred(self.source):
            raise EffectRefused(f"{shown(self.source)} lies in the host's home or keys; nothing there may be copied")
        with opened(None, self.source, sole=False) as descriptor:
            if descriptor is None:
                raise EffectConflict(f"{shown(self.source)} is missing, so it can't be copied")
            sha256, size = digest_of(descriptor)
            found = os.fstat(descriptor)
        after = replaced_by(before, sha256, size, None if before.exists else stat.S_IMODE(found.st_mode) & 0o777)
        owner = {} if before.exists or os.geteuid() != 0 else {"uid": found.st_uid, "gid": found.st_gid}
        return after.model_copy(update={**owner, "mtime_ns": found.st_mtime_ns})

    def new_content(self, context: EffectContext, prepared: FilePrepared) -> Content:
        return self._pieces

    def preview(self, context: EffectContext, prepared: FilePrepared) -> bytes | None:
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        with opened(None, self.source, sole=False) as descriptor:
            if descriptor is None:
                raise EffectConflict(f"{shown(self.source)} is gone since the plan was made; nothing was changed")
            while chunk := os.read(descriptor, _CHUNK):
                yield chunk
