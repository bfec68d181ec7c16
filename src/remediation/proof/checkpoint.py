"""
Checkpoints: signed tree heads (C2SP tlog-checkpoint, c2sp.org/tlog-checkpoint).

The text is three lines: origin, size in decimal, root in base64. This format uses no extension lines and refuses them, since nobody
could audit what they say.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from remediation.proof.errors import NoteError, SignatureRefused
from remediation.proof.merkle import HASH_BYTES
from remediation.proof.note import Note, NoteSigner, VerifierKey, check_name

MAX_SIZE = 2**53 - 1
"""The greatest number of entries: positions are integers of the journal's JSON domain."""

_TEXT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: this log, at this size, has this root."""

    origin: str
    size: int
    root: bytes
    """32 bytes."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        The checkpoint of a note's text.

        Raises:
            NoteError: not exactly origin, size and root, each in canonical form.

        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise NoteError("a checkpoint is three lines, origin, decimal size and base64 root; this text is not")
        root = base64.b64decode(match[3])
        checkpoint = cls(check_name(match[1]), int(match[2]), root)
        if checkpoint.text() != text:
            raise NoteError("the root of the checkpoint is not in the canonical form of base64")
        if checkpoint.size > MAX_SIZE:
            raise NoteError(f"a checkpoint of {checkpoint.size} entries is beyond the format's limit")
        return checkpoint

    def text(self) -> str:
        """The note text that is signed. `origin` is taken to be a valid key name, `root` to be 32 bytes."""
        return f"{self.origin}\n{self.size}\n{binascii.b2a_base64(self.root).decode()}"

    def sign(self, signers: Sequence[NoteSigner]) -> str:
        """
        The signed note of this checkpoint.

        Costs a few microseconds beside the signatures. Each name must equal the origin: this format has no other signers.

        Raises:
            NoteError: there is no signer, one has another name, or `root` is no SHA-256 hash.

        """
        if len(self.root) != HASH_BYTES:
            raise NoteError(f"a root has {HASH_BYTES} bytes, not {len(self.root)}")
        if not signers:
            raise NoteError("a checkpoint needs a signature")
        text = self.text()
        message = text.encode()
        lines = [text, "\n"]
        for signer in signers:
            if signer.key.name != self.origin:
                raise NoteError(f"{signer.key.name} can't sign a checkpoint of {self.origin}: name and origin must be equal")
            lines.append(signer.line(message))
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint whose signatures were verified, and by which keys."""

    checkpoint: Checkpoint
    keys: tuple[VerifierKey, ...]


def open_checkpoint(note: str | bytes, keys: Iterable[VerifierKey], *, origin: str | None = None) -> OpenedCheckpoint:
    """
    Verify a signed checkpoint.

    Args:
        note: The signed note.
        keys: Known keys; one of them must have signed, none of them wrongly.
        origin: The log it must be of; any, if None.

    Raises:
        NoteError: malformed, or of another log.
        SignatureRefused: not signed as it must be.

    """
    parsed = Note.parse(note)
    signers = parsed.opened_by(keys)
    checkpoint = Checkpoint.parse(parsed.text)
    if origin is not None and checkpoint.origin != origin:
        raise SignatureRefused(f"the checkpoint is of the log {checkpoint.origin!r}, not of {origin!r}")
    return OpenedCheckpoint(checkpoint, signers)
