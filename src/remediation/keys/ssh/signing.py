"""
Making signatures.

A person's key is used through ``ssh-keygen -Y sign`` alone: it asks for the passphrase at the terminal, talks to the agent, to tokens
and smart cards, and the key never enters this process. (`cryptography` could read plain key files itself, but not encrypted ones
without another library, and neither agents nor tokens: two ways with different reach would be one too many.) `sign` is for programs
that hold a key of their own in memory.
"""

from __future__ import annotations

import os
import subprocess

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from remediation.errors import RemediationError
from remediation.keys.ssh import wire
from remediation.keys.ssh.publickeys import _CURVES, PublicKey
from remediation.keys.ssh.sshsig import SignatureRefused, SshSignature, signed_data

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class SigningFailed(RemediationError):
    """No signature was made; the message says why."""


def sign(document: bytes, private: PrivateKey, namespace: str) -> str:
    """
    The armoured signature of `private` over `document` for `namespace` (printable ASCII, not empty), with SHA-512.

    Raises:
        PublicKeyRefused: a key of this kind is not accepted.
        SigningFailed: `namespace` can't be one.

    """
    if not namespace or not namespace.isascii() or not namespace.isprintable():
        raise SigningFailed(f"{namespace!r} can't be a namespace: it must be printable ASCII")
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    key = PublicKey.of_line(line)
    message = signed_data(document, namespace, "sha512")
    algorithm, raw = key.kind, b""
    if isinstance(private, ed25519.Ed25519PrivateKey):
        raw = private.sign(message)
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm, raw = "rsa-sha2-512", private.sign(message, padding.PKCS1v15(), SHA512())
    else:
        r, s = decode_dss_signature(private.sign(message, ec.ECDSA(_CURVES[key.kind][1])))
        raw = wire.mpint(r) + wire.mpint(s)
    return SshSignature(key, namespace, "sha512", wire.string(algorithm) + wire.string(raw)).armoured


def sign_with_ssh_keygen(document: bytes, key_file: str | os.PathLike[str], namespace: str) -> str:
    """
    The armoured signature of the key in `key_file` over `document` for `namespace`, made by ``ssh-keygen``.

    `key_file` is a private key, plain or encrypted, or a ``.pub`` file whose private half the agent holds. What ``ssh-keygen`` has to
    say goes to standard error; it asks at the terminal. What it made is checked before it is returned.

    Raises:
        SigningFailed: ``ssh-keygen`` is not installed, could not sign, or what it made does not hold.

    """
    name = os.fspath(key_file)
    try:
        done = subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-f", os.path.abspath(name), "-n", namespace],
            input=document,
            stdout=subprocess.PIPE,
            check=False,
        )
    except OSError as error:
        raise SigningFailed(
            f"ssh-keygen can't be started ({error.strerror}): install OpenSSH's client, or sign elsewhere and hand the signature in"
        ) from error
    if done.returncode != 0:
        raise SigningFailed(f"ssh-keygen could not sign with {name} (exit code {done.returncode}); it said why above")
    signature = done.stdout.decode("ascii", "replace")
    try:
        SshSignature.parse(signature).check(document, namespace)
    except SignatureRefused as error:
        raise SigningFailed(f"what ssh-keygen made with {name} can't be used: {error}") from error
    return signature
