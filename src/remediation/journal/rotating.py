"""The request that exchanges the signing key."""

from __future__ import annotations

from remediation.errors import GuardRefused
from remediation.journal import encoding
from remediation.journal.placing import Request
from remediation.journal.tree import SignedTree
from remediation.model.entries import KeyRotated
from remediation.ports.journal import ANY
from remediation.ports.keys import Signer
from remediation.proof.note import VerifierKey


def rotation(tree: SignedTree, successor: Signer, reason: str, actor: str) -> Request:
    """
    The append of ``key.rotated``, from the key that signs now to `successor`. Refused when it is its turn, if the key is no longer that.

    Raises:
        GuardRefused: the redactor takes a public key for a secret.

    """
    old, new = tree.key, VerifierKey(tree.origin, successor.public)
    entry = KeyRotated(old=str(old), new=str(new), reason=reason)
    prepared = encoding.draft(entry)
    if prepared.entry != entry:
        raise GuardRefused("a public key of the rotation looks like a secret to the redactor; nothing was changed: do it again")

    def guard() -> None:
        if tree.key != old or new in tree.epochs.keys:
            raise GuardRefused(f"the log is signed by {tree.key} now, and was not rotated to {new}")

    stream = f"host/{tree.origin.partition('/')[0]}"
    return Request(stream, [prepared], ANY, guard, (actor, None, None), None, successor=successor)
