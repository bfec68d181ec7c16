"""
Replacing a database, with its ``-wal``, ``-shm`` and ``-journal``, as one effect.

SQLite would play a WAL or a hot journal that it finds beside a database into it, whichever database it was written for. So the
order is: the side files go first (``-journal``, ``-wal``, ``-shm``), then one rename puts the new database in place; the way
back begins with the database and ends with its side files. At no moment does a database stand beside a log of another one, and
from each moment `apply` can go on and `revert` can go back, because the content of all files was in the blob store before.

The ``-shm`` is kept and restored, but never compared: it is a cache that every reader writes to.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from remediation.effects.fields import AbsolutePath, shown, touched
from remediation.effects.filestate import ABSENT, FileState, examine, glance, told
from remediation.effects.placing import Place, carry, roll_back
from remediation.effects.renaming import remove_if_there
from remediation.effects.sqlite import children
from remediation.effects.sqlite.children import SUFFIXES, FileDigest, side
from remediation.effects.sqlite.holders import Holders, holders, holding
from remediation.effects.threads import in_thread
from remediation.errors import EffectConflict, EffectError, EffectRefused
from remediation.model.base import Frozen
from remediation.model.plan import BlobRef, Probe, Promise
from remediation.ports.effect import Effect, EffectContext, Output, Prepared, Touches

_CHUNK = 1024 * 1024
_PATIENCE = 5.0
"""Seconds for which `apply` waits until nobody looks at the database any more."""
_LOGS = ("-journal", "-wal")
_COMPARED = ("", *_LOGS)
_BACK = ":back"
"""Marks the names that `revert` uses beside the files, so that they are never taken for those of `apply`."""


class DamagedFile(Frozen):
    """One file that is replaced, and its content in the blob store."""

    suffix: Literal["", "-wal", "-shm", "-journal"]
    blob: BlobRef


class ReplacePrepared(Prepared):
    """The files before, and the new content."""

    before: tuple[tuple[str, FileDigest], ...]
    """By suffix; what is missing was not there."""
    after: FileDigest


class ReplaceOutput(Output):
    """Where the damaged files are kept, and who was too late."""

    kept: tuple[tuple[str, str], ...]
    """Suffix and path in the blob store (read-only)."""
    late: tuple[str, ...] = ()
    """Processes that opened the old database in the moment it was replaced: they hold a file that has no name any more."""


class ReplaceDatabase(Effect[ReplacePrepared, ReplaceOutput]):
    """
    Replace a SQLite database by `content`, and remove its side files.

    Guarantees: refused while any process has it open, and unless the files are exactly those in `damaged`; owner, mode and
    attributes stay. Reverting restores database, ``-wal`` and ``-journal`` byte for byte, and the ``-shm`` as it was when it
    was kept; refused once somebody wrote to the new database. Non-guarantee: a process that opens the database between the last
    look and the rename is not kept from it; it is named in the output.
    """

    kind: ClassVar[str] = "sqlite.replace"
    promise: ClassVar[Promise] = Promise.STATE

    path: AbsolutePath
    content: BlobRef
    damaged: tuple[DamagedFile, ...]
    """The files as they are now; the database itself is among them."""
    origin: str
    """Where the content comes from, for people."""

    def touches(self) -> Touches:
        return Touches(paths=tuple(touched(side(self.path, suffix)) for suffix in SUFFIXES))

    def describe(self) -> str:
        sides = ", ".join(item.suffix for item in self.damaged if item.suffix)
        return f"replace {shown(self.path)}{f' (with its {sides})' if sides else ''} by {self.origin}; the damaged files are kept"

    async def prepare(self, context: EffectContext) -> ReplacePrepared:
        for suffix in SUFFIXES:
            context.roots.check(side(self.path, suffix))
        if "" not in {item.suffix for item in self.damaged}:
            raise EffectRefused(f"{shown(self.path)} itself is not among the files to be replaced; keep its content first")
        found = await children.digest(context.run, self.path, seconds=_left(context))
        for item in self.damaged:
            if not context.blobs.path(item.blob).exists():
                raise EffectError(f"the kept content of {shown(side(self.path, item.suffix))} is missing in the blob store")
        self._refuse_unless_as_kept(found)
        fresh = (await children.digest(context.run, context.blobs.path(self.content), seconds=_left(context))).get("")
        if fresh is None or fresh.sha256 != self.content.sha256:
            raise EffectError("the new content is missing in the blob store, or damaged; make a new plan")
        old = found[""]
        if linked := [suffix for suffix, item in found.items() if item.names > 1]:
            raise EffectRefused(
                f"{shown(side(self.path, linked[0]))} has several names (hard links), and a change under one would part them; "
                "remove the others first"
            )
        after = fresh.model_copy(
            update={"mode": old.mode, "uid": old.uid, "gid": old.gid, "attributes": old.attributes, "mtime_ns": 0}
        )
        return ReplacePrepared(before=tuple(found.items()), after=after)

    async def apply(self, context: EffectContext, prepared: ReplacePrepared) -> ReplaceOutput:
        await self._wait_until_closed(context)
        if await self.probe(context, prepared) is not Probe.NOT_APPLIED:
            raise EffectConflict(
                f"{shown(self.path)} is no longer as it was when the plan was made; it was left alone, make a new plan"
            )
        late = await in_thread(self._replace, context, prepared)
        return ReplaceOutput(
            kept=tuple((item.suffix, str(context.blobs.path(item.blob))) for item in self.damaged),
            late=tuple(holder.told() for holder in late.others),
        )

    async def probe(self, context: EffectContext, prepared: ReplacePrepared) -> Probe:
        found = await children.digest(context.run, self.path, seconds=_left(context))
        before = dict(prepared.before)
        main, sides = found.get(""), {suffix: item for suffix, item in found.items() if suffix in _LOGS}
        if main is not None and main.content == prepared.after.content and not any(item.size for item in sides.values()):
            return Probe.NOT_APPLIED if self._unfinished(context) else Probe.APPLIED
        on_the_way = all(suffix in before and item.sha256 == before[suffix].sha256 for suffix, item in sides.items())
        if main is not None and main.sha256 == before[""].sha256 and on_the_way:
            return Probe.NOT_APPLIED
        return Probe.UNKNOWN

    def already(self, prepared: ReplacePrepared) -> bool:
        before = dict(prepared.before)
        return before[""].content == prepared.after.content and not any(before[log].size for log in _LOGS if log in before)

    async def revert(self, context: EffectContext, prepared: ReplacePrepared, output: ReplaceOutput | None) -> None:
        before = dict(prepared.before)
        found = await children.digest(context.run, self.path, seconds=_left(context))
        if _compared(found) == _compared(before) and ("-shm" in found) == ("-shm" in before):
            return
        main = found.get("")
        ours = main is not None and main.content in (prepared.after.content, before[""].content)
        strange = [
            suffix
            for suffix in _LOGS
            if suffix in found
            and found[suffix].size
            and found[suffix].sha256 != (before[suffix].sha256 if suffix in before else "")
        ]
        if not ours or strange:
            raise EffectConflict(
                f"{shown(self.path)} was written to since it was replaced: left alone; the damaged files stay in the blob store"
            )
        await self._wait_until_closed(context)
        await self._clear_own_leftovers(context, prepared)
        await in_thread(self._put_back, context, prepared)

    # -- in a worker thread, while nobody has the database open
    # -----------------------------------------------------------------------

    def _replace(self, context: EffectContext, prepared: ReplacePrepared) -> Holders:
        """Put the new database in place; who has the old one open after that."""
        with context.roots.open_parent(self.path) as (parent, name):
            # Keeps the inode from being given to another file. O_PATH: closing it leaves everybody's locks alone.
            old = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            found = os.fstat(old)
            self._put_in_place(context, prepared)
            return holding([(found.st_dev, found.st_ino)], own=old)
        finally:
            os.close(old)

    def _put_in_place(self, context: EffectContext, prepared: ReplacePrepared) -> None:
        before = dict(prepared.before)
        with told("replace", self.path):
            for suffix in _LOGS:
                with self._place(context, suffix) as place:
                    if suffix in before and (glance(place.parent, place.name).exists or glance(place.parent, place.swap).exists):
                        carry(place, _without_attributes(before[suffix]), ABSENT, None)
            with self._place(context, "-shm") as place:
                remove_if_there(place.parent, place.name)
            with self._place(context, "") as place:
                carry(place, _without_attributes(before[""]), prepared.after, partial(_chunks, context.blobs.path(self.content)))

    def _put_back(self, context: EffectContext, prepared: ReplacePrepared) -> None:
        before = dict(prepared.before)
        kept: dict[str, BlobRef] = {item.suffix: item.blob for item in self.damaged}
        with told("restore", self.path):
            self._settle_apply(context, prepared)
            with self._place(context, "") as place:
                replaced = examine(place.parent, place.name)
            if replaced.sha256 != before[""].sha256:
                for suffix in _LOGS:
                    with self._place(context, suffix, _BACK) as place:
                        if (found := examine(place.parent, place.name)).exists:
                            carry(place, found, ABSENT, None)
                with self._place(context, "-shm") as place:
                    remove_if_there(place.parent, place.name)
            for suffix in ("", "-wal", "-journal", "-shm"):
                if suffix in before:
                    with self._place(context, suffix, _BACK) as place:
                        was = before[suffix].model_copy(update={"sha256": kept[suffix].sha256})
                        content = partial(_chunks, context.blobs.path(kept[suffix]))
                        carry(place, examine(place.parent, place.name), was, content)

    def _settle_apply(self, context: EffectContext, prepared: ReplacePrepared) -> None:
        """What an interrupted `apply` left: first of the database, which has no side files once it is the new one."""
        before = dict(prepared.before)
        with self._place(context, "") as place:
            roll_back(place, _without_attributes(before[""]), prepared.after)
        for suffix in _LOGS:
            if suffix in before:
                with self._place(context, suffix) as place:
                    roll_back(place, _without_attributes(before[suffix]), ABSENT)

    async def _clear_own_leftovers(self, context: EffectContext, prepared: ReplacePrepared) -> None:
        """What an interrupted `revert` left: parts, and swaps whose content is known."""
        before = dict(prepared.before)
        for suffix in SUFFIXES:
            with self._place(context, suffix, _BACK) as place:
                path = self.path.with_name(place.swap)
                left = (await children.digest(context.run, path, seconds=_left(context))).get("")
                known = {prepared.after.content} if suffix == "" else set()
                known |= {before[suffix].content} if suffix in before else set()
                if left is not None and left.size and suffix != "-shm" and left.content not in known:
                    raise EffectConflict(
                        f"{shown(path)} holds what somebody wrote while the replacement was taken back; compare by hand"
                    )
                remove_if_there(place.parent, place.part)
                remove_if_there(place.parent, place.swap)

    def _place(self, context: EffectContext, suffix: str, way: str = "") -> contextlib.AbstractContextManager[Place]:
        return _place(context, side(self.path, suffix), f"{context.key}{suffix}{way}")

    def _unfinished(self, context: EffectContext) -> bool:
        for suffix in SUFFIXES:
            with self._place(context, suffix) as place:
                if glance(place.parent, place.part).exists or glance(place.parent, place.swap).exists:
                    return True
        return False

    def _refuse_unless_as_kept(self, found: dict[str, FileDigest]) -> None:
        kept: dict[str, str] = {item.suffix: item.blob.sha256 for item in self.damaged}
        for suffix in _COMPARED:
            now = found[suffix].sha256 if suffix in found else None
            if now != kept.get(suffix):
                raise EffectConflict(
                    f"{shown(side(self.path, suffix))} changed since its content was kept; somebody is writing to it: "
                    "stop that first, or make a new plan"
                )
        if "-shm" in found and "-shm" not in kept:
            raise EffectConflict(f"{shown(side(self.path, '-shm'))} is new since the files were kept; make a new plan")

    async def _wait_until_closed(self, context: EffectContext) -> None:
        """Refuse while somebody has it open; a look at it by a sentinel of ours is waited for."""
        until = min(context.clock.monotonic() + _PATIENCE, context.deadline)
        while True:
            found = await in_thread(holders, self.path)
            locked = () if found.found else await children.lock_holders(context.run, self.path)
            if not found.found and not locked:
                return
            if found.others or context.clock.monotonic() >= until:
                raise EffectConflict(
                    f"{shown(self.path)} is {_in_use(found, locked)}; stop that, or declare a quiesce control or a unit for it"
                )
            await context.clock.sleep(0.05)


@contextlib.contextmanager
def _place(context: EffectContext, path: Path, key: str) -> Iterator[Place]:
    with context.roots.open_parent(path) as (parent, name):
        yield Place(parent, name, key, lambda: context.clock.monotonic() > context.deadline)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _compared(files: dict[str, FileDigest]) -> dict[str, str]:
    return {suffix: files[suffix].sha256 for suffix in _COMPARED if suffix in files}


def _sha256_of(damaged: tuple[DamagedFile, ...], suffix: str) -> str:
    return next(item.blob.sha256 for item in damaged if item.suffix == suffix)


def _without_attributes(state: FileState) -> FileState:
    return state.model_copy(update={"attributes": None})


def _in_use(found: Holders, locked: tuple[int, ...]) -> str:
    if found.found:
        return f"open in {found.told()}"
    return f"locked by {', '.join(str(pid) if pid else 'a process in another container' for pid in locked)}"


def _left(context: EffectContext) -> float:
    return max(1.0, context.deadline - context.clock.monotonic())


__all__ = ["DamagedFile", "ReplaceDatabase", "ReplaceOutput", "ReplacePrepared"]
