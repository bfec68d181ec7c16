"""
What can be wrong with a proof before anything is judged: input that has no meaning at all.

A log that was altered is not an exception but a verdict: see `remediation.proof.verdict`.
"""

from __future__ import annotations

from remediation.errors import RemediationError


class ProofError(RemediationError):
    """Root of this package's exceptions."""


class NoteError(ProofError):
    """A text is not a signed note, a verifier key or a checkpoint; the message says which rule it breaks."""


class SignatureRefused(NoteError):
    """A note is well formed, but a known key's signature is wrong, or no known key signed it."""


class TileMissing(ProofError):
    """A stored tile is absent or too short, so that the tree can't be rebuilt from storage."""


class TlogProofError(ProofError):
    """A text is not a proof of an entry in the form of C2SP tlog-proof; the message says which rule it breaks."""
