"""Whether a signature over a document is that of a person who may give it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from remediation.keys.ssh.allowed_signers import AllowedSigner, AllowedSigners
from remediation.keys.ssh.sshsig import SignatureRefused, SshSignature

APPROVAL_NAMESPACE: Final = "remediation-approval"
"""What a signature that approves a plan is made for."""


class NotAllowed(SignatureRefused):
    """The signature holds, but nobody who may sign so, now, signed it."""


def verify(document: bytes, signature: str, signers: AllowedSigners, namespace: str, at: datetime) -> str:
    """
    The principal whose signature over `document` this is.

    Agrees with ``ssh-keygen -Y verify -f signers -I principal -n namespace -O verify-time=at`` wherever that is stricter; see
    `remediation.keys.ssh.allowed_signers` for what is refused here beyond.

    Args:
        document: The bytes that were signed.
        signature: Armoured, as ``ssh-keygen -Y sign`` writes it.
        signers: Who may sign.
        namespace: What the signature must be for.
        at: When it counts, for the times in `signers`; aware.

    Raises:
        NotAllowed: it holds, but its key is not listed, not for this namespace, or not at this time.
        SignatureRefused: it can't be read, is for another namespace, or is not over this document.

    """
    parsed = SshSignature.parse(signature)
    parsed.check(document, namespace)
    lines = signers.of_key(parsed.key)
    if not lines:
        raise NotAllowed(f"nobody who may sign has the key {parsed.key.fingerprint}; add its owner to the allowed signers")
    problem = ""
    for line in lines:
        found = _problem(line, namespace, at)
        if not found:
            return line.principal
        problem = problem or found
    raise NotAllowed(problem)


def _problem(line: AllowedSigner, namespace: str, at: datetime) -> str:
    who = f"the key {line.key.fingerprint} of {line.principal}"
    if namespace not in line.namespaces:
        return f"{who} may not sign for {namespace!r}, only for {', '.join(line.namespaces)}"
    if line.valid_after is not None and at < line.valid_after:
        return f"{who} is valid only after {line.valid_after.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    if line.valid_before is not None and at > line.valid_before:
        return f"{who} was valid only before {line.valid_before.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    return ""
