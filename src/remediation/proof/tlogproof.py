"""
Proofs of single entries: C2SP tlog-proof (c2sp.org/tlog-proof, "Transparency Log Proofs").

One text that shows a stranger one entry of a log, without the others: its position, the audit path to the root, and the signed
checkpoint with that root. Any tool for tlog-proof can check it against the leaf.

The leaf, and what it commits to, travel in the format's ``extra`` line: base64 of the entry's line of an export, without its newline
(``{"body", "leaf", "salt"}``, see `remediation.proof.export`). The specification calls that line unauthenticated, and it is: it is
believed because the leaf hashes to what the path leads from, and the body to what the leaf names. Common readers take lines below
64 KiB only, so a body that would make it longer stays out (``"body": null`` beside a salt) and comes as a file of its own.
Without body *and* salt, the entry was erased.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Self

from remediation.proof.errors import TlogProofError
from remediation.proof.merkle import HASH_BYTES

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = 1 << 20
"""No longer text is read; an entry of full size with its body stays below it."""
MAX_HASHES = 63
"""No path of a log with 64-bit positions is longer."""

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """What a proof says. Nothing is checked but its form: see `remediation.proof.evidence.verify_entry_proof`."""

    index: int
    """Position of the entry in the log, from 0."""
    hashes: tuple[bytes, ...]
    """The audit path of RFC 6962, section 2.1.1: 32 bytes each, the leaf's sibling first."""
    checkpoint: str
    """The signed note, byte for byte."""
    extra: bytes | None = None
    """Data of the application, authenticated by nothing."""

    @classmethod
    def parse(cls, data: str | bytes) -> Self:
        """
        Read a proof.

        Stricter than the specification where it costs nothing: base64 must be in its one canonical form, so that no two texts
        say the same.

        Raises:
            TlogProofError: the text is not of the format; the message says which rule it breaks.

        """
        text = _text(data)
        head, blank, checkpoint = text.partition("\n\n")
        if not blank or not checkpoint:
            raise TlogProofError("the proof ends before its checkpoint, which follows a blank line: it is cut off, or another file")
        header, *lines = head.split("\n")
        if header != HEADER:
            raise TlogProofError(f"the first line is not {HEADER!r}: this is no proof of an entry (or of a later version)")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = _decoded(lines.pop(0).removeprefix("extra "), "the extra data")
        index = _INDEX.fullmatch(lines.pop(0)) if lines else None
        if index is None:
            raise TlogProofError("a line 'index N' with the entry's position, in decimal without leading zeros, is missing")
        if len(lines) > MAX_HASHES:
            raise TlogProofError(f"the proof has {len(lines)} hashes; none has more than {MAX_HASHES}")
        hashes = tuple(_decoded(line, f"hash {number}") for number, line in enumerate(lines, 1))
        if any(len(each) != HASH_BYTES for each in hashes):
            raise TlogProofError(f"a hash of the proof has not {HASH_BYTES} bytes")
        return cls(int(index[1]), hashes, checkpoint, extra)

    def __str__(self) -> str:
        """The text of the proof; ``TlogProof.parse`` reads it."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {_encoded(self.extra)}")
        lines.append(f"index {self.index}")
        lines += map(_encoded, self.hashes)
        return "\n".join(lines) + f"\n\n{self.checkpoint}"


def extra_line_bytes(extra: bytes) -> int:
    """How long the line with `extra` gets, newline included."""
    return len("extra \n") + 4 * -(-len(extra) // 3)


def _text(data: str | bytes) -> str:
    try:
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > MAX_PROOF_BYTES:
            raise TlogProofError(f"a proof of {len(raw)} bytes is not read; at most {MAX_PROOF_BYTES} are")
        return raw.decode()
    except UnicodeError as error:
        raise TlogProofError("a proof is UTF-8 text; this is not") from error


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str, what: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise TlogProofError(f"{what} is not base64") from error
    if not value and text == "" and what != "the extra data":
        raise TlogProofError(f"{what} is empty")
    if _encoded(value) != text:
        raise TlogProofError(f"{what} is not in the canonical form of base64")
    return value
