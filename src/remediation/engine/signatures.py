"""Whose signatures count on this host, and for what."""

from __future__ import annotations

from pathlib import Path

from remediation.errors import ApprovalRefused, ConfigurationError, RemediationError
from remediation.keys.ssh import AllowedSigners, SignatureRefused, SshSignature, private_key_in_reach, verify
from remediation.ports.clock import Clock


class Signatories:
    """
    The people of ``[approvals] allowed_signers``.

    Args:
        signers: The file; read anew for each signature, so that a key that is taken out counts no longer at once.
        allow_local: Whether a signature counts whose private key this process could read.
        refused: The kind of error to raise.

    """

    def __init__(
        self, clock: Clock, *, signers: Path | None, allow_local: bool, refused: type[RemediationError] = ApprovalRefused
    ) -> None:
        self._clock = clock
        self._signers = signers
        self._allow_local = allow_local
        self._refused = refused

    def check(self, document: bytes, signature: str, approver: str, namespace: str) -> None:
        """
        Return if `signature` over `document` is that of `approver`, for `namespace`, and counts now.

        Raises:
            RemediationError: of the kind given; it is not.

        """
        if self._signers is None:
            raise self._refused("nobody's signature counts on this host: [approvals] allowed_signers names no file")
        try:
            principal = verify(document, signature, AllowedSigners.load(self._signers), namespace, self._clock.now())
            key = SshSignature.parse(signature).key
        except (SignatureRefused, ConfigurationError) as error:
            raise self._refused(f"the signature does not count: {error}") from error
        if principal != approver:
            raise self._refused(f"the document names {approver} as approver, but {principal} signed it")
        if not self._allow_local and (near := private_key_in_reach(key)) is not None:
            raise self._refused(
                f"the key of {principal} lies in {near.path}, where the host itself could use it: it must come from elsewhere. "
                "Sign with a key that the host's user can't read, or set [approvals] allow_local = true"
            )
