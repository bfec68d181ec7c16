"""
Judges the proof of one entry: what was decided, and by which signed head that is shown.

What is believed, and why: the checkpoint, because a key that the verifier brought signed it; the leaf, because the audit path leads
from its hash to the checkpoint's root; the body, because the leaf commits to it under the salt. Nothing else in the text counts.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from remediation.errors import NotCanonical
from remediation.proof import jsontext
from remediation.proof.checkpoint import OpenedCheckpoint, open_checkpoint
from remediation.proof.errors import NoteError, TlogProofError
from remediation.proof.export import entry_line
from remediation.proof.leaf import MAX_BODY_BYTES, SALT_BYTES, Leaf, payload_digest
from remediation.proof.merkle import leaf_hash, verify_inclusion
from remediation.proof.note import VerifierKey
from remediation.proof.tlogproof import TlogProof, extra_line_bytes
from remediation.proof.verdict import Problem, ProblemCode, ProblemKind, Problems

MAX_LINE_BYTES = 1 << 16
"""The longest line that common readers of tlog-proof take, newline included (Go's `bufio.Scanner`)."""

_ENTRY = frozenset(("body", "leaf", "salt"))


class BodyState(StrEnum):
    """What became of an entry's body, as far as a proof tells."""

    PROVEN = "proven"
    """It is here, and is what was signed."""
    ERASED = "erased"
    """Neither it nor its salt came with the proof: it was erased, and no copy of it can be proven any more."""
    ELSEWHERE = "elsewhere"
    """It is too long for the proof, and the file that holds it was not given."""
    WRONG = "wrong"
    """What is here is not what was signed."""
    UNKNOWN = "unknown"
    """The proof is broken, so that nothing can be said."""


@dataclass(frozen=True, slots=True)
class EntryVerification:
    """The result of verifying the proof of one entry."""

    index: int | None
    """The position that the proof is about; None if not even that could be read."""
    size: int | None
    """The number of entries under the checkpoint; None unless a believed key signed it."""
    root: str | None
    """Its root in base64; None unless a believed key signed it."""
    key: str | None
    """vkey of the believed key that signed it."""
    key_source: str
    """Where that belief comes from: ``argument`` (given out of band) or ``home``."""
    leaf: Leaf | None
    """The entry's frame; None unless it is proven."""
    body: bytes | None
    """The entry's body, canonical JSON; None unless it is proven."""
    body_state: BodyState
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether the entry is proven, with its body unless that was erased."""
        return not self.problems

    @property
    def worst(self) -> ProblemKind | None:
        """The worst kind of problem found, None if all is well."""
        found = {problem.kind for problem in self.problems}
        return next((kind for kind in ProblemKind if kind in found), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        leaf = self.leaf
        names = ("origin", "seq", "id", "stream", "stream_seq", "type", "time", "actor", "causation", "correlation")
        return {
            "ok": self.ok,
            "index": self.index,
            "size": self.size,
            "root": self.root,
            "key": self.key,
            "key_source": self.key_source,
            "entry": None if leaf is None else {name: getattr(leaf, name) for name in names},
            "leaf_hash": None if leaf is None else leaf_hash(leaf.encode()).hex(),
            "body": None if self.body is None else jsontext.decode(self.body),
            "body_state": str(self.body_state),
            "problems": [problem.as_dict() for problem in self.problems],
        }


def entry_proof(
    index: int, hashes: Iterable[bytes], checkpoint: str, leaf: bytes, salt: bytes | None, body: bytes | None
) -> tuple[TlogProof, bytes | None]:
    """
    The proof of an entry, and its body if that has to be a file of its own, because with it the extra line would be too long.

    Args:
        index: The entry's position.
        hashes: Its audit path, leaf end first.
        checkpoint: A signed note with the root that the path leads to; nothing is checked here.
        leaf: The entry's leaf.
        salt: None if the entry was erased.
        body: None if the entry was erased.

    """
    extra = entry_line(leaf, salt, body).removesuffix(b"\n")
    apart = None
    if body is not None and extra_line_bytes(extra) > MAX_LINE_BYTES:
        extra, apart = entry_line(leaf, salt, None).removesuffix(b"\n"), body
    return TlogProof(index, tuple(hashes), checkpoint, extra), apart


def verify_entry_proof(
    proof: str | bytes,
    *,
    vkeys: Iterable[str | VerifierKey],
    key_source: str = "argument",
    origin: str | None = None,
    body: bytes | None = None,
) -> EntryVerification:
    """
    Verify the proof of one entry.

    Guarantees: whatever the text holds, the answer is an `EntryVerification`; `ok` means that whoever holds the key signed a log in
    which exactly this entry stands at this position. Non-guarantees: that the log is shown to others with the same history, that it
    was not rolled back since, and that what the entry says is true.

    Args:
        proof: The text.
        vkeys: Keys known out of band; one of them must have signed the checkpoint.
        key_source: How to name where they come from in the result.
        origin: The log it must be of; any, if None.
        body: The entry's body, where it came as a file of its own.

    Raises:
        NoteError: `vkeys` are malformed, or there are none. Never because of the proof.

    """
    keys = [key if isinstance(key, VerifierKey) else VerifierKey.parse(key) for key in vkeys]
    if not keys:
        raise NoteError("no key is known to verify with; give the vkey of the log")
    case = _Case(key_source)
    try:
        parsed = TlogProof.parse(proof)
    except TlogProofError as error:
        case.problems.add(ProblemCode.LINE, f"this is not a proof of an entry: {error}")
        return case.verdict()
    case.index = parsed.index
    case.opened = _opened(parsed, keys, origin, case.problems)
    case.judge(parsed, body)
    return case.verdict()


class _Case:
    """What is found out, step by step; each step is allowed to rest on the ones before only."""

    def __init__(self, key_source: str) -> None:
        self.problems = Problems()
        self.key_source = key_source
        self.index: int | None = None
        self.opened: OpenedCheckpoint | None = None
        self.leaf: Leaf | None = None
        self.body: bytes | None = None
        self.state = BodyState.UNKNOWN

    def judge(self, proof: TlogProof, apart: bytes | None) -> None:
        found = _entry_of(proof, self.problems)
        if found is None or self.opened is None:
            return
        data, salt, body = found
        head = self.opened.checkpoint
        if not verify_inclusion(proof.index, head.size, leaf_hash(data), proof.hashes, head.root):
            self.problems.add(
                ProblemCode.ROOT,
                f"the hashes don't lead from this entry to the root that was signed over {head.size} entries: entry or proof was altered",
                proof.index,
            )
            return
        try:
            leaf = Leaf.parse(data)
        except NotCanonical as error:
            self.problems.add(ProblemCode.LEAF, f"the leaf is not valid: {error}", proof.index)
            return
        if leaf.origin != head.origin or leaf.seq != proof.index:
            self.problems.add(
                ProblemCode.SEQUENCE,
                f"the leaf says it is entry {leaf.seq} of {leaf.origin!r}, the proof is about entry {proof.index} of {head.origin!r}",
                proof.index,
            )
            return
        self.leaf = leaf
        self._weigh(leaf, salt, body if body is not None else apart)

    def _weigh(self, leaf: Leaf, salt: bytes | None, body: bytes | None) -> None:
        """What the leaf says about the body."""
        if salt is None:
            self.state = BodyState.ERASED
            if body is not None:
                self.state = BodyState.WRONG
                self.problems.add(ProblemCode.PAYLOAD, "there is a body, but no salt that would tie it to the entry", leaf.seq)
        elif body is None:
            self.state = BodyState.ELSEWHERE
            self.problems.add(
                ProblemCode.PARTIAL, "the body is too long for the proof, and the file that came with it was not given", leaf.seq
            )
        elif len(body) > MAX_BODY_BYTES or not hmac.compare_digest(payload_digest(salt, body), leaf.payload):
            self.state = BodyState.WRONG
            self.problems.add(ProblemCode.PAYLOAD, "the body is not the one that the entry commits to: it was altered", leaf.seq)
        else:
            self._take(leaf, body)

    def _take(self, leaf: Leaf, body: bytes) -> None:
        try:
            jsontext.decode_object(body)
        except NotCanonical as error:
            self.state = BodyState.WRONG
            self.problems.add(ProblemCode.PAYLOAD, f"the body was signed, but is not in the format: {error}", leaf.seq)
        else:
            self.state, self.body = BodyState.PROVEN, body

    def verdict(self) -> EntryVerification:
        opened = self.opened
        return EntryVerification(
            index=self.index,
            size=None if opened is None else opened.checkpoint.size,
            root=None if opened is None else base64.b64encode(opened.checkpoint.root).decode(),
            key=None if opened is None else str(opened.keys[-1]),
            key_source=self.key_source,
            leaf=self.leaf,
            body=self.body,
            body_state=self.state,
            problems=tuple(self.problems.listed),
        )


def _opened(proof: TlogProof, keys: list[VerifierKey], origin: str | None, problems: Problems) -> OpenedCheckpoint | None:
    try:
        return open_checkpoint(proof.checkpoint, keys, origin=origin)
    except NoteError as error:
        problems.add(
            ProblemCode.SIGNATURE,
            f"the checkpoint of the proof is not to be believed: {error}. If the log's key was rotated since you got yours, "
            "ask for the new one",
        )
        return None


def _entry_of(proof: TlogProof, problems: Problems) -> tuple[bytes, bytes | None, bytes | None] | None:
    """Leaf, salt and body that came with the proof, unauthenticated as yet."""
    if proof.extra is None:
        problems.add(
            ProblemCode.PARTIAL,
            "the proof came without the entry itself (its extra line); it says only that something stands at that position",
        )
        return None
    try:
        members = jsontext.decode_object(proof.extra, _ENTRY)
        leaf, salt, body = members["leaf"], members["salt"], members["body"]
        if not isinstance(leaf, str) or not isinstance(body, str | None) or not isinstance(salt, str | None):
            raise NotCanonical("leaf must be a text, body and salt texts or null")
        key = None if salt is None else bytes.fromhex(salt)
        if key is not None and (len(key) != SALT_BYTES or key.hex() != salt):
            raise NotCanonical(f"the salt must be {2 * SALT_BYTES} hexadecimal digits")
        return leaf.encode(), key, None if body is None else body.encode()
    except ValueError as error:
        problems.add(ProblemCode.LINE, f"the salt of the entry is not hexadecimal: {error}")
    except NotCanonical as error:
        problems.add(ProblemCode.LINE, f"what the proof carries as the entry is not one: {error}")
    return None
