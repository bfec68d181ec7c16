"""
The search for the content of a file that is gone.

What the operator declared comes first and is believed. Otherwise everything that has the file's name is looked at: the work tree,
the history of all branches, the configured backups. Several places may agree; if they don't, people must choose.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from remediation.context import RemediationContext
from remediation.errors import ProcessError
from remediation.model.text import ending, printable
from remediation.runbooks._volatile_path import CanNotHeal, normal
from remediation.runbooks._volatile_path.options import OUT, VolatilePathOptions
from remediation.runbooks._volatile_path.repository import REGULAR, Repository

_REGENERATE_SECONDS = 300.0
T = TypeVar("T")


UNKNOWN = ("no content for", "hold different content for")
"""How a refusal says that it is for the operator to tell where the content is."""


@dataclass(frozen=True, slots=True)
class Content:
    """Content that was found."""

    data: bytes
    source: str
    """Where, for people."""
    confidence: int
    tracked: str = ""
    """Its name in the repository, if it is a committed file of the work tree: then it needs no second place."""


async def recover(ctx: RemediationContext, repository: Repository, missing: str) -> Content:
    """
    The content of the file that was at `missing` (a normal path).

    Raises:
        CanNotHeal: there is none, or more than one that could be it; the evidence lists what was looked at.

    """
    options: VolatilePathOptions = ctx.options
    declared = _for(options.content, missing)
    if declared is not None:
        return await _declared(ctx, repository, declared)
    argv = _for(options.regenerate, missing)
    if argv is not None:
        return await _regenerated(ctx, repository, argv)
    found = [
        *await _in_work_tree(ctx, repository, missing),
        *await _in_history(ctx, repository, missing),
        *await _in_backups(ctx, missing),
    ]
    looked = [
        "looked for its name in the work tree, the history of all branches, and the configured backups",
        *(item.source for item in found),
    ]
    if not found:
        raise CanNotHeal(
            f"{UNKNOWN[0]} {printable(missing)} was found; declare it in the options content, regenerate or backups", looked
        )
    if len({item.data for item in found}) > 1:
        raise CanNotHeal(f"{len(found)} places {UNKNOWN[1]} {printable(missing)}; name the right one in the option content", looked)
    best = max(found, key=lambda item: (bool(item.tracked), item.confidence))
    agreeing = "" if len(found) == 1 else f" (and {len(found) - 1} other places that agree)"
    return Content(best.data, best.source + agreeing, min(95, best.confidence + (5 if agreeing else 0)), best.tracked)


def _for(table: Mapping[str, T], missing: str) -> T | None:
    return next((value for path, value in table.items() if normal(path) == missing), None)


async def _declared(ctx: RemediationContext, repository: Repository, file: Path) -> Content:
    data = await _read(ctx, file)
    name = repository.name(file.resolve())
    blob = await repository.blob(name) if name else None
    tracked = name if name and blob and blob.mode in REGULAR and repository.is_same(data, blob) else ""
    return Content(data, f"declared by the operator: {printable(str(file))}", 95, tracked or "")


async def _regenerated(ctx: RemediationContext, repository: Repository, argv: Sequence[str]) -> Content:
    place = Path(tempfile.mkdtemp(prefix="regenerate-", dir=ctx.scratch))
    out, clone = place / "out", place / "clone"
    clone.mkdir()
    await repository.clone(clone)
    shown = printable(" ".join(argv))
    try:
        done = await ctx.run([part.replace(OUT, str(out)) for part in argv], cwd=clone, timeout=_REGENERATE_SECONDS)
    except ProcessError as error:
        raise CanNotHeal(f"the declared command {shown!r} did not make the content: {error}") from error
    if done.exit_code != 0 or not out.is_file():
        said = printable(ending(done.stderr or done.stdout, 300))
        raise CanNotHeal(f"the declared command {shown!r} did not make the content: exit code {done.exit_code}, {said}")
    return Content(await _read(ctx, out), f"made by the operator's command {shown!r}", 90)


async def _in_work_tree(ctx: RemediationContext, repository: Repository, missing: str) -> list[Content]:
    found = []
    for name in await repository.named(posixpath.basename(missing)):
        blob = await repository.blob(name)
        file = repository.top / name
        if file.is_symlink() or not file.is_file() or (blob is not None and blob.mode not in REGULAR):
            continue
        data = await _read(ctx, file)
        if blob is not None and not repository.is_same(data, blob):
            raise CanNotHeal(
                f"{printable(name)} could be the content, but has uncommitted changes or is converted by git; commit it first"
            )
        kind, confidence = ("committed", 85) if blob is not None else ("untracked", 75)
        found.append(
            Content(
                data, f"{kind} in the work tree: {printable(name)}", confidence + _nearness(name, missing), name if blob else ""
            )
        )
    return found


async def _in_history(ctx: RemediationContext, repository: Repository, missing: str) -> list[Content]:
    options: VolatilePathOptions = ctx.options
    found = []
    for name, blob in (await repository.formerly_named(posixpath.basename(missing))).items():
        if blob.mode in REGULAR and await repository.blob(name) is None:
            data = await repository.content(blob.id, options.largest)
            found.append(Content(data, f"git history: {printable(name)} (blob {blob.id[:12]})", 85 + _nearness(name, missing)))
    return found


async def _in_backups(ctx: RemediationContext, missing: str) -> list[Content]:
    options: VolatilePathOptions = ctx.options
    base = posixpath.basename(missing)
    found = []
    for pattern in options.backups:
        escaped = "".join(f"[{character}]" if character in "*?[" else character for character in base)
        matches = [file for file in await ctx.glob(pattern.replace("{name}", escaped)) if file.name == base and file.is_file()]
        if matches:
            newest = max(matches, key=lambda file: (file.stat().st_mtime_ns, str(file)))
            source = f"backup: {printable(str(newest))}" + (f" (the newest of {len(matches)})" if len(matches) > 1 else "")
            found.append(Content(await _read(ctx, newest), source, 85 + _nearness(str(newest), missing)))
    return found


def _nearness(name: str, missing: str) -> int:
    """5 if the folders too have the same name, else nothing."""
    folders = posixpath.basename(posixpath.dirname(name)), posixpath.basename(posixpath.dirname(missing))
    return 5 if folders[0] == folders[1] != "" else 0


async def _read(ctx: RemediationContext, file: Path) -> bytes:
    options: VolatilePathOptions = ctx.options
    try:
        return await ctx.read_bytes(file, limit=options.largest)
    except OSError as error:
        raise CanNotHeal(f"{printable(str(file))} could be the content, but can't be read: {error}") from error
