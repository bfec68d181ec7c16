"""Deleting a file."""

from __future__ import annotations

from typing import ClassVar

from remediation.effects.fields import shown, touched
from remediation.effects.file_change import FileChange, FilePrepared
from remediation.effects.filestate import ABSENT, FileState
from remediation.model.runbook import Reversibility
from remediation.ports.effect import EffectContext, Touches


class DeleteFile(FileChange):
    """
    Delete a file; one that is not there is deleted already.

    Its content is kept in the blob store, so that revert restores content, owner, mode, attributes and modification time. With
    ``keep=False`` it is lost: `disposable` if the operator declared the path so, else `irreversible`.
    """

    kind: ClassVar[str] = "file.delete"

    keep: bool = True
    """Keep the content for a revert."""

    def reversibility(self, context: EffectContext) -> Reversibility:
        if self.keep:
            return Reversibility.REVERSIBLE
        covered = context.disposable.covers(self.touches())
        return Reversibility.DISPOSABLE if covered else Reversibility.IRREVERSIBLE

    def touches(self) -> Touches:
        path = touched(self.path)
        return Touches(paths=(path,), destroys=() if self.keep else (path,))

    def describe(self) -> str:
        return f"delete {shown(self.path)}" + ("" if self.keep else " for good")

    def keeps_image(self) -> bool:
        return self.keep

    def planned(self, context: EffectContext, before: FileState) -> FileState:
        return ABSENT

    def new_content(self, context: EffectContext, prepared: FilePrepared) -> None:
        return None
