"""
Signed notes: a text with Ed25519 signatures below it (C2SP signed-note, c2sp.org/signed-note).

Stricter than the specification where that costs nothing: base64 must be in its one canonical form, and a known key signs a note
once. So two different texts never stand for the same note.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from remediation.proof.errors import NoteError, SignatureRefused

ED25519 = 0x01
"""Signature type byte of plain Ed25519 over the note's text."""
MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 100

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_MARK = "\N{EM DASH} "

Sign = Callable[[bytes], bytes]
"""Makes the 64-byte Ed25519 signature of a message."""


def check_name(name: str) -> str:
    """
    `name` if it can be a key name: not empty, no white space, no plus sign, no control characters.

    Raises:
        NoteError: it can't.

    """
    if not name or "+" in name or any(char.isspace() or char < " " for char in name):
        raise NoteError(f"{name!r} can't be a key name: it must not be empty or hold white space, control characters or '+'")
    return name


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 public key under a name: what a verifier is given. ``str()`` is its vkey text."""

    name: str
    public: bytes
    """32 bytes (RFC 8032)."""
    key_id: bytes = field(init=False)
    """SHA-256(name || 0x0A || 0x01 || public)[:4]: a hint, not a fingerprint."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public) != 32:
            raise NoteError(f"an Ed25519 public key has 32 bytes, not {len(self.public)}")
        digest = sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public).digest()
        object.__setattr__(self, "key_id", digest[:4])

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        The key of a vkey, ``<name>+<8 hex digits>+<base64(0x01 || public key)>``.

        Raises:
            NoteError: malformed, of another signature type, or its key id does not belong to it.

        """
        name, plus, rest = text.partition("+")
        hint, plus_too, encoded = rest.partition("+")
        if not (plus and plus_too):
            raise NoteError(f"{text!r} is not a vkey; one looks like name+0123abcd+AQ…")
        material = _unbase64(encoded, "the key")
        if len(material) != 33 or material[0] != ED25519:
            raise NoteError(f"the vkey of {name!r} is not an Ed25519 key (signature type 0x01 and 32 bytes)")
        key = cls(name, material[1:])
        if hint != key.key_id.hex():
            raise NoteError(
                f"the vkey of {name!r} says key id {hint!r}, but its key has {key.key_id.hex()}: it was altered or mistyped"
            )
        return key

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's Ed25519 signature of `message` (RFC 8032)."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([ED25519]) + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line, not verified."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{_MARK}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note. Nothing about it may be believed before `opened_by`."""

    text: str
    """What is signed, with its final newline."""
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: str | bytes) -> Self:
        """
        Take a signed note apart.

        Raises:
            NoteError: it breaks a rule of the format, or is beyond 1 MiB or 100 signatures.

        """
        whole = _decoded(data)
        text, blank, below = whole.rpartition("\n\n")
        if not blank:
            raise NoteError("a signed note has a blank line between its text and its signatures; this one has none")
        if not below:
            raise NoteError("a signed note has signatures below its last blank line; this one has none")
        if not below.endswith("\n"):
            raise NoteError("a signed note ends in a newline; this one is cut off")
        lines = below[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise NoteError(f"a note with {len(lines)} signatures is not read; at most {MAX_SIGNATURES} are")
        return cls(text + "\n", tuple(_signature(line) for line in lines))

    def opened_by(self, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
        """
        Those of `keys` that signed this note, in the order of its lines. Signatures of unknown keys are ignored.

        Raises:
            SignatureRefused: a known key's signature is wrong or there twice, or no known key signed.

        """
        known = {(key.name, key.key_id): key for key in keys}
        message = self.text.encode()
        found: list[VerifierKey] = []
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                continue
            if key in found:
                raise SignatureRefused(f"the note is signed twice by {key}; nothing that this format writes is")
            if not key.verifies(signature.value, message):
                raise SignatureRefused(f"the signature of {key} is wrong: text or signature was altered, or another key made it")
            found.append(key)
        if not found:
            signers = ", ".join(f"{each.name}+{each.key_id.hex()}" for each in self.signatures)
            raise SignatureRefused(f"none of the known keys signed this note (it is signed by {signers})")
        return tuple(found)

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(map(str, self.signatures))}"


class NoteSigner:
    """Signs notes as one key. Holds no secret: `sign` does."""

    __slots__ = ("_prefix", "_sign", "key")

    def __init__(self, key: VerifierKey, sign: Sign) -> None:
        """Sign as `key` with `sign`, which must belong to it (not checked here)."""
        self.key = key
        self._sign = sign
        self._prefix = f"{_MARK}{key.name} "

    def line(self, message: bytes) -> str:
        """The signature line for the text `message`, which the caller knows to be a valid text of a note."""
        signature = self.key.key_id + self._sign(message)
        if len(signature) != 68:
            raise NoteError(f"the signing function of {self.key.name} returned {len(signature) - 4} bytes; Ed25519 has 64")
        return self._prefix + binascii.b2a_base64(signature).decode()

    def __repr__(self) -> str:
        return f"NoteSigner({self.key})"


def sign_note(text: str, signers: Sequence[NoteSigner]) -> str:
    """
    The signed note of `text`, with one line of each signer.

    Raises:
        NoteError: `text` can't be a note's text, or there is no signer.

    """
    if not signers:
        raise NoteError("a note needs a signature")
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteError("a note's text ends in a newline and holds no other control characters")
    try:
        message = text.encode()
    except UnicodeEncodeError as error:
        raise NoteError("a note's text can't hold lone surrogates") from error
    return text + "\n" + "".join([signer.line(message) for signer in signers])


def _decoded(data: str | bytes) -> str:
    try:
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > MAX_NOTE_BYTES:
            raise NoteError(f"a note of {len(raw)} bytes is not read; at most {MAX_NOTE_BYTES} are")
        whole = raw.decode()
    except UnicodeError as error:
        raise NoteError("a note is UTF-8 text; this is not") from error
    if _CONTROL.search(whole):
        raise NoteError("a note holds no control characters but newlines; this one does")
    return whole


def _signature(line: str) -> Signature:
    if not line.startswith(_MARK):
        raise NoteError(f"{line!r} is not a signature line: it must begin with an em dash and a space")
    name, space, encoded = line.removeprefix(_MARK).partition(" ")
    if not space:
        raise NoteError(f"{line!r} is not a signature line: it has no signature after the name")
    value = _unbase64(encoded, f"the signature of {name!r}")
    if len(value) < 5:
        raise NoteError(f"the signature of {name!r} is too short to be one")
    return Signature(check_name(name), value[:4], value[4:])


def _unbase64(text: str, what: str) -> bytes:
    """Decode RFC 4648 base64 in its canonical form only."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError(f"{what} is not base64") from error
    if base64.b64encode(value).decode() != text:
        raise NoteError(f"{what} is not in the canonical form of base64")
    return value
