"""What a host knows, folded from the journal: bounded, the same however often it is read, and nothing held is forgotten."""

import sys
from typing import Any

import pytest
from tests.support.folding import NOW, Ledger, event, finished, planned

from remediation.core.intake import Coalesce, Open, decide_report
from remediation.core.state import HostState
from remediation.core.tallies import STORM_SUBJECT
from remediation.model import entries
from remediation.model.runbook import Level

STORM = 5


def decided(ledger: Ledger, subject: str = "thing", **changes: Any) -> Open | Coalesce:
    return decide_report(ledger.state, event(subject, **{"observed_at": ledger.now, **changes}), storm_subjects=STORM)


# -- incidents --------------------------------------------------------------------------------------------------------------


def test_a_fingerprint_has_one_incident_until_it_is_settled() -> None:
    ledger = Ledger()
    incident = ledger.report()
    assert ledger.state.open_or_held(incident.fingerprint) == incident
    ledger.settle(incident)
    assert ledger.state.open_or_held(incident.fingerprint) is None
    assert list(ledger.state.open_incidents()) == []


def test_resolved_lets_go_of_the_fingerprint_and_everything_else_holds_it() -> None:
    for status, holds in (("resolved", False), ("escalated", True), ("heal_failed", True)):
        ledger = Ledger()
        incident = ledger.settle(ledger.report(), status)
        assert (ledger.state.open_or_held(incident.fingerprint) is not None) is holds


def test_a_held_incident_is_let_go_by_a_second_settlement_and_keeps_its_status() -> None:
    ledger = Ledger()
    incident = ledger.settle(ledger.report(), "heal_failed")
    ledger.now += 1000
    released = ledger.settle(incident, "heal_failed", held=False)
    assert released.status == "heal_failed"
    assert released.settled_at == incident.settled_at
    assert ledger.state.open_or_held(incident.fingerprint) is None
    # It is one settled incident of the past, not two.
    assert len(ledger.state.past[incident.fingerprint]) == 1


def test_a_reopened_incident_holds_its_fingerprint_again() -> None:
    ledger = Ledger()
    incident = ledger.settle(ledger.report())
    reopened = ledger.tell(incident, entries.IncidentReopened(reason="again", ladder=("mend",)))
    assert reopened.open
    assert ledger.state.open_or_held(incident.fingerprint) == reopened


def test_reopening_an_older_incident_does_not_take_the_fingerprint_from_the_newer_one() -> None:
    ledger = Ledger()
    old = ledger.settle(ledger.report())
    new = ledger.report()
    ledger.tell(old, entries.IncidentReopened(reason="again"))
    assert ledger.state.open_or_held(old.fingerprint).id == new.id
    ledger.settle(ledger.state.incidents[old.id])
    assert ledger.state.open_or_held(old.fingerprint).id == new.id
    ledger.settle(new)
    assert ledger.state.by_code == {}


# -- memory ------------------------------------------------------------------------------------------------------------------


def test_settled_incidents_are_forgotten_beyond_the_bound_oldest_first() -> None:
    ledger = Ledger(keep_settled=10)
    settled = [ledger.healed(f"s{number}") for number in range(25)]
    assert list(ledger.state.incidents) == [incident.id for incident in settled[-10:]]
    assert not ledger.state.by_fingerprint
    assert not ledger.state.by_code


def test_open_and_held_incidents_are_never_forgotten() -> None:
    ledger = Ledger(keep_settled=3)
    waiting = ledger.report(event("open"))
    held = ledger.settle(ledger.report(event("held")), "escalated")
    for number in range(20):
        ledger.healed(f"s{number}")
    assert waiting.id in ledger.state.incidents
    assert held.id in ledger.state.incidents
    assert len(ledger.state.incidents) == 5


def test_what_comes_late_for_a_forgotten_incident_changes_nothing() -> None:
    ledger = Ledger(keep_settled=1)
    gone = ledger.healed("gone")
    ledger.healed("kept")
    before = dict(ledger.state.incidents)
    stream = gone.stream
    ledger.add(stream, entries.DegradationCoalesced(count=9, severity=gone.severity, observed_at=NOW, why="count"))
    ledger.add(stream, entries.IncidentSettled(status="resolved", reason="late"))
    assert dict(ledger.state.incidents) == before


def test_the_filter_knows_every_fingerprint_whose_past_was_forgotten_and_hardly_any_other() -> None:
    ledger = Ledger(keep_settled=50)
    healed = [ledger.healed(f"s{number}").fingerprint for number in range(600)]
    forgotten = [fingerprint for fingerprint in healed if fingerprint not in ledger.state.past]
    assert len(ledger.state.past) == 400
    assert all(ledger.state.may_have_forgotten(fingerprint) for fingerprint in forgotten)
    strangers = [event(f"stranger{number}").fingerprint for number in range(2000)]
    assert sum(ledger.state.may_have_forgotten(fingerprint) for fingerprint in strangers) < 5


def test_memory_is_bounded_by_what_is_open_or_held_not_by_what_was() -> None:
    def size(number: int) -> int:
        ledger = Ledger(keep_settled=20)
        for item in range(number):
            ledger.now += 1000
            ledger.healed(f"s{item}")
        state = ledger.state
        assert len(state.incidents) == 20
        return sum(
            len(value) for value in (state.incidents, state.by_fingerprint, state.by_code, state.past, state._settled)
        ) + sum(sys.getsizeof(value) for value in (state.forgotten, state.fenced, state.instances))

    assert size(400) == size(200)


def test_past_heals_of_one_fingerprint_are_bounded() -> None:
    ledger = Ledger()
    for _ in range(30):
        ledger.healed()
    assert len(ledger.state.past[event().fingerprint]) == 8


# -- coalescing and storms ----------------------------------------------------------------------------------------------------


def test_a_known_fingerprint_coalesces_and_an_unknown_one_opens() -> None:
    ledger = Ledger()
    assert isinstance(decided(ledger), Open)
    incident = ledger.report()
    found = decided(ledger)
    assert isinstance(found, Coalesce)
    assert (found.incident.id, found.why) == (incident.id, "count")


def test_a_worse_severity_is_a_word_of_its_own_and_a_milder_one_is_not() -> None:
    ledger = Ledger()
    ledger.report(event(severity="P2"))
    assert decided(ledger, severity="P1").why == "severity"
    assert decided(ledger, severity="P1").severity == "P1"
    assert decided(ledger, severity="P3").why == "count"
    assert decided(ledger, severity="P3").severity == "P2"


def test_held_incidents_coalesce_too() -> None:
    ledger = Ledger()
    incident = ledger.settle(ledger.report(), "escalated")
    found = decided(ledger)
    assert isinstance(found, Coalesce)
    assert found.incident.id == incident.id


def verifying(ledger: Ledger, at: int) -> Any:
    incident = ledger.take_in(ledger.report(event(observed_at=at - 1000)), "mend")
    made = planned()
    from tests.support.folding import receipt

    ledger.tell(incident, made)
    started = entries.VerificationStarted(
        attempt=made.attempt,
        receipts=(receipt(f"{made.attempt}:0:0", at=at),),
        verdict={"status": "healthy"},
        sustain_ms=60_000,
        deadline=at + 180_000,
    )
    return ledger.tell(incident, started)


@pytest.mark.parametrize(("after", "why"), [(-1, "count"), (0, "count"), (1, "counter-evidence")])
def test_what_was_seen_after_the_last_effect_is_counter_evidence(after: int, why: str) -> None:
    ledger = Ledger()
    verifying(ledger, NOW)
    assert decided(ledger, observed_at=NOW + after).why == why


def test_counter_evidence_keeps_the_worse_severity() -> None:
    ledger = Ledger()
    verifying(ledger, NOW)
    assert decided(ledger, observed_at=NOW + 1, severity="P0").severity == "P0"
    assert decided(ledger, observed_at=NOW + 1, severity="P3").severity == "P2"


def test_new_subjects_beyond_the_cap_fold_into_one_storm_incident() -> None:
    ledger = Ledger()
    for number in range(STORM):
        opened = decided(ledger, f"s{number}")
        assert isinstance(opened, Open)
        assert not opened.storm
        ledger.report(opened.event)
    storm = decided(ledger, "one more")
    assert isinstance(storm, Open)
    assert storm.storm
    assert storm.event.subject == STORM_SUBJECT
    assert "one more" in storm.event.summary
    incident = ledger.report(storm.event)
    for number in range(100):
        found = decided(ledger, f"more{number}")
        assert isinstance(found, Coalesce)
        assert found.incident.id == incident.id


def test_in_a_storm_known_subjects_keep_their_own_incident_and_other_codes_are_free() -> None:
    ledger = Ledger()
    first = ledger.report(event("s0"))
    for number in range(1, STORM):
        ledger.report(event(f"s{number}"))
    assert decided(ledger, "s0").incident.id == first.id
    other = decided(ledger, "one more", code="OTHER")
    assert isinstance(other, Open)
    assert not other.storm


def test_a_storm_ends_when_incidents_settle() -> None:
    ledger = Ledger()
    incidents = [ledger.report(event(f"s{number}")) for number in range(STORM)]
    assert decided(ledger, "one more").storm
    ledger.settle(incidents[0])
    assert not decided(ledger, "one more").storm


def test_the_storm_of_one_subsystem_does_not_swallow_the_storm_of_another() -> None:
    ledger = Ledger()
    for number in range(STORM):
        ledger.report(event(f"s{number}"))
    ledger.report(decided(ledger, "more").event)
    other = event("more").model_copy(update={"subsystem": "other"})
    found = decide_report(ledger.state, type(other)(**other.model_dump()), storm_subjects=STORM)
    assert isinstance(found, Open)
    assert found.event.subsystem == "other"


# -- fences, pauses, hosts, changes ---------------------------------------------------------------------------------------------


def dirty(ledger: Ledger, subject: str = "thing") -> Any:
    incident = ledger.take_in(ledger.report(event(subject)), "mend")
    made = planned()
    key = f"{made.attempt}:0:0"
    ledger.tell(incident, made, finished(made, "failed", revert=(key,)))
    incident = ledger.tell(incident, entries.EffectRevertFailed(attempt=made.attempt, key=key, error="no"))
    return ledger.settle(incident, "heal_failed", dirty=True)


def test_a_failed_revert_fences_the_subject_until_a_person_closes_or_reopens() -> None:
    ledger = Ledger()
    incident = dirty(ledger)
    assert ledger.state.fenced == {"thing": incident.id}
    ledger.settle(incident, "heal_failed", held=False)
    assert ledger.state.fenced == {}
    ledger = Ledger()
    incident = dirty(ledger)
    ledger.tell(incident, entries.IncidentReopened(reason="again"))
    assert ledger.state.fenced == {}


def test_a_fence_of_one_incident_is_not_lifted_by_another_one_of_the_subject() -> None:
    ledger = Ledger()
    incident = dirty(ledger)
    other = ledger.report(event("thing", code="OTHER"))
    ledger.settle(other)
    assert ledger.state.fenced == {"thing": incident.id}


def test_a_pause_is_in_force_until_its_end_or_until_it_is_ended() -> None:
    ledger = Ledger()
    ledger.add("host/pauses", entries.PauseStarted(reason="why", by="me", until=NOW + 10))
    assert ledger.state.paused(NOW + 9) == "why"
    assert ledger.state.paused(NOW + 10) == ""
    ledger.add("host/pauses", entries.PauseStarted(reason="", by="me"))
    assert ledger.state.paused(NOW + 10**9) == "no reason given"
    ledger.add("host/pauses", entries.PauseEnded(by="me"))
    assert ledger.state.paused(NOW) == ""


def test_instances_are_known_from_start_to_stop() -> None:
    ledger = Ledger()
    started = entries.HostStarted(instance="i1", pid=1, boot_id="b", version="0", profile="observe", configuration="c")
    ledger.add("host/h", started)
    assert ledger.state.instances == {"i1": started}
    ledger.add("host/h", entries.HostStopped(instance="i1", reason="asked"))
    assert ledger.state.instances == {}


def test_only_first_stages_that_may_proceed_are_changes() -> None:
    ledger = Ledger()
    incident = ledger.take_in(ledger.report(), "mend")
    from tests.support.folding import effect, plan

    ledger.tell(incident, planned("a1"))
    ledger.tell(incident, planned("a1", plan=plan(effect("a1:1:0"), stage=1)))
    ledger.tell(incident, planned("a2", decision="observe"))
    ledger.tell(incident, planned("a3", decision="ask"))
    assert ledger.state.tallies.changes.used(NOW) == 1


# -- the same, however often -----------------------------------------------------------------------------------------------------


def full() -> Ledger:
    ledger = Ledger(keep_settled=5)
    for number in range(12):
        ledger.now += 700
        ledger.healed(f"s{number}", level=Level.PATCH)
    dirty(ledger, "spoilt")
    ledger.settle(ledger.report(event("held")), "escalated")
    verifying(ledger, ledger.now)
    ledger.add("host/pauses", entries.PauseStarted(reason="why", by="me"))
    ledger.add("runbook/mend", entries.RunbookFaulted(runbook="mend", step="verify", error="x"))
    return ledger


def known(state: HostState) -> dict[str, Any]:
    names = (
        "position",
        "incidents",
        "by_fingerprint",
        "by_code",
        "past",
        "forgotten",
        "fenced",
        "tallies",
        "runbooks",
        "pauses",
        "instances",
    )
    return {name: getattr(state, name) for name in names}


def test_folding_again_gives_the_same_state() -> None:
    ledger = full()
    assert known(ledger.replayed(keep_settled=5)) == known(ledger.state)


def test_folding_after_a_reset_gives_the_same_state() -> None:
    ledger = full()
    before = known(ledger.state)
    ledger.state.reset()
    assert not ledger.state.incidents
    for record in ledger.records:
        ledger.state.apply(record)
    assert known(ledger.state) == before


def test_a_dumped_state_goes_on_where_it_was() -> None:
    ledger = full()
    half = HostState(keep_settled=5)
    for record in ledger.records[: len(ledger.records) // 2]:
        half.apply(record)
    restored = HostState(keep_settled=5)
    restored.restore(half.dump())
    for record in ledger.records[len(ledger.records) // 2 :]:
        restored.apply(record)
    assert known(restored) == known(ledger.state)


def test_erased_entries_leave_the_state_as_it_was_but_for_the_position() -> None:
    ledger = full()
    before = known(ledger.state)
    from remediation.model.entries import EntryHead, Record

    head = EntryHead(
        len(ledger.records), "f" * 32, "incident/0/0", 0, "degradation.reported", "2030-01-01T00:00:00.000Z", "x", None, None
    )
    ledger.state.apply(Record(head, None))
    assert known(ledger.state) == {**before, "position": head.seq}


def test_listeners_hear_news_only() -> None:
    heard: list[str] = []
    ledger = full()
    state = HostState()
    state.listeners.append(lambda incident, record: heard.append(record.head.type))
    for record in ledger.records[:10]:
        state.apply(record)
    assert heard == []
    state.loaded()
    for record in ledger.records[10:20]:
        state.apply(record)
    assert len(heard) == 10


def test_a_copy_of_an_event_with_another_subject_has_another_fingerprint() -> None:
    one = event("one")
    assert one.fingerprint != one.model_copy(update={"subject": "two"}).fingerprint
    assert one.model_copy(update={"subject": "two"}).fingerprint == event("two").fingerprint
