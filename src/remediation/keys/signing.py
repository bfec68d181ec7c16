"""
The Ed25519 key that signs checkpoints, and the texts that it is kept in.

The first line names the form. ``remediation-signing-key/1 pkcs8-pem``: a PKCS #8 key in PEM follows (RFC 5958, RFC 7468); OpenSSL and
others skip the line and read the key. ``remediation-signing-key/1 scrypt-aes-256-gcm … public=<base64>``: the same key in DER, sealed
under a passphrase (see `remediation.keys.sealing`); its public half stands in the authenticated header, so that keys can be told apart
without the passphrase.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from os import PathLike
from typing import Never, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from remediation.keys import sealing
from remediation.keys.files import KeyFileRefused, create_private, read_private
from remediation.keys.passphrase import PassphraseRefused
from remediation.proof.note import NoteSigner, VerifierKey

_NAME = "remediation-signing-key/1"
_FORMAT = f"{_NAME} ".encode()
_PLAIN = _FORMAT + b"pkcs8-pem\n"
_SEALED = _FORMAT + sealing.METHOD.encode() + b" "
_PUBLIC = "public="

Passphrase = Callable[[], bytes]
"""Gives the passphrase when it is needed; raises PassphraseRefused if there is none."""


class SigningKey:
    """
    An Ed25519 private key. It signs, and tells its public half; it can't be printed, pickled or copied.

    Non-guarantee: the key stands in this process's memory; whoever can read that, or run code here, has it.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()
        """The 32-byte public key (RFC 8032)."""

    @classmethod
    def generate(cls) -> Self:
        """A new key that is stored nowhere."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def create(cls, path: str | PathLike[str], passphrase: Passphrase | None = None) -> Self:
        """
        Make a new key and store it durably at `path`, readable by its owner only (mode 0600). The directory must exist.

        The file never replaces another, and is whole or not there, whenever the process is killed. When this returns, file and directory
        entry are on disk; when it raises, there is no file. With `passphrase`, the key is encrypted under it.

        Raises:
            KeyFileRefused: something is at `path` already, or the file can't be written.
            PassphraseRefused: `passphrase` has none.

        """
        name = os.fspath(path)
        key = cls.generate()
        content = key.sealed(passphrase()) if passphrase else key.plain()
        try:
            create_private(path, content)
        except FileExistsError as error:
            raise KeyFileRefused(
                f"{name} exists already and is not replaced: a key that signed a log is needed to continue it. "
                "Use it, or move it away first"
            ) from error
        except OSError as error:
            raise KeyFileRefused(f"the key file {name} can't be made: {error.strerror}; no key was made") from error
        return key

    @classmethod
    def load(cls, path: str | PathLike[str], passphrase: Passphrase | None = None) -> Self:
        """
        The key stored at `path`.

        Raises:
            KeyFileRefused: it is missing, a link, not this user's, readable or writable by others, of another form, or damaged.
            PassphraseRefused: it is encrypted, and there is no passphrase, or a wrong one.

        """
        return cls.read(read_private(path), os.fspath(path), passphrase)

    @classmethod
    def read(cls, content: bytes, where: str, passphrase: Passphrase | None = None) -> Self:
        """
        The key that a text of either form holds; `where` names it in errors. Raises as `load`.

        Raises:
            KeyFileRefused, PassphraseRefused.

        """
        _check_form(content, where)
        try:
            if content.startswith(_PLAIN):
                private = load_pem_private_key(content[len(_PLAIN) :], password=None)
            else:
                private = load_der_private_key(_opened(content, where, passphrase), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileRefused(f"{where} does not hold a readable key: it is damaged; restore it from a backup") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFileRefused(f"{where} holds a key of another kind than Ed25519; restore the log's own key")
        return cls(private)

    def plain(self) -> bytes:
        """The text of this key in the form that needs no passphrase."""
        return _PLAIN + self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sealed(self, passphrase: bytes) -> bytes:
        """The text of this key, encrypted under `passphrase`. Takes a few tenths of a second and 128 MiB."""
        content = self._private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        words = (_PUBLIC + base64.b64encode(self.public).decode("ascii"),)
        return sealing.seal(_NAME, content, passphrase, words=words)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of `message` (RFC 8032)."""
        return self._private.sign(message)

    def vkey(self, name: str) -> VerifierKey:
        """
        The public key as others get it, under `name`: the origin of the log that it signs.

        Raises:
            NoteError: `name` can't be a key name.

        """
        return VerifierKey(name, self.public)

    def signer(self, name: str) -> NoteSigner:
        """
        Signs notes as `name`.

        Raises:
            NoteError: `name` can't be a key name.

        """
        return NoteSigner(self.vkey(name), self._private.sign)

    def derive(self, purpose: str) -> bytes:
        """
        A 32-byte key for another `purpose`, by HKDF-SHA-256 (RFC 5869) with length-prefixed, tagged info.

        Non-guarantee: whoever has the signing key has it too; it protects caches, not secrets.
        """
        tag = b"remediation-derived-key/1"
        info = b"".join(len(part).to_bytes(4, "big") + part for part in (tag, purpose.encode()))
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._private.private_bytes_raw())

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()}, private=<not shown>)"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a SigningKey is not copied or pickled: a private key stays in one place")


def is_sealed(content: bytes) -> bool:
    """Whether the text of a key is encrypted."""
    return content.startswith(_SEALED)


def public_of(content: bytes, where: str) -> bytes:
    """
    The public half of the key that a text holds; needs no passphrase.

    Raises:
        KeyFileRefused: it is of no known form, or damaged.

    """
    _check_form(content, where)
    if not is_sealed(content):
        return SigningKey.read(content, where).public
    return _stated(_taken_apart(content, where), where)


def _check_form(content: bytes, where: str) -> None:
    if not content.startswith(_FORMAT):
        raise KeyFileRefused(f"{where} is not a signing key of this program: its first line is not {_FORMAT.decode()!r}…")
    if not content.startswith((_PLAIN, _SEALED)):
        raise KeyFileRefused(f"{where} is a signing key in a form that this version can't read; upgrade remediation")


def _opened(content: bytes, where: str, passphrase: Passphrase | None) -> bytes:
    sealed = _taken_apart(content, where)
    if passphrase is None:
        raise PassphraseRefused(f"{where} is encrypted, and no passphrase was given")
    try:
        return sealed.open(passphrase())
    except sealing.WrongPassphrase as error:
        raise PassphraseRefused(
            f"the passphrase does not open {where}: it is wrong, or the file is damaged; try again, or restore the file from a backup"
        ) from error


def _taken_apart(content: bytes, where: str) -> sealing.Sealed:
    try:
        return sealing.read(content)
    except sealing.NotSealed as error:
        raise KeyFileRefused(f"{where} is damaged: {error}; restore it from a backup") from error


def _stated(sealed: sealing.Sealed, where: str) -> bytes:
    stated = [word.removeprefix(_PUBLIC) for word in sealed.words if word.startswith(_PUBLIC)]
    try:
        public = base64.b64decode("".join(stated), validate=True)
    except binascii.Error:
        public = b""
    if len(public) != 32:
        raise KeyFileRefused(f"{where} is damaged: its first line does not name a public key; restore it from a backup")
    return public
