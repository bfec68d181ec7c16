"""
SSH signatures of people: made by their own tools, checked here.

What OpenSSH calls SSHSIG (PROTOCOL.sshsig): public keys, signatures and the file of allowed signers, read strictly, and verified with
`cryptography` alone. The package must not decide what a signature is good for, must not keep a person's private key, and must not
accept anything that stock ``ssh-keygen -Y verify`` would refuse.
"""

from __future__ import annotations

from remediation.keys.ssh.allowed_signers import AllowedSigner, AllowedSigners, AllowedSignersRefused
from remediation.keys.ssh.publickeys import PublicKey, PublicKeyRefused
from remediation.keys.ssh.reach import PrivateKeyInReach, private_key_in_reach, public_half
from remediation.keys.ssh.signing import SigningFailed, sign, sign_with_ssh_keygen
from remediation.keys.ssh.sshsig import SignatureRefused, SshSignature
from remediation.keys.ssh.verifying import APPROVAL_NAMESPACE, NotAllowed, verify

__all__ = [
    "APPROVAL_NAMESPACE",
    "AllowedSigner",
    "AllowedSigners",
    "AllowedSignersRefused",
    "NotAllowed",
    "PrivateKeyInReach",
    "PublicKey",
    "PublicKeyRefused",
    "SignatureRefused",
    "SigningFailed",
    "SshSignature",
    "private_key_in_reach",
    "public_half",
    "sign",
    "sign_with_ssh_keygen",
    "verify",
]
