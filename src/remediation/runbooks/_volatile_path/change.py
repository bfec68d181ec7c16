"""The change that mends a job: which files the repository gets, found and built without changing anything."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remediation.context import RemediationContext
from remediation.errors import OutsideRoots
from remediation.model.text import printable
from remediation.runbooks._volatile_path import CanNotHeal, normal
from remediation.runbooks._volatile_path.apart import rewrite_apart
from remediation.runbooks._volatile_path.content import Content, recover
from remediation.runbooks._volatile_path.job import Claim, Job
from remediation.runbooks._volatile_path.options import VolatilePathOptions
from remediation.runbooks._volatile_path.repository import REGULAR, Repository

_LIBRARIES = frozenset({"site-packages", "dist-packages"})
_PROSE = frozenset({"", ".md", ".rst", ".txt", ".adoc"})
_NAMED_ELSEWHERE = 30


@dataclass(frozen=True, slots=True)
class Kept:
    """A missing file, and where the script will find its content."""

    missing: str
    content: Content
    script: str
    """Name in the repository."""
    place: str
    """Name in the repository."""


@dataclass(frozen=True, slots=True)
class Change:
    """New and changed files of a repository, by name."""

    head: str
    files: Mapping[str, bytes]
    kept: tuple[Kept, ...]
    lines: Mapping[str, tuple[int, ...]]
    """The changed lines of each script."""
    notes: tuple[str, ...]
    """What else people should know."""
    confidence: int

    @property
    def added(self) -> list[str]:
        """Names of the files that are new."""
        return [item.place for item in self.kept if not item.content.tracked]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the commit and all files: equal digests are the same change."""
        state = hashlib.sha256(self.head.encode())
        for name, data in sorted(self.files.items()):
            state.update(b"%d:%s%d:%s" % (len(name.encode()), name.encode(), len(data), data))
        return state.hexdigest()


def check_gone(ctx: RemediationContext, missing: str, job: Job) -> str:
    """
    The normal form of `missing`, which is confirmed to be gone from a volatile place.

    Raises:
        CanNotHeal: it is not.

    """
    options: VolatilePathOptions = ctx.options
    path = normal(missing)
    shown = printable(path)
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise CanNotHeal(f"{shown} is not an absolute path, so where the job looked for it depends on its folder at that moment")
    if printable(posixpath.basename(path)) != posixpath.basename(path):
        raise CanNotHeal(f"the name of {shown} holds characters that can't be shown")
    temporary = {os.environ.get("TMPDIR", ""), dict(job.env).get("TMPDIR", "")} - {""}
    places = [str(place) for place in (*options.volatile, *sorted(temporary))]
    if not any(_inside(path, place) or _inside(path, os.path.realpath(place)) for place in places):
        raise CanNotHeal(f"{shown} is not in a place that the system cleans away ({', '.join(dict.fromkeys(places))})")
    if os.path.lexists(path):
        raise CanNotHeal(f"{shown} is there: it came back, or the job may not read it")
    return path


def _inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


async def build(ctx: RemediationContext, repository: Repository, claim: Claim, missing: Sequence[str]) -> Change:
    """
    The change that makes the scripts of `claim` find each of `missing` in the repository.

    Raises:
        CanNotHeal: there is none, or it would not be safe.

    """
    scripts = await _scripts(ctx, repository, claim)
    kept = [await _keep(ctx, repository, scripts, path) for path in missing]
    taken = [item.place for item in kept]
    if len(set(taken)) != len(taken):
        raise CanNotHeal("two of the missing files have the same name, and would need the same place in the repository")
    files: dict[str, bytes] = {item.place: item.content.data for item in kept if not item.content.tracked}
    lines: dict[str, tuple[int, ...]] = {}
    notes = []
    for script in {item.script: None for item in kept}:
        folder = posixpath.dirname(script) or "."
        places = {item.missing: posixpath.relpath(item.place, folder) for item in kept if item.script == script}
        rewritten = await rewrite_apart(ctx, scripts[script], places)
        files[script], lines[script] = rewritten.source, rewritten.lines
        if rewritten.unused:
            names = printable(", ".join(rewritten.unused))
            notes.append(
                f"nothing in {printable(script)} uses {names} any more; other files may, so that is left for you to remove"
            )
    confidence = min(item.content.confidence for item in kept)
    for path in missing:
        others = [name for name in await repository.naming(path) if name not in lines and posixpath.splitext(name)[1] not in _PROSE]
        if others:
            notes.append(f"{printable(path)} is named by {printable(', '.join(others[:5]))} too: is it made there?")
            confidence = min(confidence, max(0, confidence - _NAMED_ELSEWHERE))
    return Change(repository.head, files, tuple(kept), lines, tuple(notes), confidence)


async def _scripts(ctx: RemediationContext, repository: Repository, claim: Claim) -> dict[str, bytes]:
    """Committed, unchanged files among those of the traceback, that the host may change: innermost first."""
    scripts: dict[str, bytes] = {}
    refused = []
    for file in claim.files:
        real = Path(os.path.realpath(file))
        name = repository.name(real)
        if name is None or _LIBRARIES.intersection(real.parts):
            continue
        blob = await repository.blob(name)
        if blob is None or blob.mode not in REGULAR:
            refused.append(f"{printable(name)} is not committed")
            continue
        try:
            data = await ctx.read_bytes(ctx.confined(real))
        except OSError as error:
            refused.append(f"{printable(name)} can't be read: {error.strerror}")
        except OutsideRoots as error:
            refused.append(str(error))
        else:
            if repository.is_same(data, blob):
                scripts[name] = data
            else:
                refused.append(f"{printable(name)} has uncommitted changes, or is converted by git when it is checked out")
    if not scripts:
        raise CanNotHeal(refused[0] if refused else "no file in the traceback belongs to the job's repository", refused[1:])
    return scripts


async def _keep(ctx: RemediationContext, repository: Repository, scripts: Mapping[str, bytes], missing: str) -> Kept:
    options: VolatilePathOptions = ctx.options
    script = await _naming(ctx, scripts, missing)
    content = await recover(ctx, repository, missing)
    if content.tracked:
        return Kept(missing, content, script, content.tracked)
    place = posixpath.join(posixpath.dirname(script), options.folder, posixpath.basename(missing))
    path = ctx.confined(repository.top / place)
    if not place.isprintable():
        raise CanNotHeal(f"{printable(place)}, where the content would be kept, has a name that can't be shown")
    if os.path.lexists(path) or await repository.blob(place) is not None:
        raise CanNotHeal(
            f"{printable(place)}, where the content would be kept, is taken; choose another folder by the option folder"
        )
    if await repository.is_ignored(place):
        raise CanNotHeal(
            f"{printable(place)}, where the content would be kept, is ignored by git; choose another folder by the option folder"
        )
    if filters := await repository.filters(place):
        raise CanNotHeal(
            f"git converts {printable(place)} by the filter {printable(filters)}, which a heal can't do; commit it by hand"
        )
    return Kept(missing, content, script, place)


async def _naming(ctx: RemediationContext, scripts: Mapping[str, bytes], missing: str) -> str:
    """The first script that names `missing` and can be changed."""
    reasons = []
    for name, source in scripts.items():
        try:
            await rewrite_apart(ctx, source, {missing: "any"})
        except CanNotHeal as error:
            reasons.append(f"{printable(name)}: {error.reason}")
        else:
            return name
    raise CanNotHeal(reasons[0], reasons[1:])
