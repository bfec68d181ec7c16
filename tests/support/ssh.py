"""People's keys: made by the stock ssh-keygen, and a token that is none."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from remediation.keys.ssh import PublicKey, SshSignature, wire
from remediation.keys.ssh.sshsig import signed_data

NAMESPACE = "remediation-approval"
KINDS = {
    "ed25519": ["-t", "ed25519"],
    "nistp256": ["-t", "ecdsa", "-b", "256"],
    "nistp384": ["-t", "ecdsa", "-b", "384"],
    "nistp521": ["-t", "ecdsa", "-b", "521"],
    "rsa": ["-t", "rsa", "-b", "2048"],
}


def ssh_keygen(
    *arguments: str | Path, document: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the stock ssh-keygen, without a terminal."""
    program = shutil.which("ssh-keygen")
    assert program, "these tests compare with ssh-keygen, which is not on PATH: install OpenSSH's client (openssh-client)"
    return subprocess.run(
        [program, *map(str, arguments)],
        input=document,
        capture_output=True,
        check=False,
        timeout=60,
        start_new_session=True,
        env=env,
    )


def made_key(folder: Path, kind: str = "ed25519", passphrase: str = "", name: str = "") -> Path:
    """A new private key's path; its public half lies beside it."""
    path = folder / (name or f"id_{kind}")
    done = ssh_keygen("-q", *KINDS[kind], "-N", passphrase, "-C", "somebody", "-f", path)
    assert done.returncode == 0, done.stderr
    return path


def public_key(path: Path) -> PublicKey:
    """The public key beside a private one."""
    return PublicKey.of_line(path.with_name(f"{path.name}.pub").read_text())


def stock_signature(path: Path, document: bytes, namespace: str = NAMESPACE, *options: str) -> str:
    """What ``ssh-keygen -Y sign`` makes."""
    done = ssh_keygen("-Y", "sign", "-f", path, "-n", namespace, *options, document=document)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def stock_verifies(
    folder: Path, allowed: str, principal: str, document: bytes, signature: str, namespace: str = NAMESPACE, *options: str
) -> bool:
    """What ``ssh-keygen -Y verify`` says."""
    (folder / "stock_signers").write_text(allowed)
    (folder / "stock_signature").write_text(signature)
    done = ssh_keygen(
        "-Y",
        "verify",
        "-f",
        folder / "stock_signers",
        "-I",
        principal,
        "-n",
        namespace,
        "-s",
        folder / "stock_signature",
        *options,
        document=document,
    )
    return done.returncode == 0


class Token:
    """Signs as a FIDO token does (OpenSSH's PROTOCOL.u2f), with a key in memory instead."""

    def __init__(self, kind: str, application: str = "ssh:") -> None:
        self.application = application.encode()
        self._private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
        if kind == "ed25519":
            self._private = ed25519.Ed25519PrivateKey.generate()
            raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            self.kind, parts = "sk-ssh-ed25519@openssh.com", (wire.string(raw),)
        else:
            self._private = ec.generate_private_key(ec.SECP256R1())
            raw = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            self.kind, parts = "sk-ecdsa-sha2-nistp256@openssh.com", (wire.string("nistp256"), wire.string(raw))
        self.key = PublicKey.of_blob(b"".join((wire.string(self.kind), *parts, wire.string(self.application))))

    def sign(self, document: bytes, namespace: str = NAMESPACE, *, flags: int = 1, counter: int = 7) -> str:
        message = signed_data(document, namespace, "sha512")
        tail = bytes([flags]) + counter.to_bytes(4, "big")
        said = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(message).digest()
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            raw = self._private.sign(said)
        else:
            r, s = decode_dss_signature(self._private.sign(said, ec.ECDSA(SHA256())))
            raw = wire.mpint(r) + wire.mpint(s)
        return SshSignature(self.key, namespace, "sha512", wire.string(self.kind) + wire.string(raw) + tail).armoured
