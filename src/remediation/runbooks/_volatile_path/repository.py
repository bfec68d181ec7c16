"""Reading a git repository: plumbing only, no hooks, no file-system monitor, no locks, nothing that asks or pages."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from remediation.context import RemediationContext
from remediation.errors import ProcessError
from remediation.model.text import printable
from remediation.ports.effect import Completed
from remediation.runbooks._volatile_path import CanNotHeal

QUIET = ("git", "--no-pager", "--no-replace-objects", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat", "LC_ALL": "C.UTF-8"}
_UNFINISHED = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "BISECT_LOG")
_SECONDS = 60.0
REGULAR = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class Blob:
    """A file in a commit."""

    mode: str
    id: str


class Repository:
    """The repository that holds a folder, as it is at one commit."""

    def __init__(self, ctx: RemediationContext, top: Path, git_dir: Path, head: str, branch: str) -> None:
        self._ctx = ctx
        self.top = top
        self.git_dir = git_dir
        self.head = head
        """The commit that is checked out."""
        self.branch = branch
        """Its branch, in full: ``refs/heads/main``."""

    @classmethod
    async def holding(cls, ctx: RemediationContext, folder: Path) -> Repository:
        """
        The repository whose work tree holds `folder`.

        Raises:
            CanNotHeal: there is none, or it is not in a state that a commit may be added to.

        """
        found = await git(ctx, folder, "rev-parse", "--show-toplevel", "--absolute-git-dir", "--is-shallow-repository", check=False)
        lines = found.stdout.split("\n")
        if found.exit_code != 0 or len(lines) < 3:
            said = printable(found.stderr.strip()[:300])
            raise CanNotHeal(f"{printable(str(folder))} is not in a git repository that can be used here: {said}")
        top, git_dir = Path(lines[0]), Path(lines[1])
        branch = (await git(ctx, top, "symbolic-ref", "--quiet", "HEAD", check=False)).stdout.strip()
        if not branch:
            raise CanNotHeal(
                f"{printable(str(top))} has no branch checked out, so that a commit there would be lost; check one out"
            )
        head = (await git(ctx, top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", check=False)).stdout.strip()
        if not head:
            raise CanNotHeal(f"{printable(str(top))} has no commit yet; commit the script first")
        for name in _UNFINISHED:
            if os.path.lexists(git_dir / name):
                raise CanNotHeal(f"{printable(str(top))} is in the middle of something ({name}); finish or abort it first")
        return cls(ctx, top, git_dir, head, branch)

    async def git(self, *arguments: str, check: bool = True) -> Completed:
        """Run git at the top of the work tree; see `git`."""
        return await git(self._ctx, self.top, *arguments, check=check)

    def name(self, path: Path) -> str | None:
        """The path inside the repository, with ``/``; `None` for one outside, or inside its ``.git``."""
        try:
            inside = path.relative_to(self.top).as_posix()
        except ValueError:
            return None
        return None if inside == "." or inside.split("/")[0] == ".git" else inside

    async def blob(self, name: str) -> Blob | None:
        """The file of this name in the commit."""
        listed = await self.git("ls-tree", "-z", "--full-tree", self.head, "--", name)
        meta, _, found = listed.stdout.partition("\0")[0].partition("\t")
        mode, kind, blob = meta.split(" ") if found == name else ("", "", "")
        return Blob(mode, blob) if kind == "blob" else None

    async def named(self, base: str) -> list[str]:
        """Names of files in the work tree whose last part is `base`, tracked or not, but not ignored."""
        listed = await self.git("ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", _anywhere(base))
        return sorted({name for name in listed.stdout.split("\0") if name})

    async def formerly_named(self, base: str) -> dict[str, Blob]:
        """For each path that some commit of some branch has or had and whose last part is `base`: its newest version."""
        log = ("log", "--all", "--date-order", "--full-history", "--no-renames", "--no-show-signature", "--diff-filter=AM")
        listed = await self.git(*log, "--raw", "--no-abbrev", "--format=%x01", "-z", "--", _anywhere(base))
        parts = [part.lstrip("\n") for part in listed.stdout.split("\0")]
        newest: dict[str, Blob] = {}
        for meta, name in itertools.pairwise(parts):
            if meta.startswith(":"):
                _, mode, _, blob, _ = meta.split(" ")
                newest.setdefault(name, Blob(mode, blob))
        return newest

    async def naming(self, text: str) -> list[str]:
        """Names of tracked files whose content in the work tree holds `text`."""
        listed = await self.git("grep", "--files-with-matches", "-z", "--fixed-strings", "-e", text, check=False)
        return sorted(name for name in listed.stdout.split("\0") if name)

    async def clone(self, place: Path) -> Path:
        """
        A clone at the commit, in the empty folder `place`. Its objects are read from this repository, which is not written to.

        Raises:
            CanNotHeal: it could not be made.

        """
        options = ("--quiet", "--shared", "--no-checkout", "--template=", "--no-tags")
        await self.git(
            "-c", "protocol.allow=never", "-c", "protocol.file.allow=always", "clone", *options, "--", str(self.top), str(place)
        )
        await git(self._ctx, place, "checkout", "--quiet", "--detach", self.head)
        return place

    async def is_ignored(self, name: str) -> bool:
        """Whether a file of this name would be ignored."""
        return (await self.git("check-ignore", "--quiet", "--no-index", "--", name, check=False)).exit_code == 0

    async def filters(self, name: str) -> str:
        """The content filter (Git LFS and the like) that attributes set for `name`; empty for none."""
        answer = (await self.git("check-attr", "-z", "filter", "--", name)).stdout.split("\0")
        value = answer[2] if len(answer) > 2 else "unspecified"
        return "" if value in ("unspecified", "unset") else value

    def is_same(self, data: bytes, blob: Blob) -> bool:
        """Whether `data`, unconverted, is the content of `blob`."""
        kind = "sha256" if len(blob.id) == 64 else "sha1"
        # Not for security: git names content so.
        return hashlib.new(kind, b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == blob.id

    async def content(self, blob_id: str, limit: int) -> bytes:
        """
        The unconverted content of a blob.

        Raises:
            CanNotHeal: it is larger than `limit` bytes.

        """
        size = int((await self.git("cat-file", "-s", blob_id)).stdout)
        if size > limit:
            raise CanNotHeal(f"the content found in git has {size} bytes, more than the {limit} that are allowed")
        place = self._ctx.scratch / "blobs"
        place.mkdir(exist_ok=True)
        # With a work tree of its own, git writes the content, byte for byte, to a new file in it.
        unpacked = await self._ctx.run(
            (*QUIET, f"--git-dir={self.git_dir}", f"--work-tree={place}", "unpack-file", blob_id),
            cwd=place,
            env=ENVIRONMENT,
            timeout=_SECONDS,
        )
        name = unpacked.stdout.strip()
        if unpacked.exit_code != 0 or not name or "/" in name:
            raise CanNotHeal(f"git could not read {blob_id}: {printable(unpacked.stderr.strip()[:300])}")
        return await self._ctx.read_bytes(place / name, limit=limit)


def work_trees(folders: Iterable[Path]) -> list[Path]:
    """The nearest folders, from each of `folders` upwards, that hold a ``.git``; each once, in that order."""
    found: dict[Path, None] = {}
    for folder in folders:
        real = Path(os.path.realpath(folder))
        top = next((place for place in (real, *real.parents) if os.path.lexists(place / ".git")), None)
        if top is not None:
            found[top] = None
    return list(found)


def _anywhere(base: str) -> str:
    """The pathspec of every file whose last part is `base`."""
    return ":(top,glob)**/" + re.sub(r"([\\*?\[])", r"\\\1", base)


async def git(ctx: RemediationContext, folder: Path, *arguments: str, check: bool = True) -> Completed:
    """
    Run a git command that only reads, in `folder`.

    Raises:
        CanNotHeal: git can't be started, took too long, printed more than can be read or, with `check`, failed.

    """
    try:
        done = await ctx.run((*QUIET, *arguments), cwd=folder, env=ENVIRONMENT, timeout=_SECONDS)
    except ProcessError as error:
        raise CanNotHeal(f"git could not be run: {error}") from error
    if "bytes cut]" in done.stdout:
        raise CanNotHeal(f"git {arguments[0]} in {printable(str(folder))} said more than can be read here")
    if check and done.exit_code != 0:
        raise CanNotHeal(f"git {arguments[0]} failed in {printable(str(folder))}: {printable(done.stderr.strip()[:300])}")
    return done
