"""
What a person signs to let an essential runbook out of its quarantine: the second of the two channels that this needs.

The document is canonical JSON (see ``docs/specs/runbook-lifecycle.md``), signed as an SSH signature in the namespace
``remediation-approval``. It names the quarantine's entry, which a release ends: it can't be used again.
"""

from __future__ import annotations

from remediation.core import signed
from remediation.core.lifecycle import RunbookRecord
from remediation.errors import ApprovalRefused
from remediation.model import canonical

VERSION = 1


def document(origin: str, record: RunbookRecord, *, not_after: int, approver: str) -> bytes:
    """
    The bytes that `approver` signs to consent to the release of the quarantined runbook of `record`.

    Args:
        origin: The log's name.
        not_after: When the consent ends, in milliseconds since 1970 UTC.
        approver: The principal under which the signing key stands in the allowed signers.

    """
    return canonical.dumps(
        {
            "v": VERSION,
            "origin": origin,
            "decision": "release",
            "runbook": record.id,
            "code_digest": record.code_digest,
            "requested_seq": record.changed_seq,
            "not_after": not_after,
            "approver": approver,
        }
    )


def check(content: bytes, origin: str, record: RunbookRecord, *, now: int, longest_ms: int) -> str:
    """
    Who is said to have signed `content`, consent to the release of `record` at `now`. The signature is not checked here.

    Args:
        now: Milliseconds since 1970 UTC.
        longest_ms: How far ahead the end of a consent may lie.

    Raises:
        ApprovalRefused: it is about something else, or has expired.

    """
    told = signed.members(content, ApprovalRefused)
    not_after, approver = told.get("not_after"), told.get("approver")
    if type(not_after) is not int or not isinstance(approver, str) or not approver:
        raise ApprovalRefused("the document names no end, or no approver: sign the bytes exactly as they were given")
    expected = document(origin, record, not_after=not_after, approver=approver)
    wrong = signed.differing(content, expected)
    if wrong:
        raise ApprovalRefused(
            f"the document is about something else: it differs in {', '.join(wrong)}; have this quarantine's signed"
        )
    if now >= not_after:
        raise ApprovalRefused("the consent has expired; have it signed again")
    if not_after - now > longest_ms:
        raise ApprovalRefused(
            "the consent would stand for longer than [approvals] expires allows; have one signed that ends earlier"
        )
    return approver
