"""The lifecycle of runbooks: the whole state machine as a table, the record, and when the record quarantines."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.folding import NOW, Ledger, event, finished, planned, spec

from remediation.core.lifecycle import ACTIVE, DURATIONS, WEEK, RunbookRecord, evolve_runbook, standing, to_quarantine
from remediation.model import entries
from remediation.model.entries import GateReason, GateRecord

STATES = ("candidate", "registered", "live", "degraded", "quarantined", "deprecated")
LATER = NOW + 1000

ENTRIES: dict[str, entries.Entry] = {
    "registered, the same code": entries.RunbookRegistered.of(spec(), "d1", "plugin"),
    "registered, new code": entries.RunbookRegistered.of(spec(), "d2", "plugin"),
    "registered, deprecated": entries.RunbookRegistered.of(spec(deprecated="use mend-2"), "d3", "plugin"),
    "promoted, this code": entries.RunbookPromoted(runbook="mend", code_digest="d1", by="uid:7"),
    "promoted, other code": entries.RunbookPromoted(runbook="mend", code_digest="d9", by="uid:7"),
    "degraded": entries.RunbookDegraded(runbook="mend", reason="it failed"),
    "quarantined": entries.RunbookQuarantined(runbook="mend", by="uid:7", reason="no more"),
    "released": entries.RunbookReleased(runbook="mend", by="uid:7"),
    "faulted": entries.RunbookFaulted(runbook="mend", step="action", error="KeyError"),
}

# What becomes of each state (in the order of STATES); "=" where nothing changes.
TABLE: dict[str, tuple[str, ...]] = {
    "registered, the same code": ("registered", "registered", "registered", "registered", "=", "registered"),
    "registered, new code": ("registered", "registered", "registered", "registered", "=", "registered"),
    "registered, deprecated": ("deprecated", "deprecated", "deprecated", "deprecated", "=", "deprecated"),
    "promoted, this code": ("=", "live", "live", "live", "=", "="),
    "promoted, other code": ("=", "=", "=", "=", "=", "="),
    "degraded": ("=", "=", "degraded", "degraded", "=", "="),
    "quarantined": ("quarantined", "quarantined", "quarantined", "quarantined", "quarantined", "quarantined"),
    "released": ("=", "=", "=", "=", "registered", "="),
    "faulted": ("=", "=", "=", "=", "=", "="),
}


def in_state(state: str) -> RunbookRecord | None:
    """A record that was brought into `state` by entries; none for a candidate."""
    told = {
        "candidate": [],
        "registered": [],
        "live": ["promoted, this code"],
        "degraded": ["promoted, this code", "degraded"],
        "quarantined": ["quarantined"],
        "deprecated": [],
    }[state]
    if state == "candidate":
        return None
    first = entries.RunbookRegistered.of(spec(deprecated="use mend-2" if state == "deprecated" else ""), "d1", "plugin")
    record = evolve_runbook(None, first, at=NOW, seq=1)
    for number, name in enumerate(told, 2):
        record = evolve_runbook(record, ENTRIES[name], at=NOW, seq=number)
    assert record.state == state
    return record


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(ENTRIES)
    assert all(len(row) == len(STATES) for row in TABLE.values())


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("what", ENTRIES)
def test_each_entry_does_to_each_state_what_the_table_says(state: str, what: str) -> None:
    before = in_state(state)
    after = evolve_runbook(before, ENTRIES[what], at=LATER, seq=99)
    expected = TABLE[what][STATES.index(state)]
    if expected != "=":
        assert after.state == expected
        # Since when and why is told anew, unless what is there still holds.
        assert (after.changed_at, after.changed_seq) == (LATER, 99)
        assert after.why
        return
    was = before or RunbookRecord("mend")
    assert (after.state, after.why, after.changed_at, after.changed_seq) == (was.state, was.why, was.changed_at, was.changed_seq)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("what", ENTRIES)
def test_no_entry_but_a_promotion_for_this_very_code_lets_a_runbook_act(state: str, what: str) -> None:
    before = in_state(state)
    after = evolve_runbook(before, ENTRIES[what], at=LATER)
    if after.state in ACTIVE and (before is None or before.state not in ACTIVE):
        assert what == "promoted, this code"
        assert after.promoted_by == "uid:7"
    if after.state not in ACTIVE:
        assert after.promoted_by == ""


@given(st.lists(st.sampled_from(sorted(ENTRIES)), max_size=40))
def test_after_a_quarantine_nothing_acts_before_a_release_and_a_promotion_that_follows_it(names: list[str]) -> None:
    record = evolve_runbook(in_state("live"), ENTRIES["quarantined"], at=NOW)
    released = False
    for name in names:
        record = evolve_runbook(record, ENTRIES[name], at=NOW)
        released = name == "released" or (released and name != "quarantined")
        if record.state in ACTIVE:
            assert released


def test_new_code_under_quarantine_is_known_and_the_reason_of_the_quarantine_stays() -> None:
    before = in_state("quarantined")
    assert before is not None
    after = evolve_runbook(before, ENTRIES["registered, new code"], at=LATER, seq=99)
    assert (after.state, after.code_digest) == ("quarantined", "d2")
    assert "no more" in after.why
    assert after.changed_seq == before.changed_seq


def test_a_release_of_what_is_deprecated_does_not_bring_it_back() -> None:
    record = evolve_runbook(in_state("deprecated"), ENTRIES["quarantined"], at=NOW)
    released = evolve_runbook(record, ENTRIES["released"], at=LATER)
    assert released.state == "deprecated"


def test_a_spec_says_why_it_is_deprecated_and_the_entry_keeps_that() -> None:
    record = in_state("deprecated")
    assert record is not None
    assert record.deprecated == "use mend-2"
    assert "use mend-2" in record.why
    again = evolve_runbook(record, ENTRIES["registered, new code"], at=LATER)
    assert (again.state, again.deprecated) == ("registered", "")


def test_the_least_blamed_goes_first_and_what_may_not_act_last() -> None:
    assert [standing(state) for state in ("live", "degraded", "registered", "quarantined", "deprecated")] == [0, 1, 2, 2, 2]


# -- the record -----------------------------------------------------------------------------------------------------------


def ended(*told: tuple[str, int], runbook: str = "mend", **changes: Any) -> RunbookRecord:
    """The record after attempts in as many incidents: outcome, and milliseconds that it took."""
    ledger = Ledger()
    for number, (outcome, took) in enumerate(told):
        ledger.now = NOW + number
        incident = ledger.take_in(ledger.report(event(f"s{number}")), runbook)
        made = planned(runbook=runbook, **changes)
        ledger.tell(incident, made, finished(made, outcome, duration_ms=took))
    return ledger.state.runbooks.get(runbook, RunbookRecord(runbook))


def test_the_record_counts_each_outcome_and_withheld_is_no_attempt() -> None:
    record = ended(
        ("healed", 5), ("healed", 7), ("failed", 9), ("inconclusive", 1), ("withheld", 2), ("withheld", 0), ("conflict", 3)
    )
    assert (record.attempts, record.healed, record.failed, record.inconclusive, record.withheld) == (5, 2, 1, 1, 2)


@pytest.mark.parametrize(
    ("took", "median"),
    [((), None), ((7,), 7), ((9, 1), 1), ((5, 1, 9), 5), ((4, 1, 9, 5), 4)],
)
def test_the_median_is_that_of_healed_attempts(took: tuple[int, ...], median: int | None) -> None:
    assert ended(*[("healed", item) for item in took], ("failed", 1000), ("inconclusive", 2000)).median_ms == median


def test_an_attempt_that_a_restart_cut_in_two_has_no_duration() -> None:
    assert ended(("healed", 0), ("healed", 6)).durations == (6,)


def test_only_the_newest_durations_are_kept() -> None:
    record = ended(*[("healed", number + 1) for number in range(DURATIONS + 5)])
    assert len(record.durations) == DURATIONS
    assert (record.durations[0], record.durations[-1]) == (6, DURATIONS + 5)
    assert record.healed == DURATIONS + 5


def observed(*rows: tuple[str, str], digest: str = "d1", decision: str = "observe") -> RunbookRecord:
    """The record of a runbook of code ``d1`` after a plan that the gate judged so."""
    ledger = Ledger()
    ledger.add("runbook/mend", ENTRIES["registered, the same code"])
    reasons = tuple(GateReason(row=row, decision=said, reason="r") for row, said in rows)
    made = planned(gate=GateRecord(decision=decision, reasons=reasons), code_digest=digest)
    ledger.tell(ledger.take_in(ledger.report(), "mend"), made, finished(made, "withheld"))
    return ledger.state.runbooks["mend"]


def test_a_plan_that_was_only_observed_is_evidence_of_what_would_have_been_done() -> None:
    record = observed(("lifecycle", "observe"))
    assert (record.observed, record.would_act) == (1, 1)


def test_a_plan_that_would_have_asked_is_evidence_too_and_told_apart() -> None:
    record = observed(("lifecycle", "observe"), ("profile", "ask"))
    assert (record.observed, record.would_act) == (1, 0)


@pytest.mark.parametrize("decision", ["ask", "refuse", "proceed"])
def test_a_plan_that_was_not_only_observed_is_no_evidence(decision: str) -> None:
    assert observed(("x", decision), decision=decision).observed == 0


def test_what_other_code_would_have_done_is_no_evidence() -> None:
    assert observed(("lifecycle", "observe"), digest="another").observed == 0
    after = evolve_runbook(observed(("lifecycle", "observe")), ENTRIES["registered, new code"], at=LATER)
    assert (after.observed, after.would_act) == (0, 0)


# -- quarantine by record -------------------------------------------------------------------------------------------------


def failing(*ago: int) -> RunbookRecord:
    """The record after one failed verdict in each of as many incidents, so many milliseconds before NOW."""
    ledger = Ledger()
    for number, item in enumerate(sorted(ago, reverse=True)):
        ledger.now = NOW - item
        incident = ledger.take_in(ledger.report(event(f"s{number}")), "mend")
        made = planned()
        ledger.tell(incident, made, finished(made, "failed"))
    return replace(ledger.state.runbooks["mend"], state="live")


@pytest.mark.parametrize(
    ("ago", "essential", "quarantined"),
    [
        ((0,), False, False),
        ((0, 1), False, True),
        ((0, WEEK - 1), False, True),
        ((0, WEEK), False, False),
        ((0, WEEK + 1), False, False),
        ((0, WEEK, WEEK - 1), False, True),
        ((0, 1, 2, 3), True, False),
        ((0, 1, 2, 3, 4), True, True),
        ((0, 1, 2, 3, WEEK - 1), True, True),
        ((0, 1, 2, 3, WEEK), True, False),
    ],
)
def test_failed_verdicts_in_two_incidents_within_seven_days_quarantine_and_in_five_an_essential_one(
    ago: tuple[int, ...], essential: bool, quarantined: bool
) -> None:
    assert bool(to_quarantine(failing(*ago), essential=essential, now=NOW)) is quarantined


def test_the_clock_set_back_does_not_make_a_failure_forgotten() -> None:
    assert to_quarantine(failing(0, 1), essential=False, now=NOW - 3_600_000)


@pytest.mark.parametrize("state", ["registered", "live", "degraded", "deprecated"])
def test_whatever_its_state_the_record_quarantines(state: Any) -> None:
    assert to_quarantine(replace(failing(0, 1), state=state), essential=False, now=NOW)
    assert not to_quarantine(replace(failing(0, 1), state="quarantined"), essential=False, now=NOW)
