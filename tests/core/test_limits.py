"""Recurrence, the change rate, the ladder and the lifecycle: folds and pure decisions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.folding import NOW, Ledger, event, finished, planned, spec

from remediation.core import ladder
from remediation.core.lifecycle import RunbookRecord, evolve_runbook, to_quarantine
from remediation.core.limits import DAY, HOUR, ChangeRate, PastHeal, recurrence
from remediation.model import entries
from remediation.model.events import Provenance
from remediation.model.runbook import Handles

COOLDOWN = 300_000
WEEK = 7 * DAY


def heal(ago: int, *, level: str = "recovery", status: str = "resolved", runbook: str = "mend", incident: str = "i") -> PastHeal:
    return PastHeal(incident, NOW - ago, status, runbook, level)


def back(*past: PastHeal) -> Any:
    return recurrence(past, now=NOW, cooldown_ms=COOLDOWN)


# -- recurrence (design, section 3) -----------------------------------------------------------------------------------------


def test_a_degradation_without_a_past_is_handled_at_once() -> None:
    assert not back().wait_until
    assert not back().escalate


@pytest.mark.parametrize(("ago", "waits"), [(0, True), (COOLDOWN - 1, True), (COOLDOWN, False), (COOLDOWN + 1, False)])
def test_within_the_cooldown_a_healed_one_that_is_back_waits_for_its_end(ago: int, waits: bool) -> None:
    found = back(heal(ago))
    assert bool(found.wait_until) is waits
    if waits:
        assert found.wait_until == NOW - ago + COOLDOWN
        assert not found.escalate


@pytest.mark.parametrize("level", ["patch", "heal"])
@pytest.mark.parametrize(("ago", "escalates"), [(COOLDOWN, True), (DAY - 1, True), (DAY, False), (DAY + 1, False)])
def test_after_one_patch_or_heal_within_a_day_it_escalates_with_the_history(level: str, ago: int, escalates: bool) -> None:
    found = back(heal(ago, level=level, incident="before"))
    assert bool(found.escalate) is escalates
    if escalates:
        assert "before" in found.escalate
        assert found.history == ("before",)


@pytest.mark.parametrize(("times", "escalates"), [(1, False), (2, False), (3, True), (4, True)])
def test_after_three_recoveries_within_a_day_it_escalates(times: int, escalates: bool) -> None:
    found = back(*(heal(DAY - 1 - number, incident=f"i{number}") for number in range(times)))
    assert bool(found.escalate) is escalates


def test_recoveries_older_than_a_day_do_not_count() -> None:
    assert not back(heal(DAY + 3), heal(DAY + 2), heal(HOUR), heal(COOLDOWN)).escalate


def test_what_resolved_by_itself_or_was_escalated_is_no_earlier_heal() -> None:
    by_itself = heal(HOUR, level="patch", runbook="")
    escalated = heal(HOUR, level="patch", status="escalated")
    failed = heal(HOUR, level="patch", status="heal_failed")
    assert back(by_itself, escalated, failed).escalate == ""
    assert not back(heal(1, runbook="")).wait_until


def test_the_history_is_told_newest_first() -> None:
    assert back(heal(HOUR, incident="old"), heal(COOLDOWN, incident="new")).history == ("new", "old")


# -- change rate ------------------------------------------------------------------------------------------------------------


def test_changes_are_forgotten_after_an_hour() -> None:
    rate = ChangeRate()
    rate.count(NOW)
    assert rate.used(NOW) == 1
    assert rate.used(NOW + HOUR - 1000) == 1
    assert rate.used(NOW + HOUR) == 0


def test_the_change_rate_survives_a_clock_that_goes_back() -> None:
    rate = ChangeRate()
    for at in (NOW, NOW - 30_000, NOW + 1000):
        rate.count(at)
    assert rate.used(NOW + 1000) == 3


@given(st.lists(st.integers(0, 3 * HOUR), max_size=60))
def test_the_change_rate_counts_the_hour_to_the_second_in_bounded_memory(ago: list[int]) -> None:
    rate = ChangeRate()
    moments = sorted(NOW - item for item in ago)
    for at in moments:
        rate.count(at)
    assert sum(at >= NOW - HOUR + 1000 for at in moments) <= rate.used(NOW) <= sum(at > NOW - HOUR - 1000 for at in moments)
    assert len(rate._seconds) <= 3601


# -- ladder -----------------------------------------------------------------------------------------------------------------


def ranked(*specs: Any, order: tuple[str, ...] = ()) -> list[str]:
    return [item.id for item in sorted(specs, key=lambda item: ladder.rank(item, order))]


def test_the_ladder_goes_by_configured_order_priority_level_specificity_and_id() -> None:
    assert ranked(spec("b"), spec("a")) == ["a", "b"]
    special = spec("z", handles=(Handles(code="BROKEN", subject="*/x"),))
    assert ranked(spec("a"), special) == ["z", "a"]
    assert ranked(special, spec("a", handles=(Handles(code="BROKEN", subsystem="web"),))) == ["z", "a"]
    assert ranked(spec("a", level="heal"), spec("b", level="patch"), spec("c", level="recovery")) == ["c", "b", "a"]
    assert ranked(spec("a", level="recovery"), spec("b", level="heal", priority=1)) == ["b", "a"]
    assert ranked(spec("a", priority=9), spec("b"), spec("c"), order=("c", "b")) == ["c", "b", "a"]


def test_guesses_from_free_text_match_nothing() -> None:
    assert [item for item in Provenance if not ladder.may_match(item)] == [Provenance.FREE_TEXT]


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [("*", "a\nb", True), ("*/x", "/a/x", True), ("*/x", "/a/X", False), ("[ab]", "a", True), ("", "a", False)],
)
def test_globs_are_matched_with_case(pattern: str, subject: str, expected: bool) -> None:
    assert ladder.handles(Handles(code="BROKEN", subject=pattern), event(subject)) is expected


# -- lifecycle --------------------------------------------------------------------------------------------------------------


def registered(digest: str = "d1") -> entries.RunbookRegistered:
    return entries.RunbookRegistered.of(spec(), digest, "plugin")


def life(*told: entries.Entry) -> RunbookRecord:
    record = None
    for entry in told:
        record = evolve_runbook(record, entry, at=NOW)
    assert record is not None
    return record


PROMOTED = entries.RunbookPromoted(runbook="mend", code_digest="d1", by="configuration")
QUARANTINED = entries.RunbookQuarantined(runbook="mend", by="record", reason="it failed")
RELEASED = entries.RunbookReleased(runbook="mend", by="uid:0")


def test_a_runbook_is_registered_first_and_live_once_promoted() -> None:
    assert life(registered()).state == "registered"
    assert life(registered(), PROMOTED).state == "live"


def test_changed_code_has_to_be_promoted_again() -> None:
    assert life(registered(), PROMOTED, registered("d2")).state == "registered"


def test_quarantine_outlives_changed_code_and_ends_with_a_release_as_registered() -> None:
    assert life(registered(), PROMOTED, QUARANTINED, registered("d2")).state == "quarantined"
    assert life(registered(), PROMOTED, QUARANTINED, RELEASED).state == "registered"


def test_a_promotion_does_not_lift_a_quarantine() -> None:
    assert life(registered(), QUARANTINED, PROMOTED).state == "quarantined"


def test_a_promotion_is_bound_to_the_code_that_it_names() -> None:
    other = entries.RunbookPromoted(runbook="mend", code_digest="other", by="uid:0")
    assert life(registered("d1"), other).state == "registered"


def test_a_concern_does_not_lift_a_quarantine_nor_make_a_registered_runbook_act() -> None:
    degraded = entries.RunbookDegraded(runbook="mend", reason="slow")
    assert life(registered(), QUARANTINED, degraded).state == "quarantined"
    assert life(registered(), degraded).state == "registered"
    assert life(registered(), PROMOTED, degraded).state == "degraded"


def test_a_fault_is_counted_and_changes_no_state() -> None:
    record = life(registered(), PROMOTED, entries.RunbookFaulted(runbook="mend", step="action", error="KeyError"))
    assert (record.state, record.faults, record.last_fault) == ("live", 1, "action: KeyError")


def failures(*ago: int, outcome: str = "failed") -> RunbookRecord:
    ledger = Ledger()
    for number, item in enumerate(sorted(ago, reverse=True)):
        ledger.now = NOW - item
        incident = ledger.take_in(ledger.report(event(f"s{number}")), "mend")
        made = planned()
        ledger.tell(incident, made, finished(made, outcome))
    return ledger.state.runbooks.get("mend", RunbookRecord("mend"))


def test_failed_verdicts_in_two_incidents_within_a_week_quarantine() -> None:
    assert not to_quarantine(failures(0), essential=False, now=NOW)
    assert "2 incidents" in to_quarantine(failures(0, WEEK - 1), essential=False, now=NOW)
    assert not to_quarantine(failures(0, WEEK), essential=False, now=NOW)


def test_an_essential_runbook_may_fail_in_four_incidents() -> None:
    assert not to_quarantine(failures(0, 1, 2, 3), essential=True, now=NOW)
    assert to_quarantine(failures(0, 1, 2, 3, 4), essential=True, now=NOW)


@pytest.mark.parametrize("outcome", ["healed", "inconclusive", "conflict", "withheld"])
def test_only_failed_counts_against_a_runbook(outcome: str) -> None:
    record = failures(*range(9), outcome=outcome)
    assert record.failed == 0
    assert not to_quarantine(record, essential=False, now=NOW)


def test_failing_three_times_in_one_incident_is_one_failure() -> None:
    ledger = Ledger()
    incident = ledger.take_in(ledger.report(), "mend")
    for _ in range(3):
        made = planned()
        ledger.tell(incident, made, finished(made, "failed"))
    record = ledger.state.runbooks["mend"]
    assert record.failed == 3
    assert not to_quarantine(record, essential=False, now=NOW)


def test_a_release_forgets_the_failures_that_led_to_the_quarantine() -> None:
    record = evolve_runbook(evolve_runbook(failures(0, 1), QUARANTINED, at=NOW), RELEASED, at=NOW)
    assert not to_quarantine(record, essential=False, now=NOW)


def test_a_quarantined_runbook_is_not_quarantined_again() -> None:
    assert not to_quarantine(evolve_runbook(failures(0, 1), QUARANTINED, at=NOW), essential=False, now=NOW)


@given(
    st.lists(st.integers(min_value=0, max_value=3 * DAY), min_size=1, max_size=60),
    st.integers(min_value=1, max_value=6),
    st.sampled_from([1000, 60_000, HOUR, DAY]),
)
def test_any_window_is_counted_and_says_from_when_on_it_has_room(times: list[int], most: int, window: int) -> None:
    rate, seconds = ChangeRate(), []
    for at in sorted(times):
        rate.count(at)
        seconds.append(at // 1000)
    now = max(times)

    def slow(moment: int) -> int:
        return sum(second > moment // 1000 - window // 1000 for second in seconds)

    assert rate.used(now, window) == slow(now)
    free = rate.free_at(most, window, now=now)
    if free > now:
        assert slow(free) < most <= slow(free - 1000)
    else:
        assert slow(now) < most


def test_what_a_wrong_clock_dated_years_ahead_counts_for_nothing_once_it_is_right_again() -> None:
    rate, now = ChangeRate(), 100 * DAY
    rate.count(now - DAY)
    for _ in range(3):
        rate.count(now + 3650 * DAY)
    assert rate.used(now) == 0
    assert rate.free_at(1, now=now) <= now
    rate.count(now)
    rate.count(now + 1000)
    assert rate.used(now + 1000) == 2
    assert rate.used(now + HOUR + 1000) == 0
    assert recurrence((heal(-3650 * DAY),), now=NOW, cooldown_ms=300_000).wait_until == 0


def test_a_million_changes_take_little_memory_and_old_ones_are_let_go() -> None:
    rate = ChangeRate()
    for number in range(1_000_000):
        rate.count(number * 300)
    assert len(rate._seconds) <= DAY // 1000 + 1100
    assert rate.used(999_999 * 300) == sum(
        number * 300 // 1000 > 999_999 * 300 // 1000 - 3600 for number in range(900_000, 1_000_000)
    )
