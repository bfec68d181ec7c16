"""
Judges what anchors hold: signed heads of the log that were kept outside its home.

An anchor is a witness, never an authority: a head counts if a key of the log signed it. Heads of other logs are left alone, unless
they are all that an anchor of this very host knows: then another log was put in the place of the one it watched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from remediation.proof.checkpoint import Checkpoint, open_checkpoint
from remediation.proof.errors import NoteError
from remediation.proof.note import Note, VerifierKey
from remediation.proof.verdict import AnchorFinding, ProblemCode


@dataclass(frozen=True, slots=True)
class Anchored:
    """What one anchor holds."""

    name: str
    notes: tuple[str, ...]
    """Signed heads, oldest first; those of other logs may be among them. What is malformed is passed over."""


@dataclass(frozen=True, slots=True)
class Log:
    """The log as an anchor's heads are compared with it."""

    origin: str
    size: int
    roots: Mapping[int, bytes]
    """The roots that are known, by size: those of all heads up to `size` are."""
    keys: Sequence[VerifierKey]
    predecessor: str | None = None
    """The signed head that the log's first entry names as that of the log it goes on from, if it says so."""


Report = Callable[[ProblemCode, str], None]


def head_of(note: str) -> Checkpoint | None:
    """What a signed head says, None if it is none; no signature is verified."""
    try:
        return Checkpoint.parse(Note.parse(note).text)
    except NoteError:
        return None


def heads_of(anchored: Anchored) -> list[tuple[str, Checkpoint]]:
    """The well-formed heads of an anchor with what they say; no signature is verified."""
    return [(note, head) for note in anchored.notes if (head := head_of(note)) is not None]


def judge_anchor(anchored: Anchored, log: Log, report: Report) -> AnchorFinding:
    """What an anchor proves of `log`; each kind of contradiction is reported once."""
    heads = heads_of(anchored)
    own = [(note, head) for note, head in heads if head.origin == log.origin]
    confirmed, ahead, strange, forked = 0, 0, None, None
    for note, head in own:
        try:
            open_checkpoint(note, log.keys, origin=log.origin)
        except NoteError as error:
            strange = (
                strange or f"the head over {head.size} entries that {anchored.name} keeps is not signed by this log's key: {error}"
            )
            continue
        if head.size > log.size:
            ahead = max(ahead, head.size)
        elif (root := log.roots.get(head.size)) == head.root:
            confirmed = max(confirmed, head.size)
        elif root is not None:
            forked = head.size if forked is None else min(forked, head.size)
    if forked is not None:
        report(
            ProblemCode.ANCHOR,
            f"the first {forked} entries are not those whose head {anchored.name} keeps: the log was rewritten",
        )
    if strange is not None:
        report(ProblemCode.ANCHOR_KEY, f"{strange}; the log was signed anew by another key, or the anchor was altered")
    if ahead:
        report(
            ProblemCode.BEHIND_ANCHOR,
            f"the log has {log.size} entries, but {anchored.name} keeps a head over {ahead}: its end is missing",
        )
    if not own and (other := _displaced(heads, log)) is not None:
        report(
            ProblemCode.ANCHOR_KEY,
            f"{anchored.name} keeps heads of {other.origin!r} with {other.size} entries, and none of {log.origin!r}: "
            "another log was put in its place",
        )
    return AnchorFinding(anchored.name, confirmed, max((head.size for _, head in own), default=None))


def _displaced(heads: Sequence[tuple[str, Checkpoint]], log: Log) -> Checkpoint | None:
    """The newest head of another log of the same host, unless `log` says that it goes on from there."""
    host = log.origin.partition("/")[0]
    others = [head for _, head in heads if head.origin.partition("/")[0] == host]
    if not others:
        return None
    newest = others[-1]
    for _, old in heads_of(Anchored("", (log.predecessor,) if log.predecessor else ())):
        if old.origin == newest.origin and old.size >= newest.size:
            return None
    return newest
