"""Entries of people's authority: approvals, trust, proposals, credentials, pauses."""

from __future__ import annotations

from typing import ClassVar

from remediation.model.entries.base import Entry
from remediation.model.runbook import Radius, Reversibility


class ApprovalRequested(Entry):
    """A plan waits for a person's consent."""

    type: ClassVar[str] = "approval.requested"
    approval_id: str
    attempt: str
    runbook: str
    code_digest: str
    plan_digest: str
    not_after: int


class ApprovalGranted(Entry):
    """A person consented to one plan digest; `document` and `signature` can be checked with ``ssh-keygen -Y verify``."""

    type: ClassVar[str] = "approval.granted"
    approval_id: str
    approver: str
    document: str
    signature: str


class ApprovalDenied(Entry):
    """A person refused."""

    type: ClassVar[str] = "approval.denied"
    approval_id: str
    approver: str
    reason: str = ""


class ApprovalExpired(Entry):
    """The request is void: nobody answered in time, what it was asked for is gone, or the world is no longer as it was shown."""

    type: ClassVar[str] = "approval.expired"
    approval_id: str
    reason: str = "nobody answered in time"


class TrustRequested(Entry):
    """A plan above the profile asked for elevation."""

    type: ClassVar[str] = "trust.requested"
    runbook: str
    attempt: str
    scope: str


class TrustGranted(Entry):
    """A person's signed grant, or elevation earned by the track record."""

    type: ClassVar[str] = "trust.granted"
    grant_id: str
    runbook: str
    scope: str
    """What it covers, for people."""
    by: str
    not_after: int
    reason: str
    code_digest: str = ""
    subjects: str = "*"
    """A glob (`fnmatch`)."""
    radius: Radius = Radius.PROCESS
    reversibility: Reversibility = Reversibility.REVERSIBLE
    document: str = ""
    signature: str = ""


class TrustRefused(Entry):
    """Elevation was refused, with the reason."""

    type: ClassVar[str] = "trust.refused"
    runbook: str
    attempt: str
    reason: str


class TrustRevoked(Entry):
    """A grant ended before its time."""

    type: ClassVar[str] = "trust.revoked"
    grant_id: str
    by: str
    reason: str


class ProposalDrafted(Entry):
    """A candidate runbook was proposed."""

    type: ClassVar[str] = "proposal.drafted"
    proposal: str
    digest: str
    summary: str


class ProposalApproved(Entry):
    """Somebody other than its author approved a proposal."""

    type: ClassVar[str] = "proposal.approved"
    proposal: str
    digest: str
    approver: str
    document: str
    signature: str


class ProposalRejected(Entry):
    """A proposal was rejected."""

    type: ClassVar[str] = "proposal.rejected"
    proposal: str
    digest: str
    approver: str
    reason: str


class CredentialUsed(Entry):
    """A runbook read a declared credential; only its name is recorded."""

    type: ClassVar[str] = "credential.used"
    name: str
    runbook: str
    attempt: str


class PauseStarted(Entry):
    """Nothing new is applied until `until` (milliseconds since 1970 UTC; 0: until resumed)."""

    type: ClassVar[str] = "pause.started"
    reason: str
    by: str
    until: int = 0
    panic: bool = False
    """Also stops before the next effect of an attempt under way; nothing is reverted, unless `revert` says so."""
    revert: bool = False
    """In a panic: what attempts that are stopped in the middle have done is taken back."""


class PauseEnded(Entry):
    """Healing may go on."""

    type: ClassVar[str] = "pause.ended"
    by: str
    reason: str = ""
