"""
SSHSIG: a detached signature over a document, with a namespace that says what for (OpenSSH's PROTOCOL.sshsig, version 1).

The armour is read in one form: the lines that ``ssh-keygen -Y sign`` writes, whose base64 may be broken anywhere. Line ends may be
CR LF. Nothing may stand before or after it.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from remediation.errors import RemediationError
from remediation.keys.ssh import wire
from remediation.keys.ssh.publickeys import PublicKey, PublicKeyRefused
from remediation.keys.ssh.wire import Malformed, Reader

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASHES: Final = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_LINE: Final = 70
"""Characters a line, as ``ssh-keygen`` writes it."""
_LONGEST: Final = 16 * 1024


class SignatureRefused(RemediationError):
    """A signature that can't be read, or does not hold: the message says why."""


@dataclass(frozen=True, slots=True)
class SshSignature:
    """A signature that was read; `check` says whether it holds."""

    key: PublicKey
    """Whose it says it is."""
    namespace: str
    hash_algorithm: str
    """``sha256`` or ``sha512``: how the document was hashed."""
    signature: bytes
    """In SSH's encoding: the algorithm's name, and the raw signature."""

    @classmethod
    def parse(cls, armoured: str) -> SshSignature:
        """
        Read an armoured signature.

        Raises:
            SignatureRefused: it is not one in the form that this module's docstring describes, of another version, or its key is of a
                kind that is not accepted.

        """
        try:
            reader = Reader(_unarmour(armoured))
            if reader.take(len(_MAGIC)) != _MAGIC:
                raise Malformed("it does not begin with SSHSIG")
            version = reader.uint32()
            if version != _VERSION:
                raise Malformed(f"it is of version {version}, known is {_VERSION}")
            blob, namespace, reserved = reader.string(), reader.text(), reader.string()
            hash_algorithm, signature = reader.text(), reader.string()
            reader.end()
            if reserved:
                # Version 1 gives it no meaning, and OpenSSH takes it for empty whatever it holds.
                raise Malformed("its reserved field is not empty")
            if not namespace:
                raise Malformed("it has no namespace")
            if hash_algorithm not in _HASHES:
                raise Malformed(f"it hashes with {hash_algorithm[:64]!r}; known are {', '.join(_HASHES)}")
            return cls(PublicKey.of_blob(blob), namespace, hash_algorithm, signature)
        except (Malformed, PublicKeyRefused) as error:
            raise SignatureRefused(f"the SSH signature can't be used: {error}") from None

    def check(self, document: bytes, namespace: str) -> None:
        """
        Return if this is its key's signature over `document` for `namespace`.

        Non-guarantee: nothing is said about whose key it is.

        Raises:
            SignatureRefused: it is for another namespace, or does not hold.

        """
        if self.namespace != namespace:
            raise SignatureRefused(
                f"the signature was made for {self.namespace!r}, not for {namespace!r}: sign again with -n {namespace}"
            )
        message = signed_data(document, namespace, self.hash_algorithm)
        try:
            holds = self.key.verifies(self.signature, message)
        except Malformed as error:
            raise SignatureRefused(f"the SSH signature can't be used: {error}") from None
        if not holds:
            raise SignatureRefused(
                f"the signature by {self.key.fingerprint} is not over this document: one of the two was altered, or they don't belong "
                "together; sign the document as it is shown now"
            )

    @property
    def armoured(self) -> str:
        """As ``ssh-keygen -Y sign`` writes it."""
        blob = b"".join(
            (
                _MAGIC,
                _VERSION.to_bytes(4, "big"),
                wire.string(self.key.blob),
                wire.string(self.namespace),
                wire.string(b""),
                wire.string(self.hash_algorithm),
                wire.string(self.signature),
            )
        )
        text = base64.b64encode(blob).decode("ascii")
        lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
        return "\n".join((_BEGIN, *lines, _END, ""))


def signed_data(document: bytes, namespace: str, hash_algorithm: str) -> bytes:
    """What the key signs (PROTOCOL.sshsig, section 2): the document enters by its digest."""
    digest = _HASHES[hash_algorithm](document).digest()
    return _MAGIC + b"".join(wire.string(part) for part in (namespace, b"", hash_algorithm, digest))


def _unarmour(armoured: str) -> bytes:
    if len(armoured) > _LONGEST:
        raise Malformed("it is too long")
    lines = armoured.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise Malformed(f"it must be the text from {_BEGIN} to {_END}, and nothing else")
    return wire.unbase64("".join(lines[1:-1]))
