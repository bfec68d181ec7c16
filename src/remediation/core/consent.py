"""
What a person signs: consent to exactly one plan, once, for a time.

The document is canonical JSON (see ``docs/specs/approvals.md``), signed as an SSH signature in the namespace ``remediation-approval``.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from remediation.core.incident import Approval, Incident
from remediation.errors import ApprovalRefused
from remediation.model import canonical

NAMESPACE = "remediation-approval"
VERSION = 1
Decision = Literal["approve", "deny"]
_DECISIONS: dict[str, Decision] = {"approve": "approve", "deny": "deny"}


def document(origin: str, incident: Incident, approval: Approval, *, decision: Decision, approver: str) -> bytes:
    """
    The bytes that `approver` signs to answer the request `approval` of `incident`.

    Args:
        origin: The log's name: the same plan in another log is another document.
        approver: The principal under which the signing key stands in the allowed signers.

    """
    return canonical.dumps(
        {
            "v": VERSION,
            "origin": origin,
            "decision": decision,
            "approval_id": approval.id,
            "incident": incident.id,
            "attempt": approval.attempt,
            "runbook": approval.runbook,
            "code_digest": approval.code_digest,
            "plan_digest": approval.plan_digest,
            "requested_seq": approval.requested_seq,
            "not_after": approval.not_after,
            "approver": approver,
        }
    )


def asked_for(content: bytes) -> str:
    """
    The id of the request that a signed document answers.

    Raises:
        ApprovalRefused: it names none.

    """
    found = _parsed(content).get("approval_id")
    if not isinstance(found, str) or not found:
        raise ApprovalRefused("the document names no request: sign the bytes exactly as they were given")
    return found


def check(content: bytes, origin: str, incident: Incident, approval: Approval, *, now: int) -> tuple[Decision, str]:
    """
    What a signed document answers to `approval`, and who is said to have signed it. The signature is not checked here.

    Raises:
        ApprovalRefused: it is no answer to this request, or comes too late, or a second time.

    """
    told = _parsed(content)
    decision = _DECISIONS.get(str(told.get("decision")))
    approver = told.get("approver")
    if decision is None or not isinstance(approver, str) or not approver:
        raise ApprovalRefused("the document names no decision, or no approver")
    expected = document(origin, incident, approval, decision=decision, approver=approver)
    if content != expected:
        meant = json.loads(expected)
        wrong = sorted(key for key in {*meant, *told} if repr(told.get(key)) != repr(meant.get(key))) or ["its spelling"]
        raise ApprovalRefused(
            f"the document is about something else: it differs in {', '.join(wrong)}; sign the request as it stands"
        )
    if approval.answered:
        raise ApprovalRefused(f"the request {approval.id} was answered already; an answer counts once")
    if now >= approval.not_after:
        raise ApprovalRefused(f"the request {approval.id} has expired; it is asked again when it is still needed")
    return decision, approver


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ApprovalRefused("the document is no JSON: sign the bytes exactly as they were given") from error
    if not isinstance(told, dict):
        raise ApprovalRefused("the document is no JSON object: sign the bytes exactly as they were given")
    return told
