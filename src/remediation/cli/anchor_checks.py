"""What `doctor` says of anchors: what they keep, how old that is, and what fails. What they keep counts, not what the host noted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Literal

from remediation.bootstrap.anchors import NO_READING_BACK, configured_anchors, read_anchors
from remediation.cli import reading
from remediation.errors import JournalError, RemediationError
from remediation.model.entries import JournalRecovered
from remediation.model.text import printable
from remediation.ports.anchor import Anchor
from remediation.proof.anchored import Anchored, Log, heads_of, judge_anchor
from remediation.proof.errors import NoteError, ProofError
from remediation.proof.note import VerifierKey
from remediation.settings import Home, Settings

_SECONDS = 10.0
_NONE = "none: whoever has the signing key could rewrite the journal, and nobody could tell"

Said = tuple[Literal["ok", "warning", "problem"], str, str]
"""Level, message, and how to mend it."""


def look_at_anchors(settings: Settings) -> Iterator[Said]:
    """What there is to say of the anchors of a home whose journal can be read."""
    home = settings.home
    try:
        anchors = configured_anchors(settings)
    except RemediationError as error:
        yield "problem", str(error), f"edit {settings.base / 'remediation.toml'}"
        return
    if not anchors:
        yield "ok", _NONE, ""
        return
    try:
        found, silent, logs, size = reading.run(_read(home, anchors))
    except (JournalError, ProofError) as error:
        yield "problem", str(error), "remediation journal verify"
        return
    noted = _noted(home)
    kept = {anchored.name: anchored for anchored in found}
    for anchor in anchors:
        note = noted.get(anchor.name, {})
        if anchor.name in kept:
            yield _readable(kept[anchor.name], logs[anchor.name], note)
        elif silent[anchor.name] == NO_READING_BACK:
            yield _unreadable(anchor.name, size, note)
        else:
            yield "warning", f"{printable(anchor.name)} can't be read: {silent[anchor.name]}", "see what it needs, and try again"
        if note.get("failing"):
            said = f"{printable(anchor.name)} failed {note['failures']} times by the host's last word: {note['failing']}"
            yield "warning", said, "mend the anchor; the host tries again by itself"


def _readable(anchored: Anchored, log: Log, note: dict[str, Any]) -> Said:
    problems: list[str] = []
    finding = judge_anchor(anchored, log, lambda _, message: problems.append(message))
    name = printable(anchored.name)
    if problems:
        return "problem", printable(problems[0]), "remediation journal verify"
    if (noted := note.get("kept", 0)) > (finding.newest or 0):
        return (
            "problem",
            f"{name} was given a head over {noted} entries, and keeps {_size(finding.newest)}",
            "find out who changed it",
        )
    if finding.newest is None:
        return "warning", f"{name} keeps no head of this journal yet", "remediation run"
    since = f", since {note['kept_at']}" if note.get("kept_at") and noted == finding.newest else ""
    return "ok", f"{name} keeps the head over {finding.newest} of {log.size} entries{since}", ""


def _unreadable(name: str, size: int, note: dict[str, Any]) -> Said:
    if not note.get("kept_at"):
        return "warning", f"{printable(name)} was given no head yet", "remediation run"
    said = f"{printable(name)} was given the head over {note['kept']} of {size} entries at {note['kept_at']}; it can't be read back"
    return "ok", said, ""


def _size(newest: int | None) -> str:
    return "none" if newest is None else f"one over {newest}"


def _noted(home: Home) -> dict[str, dict[str, Any]]:
    """The host's own record; anything may stand there."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        anchors = json.loads(home.anchors.read_text("utf-8")).get("anchors")
        if isinstance(anchors, dict):
            return {name: _well_formed(note) for name, note in anchors.items() if isinstance(note, dict)}
    return {}


def _well_formed(note: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: note[name] for name in ("kept", "failures") if type(note.get(name)) is int}
    texts = {name: printable(note[name]) for name in ("kept_at", "failing") if isinstance(note.get(name), str)}
    return {"kept": 0, "failures": 0, **numbers, **texts}


async def _read(home: Home, anchors: list[Anchor]) -> tuple[list[Anchored], dict[str, str], dict[str, Log], int]:
    found, silent = await read_anchors(anchors, _SECONDS)
    keys = _keys(home)
    logs: dict[str, Log] = {}
    async with reading.open_journal(home) as journal:
        # Read after the anchors: what a host anchored meanwhile is in it.
        size, note = await journal.head()
        origin = note.partition("\n")[0]
        predecessor = None
        async for record in journal.read(limit=1):
            predecessor = record.entry.old_head if isinstance(record.entry, JournalRecovered) else None
        for anchored in found:
            newest = max((head.size for _, head in heads_of(anchored) if head.origin == origin and head.size <= size), default=0)
            roots = {newest: await journal.root(newest)}
            logs[anchored.name] = Log(origin, size, roots, keys, predecessor)
    return found, silent, logs, size


def _keys(home: Home) -> list[VerifierKey]:
    with contextlib.suppress(OSError, UnicodeDecodeError, NoteError):
        return [VerifierKey.parse(vkey) for vkey in home.verifier_keys.read_text("utf-8").split()]
    return []
