"""What an incident needs next, from its recorded state alone."""

from datetime import timedelta
from typing import Any

import pytest
from tests.support.folding import NOW, Ledger, effect, event, finished, plan, planned, receipt, spec

from remediation.core.incident import Incident, Status
from remediation.core.progress import (
    Apply,
    Decide,
    Done,
    GiveUp,
    Resolve,
    RetryLater,
    Revert,
    Sleep,
    TakeIn,
    Verify,
    next_step,
    settlement,
    to_revert,
)
from remediation.model import entries

SPECS = {
    "a": spec("a", retries=2, backoff=("30s", "2m")),
    "b": spec("b", level="patch"),
    "c": spec("c", level="heal"),
}


def step(incident: Incident, *, now: int = NOW, cap: int = 3, paused: bool = False, specs: Any = None) -> Any:
    return next_step(incident, SPECS if specs is None else specs, now=now, attempt_cap=cap, paused=paused)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def taken(ledger: Ledger, *runbooks: str) -> Incident:
    return ledger.take_in(ledger.report(), *(runbooks or ("a", "b", "c")))


def failed(ledger: Ledger, incident: Incident, runbook: str = "a", *, revert: tuple[str, ...] = ()) -> Incident:
    made = planned(runbook=runbook)
    return ledger.tell(incident, made, finished(made, "failed", revert=revert))


# -- taking in and giving up -----------------------------------------------------------------------------------------------


def test_a_report_is_taken_in_first(ledger: Ledger) -> None:
    assert step(ledger.report()) == TakeIn()


def test_without_a_runbook_it_is_escalated(ledger: Ledger) -> None:
    found = step(ledger.take_in(ledger.report()))
    assert found == GiveUp(Status.ESCALATED, "no runbook handles BROKEN")


def test_the_ladder_is_tried_from_the_top(ledger: Ledger) -> None:
    assert step(taken(ledger)) == Decide(("a", "b", "c"))


def test_runbooks_that_are_no_longer_registered_are_passed_over(ledger: Ledger) -> None:
    assert step(taken(ledger), specs={"b": SPECS["b"]}) == Decide(("b",))
    gone = step(taken(Ledger()), specs={})
    assert gone.status is Status.ESCALATED
    assert "registered" in gone.reason


def test_what_was_cleared_before_any_attempt_resolves_by_itself(ledger: Ledger) -> None:
    incident = ledger.tell(taken(ledger), entries.DegradationCleared(observed_at=NOW + 1))
    assert isinstance(step(incident), Resolve)


def test_what_was_seen_again_after_it_was_cleared_is_handled(ledger: Ledger) -> None:
    incident = ledger.tell(
        taken(ledger),
        entries.DegradationCleared(observed_at=NOW + 1),
        entries.DegradationCoalesced(count=2, severity="P2", observed_at=NOW + 2, why="count"),
    )
    assert isinstance(step(incident), Decide)


# -- one attempt --------------------------------------------------------------------------------------------------------------


def test_a_plan_that_may_proceed_is_applied_and_then_verified(ledger: Ledger) -> None:
    made = planned(runbook="a")
    incident = ledger.tell(taken(ledger), made)
    assert isinstance(step(incident), Apply)
    incident = ledger.tell(
        incident, entries.StageApplied(attempt=made.attempt, stage=0, receipts=(receipt(f"{made.attempt}:0:0"),))
    )
    assert isinstance(step(incident), Verify)


def test_a_stage_with_more_to_come_is_followed_by_the_next_decision_of_the_same_runbook(ledger: Ledger) -> None:
    made = planned("x", runbook="b", plan=plan(effect("x:0:0"), more=True))
    incident = ledger.tell(taken(ledger), made, entries.StageApplied(attempt="x", stage=0, receipts=(receipt("x:0:0"),)))
    found = step(incident)
    assert isinstance(found, Decide)
    assert (found.candidates, found.stage, found.attempt.id) == (("b",), 1, "x")


@pytest.mark.parametrize("decision", ["ask", "observe", "refuse"])
def test_a_plan_that_is_withheld_escalates_with_the_reasons(ledger: Ledger, decision: str) -> None:
    made = planned(runbook="a", decision=decision)
    incident = ledger.tell(taken(ledger), made, finished(made, "withheld", reason=f"because {decision}"))
    assert step(incident) == GiveUp(Status.ESCALATED, f"because {decision}")


def test_a_withheld_later_stage_takes_back_the_earlier_ones_first(ledger: Ledger) -> None:
    first = planned("x", runbook="b", plan=plan(effect("x:0:0"), more=True))
    second = planned("x", runbook="b", decision="ask", plan=plan(effect("x:1:0"), stage=1))
    incident = ledger.tell(taken(ledger), first, entries.StageApplied(attempt="x", stage=0, receipts=(receipt("x:0:0"),)))
    incident = ledger.tell(incident, second, finished(second, "withheld", revert=("x:0:0",)))
    assert isinstance(step(incident), Revert)
    incident = ledger.tell(incident, entries.EffectReverted(attempt="x", key="x:0:0"))
    assert isinstance(step(incident), GiveUp)


def test_an_uncertain_effect_is_verified_and_never_applied_again(ledger: Ledger) -> None:
    made = planned("x", runbook="a")
    incident = ledger.tell(taken(ledger), made, entries.EffectUncertain(attempt="x", key="x:0:0", reason="who knows"))
    assert isinstance(step(incident), Verify)
    incident = ledger.tell(incident, finished(made, "inconclusive"))
    assert step(incident).status is Status.ESCALATED


def test_after_an_uncertain_effect_no_other_runbook_is_tried_even_if_verification_failed(ledger: Ledger) -> None:
    made = planned("x", runbook="a")
    incident = ledger.tell(taken(ledger), made, entries.EffectUncertain(attempt="x", key="x:0:0", reason="who knows"))
    incident = ledger.tell(incident, finished(made, "failed"))
    assert step(incident).status is Status.ESCALATED


def test_inconclusive_escalates_without_revert(ledger: Ledger) -> None:
    made = planned(runbook="a")
    incident = ledger.tell(taken(ledger), made, finished(made, "inconclusive"))
    assert step(incident).status is Status.ESCALATED


def test_failed_reverts_newest_first_before_anything_else(ledger: Ledger) -> None:
    incident = failed(ledger, taken(ledger), revert=("k2", "k1"))
    found = step(incident)
    assert isinstance(found, Revert)
    assert found.attempt.revert == ("k2", "k1")
    incident = ledger.tell(incident, entries.EffectReverted(attempt=found.attempt.id, key="k2"))
    assert step(incident).attempt.revert == ("k1",)


def test_what_can_not_be_taken_back_ends_it_dirty(ledger: Ledger) -> None:
    incident = failed(ledger, taken(ledger), revert=("k1",))
    incident = ledger.tell(incident, entries.EffectRevertFailed(attempt=incident.attempts[-1].id, key="k1", error="no"))
    found = step(incident)
    assert (found.status, found.dirty) == (Status.HEAL_FAILED, True)
    assert settlement(incident, found.status, found.reason, dirty=found.dirty).dirty


# -- retries and the ladder ------------------------------------------------------------------------------------------------------


def test_a_failed_runbook_with_retries_is_tried_again_after_its_pauses_then_the_next(ledger: Ledger) -> None:
    incident = taken(ledger, "a", "b")
    incident = failed(ledger, incident)
    assert step(incident, cap=9) == RetryLater("a", NOW + 30_000)
    assert step(incident, cap=9, now=NOW + 30_000) == Decide(("a", "b"))
    incident = failed(ledger, incident)
    assert step(incident, cap=9) == RetryLater("a", NOW + 120_000)
    incident = failed(ledger, incident)
    assert step(incident, cap=9) == Decide(("b",))
    incident = failed(ledger, incident, "b")
    found = step(incident, cap=9)
    assert found.status is Status.HEAL_FAILED
    assert "b failed" in found.reason


def test_the_last_pause_repeats_and_no_pauses_mean_at_once() -> None:
    for backoff, expected in (((timedelta(seconds=5),), [5000, 5000, 5000]), ((), [0, 0, 0])):
        ledger = Ledger()
        specs = {"a": spec("a", retries=3, backoff=backoff)}
        incident = taken(ledger, "a")
        for pause in expected:
            incident = failed(ledger, incident)
            found = step(incident, cap=9, specs=specs)
            assert found == (RetryLater("a", NOW + pause) if pause else Decide(("a",)))


@pytest.mark.parametrize("cap", [1, 2, 3])
def test_no_more_attempts_than_allowed(cap: int) -> None:
    ledger = Ledger()
    incident = taken(ledger, "a")
    for _ in range(cap):
        assert not isinstance(step(incident, cap=cap, now=NOW + 10**9), GiveUp)
        incident = failed(ledger, incident)
    found = step(incident, cap=cap, now=NOW + 10**9)
    assert found.status is Status.HEAL_FAILED
    assert str(cap) in found.reason


def test_attempts_that_only_met_conflicts_escalate_at_the_cap_since_nothing_was_tried_in_vain(ledger: Ledger) -> None:
    incident = taken(ledger, "b")
    for _ in range(3):
        made = planned(runbook="b")
        incident = ledger.tell(incident, made, finished(made, "conflict"))
    assert step(incident).status is Status.ESCALATED


def test_attempts_that_were_not_allowed_to_act_do_not_count(ledger: Ledger) -> None:
    made = planned(runbook="a", decision="observe")
    incident = ledger.tell(taken(ledger), made, finished(made, "withheld"))
    assert incident.acted == 0


def test_a_skipped_runbook_is_passed_over_and_its_reason_told(ledger: Ledger) -> None:
    incident = taken(ledger, "a", "b")
    made = planned(runbook="b", skipped=(("a", "declined: not mine"),))
    incident = ledger.tell(incident, made, finished(made, "failed"))
    found = step(incident, cap=9)
    assert found.status is Status.HEAL_FAILED
    ledger = Ledger()
    from remediation.core.incident import changed

    found = step(changed(taken(ledger, "a"), skipped=(("a", "declined: not mine"),)))
    assert found.status is Status.ESCALATED
    assert "not mine" in found.reason


# -- waiting -----------------------------------------------------------------------------------------------------------------


def waiting(ledger: Ledger, why: str, until: int, incident: Incident | None = None) -> Incident:
    return ledger.tell(incident or taken(ledger), entries.IncidentWaiting(until=until, why=why, reason="r"))


@pytest.mark.parametrize("why", ["cooldown", "limit", "stage", "retry", "lock"])
def test_a_wait_lasts_until_its_time(ledger: Ledger, why: str) -> None:
    incident = waiting(ledger, why, NOW + 10)
    assert step(incident, now=NOW + 9) == Sleep(NOW + 10)
    assert not isinstance(step(incident, now=NOW + 10), Sleep)


def test_a_wait_for_the_end_of_a_pause_lasts_as_long_as_the_pause(ledger: Ledger) -> None:
    incident = waiting(ledger, "pause", 0)
    assert step(incident, paused=True) == Sleep(0)
    assert isinstance(step(incident, paused=False), Decide)


def test_a_pause_that_ends_early_ends_the_wait_early(ledger: Ledger) -> None:
    incident = waiting(ledger, "pause", NOW + 10)
    assert step(incident, paused=True) == Sleep(NOW + 10)
    assert isinstance(step(incident, paused=False), Decide)


def test_what_is_cleared_while_it_waits_resolves_but_not_in_the_middle_of_an_attempt(ledger: Ledger) -> None:
    incident = ledger.tell(waiting(ledger, "cooldown", NOW + 10), entries.DegradationCleared(observed_at=NOW + 1))
    assert isinstance(step(incident), Resolve)
    ledger = Ledger()
    made = planned("x", runbook="a", plan=plan(effect("x:0:0"), more=True))
    incident = ledger.tell(taken(ledger), made, entries.StageApplied(attempt="x", stage=0, receipts=()))
    incident = ledger.tell(waiting(ledger, "stage", NOW + 10, incident), entries.DegradationCleared(observed_at=NOW + 1))
    assert step(incident) == Sleep(NOW + 10)


def verifying(ledger: Ledger) -> Incident:
    made = planned("x", runbook="a")
    started = entries.VerificationStarted(
        attempt="x", receipts=(receipt("x:0:0"),), verdict={"status": "inconclusive"}, sustain_ms=0, deadline=0
    )
    return waiting(ledger, "verify", NOW + 60_000, ledger.tell(taken(ledger), made, started))


def test_what_the_reporter_says_ends_a_wait_of_verification(ledger: Ledger) -> None:
    incident = verifying(ledger)
    assert step(incident) == Sleep(NOW + 60_000)
    assert isinstance(step(ledger.tell(incident, entries.DegradationCleared(observed_at=NOW + 1))), Verify)
    ledger = Ledger()
    seen = entries.DegradationCoalesced(count=2, severity="P2", observed_at=NOW + 1, why="counter-evidence")
    assert isinstance(step(ledger.tell(verifying(ledger), seen)), Verify)


def test_what_the_reporter_said_before_does_not_end_it(ledger: Ledger) -> None:
    incident = verifying(ledger)
    assert step(ledger.tell(incident, entries.DegradationCleared(observed_at=NOW))) == Sleep(NOW + 60_000)


# -- settled and reopened --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["resolved", "escalated", "heal_failed"])
def test_what_is_settled_needs_nothing(ledger: Ledger, status: str) -> None:
    assert step(ledger.settle(taken(ledger), status)) == Done()


def test_a_reopened_incident_starts_anew_with_the_new_ladder_and_all_its_attempts_to_come(ledger: Ledger) -> None:
    incident = taken(ledger, "a")
    for _ in range(3):
        incident = failed(ledger, incident)
    incident = ledger.settle(incident, "heal_failed")
    incident = ledger.tell(incident, entries.IncidentReopened(reason="again", ladder=("b", "a")))
    assert step(incident) == Decide(("b", "a"))
    assert incident.acted == 0
    assert len(incident.attempts) == 3


def test_a_settlement_holds_unless_resolved_and_tells_attempts_and_reports(ledger: Ledger) -> None:
    incident = ledger.tell(
        failed(ledger, taken(ledger)), entries.DegradationCoalesced(count=7, severity="P2", observed_at=NOW, why="count")
    )
    for status in (Status.RESOLVED, Status.ESCALATED, Status.HEAL_FAILED):
        made = settlement(incident, status, "r")
        assert (made.attempts, made.reports, made.held, made.runbook) == (1, 7, status is not Status.RESOLVED, "a")


# -- what is to be undone --------------------------------------------------------------------------------------------------------


def test_what_was_applied_or_may_have_been_is_undone_newest_first_but_not_what_is_disposable(ledger: Ledger) -> None:
    first = planned("x", runbook="a", plan=plan(effect("x:0:0"), effect("x:0:1", reversibility="disposable"), more=True))
    second = planned("x", runbook="a", plan=plan(effect("x:1:0"), effect("x:1:1"), effect("x:1:2"), stage=1))
    applied = (receipt("x:0:0"), receipt("x:0:1"))
    incident = ledger.tell(taken(ledger), first, entries.StageApplied(attempt="x", stage=0, receipts=applied), second)
    last = (receipt("x:1:0", "found-applied"), receipt("x:1:1", "failed"))
    incident = ledger.tell(incident, finished(second, "failed", receipts=last))
    attempt = incident.attempts[-1]
    assert to_revert(attempt) == ("x:1:0", "x:0:0")
    assert to_revert(attempt, ("x:1:1",)) == ("x:1:1", "x:1:0", "x:0:0")


def test_the_id_of_an_event_is_no_part_of_what_comes_next(ledger: Ledger) -> None:
    one, two = (Ledger().report(event("same")) for _ in range(2))
    assert step(one) == step(two)
