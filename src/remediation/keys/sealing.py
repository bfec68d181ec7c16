"""
Encryption under a passphrase: scrypt (RFC 7914) makes the key, AES-256-GCM (NIST SP 800-38D) encrypts and authenticates.

A sealed text is one header line and one line of base64. The header, ``<name> scrypt-aes-256-gcm n=<log2 N>,r=<r>,p=<p> <salt> <nonce>``
and whatever words its owner adds, is authenticated too (it is the associated data, its newline included), so that nobody can change what
a file says about itself. Salt (32 bytes) and nonce (12 bytes) are fresh and random at each sealing, in base64.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

METHOD = "scrypt-aes-256-gcm"
LOG2_N = 17
"""The cost of new ones: 128 MiB of memory and a few tenths of a second for each guess (OWASP Password Storage Cheat Sheet, scrypt)."""
_R, _P = 8, 1
_LEAST_N, _MOST_N = 14, 20
"""What is accepted when read: neither so cheap that a guess costs nothing, nor so dear that reading a file takes the host down."""
_SALT_BYTES, _NONCE_BYTES = 32, 12
_HEADER = re.compile(
    rf"(?P<name>\S+) {METHOD} n=(?P<n>[0-9]{{1,2}}),r=(?P<r>[0-9]{{1,2}}),p=(?P<p>[0-9]{{1,2}})"
    r" (?P<salt>[A-Za-z0-9+/=]+) (?P<nonce>[A-Za-z0-9+/=]+)(?P<words>( \S+)*)\n"
)


class NotSealed(ValueError):
    """A text that is not of this form, or whose parameters are refused; the message says what is wrong, and quotes nothing secret."""


class WrongPassphrase(ValueError):
    """The passphrase is not the one it was sealed with, or the text was altered: nobody can tell which."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed text, read but not opened."""

    header: bytes
    """The first line, newline included."""
    words: tuple[str, ...]
    """What its owner added to the header."""
    log2_n: int
    salt: bytes
    nonce: bytes
    secret: bytes
    """The encrypted bytes, with their tag."""

    def open(self, passphrase: bytes) -> bytes:
        """
        What was sealed. Takes as long, and as much memory, as the parameters say.

        Raises:
            WrongPassphrase.

        """
        key = _key(passphrase, self.salt, self.log2_n)
        try:
            return AESGCM(key).decrypt(self.nonce, self.secret, self.header)
        except InvalidTag as error:
            raise WrongPassphrase from error


def seal(name: str, content: bytes, passphrase: bytes, *, words: tuple[str, ...] = (), log2_n: int = LOG2_N) -> bytes:
    """`content`, sealed under `passphrase`. `name` and `words` hold no white space, and stay readable."""
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    parameters = f"n={log2_n},r={_R},p={_P}"
    header = f"{' '.join((name, METHOD, parameters, _text(salt), _text(nonce), *words))}\n".encode("ascii")
    if not _HEADER.fullmatch(header.decode("ascii")) or any(len(word.split()) != 1 for word in (name, *words)):
        raise ValueError("the name and the words of a header hold no white space")
    secret = AESGCM(_key(passphrase, salt, log2_n)).encrypt(nonce, content, header)
    return header + _text(secret).encode("ascii") + b"\n"


def read(content: bytes) -> Sealed:
    """
    Take a sealed text apart.

    Raises:
        NotSealed: it is of another form, or its parameters are out of bounds.

    """
    first, newline, rest = content.partition(b"\n")
    try:
        found = _HEADER.fullmatch((first + newline).decode("ascii"))
        if found is None:
            raise NotSealed("the first line is not that of an encrypted file")
        salt, nonce, secret = _bytes(found["salt"]), _bytes(found["nonce"]), _bytes(rest.decode("ascii").removesuffix("\n"))
    except UnicodeDecodeError as error:
        raise NotSealed("it is not ASCII text") from error
    log2_n, r, p = int(found["n"]), int(found["r"]), int(found["p"])
    if not _LEAST_N <= log2_n <= _MOST_N or (r, p) != (_R, _P):
        raise NotSealed(
            f"its scrypt parameters n={log2_n}, r={r}, p={p} are refused: n must be {_LEAST_N} to {_MOST_N}, r {_R} and p {_P}"
        )
    if len(salt) != _SALT_BYTES or len(nonce) != _NONCE_BYTES:
        raise NotSealed(f"its salt must have {_SALT_BYTES} bytes and its nonce {_NONCE_BYTES}")
    return Sealed(first + newline, tuple(found["words"].split()), log2_n, salt, nonce, secret)


def _key(passphrase: bytes, salt: bytes, log2_n: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << log2_n, r=_R, p=_P).derive(passphrase)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NotSealed("it holds what is not base64") from error
    if _text(data) != text:
        raise NotSealed("it holds base64 that is not in canonical form")
    return data
