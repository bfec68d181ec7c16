"""Working out a commit before it is made: its id, its patch, and what it does to the working tree."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from remediation.effects.fields import AbsolutePath, shown
from remediation.effects.file_change import replaced_by
from remediation.effects.filestate import ABSENT, FileState, examine_and_keep, told
from remediation.effects.folders import missing_folders
from remediation.effects.git_plumbing import Git, Location, refuse_if_under_way
from remediation.effects.git_tree import (
    ABSENT_ENTRY,
    FILE,
    Entry,
    Signature,
    blob_id,
    entries_of,
    make_commit,
    mode_of,
    quarantined,
    refuse_filtered,
    staged,
    write_contents,
)
from remediation.effects.threads import in_thread
from remediation.errors import EffectConflict, EffectRefused
from remediation.model.base import Frozen
from remediation.model.plan import BlobRef
from remediation.model.text import capped, printable
from remediation.ports.effect import EffectContext, Prepared

PATCH_CAP = 16 * 1024


class GitFile(Frozen):
    """One path of the commit."""

    path: str
    """In the repository."""
    old: Entry
    new: Entry
    before: FileState = ABSENT
    """In the working tree, if that has the branch checked out."""
    after: FileState = ABSENT
    image: BlobRef | None = None
    """The content before, in the blob store."""
    folders: tuple[AbsolutePath, ...] = ()
    """Folders that are missing in the working tree."""


class GitPrepared(Prepared):
    """The commit as it will be."""

    ref: str
    """Full name of the branch."""
    tip: str
    """The commit that it names now; empty if it is to be made."""
    base: str
    """The parent of the new commit."""
    commit: str
    """The id of the new commit."""
    when: int
    """Seconds since 1970 UTC: author's and committer's date."""
    checked_out: bool
    """Whether the working tree has the branch checked out."""
    files: tuple[GitFile, ...]
    patch: str
    """The change as git shows it; at most 16 KiB."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be committed."""

    branch: str | None
    contents: Mapping[str, bytes | None]
    """New content for each path; `None` deletes it."""
    message: str
    author: str


async def plan(git: Git, wish: Wish) -> GitPrepared:
    """
    Work out the commit. Nothing is written to the repository.

    Raises:
        EffectRefused: the repository or a path is none that can be committed to in this way.
        EffectConflict: somebody's uncommitted work is in the way, or nothing would change.

    """
    await _refuse_foreign(git)
    ref, tip, base, checked_out = await _branch(git, wish.branch)
    old = await entries_of(git, base, list(wish.contents))
    missing = [path for path, content in wish.contents.items() if content is None and not old[path].oid]
    if missing:
        raise EffectConflict(f"{printable(missing[0])!r} is not in {ref}, so it can't be deleted there")
    await refuse_filtered(git, {path: b"\r\n" in (content or b"") for path, content in wish.contents.items()})
    new = {path: _entry(old[path], content, base) for path, content in wish.contents.items()}
    files = {path: GitFile(path=path, old=old[path], new=new[path]) for path in wish.contents}
    if checked_out:
        await _refuse_staged(git, old)
        files = await in_thread(_examined, git.context, git.location, files, wish.contents, base)
    signature = Signature(wish.author, int(git.context.clock.now().timestamp()))
    apart = quarantined(git)
    await write_contents(apart, wish.contents)
    commit = await make_commit(apart, base, {path: file.new for path, file in files.items()}, wish.message, signature)
    patch = await apart.ask("diff-tree", "-p", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", base, commit)
    return GitPrepared(
        ref=ref,
        tip=tip,
        base=base,
        commit=commit,
        when=signature.when,
        checked_out=checked_out,
        files=tuple(files.values()),
        patch=capped(printable(patch, newlines=True), PATCH_CAP),
    )


async def _refuse_foreign(git: Git) -> None:
    """A commit leaves folders that only its maker may write to; git shares them between users only where it is told to."""
    owner = os.stat(git.location.common_dir).st_uid
    if owner != os.geteuid() and not await git.find("config", "--get", "core.sharedRepository"):
        raise EffectRefused(
            f"{shown(git.location.common_dir)} belongs to user {owner}, who could not commit there any more afterwards; run the host "
            "as that user, or share the repository (git config core.sharedRepository group)"
        )


async def _branch(git: Git, branch: str | None) -> tuple[str, str, str, bool]:
    """Full name, value (empty if it is to be made), parent of the new commit, and whether it is checked out here."""
    where = shown(git.location.work_tree)
    head = await git.head()
    if branch is None and not head:
        raise EffectRefused(f"no branch is checked out in {where} (HEAD is detached); name a branch")
    ref = head if branch is None else f"refs/heads/{branch}"
    tip = await git.value(ref)
    base = tip or await git.value("HEAD")
    if not base or (ref == head and not tip):
        raise EffectRefused(f"{where} has no commits yet; make a first one by hand")
    if ref == head:
        refuse_if_under_way(git.location)
    elif tip and await git.checked_out_elsewhere(ref):
        raise EffectRefused(f"{ref} is checked out in another working tree; commit there")
    return ref, tip, base, ref == head


def _entry(old: Entry, content: bytes | None, commit: str) -> Entry:
    return ABSENT_ENTRY if content is None else Entry(mode=old.mode or FILE, oid=blob_id(content, commit))


async def _refuse_staged(git: Git, old: Mapping[str, Entry]) -> None:
    git_dir = git.location.git_dir
    if os.path.lexists(git_dir / "index.lock"):
        raise EffectConflict(f"somebody is working in {shown(git.location.work_tree)}: {shown(git_dir / 'index.lock')} exists")
    if not (git_dir / "index").is_file():
        raise EffectConflict(
            f"{shown(git.location.work_tree)} has no index, so all of it counts as deleted; run `git reset` there first"
        )
    found = await staged(git, list(old))
    changed = [path for path in old if found[path] != old[path]]
    if changed:
        raise EffectConflict(
            f"somebody staged a change of {printable(changed[0])!r}; nothing was planned, let it be committed first"
        )


def _examined(
    context: EffectContext, location: Location, files: Mapping[str, GitFile], contents: Mapping[str, bytes | None], commit: str
) -> dict[str, GitFile]:
    return {path: _seen(context, location, file, contents[path], commit) for path, file in files.items()}


def _seen(context: EffectContext, location: Location, file: GitFile, content: bytes | None, commit: str) -> GitFile:
    """`file` with what the working tree has; people's uncommitted work is a conflict."""
    path = context.roots.check(location.work_tree / file.path)
    for folder in path.parents:
        if folder == location.work_tree:
            break
        if os.path.lexists(folder / ".git"):
            raise EffectRefused(f"{shown(folder)} is a repository of its own (a submodule?); commit there")
    folders = missing_folders(context.roots, path)
    before, image = ABSENT, None
    if not folders:
        with told("look at", path), context.roots.open_parent(path) as (parent, name):
            before, image = examine_and_keep(parent, name, context.blobs)
    found = context.blobs.get_blocking(image) if image is not None else None
    new = file.new
    if file.old.oid:
        changed = found is None or blob_id(found, commit) != file.old.oid or mode_of(before.mode) != file.old.mode
    else:
        changed = found is not None and found != content
        new = new.model_copy(update={"mode": mode_of(before.mode)}) if found is not None and content is not None else new
    if changed:
        raise EffectConflict(
            f"{shown(path)} has changes that are not committed; nothing was planned, let them be committed or discarded first"
        )
    after = ABSENT
    if content is not None:
        after = replaced_by(before, hashlib.sha256(content).hexdigest(), len(content), None)
    return file.model_copy(update={"new": new, "before": before, "after": after, "image": image, "folders": folders})
