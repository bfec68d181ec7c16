"""
The Ed25519 key that signs checkpoints, in a file that only its owner can read.

The file's first line names its form, ``remediation-signing-key/1 pkcs8-pem``; a PKCS #8 key in PEM follows (RFC 5958, RFC 7468).
Other forms, an encrypted one among them, get other names in that line. OpenSSL and others skip the line and read the key.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from os import PathLike
from typing import Never, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from remediation.errors import ConfigurationError
from remediation.proof.note import NoteSigner, VerifierKey

_FORMAT = b"remediation-signing-key/1 "
_PLAIN = _FORMAT + b"pkcs8-pem\n"
_MAX_BYTES = 16 * 1024


class KeyFileRefused(ConfigurationError):
    """A key file can't be made, or must not be used as it is; the message says how to mend that. It never quotes the file."""


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
    def create(cls, path: str | PathLike[str]) -> Self:
        """
        Make a new key and store it durably at `path`, readable by its owner only (mode 0600). The directory must exist.

        The file never replaces another, and is whole or not there, whenever the process is killed. When this returns, file and directory
        entry are on disk; when it raises, there is no file.

        Raises:
            KeyFileRefused: something is at `path` already, or the file can't be written.

        """
        private = Ed25519PrivateKey.generate()
        content = _PLAIN + private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        name = os.fspath(path)
        unfinished = os.path.join(os.path.dirname(name), f".{os.path.basename(name)}.{secrets.token_hex(8)}")
        try:
            try:
                _write_durably(unfinished, content)
                os.link(unfinished, name)
                _keep_entry(name)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(unfinished)
        except FileExistsError as error:
            raise KeyFileRefused(
                f"{name} exists already and is not replaced: a key that signed a log is needed to continue it. "
                "Use it, or move it away first"
            ) from error
        except OSError as error:
            raise KeyFileRefused(f"the key file {name} can't be made: {error.strerror}; no key was made") from error
        return cls(private)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """
        The key stored at `path`.

        Raises:
            KeyFileRefused: it is missing, a link, not this user's, readable or writable by others, of another form, or damaged.

        """
        content = _read_private(path)
        if not content.startswith(_FORMAT):
            raise KeyFileRefused(
                f"{os.fspath(path)} is not a signing key of this program: its first line is not {_FORMAT.decode()!r}…"
            )
        if not content.startswith(_PLAIN):
            raise KeyFileRefused(f"{os.fspath(path)} is a signing key in a form that this version can't read; upgrade remediation")
        try:
            private = load_pem_private_key(content[len(_PLAIN) :], password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileRefused(
                f"{os.fspath(path)} does not hold a readable key: it is damaged; restore it from a backup"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFileRefused(f"{os.fspath(path)} holds a key of another kind than Ed25519; restore the log's own key")
        return cls(private)

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


def _write_durably(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_entry(path: str) -> None:
    """Make the directory entry durable, or remove it."""
    try:
        directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        os.unlink(path)
        raise


def _read_private(path: str | PathLike[str]) -> bytes:
    """The content of a file that nobody but this user can have read or written."""
    name = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise KeyFileRefused(f"there is no key at {name}; `remediation init` makes one, or restore it from a backup") from error
    except OSError as error:
        raise KeyFileRefused(
            f"the key file {name} can't be opened ({error.strerror}); it must be a regular file, not a link"
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileRefused(f"{name} is not a regular file")
        if found.st_uid != os.geteuid():
            raise KeyFileRefused(
                f"{name} belongs to the user with id {found.st_uid}, this process runs as {os.geteuid()}: "
                f"run as its owner, or `chown {os.geteuid()} {name}`"
            )
        if found.st_mode & 0o077:
            raise KeyFileRefused(
                f"{name} can be read or written by others (mode {stat.S_IMODE(found.st_mode):04o}): `chmod 600 {name}`; "
                "if somebody may have read it, rotate the key"
            )
        content = b""
        while len(content) <= _MAX_BYTES and (part := os.read(descriptor, _MAX_BYTES)):
            content += part
    except OSError as error:
        raise KeyFileRefused(f"the key file {name} can't be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > _MAX_BYTES:
        raise KeyFileRefused(f"{name} is too large to be a key")
    return content
