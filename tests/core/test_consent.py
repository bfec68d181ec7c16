"""Consent: the document that is signed, what answers which request, and what the incident does with the answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.folding import NOW, Ledger, effect, finished, plan, planned, receipt, spec

from remediation.core import consent, progress
from remediation.core.incident import Incident, changed
from remediation.errors import ApprovalRefused
from remediation.model import entries

DAY = 24 * 3_600_000
ORIGIN = "host-1/remediation/abc"
SPECS = {"a": spec("a"), "b": spec("b")}


def asked(ledger: Ledger, *, stage: int = 0, attempt: str = "x") -> tuple[Incident, entries.AttemptPlanned]:
    incident = ledger.take_in(ledger.report(), "a", "b")
    made = planned(attempt, runbook="a", decision="ask", plan=plan(effect(f"{attempt}:{stage}:0")))
    request = entries.ApprovalRequested(
        approval_id="q", attempt=attempt, runbook="a", code_digest="d", plan_digest=made.plan_digest, not_after=NOW + DAY
    )
    waiting = entries.IncidentWaiting(until=NOW + DAY, why="approval", reason="a person must consent", attempt=attempt)
    return ledger.tell(incident, made, request, waiting), made


def step(incident: Incident, now: int = NOW) -> Any:
    return progress.next_step(incident, SPECS, now=now, attempt_cap=3)


def granted(approver: str = "alice") -> entries.ApprovalGranted:
    return entries.ApprovalGranted(approval_id="q", approver=approver, document="", signature="")


def denied(approver: str = "alice") -> entries.ApprovalDenied:
    return entries.ApprovalDenied(approval_id="q", approver=approver, reason="not on a Friday")


def test_a_plan_that_asks_waits_for_consent_and_applies_nothing() -> None:
    incident, _ = asked(Ledger())
    found = step(incident)
    assert isinstance(found, progress.AwaitConsent)
    assert found.until == NOW + DAY
    assert incident.acted == 0


def test_consent_has_the_same_plan_judged_again_and_then_applied_once() -> None:
    ledger = Ledger()
    incident, made = asked(ledger)
    incident = ledger.tell(incident, granted())
    assert isinstance(step(incident), progress.Consented)
    again = made.model_copy(update={"gate": planned(decision="proceed").gate})
    incident = ledger.tell(incident, again)
    assert isinstance(step(incident), progress.Apply)
    (attempt,) = incident.attempts
    assert (len(attempt.plans), attempt.acted, attempt.approved_by) == (1, True, "alice")
    assert incident.approval is None


def test_a_second_answer_changes_nothing() -> None:
    ledger = Ledger()
    incident, _ = asked(ledger)
    incident = ledger.tell(incident, denied("alice"), granted("bob"))
    assert incident.approval is not None
    assert (incident.approval.denied_by, incident.approval.granted_by) == ("alice", "")
    assert step(incident) == progress.NoConsent(incident.attempts[0], "denied by alice: not on a Friday", denied=True)


@pytest.mark.parametrize(
    ("late", "kind"), [(DAY - 1, progress.AwaitConsent), (DAY, progress.NoConsent), (9 * DAY, progress.NoConsent)]
)
def test_a_request_expires_at_its_end_and_not_before(late: int, kind: type[Any]) -> None:
    incident, _ = asked(Ledger())
    assert isinstance(step(incident, NOW + late), kind)


def test_consent_that_was_not_used_in_time_is_void() -> None:
    ledger = Ledger()
    incident, _ = asked(ledger)
    incident = ledger.tell(incident, granted())
    found = step(incident, NOW + DAY)
    assert isinstance(found, progress.NoConsent)
    assert "alice" in found.reason


def test_what_was_cleared_while_it_waited_is_resolved_without_an_answer() -> None:
    ledger = Ledger()
    incident, made = asked(ledger)
    incident = ledger.tell(incident, entries.DegradationCleared(observed_at=NOW + 1))
    assert isinstance(step(incident), progress.NoConsent)
    incident = ledger.tell(
        incident, entries.ApprovalExpired(approval_id="q", reason="cleared"), finished(made, "withheld", verdict=None)
    )
    assert isinstance(step(incident), progress.Resolve)


def test_a_pause_keeps_the_request_and_its_end_goes_on_with_it() -> None:
    ledger = Ledger()
    incident, _ = asked(ledger)
    incident = ledger.tell(incident, granted(), entries.IncidentWaiting(until=0, why="pause", reason="paused"))
    assert isinstance(progress.next_step(incident, SPECS, now=NOW, attempt_cap=3, paused=True), progress.Sleep)
    assert isinstance(step(incident), progress.Consented)


def test_a_later_stage_that_nobody_consents_to_takes_back_the_earlier_ones() -> None:
    ledger = Ledger()
    incident = ledger.take_in(ledger.report(), "a")
    first = planned("x", runbook="a", plan=plan(effect("x:0:0"), more=True))
    incident = ledger.tell(incident, first, entries.StageApplied(attempt="x", stage=0, receipts=(receipt("x:0:0"),)))
    second = planned("x", runbook="a", decision="ask", plan=plan(effect("x:1:0"), stage=1))
    request = entries.ApprovalRequested(
        approval_id="q", attempt="x", runbook="a", code_digest="d", plan_digest=second.plan_digest, not_after=NOW + DAY
    )
    incident = ledger.tell(incident, second, request)
    assert isinstance(step(incident), progress.AwaitConsent)
    incident = ledger.tell(incident, denied())
    assert isinstance(step(incident), progress.NoConsent)
    incident = ledger.tell(incident, finished(second, "withheld", verdict=None, revert=("x:0:0",)))
    assert isinstance(step(incident), progress.Revert)


# -- the document ---------------------------------------------------------------------------------------------------------


def request() -> tuple[Incident, Any]:
    incident, _ = asked(Ledger())
    assert incident.approval is not None
    return incident, changed(incident.approval, requested_seq=17)


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_a_document_answers_the_request_that_it_was_made_for(decision: Any) -> None:
    incident, approval = request()
    content = consent.document(ORIGIN, incident, approval, decision=decision, approver="alice@example.org")
    assert consent.check(content, ORIGIN, incident, approval, now=NOW) == (decision, "alice@example.org")
    assert set(json.loads(content)) == {
        *("v", "origin", "decision", "approval_id", "incident", "attempt", "runbook", "code_digest", "plan_digest"),
        *("requested_seq", "not_after", "approver"),
    }


@given(
    st.sampled_from(["v", "origin", "approval_id", "incident", "attempt", "runbook", "code_digest", "plan_digest", "requested_seq"])
)
def test_a_document_about_anything_else_is_refused_and_says_what_differs(key: str) -> None:
    incident, approval = request()
    told = json.loads(consent.document(ORIGIN, incident, approval, decision="approve", approver="alice"))
    told[key] = True if key == "v" else told[key] + 1 if isinstance(told[key], int) else told[key] + "0"
    content = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ApprovalRefused, match=key):
        consent.check(content, ORIGIN, incident, approval, now=NOW)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff", b'{"decision":"approve"}', b"[" * 100_000])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    incident, approval = request()
    with pytest.raises(ApprovalRefused):
        consent.check(content, ORIGIN, incident, approval, now=NOW)


def test_an_answer_that_comes_too_late_or_again_is_refused() -> None:
    incident, approval = request()
    content = consent.document(ORIGIN, incident, approval, decision="approve", approver="alice")
    with pytest.raises(ApprovalRefused, match="expired"):
        consent.check(content, ORIGIN, incident, approval, now=approval.not_after)
    with pytest.raises(ApprovalRefused, match="once"):
        consent.check(content, ORIGIN, incident, changed(approval, granted_by="bob"), now=NOW)
