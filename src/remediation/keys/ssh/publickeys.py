"""
Public keys in OpenSSH's form, and the checking of raw signatures with them.

Sources: RFC 4253 section 6.6 and RFC 8332 (RSA), RFC 5656 (ECDSA), RFC 8709 (Ed25519), OpenSSH's PROTOCOL.u2f (keys on tokens).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from remediation.errors import ConfigurationError
from remediation.keys.ssh import wire
from remediation.keys.ssh.wire import Malformed, Reader

MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 16384
"""As OpenSSH has it; a larger one would only cost time."""
_CURVES: Final[dict[str, tuple[ec.EllipticCurve, HashAlgorithm]]] = {
    "ecdsa-sha2-nistp256": (ec.SECP256R1(), SHA256()),
    "ecdsa-sha2-nistp384": (ec.SECP384R1(), SHA384()),
    "ecdsa-sha2-nistp521": (ec.SECP521R1(), SHA512()),
}
_RSA_HASHES: Final[dict[str, HashAlgorithm]] = {"rsa-sha2-256": SHA256(), "rsa-sha2-512": SHA512()}
_SK_ED25519: Final = "sk-ssh-ed25519@openssh.com"
_SK_ECDSA: Final = "sk-ecdsa-sha2-nistp256@openssh.com"
_USER_PRESENT: Final = 0x01
KINDS: Final = ("ssh-ed25519", *_CURVES, "ssh-rsa", _SK_ED25519, _SK_ECDSA)
"""Key types that are read."""
Verifier = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class PublicKeyRefused(ConfigurationError):
    """A public key that can't be read, is of a kind that is not supported, or is too weak."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key. Two are equal when their bytes are."""

    kind: str
    blob: bytes
    """As it stands, in base64, in a ``.pub`` file."""
    application: str = field(default="", compare=False)
    """What a key on a token was made for; ``ssh:`` by default, empty for other keys."""
    _verifier: Verifier | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_blob(cls, blob: bytes) -> PublicKey:
        """
        The key that `blob` encodes.

        Raises:
            PublicKeyRefused: it is malformed, of another kind than `KINDS`, a certificate, or an RSA key below 2048 bits.

        """
        reader = Reader(blob)
        try:
            kind = reader.text()
            if kind not in KINDS:
                raise PublicKeyRefused(f"keys of type {kind[:64]!r} are not accepted; use one of {', '.join(KINDS)}")
            verifier = _read(kind, reader)
            application = reader.text() if kind.startswith("sk-") else ""
            reader.end()
        except (Malformed, ValueError, UnsupportedAlgorithm) as error:
            raise PublicKeyRefused(f"the public key is malformed: {error}") from None
        if isinstance(verifier, rsa.RSAPublicKey) and not MIN_RSA_BITS <= verifier.key_size <= _MAX_RSA_BITS:
            raise PublicKeyRefused(
                f"the RSA key has {verifier.key_size} bits, {MIN_RSA_BITS} to {_MAX_RSA_BITS} are accepted; make an Ed25519 key"
            )
        return cls(kind, blob, application, verifier)

    @classmethod
    def of_line(cls, line: str) -> PublicKey:
        """
        The key of a ``.pub`` file's line: type, base64, and perhaps a comment.

        Raises:
            PublicKeyRefused: it is no such line, or the key is refused.

        """
        kind, _, rest = line.strip().partition(" ")
        words = rest.split(maxsplit=1)
        if not words:
            raise PublicKeyRefused("a public key is a line of a type and base64, as in a .pub file")
        try:
            key = cls.of_blob(wire.unbase64(words[0]))
        except Malformed as error:
            raise PublicKeyRefused(f"the public key is malformed: {error}") from None
        if key.kind != kind:
            raise PublicKeyRefused(f"the line calls the key {kind[:64]!r}, but it is one of type {key.kind!r}")
        return key

    @property
    def line(self) -> str:
        """The key as in a ``.pub`` file, without comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode('ascii')}"

    @property
    def fingerprint(self) -> str:
        """``SHA256:…``, as ``ssh-keygen -l`` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii").rstrip("=")

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """
        Whether `signature` (SSH's encoding) is this key's over `message`.

        For a key on a token, somebody must have touched it: without the flag of user presence no signature counts.

        Raises:
            Malformed: `signature` is not one that a key of this kind makes.

        """
        reader = Reader(signature)
        algorithm = reader.text()
        verifier = self._verifier
        if isinstance(verifier, rsa.RSAPublicKey):
            return _verifies_rsa(verifier, algorithm, reader, message)
        if algorithm != self.kind:
            raise Malformed(f"a key of type {self.kind} does not sign as {algorithm[:64]!r}")
        raw = reader.string()
        if self.kind.startswith("sk-"):
            flags = reader.byte()
            counter = reader.uint32()
            if not flags & _USER_PRESENT:
                raise Malformed("nobody touched the token: the flag of user presence is not set")
            # PROTOCOL.u2f, "SSH U2F Signatures": what the token signs.
            message = b"".join(
                (
                    hashlib.sha256(self.application.encode("ascii")).digest(),
                    bytes([flags]),
                    counter.to_bytes(4, "big"),
                    hashlib.sha256(message).digest(),
                )
            )
        reader.end()
        try:
            if isinstance(verifier, ed25519.Ed25519PublicKey):
                verifier.verify(raw, message)
            elif isinstance(verifier, ec.EllipticCurvePublicKey):
                hashed = _CURVES.get(self.kind, (None, SHA256()))[1]
                verifier.verify(_dss(raw), message, ec.ECDSA(hashed))
            else:
                return False
        except InvalidSignature:
            return False
        return True


def _read(kind: str, reader: Reader) -> Verifier:
    if kind in ("ssh-ed25519", _SK_ED25519):
        return ed25519.Ed25519PublicKey.from_public_bytes(reader.string())
    if kind == "ssh-rsa":
        exponent, modulus = reader.mpint(), reader.mpint()
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    named = reader.text()
    curve, _ = _CURVES["ecdsa-sha2-nistp256" if kind == _SK_ECDSA else kind]
    if kind.split("@", maxsplit=1)[0].rpartition("-")[2] != named:
        raise Malformed(f"it names the curve {named[:64]!r}")
    point = reader.string()
    if point[:1] != b"\x04":
        raise Malformed("its point is not in uncompressed form")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)


def _verifies_rsa(verifier: rsa.RSAPublicKey, algorithm: str, reader: Reader, message: bytes) -> bool:
    hashed = _RSA_HASHES.get(algorithm)
    if hashed is None:
        raise Malformed(f"an RSA key must sign as {' or '.join(_RSA_HASHES)}, not as {algorithm[:64]!r}")
    raw = reader.string()
    reader.end()
    if len(raw) != (verifier.key_size + 7) // 8:
        raise Malformed("the signature is not as long as the key")
    try:
        verifier.verify(raw, message, padding.PKCS1v15(), hashed)
    except InvalidSignature:
        return False
    return True


def _dss(raw: bytes) -> bytes:
    reader = Reader(raw)
    r, s = reader.mpint(), reader.mpint()
    reader.end()
    return encode_dss_signature(r, s)
