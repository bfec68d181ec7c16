"""
Compare-and-set on one file: from a before-state to an after-state, or not at all.

The new content is written to a *part* file in the same directory and made durable. Then, as far as the file system offers it, the
change is one rename that also hands over what was there: an exchange with the part (under the name *swap*), or, for a deletion, a
rename to *swap*. What was handed over is looked at, and put back if it is not what the before-state says: so nothing is lost that
somebody wrote between the check and the change. Where exchanges are not supported, a last look comes right before the rename, and
what is written between these two is lost.

Part and swap have names that derive from the effect's key. What a crash leaves under them is recognised and settled by the next
`carry`; `judge` calls a change complete only when nothing is left. Their names begin with a dot and end in ``.remediation``, so
that programs which read all ``*.conf`` of a folder don't read them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from remediation.effects.filestate import ABSENT, FileState, examine, glance, set_attributes
from remediation.effects.renaming import exchange, remove_if_there, rename_new
from remediation.errors import EffectConflict, EffectError
from remediation.model.plan import Probe
from remediation.model.text import printable, wellformed

Content = Callable[[], Iterator[bytes]]
"""Yields the new content from its start."""


@dataclass(frozen=True, slots=True)
class Place:
    """One name in an open directory, and the names this effect may use beside it."""

    parent: int
    name: str
    key: str
    expired: Callable[[], bool] = lambda: False
    """Whether the effect's deadline has passed; asked between two pieces of content."""

    @property
    def part(self) -> str:
        """Holds new content that is not complete yet."""
        return f".{_token(self.key)}.part.remediation"

    @property
    def swap(self) -> str:
        """Holds complete new content that is about to be placed, or what was displaced by it."""
        return f".{_token(self.key)}.swap.remediation"

    def told(self) -> str:
        """The name for people."""
        return repr(printable(wellformed(self.name)))


def carry(place: Place, before: FileState, after: FileState, content: Content | None) -> None:
    """
    Bring the file from `before` to `after`, durably; also if an earlier call with the same key was interrupted.

    Args:
        place: Where.
        before: What must be there.
        after: What will be there; `mtime_ns` 0 means now.
        content: Of `after`, if that exists.

    Raises:
        EffectConflict: something else is there; it is untouched.
        EffectError: the content is not what `after` says, the deadline passed, or a stranger's file had to be left under
        another name. OSError: it can't be done.

    """
    remove_if_there(place.parent, place.part)
    if _settled(place, before, after):
        return
    found = examine(place.parent, place.name)
    if not before.allows(found):
        raise conflict(place, before, found)
    if before.allows(after) and after.allows(before):
        return
    if not after.exists:
        _remove(place, found)
    else:
        if content is None:
            raise EffectError(f"the content of {place.told()} was not kept, so it can't be written")
        _write(place, after, content)
        try:
            if found.exists:
                _replace(place, found)
            else:
                _create(place)
        finally:
            with contextlib.suppress(OSError):
                remove_if_there(place.parent, place.part)
    os.fsync(place.parent)


def judge(place: Place, before: FileState, after: FileState) -> Probe:
    """
    Whether the change happened. Changes nothing.

    `not_applied` also stands for a change that was interrupted and that `carry` can complete.
    """
    found = examine(place.parent, place.name, sole=False)
    swap = examine(place.parent, place.swap, sole=False)
    if swap.exists:
        known = (after.allows(found) and before.allows(swap)) or (before.allows(found) and after.allows(swap))
        return Probe.NOT_APPLIED if known else Probe.UNKNOWN
    if after.allows(found) and not glance(place.parent, place.part).exists:
        return Probe.APPLIED
    return Probe.NOT_APPLIED if before.allows(found) else Probe.UNKNOWN


def roll_back(place: Place, before: FileState, after: FileState) -> None:
    """
    Settle what an interrupted `carry` left, backwards: afterwards the file is as `before`, or `carry` was never interrupted.

    Raises:
        EffectConflict: somebody changed the file meanwhile; it is untouched.

    """
    remove_if_there(place.parent, place.part)
    swap = examine(place.parent, place.swap, sole=False)
    if not swap.exists:
        return
    found = examine(place.parent, place.name, sole=False)
    if before.allows(swap) and after.allows(found):
        _put_back(place, free=not found.exists)
    elif after.allows(swap):
        remove_if_there(place.parent, place.swap)
    else:
        raise conflict(place, after, found)
    os.fsync(place.parent)


def take_back(place: Place, before: FileState, after: FileState, original: Content | None) -> None:
    """
    Undo what `carry` did at `place`, wholly, in part or not at all; a second call finds it undone.

    Args:
        place: As it was given to `carry`.
        before: As it was given to `carry`.
        after: As it was given to `carry`.
        original: The content of `before`, if it is kept.

    Raises:
        EffectConflict: somebody changed the file since; it is untouched.
        EffectError: the content was not kept, or can't be read.

    """
    roll_back(place, before, after)
    backward = replace(place, key=f"{place.key}:undo")
    if judge(backward, after, before) is not Probe.APPLIED:
        carry(backward, after, before, original)


def conflict(place: Place, expected: FileState, found: FileState) -> EffectConflict:
    """The error that says what was expected and what was found."""
    return EffectConflict(
        f"{place.told()} is no longer as it was when the plan was made: found {found.told()}, expected {expected.told()}; "
        "it was left alone, make a new plan"
    )


def _settled(place: Place, before: FileState, after: FileState) -> bool:
    """Deal with what an interrupted `carry` left; whether the change is thereby complete."""
    swap = examine(place.parent, place.swap, sole=False)
    if not swap.exists:
        return False
    found = examine(place.parent, place.name, sole=False)
    if after.allows(found) and not (before.allows(swap) or after.allows(swap)):
        # Interrupted between displacing a stranger's file and putting it back.
        _put_back(place, free=not found.exists)
        raise conflict(place, before, swap)
    if not (before.allows(swap) or after.allows(swap)):
        raise EffectError(
            f"{place.swap} beside {place.told()} holds a file that was displaced and that this effect does not know; "
            "compare the two and remove one by hand"
        )
    if not after.allows(swap) and not after.allows(found):
        # The displaced original, and a stranger's file in its place: the change happened, and was changed again.
        raise conflict(place, after, found)
    remove_if_there(place.parent, place.swap)
    if not after.allows(found):
        return False
    os.fsync(place.parent)
    return True


def _create(place: Place) -> None:
    try:
        rename_new(place.parent, place.part, place.parent, place.name)
    except FileExistsError as error:
        raise EffectConflict(f"{place.told()} was made by somebody else meanwhile; it was left alone, make a new plan") from error


def _replace(place: Place, seen: FileState) -> None:
    os.rename(place.part, place.swap, src_dir_fd=place.parent, dst_dir_fd=place.parent)
    ours = glance(place.parent, place.swap)
    try:
        exchanged = exchange(place.parent, place.swap, place.name)
    except OSError as error:
        remove_if_there(place.parent, place.swap)
        if isinstance(error, FileNotFoundError):
            raise conflict(place, seen, ABSENT) from error
        raise
    if not exchanged:
        latest = glance(place.parent, place.name)
        if not seen.is_one_with(latest):
            remove_if_there(place.parent, place.swap)
            raise conflict(place, seen, latest)
        os.rename(place.swap, place.name, src_dir_fd=place.parent, dst_dir_fd=place.parent)
        return
    displaced = glance(place.parent, place.swap)
    if not seen.is_one_with(displaced):
        _put_back(place, free=False, ours=ours)
        raise conflict(place, seen, displaced)
    remove_if_there(place.parent, place.swap)


def _remove(place: Place, seen: FileState) -> None:
    try:
        os.rename(place.name, place.swap, src_dir_fd=place.parent, dst_dir_fd=place.parent)
    except FileNotFoundError as error:
        raise conflict(place, seen, ABSENT) from error
    displaced = glance(place.parent, place.swap)
    if not seen.is_one_with(displaced):
        _put_back(place, free=True)
        raise conflict(place, seen, displaced)
    remove_if_there(place.parent, place.swap)


def _put_back(place: Place, *, free: bool, ours: FileState | None = None) -> None:
    """Give a displaced file its name again: by a rename if the name is free, else by an exchange with the new content."""
    with contextlib.suppress(OSError):
        if free:
            rename_new(place.parent, place.swap, place.parent, place.name)
            return
        done = exchange(place.parent, place.swap, place.name)
        if done and (ours is None or ours.is_one_with(glance(place.parent, place.swap))):
            remove_if_there(place.parent, place.swap)
            return
    raise EffectError(
        f"{place.told()} was changed by somebody else in the very moment of this change, and again while it was put back; "
        f"one of the files is kept as {place.swap}, compare the two and remove one by hand"
    )


def _write(place: Place, after: FileState, content: Content) -> None:
    target = os.open(place.part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place.parent)
    try:
        try:
            digest = hashlib.sha256()
            for chunk in content():
                if place.expired():
                    raise EffectError(f"the deadline passed while {place.told()} was written; nothing was changed")
                digest.update(chunk)
                _write_all(target, chunk)
            if digest.hexdigest() != after.sha256:
                raise EffectConflict(
                    f"the content for {place.told()} is not what it was when the plan was made; nothing was changed"
                )
            _dress(target, after)
            os.fsync(target)
        finally:
            os.close(target)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_if_there(place.parent, place.part)
        raise


def _dress(target: int, after: FileState) -> None:
    """Give the new file owner, mode, attributes and times; in this order, because each can undo the ones before it."""
    made = os.fstat(target)
    uid = made.st_uid if after.uid is None else after.uid
    gid = made.st_gid if after.gid is None else after.gid
    if (uid, gid) != (made.st_uid, made.st_gid):
        os.fchown(target, uid, gid)
    os.fchmod(target, after.mode)
    if after.attributes is not None:
        set_attributes(target, after.attributes)
    if after.mtime_ns:
        os.utime(target, ns=(made.st_atime_ns, after.mtime_ns))


def _write_all(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]


def _token(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:20]
