"""Trees and commits, built beside the repository's own index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remediation.effects.git_plumbing import Git
from remediation.errors import EffectConflict, EffectRefused
from remediation.model.base import Frozen
from remediation.model.text import printable

FILE = "100644"
EXECUTABLE = "100755"


class Entry(Frozen):
    """What a tree or an index has at one path; both empty for nothing."""

    mode: str = ""
    oid: str = ""


ABSENT_ENTRY = Entry()


@dataclass(frozen=True, slots=True)
class Signature:
    """Who and when: with these fixed, a commit's id is known before the commit is made."""

    author: str
    """``Name <address>``"""
    when: int
    """Seconds since 1970 UTC."""

    def variables(self) -> dict[str, str]:
        """As git's environment variables."""
        name, _, address = self.author.rpartition(" <")
        values = {"NAME": name, "EMAIL": address.removesuffix(">"), "DATE": f"@{self.when} +0000"}
        return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in values.items()}


def quarantined(git: Git) -> Git:
    """Git with an object store of its own, on top of the repository's: nothing is added to the repository."""
    objects = git.folder / "objects"
    objects.mkdir(exist_ok=True)
    return git.with_variables(
        GIT_OBJECT_DIRECTORY=str(objects), GIT_ALTERNATE_OBJECT_DIRECTORIES=str(git.location.common_dir / "objects")
    )


async def entries_of(git: Git, commit: str, paths: Sequence[str]) -> dict[str, Entry]:
    """
    What the tree of `commit` has at `paths`.

    Raises:
        EffectRefused: a path is a folder, a link or a submodule there.

    """
    found = dict.fromkeys(paths, ABSENT_ENTRY)
    said = await git.ask("ls-tree", "-r", "-z", "--full-tree", commit, "--", *paths)
    for line in filter(None, said.split("\0")):
        words, _, path = line.partition("\t")
        mode, _, oid = words.split()[:3]
        if path not in found or mode not in (FILE, EXECUTABLE):
            raise EffectRefused(
                f"{printable(path)!r} is a folder, a link or a submodule in {commit[:12]}; commits change regular files only"
            )
        found[path] = Entry(mode=mode, oid=oid)
    return found


async def staged(git: Git, paths: Sequence[str]) -> dict[str, Entry]:
    """
    What the index has at `paths`.

    Raises:
        EffectConflict: a path is unmerged, kept out of the working tree, or told to be assumed unchanged.

    """
    found = dict.fromkeys(paths, ABSENT_ENTRY)
    said = await git.ask("ls-files", "-z", "-v", "--stage", "--", *paths)
    for line in filter(None, said.split("\0")):
        words, _, path = line.partition("\t")
        tag, mode, oid, stage = words.split()
        if path not in found or stage != "0" or tag != "H":
            raise EffectConflict(
                f"{printable(path)!r} is unmerged, outside of the sparse checkout, or marked by hand in the index; nothing was changed"
            )
        found[path] = Entry(mode=mode, oid=oid)
    return found


async def refuse_filtered(git: Git, contents: dict[str, bool]) -> None:
    """
    Refuse paths whose content git would convert between repository and working tree.

    Args:
        git: Where.
        contents: For each path, whether its new content has CRLF line ends.

    Raises:
        EffectRefused: a filter (Git LFS is one), an encoding, ``$Id$`` or line-end conversion applies.

    """
    # The one command that is to see the working tree: it reads .gitattributes there, and runs nothing.
    git = git.with_variables(GIT_WORK_TREE=str(git.location.work_tree))
    said = await git.ask("check-attr", "-z", "filter", "working-tree-encoding", "ident", "text", "--", *contents)
    words = said.split("\0")
    for path, attribute, value in zip(words[::3], words[1::3], words[2::3], strict=False):
        if value in ("unspecified", "unset") or (attribute == "text" and not contents.get(path)):
            continue
        raise EffectRefused(
            f"git converts {printable(path)!r} between repository and working tree ({attribute}={printable(value)}); "
            "a commit that is made without running filters would not be right, change it by hand"
        )


async def write_contents(git: Git, contents: Mapping[str, bytes | None]) -> None:
    """Write all new contents as blobs, unconverted."""
    files: list[Path] = []
    for content in contents.values():
        if content is not None:
            files.append(git.folder / f"content-{len(files)}")
            files[-1].write_bytes(content)
    if files:
        listed = "".join(f"{path}\n" for path in files).encode("utf-8", "surrogateescape")
        await git.ask("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed)


async def change_index(git: Git, changes: dict[str, Entry], commit: str) -> None:
    """Give the index of `git` (its GIT_INDEX_FILE) these entries; `commit` is any, and tells how long object ids are."""
    lines = [
        f"{entry.mode} {entry.oid}\t{path}\0" if entry.oid else f"0 {'0' * len(commit)}\t{path}\0"
        for path, entry in changes.items()
    ]
    await git.ask("update-index", "-z", "--index-info", stdin="".join(lines).encode())


async def make_commit(git: Git, parent: str, changes: dict[str, Entry], message: str, signature: Signature) -> str:
    """
    Write the commit that makes `changes` on top of `parent`; its id.

    Raises:
        EffectConflict: nothing would change.

    """
    private = git.with_variables(GIT_INDEX_FILE=str(git.folder / "index"), **signature.variables())
    await private.ask("read-tree", parent)
    await change_index(private, changes, parent)
    tree = (await private.ask("write-tree")).strip()
    if tree == (await private.ask("rev-parse", "--verify", f"{parent}^{{tree}}")).strip():
        raise EffectConflict("the repository has this content already; there is nothing to commit")
    text = printable(message, newlines=True).strip() + "\n"
    return (await private.ask("commit-tree", tree, "-p", parent, stdin=text.encode())).strip()


def mode_of(permissions: int) -> str:
    """The mode that git gives to a file with these permission bits."""
    return EXECUTABLE if permissions & 0o100 else FILE


def blob_id(content: bytes, commit: str) -> str:
    """The object id of a blob with this content, in the object format of `commit` (SHA-1 or SHA-256)."""
    digest = hashlib.sha1(usedforsecurity=False) if len(commit) == 40 else hashlib.sha256()
    digest.update(b"blob %d\0" % len(content) + content)
    return digest.hexdigest()
