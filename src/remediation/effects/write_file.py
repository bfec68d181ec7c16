"""Writing a file."""

from __future__ import annotations

import hashlib
import os
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from remediation.effects.fields import shown
from remediation.effects.file_change import FileChange, FilePrepared, replaced_by, stored
from remediation.effects.filestate import FileState
from remediation.effects.placing import Content
from remediation.errors import EffectRefused
from remediation.model.plan import BlobRef
from remediation.ports.effect import EffectContext

CONTENT_CAP = 64 * 1024


class WriteFile(FileChange):
    """
    Give a file new content; it is made if it is not there.

    Owner, mode and extended attributes of an existing file are kept. Revert restores content, owner, mode, attributes and
    modification time, or removes a file that was new.
    """

    kind: ClassVar[str] = "file.write"

    content: str | None = None
    """The content as text, written in UTF-8; at most 64 KiB. Either this or `blob`."""
    blob: BlobRef | None = None
    """The content as bytes, or larger than 64 KiB, from ``ctx.keep``."""
    mode: int | None = Field(default=None, ge=0, le=0o777)
    """Permission bits. Default: those of the existing file, 0644 for a new one."""
    parents: bool = False
    """Make missing folders (0755 less the umask)."""

    @field_validator("content")
    @classmethod
    def _bounded(cls, value: str | None) -> str | None:
        if value is not None and len(value.encode("utf-8")) > CONTENT_CAP:
            raise ValueError(f"is longer than {CONTENT_CAP} bytes; write it to ctx.scratch and pass blob=await ctx.keep(path)")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.content is None) == (self.blob is None):
            raise ValueError("give either content (text) or blob (from ctx.keep)")
        return self

    def describe(self) -> str:
        size = self.blob.size if self.blob is not None else len(self._bytes())
        return f"write {size} bytes to {shown(self.path)}" + ("" if self.mode is None else f", mode {self.mode:04o}")

    def makes_folders(self) -> bool:
        return self.parents

    def planned(self, context: EffectContext, before: FileState) -> FileState:
        if self.blob is None:
            data = self._bytes()
            return replaced_by(before, hashlib.sha256(data).hexdigest(), len(data), self.mode)
        try:
            size = os.stat(context.blobs.path(self.blob)).st_size
        except FileNotFoundError:
            size = -1
        if size != self.blob.size:
            raise EffectRefused(f"blob {self.blob.sha256} is not in the blob store; keep the content with ctx.keep first")
        return replaced_by(before, self.blob.sha256, self.blob.size, self.mode)

    def new_content(self, context: EffectContext, prepared: FilePrepared) -> Content:
        return stored(context.blobs, self.blob) if self.blob is not None else lambda: iter([self._bytes()])

    def preview(self, context: EffectContext, prepared: FilePrepared) -> bytes | None:
        return context.blobs.get_blocking(self.blob) if self.blob is not None else self._bytes()

    def _bytes(self) -> bytes:
        return (self.content or "").encode("utf-8")
