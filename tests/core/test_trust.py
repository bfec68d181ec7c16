"""Trust beyond the profile: what a grant covers, what a record earns, and that each answer has its reasons."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.folding import NOW, Ledger, effect, finished, plan, planned

from remediation.core.lifecycle import RunbookRecord
from remediation.core.trust import Elevation, TrustElevationSource
from remediation.model import entries
from remediation.model.runbook import Radius, Reversibility

RECORD = RunbookRecord("mend", state="live", code_digest="d", clean=9)
DAY = 24 * 3_600_000


def grant(**changes: Any) -> entries.TrustGranted:
    fields: dict[str, Any] = {
        "grant_id": "g1",
        "runbook": "mend",
        "scope": "the queues",
        "by": "alice",
        "not_after": NOW + DAY,
        "reason": "well watched",
        "code_digest": "d",
        "subjects": "queue-*",
        "radius": Radius.MACHINE,
        "reversibility": Reversibility.DISPOSABLE,
    }
    return entries.TrustGranted(**{**fields, **changes})


def answer(*grants: entries.TrustGranted, record: RunbookRecord = RECORD, earn_after: int = 0, **changes: Any) -> Elevation:
    asked: dict[str, Any] = {"profile": "supervised", "subject": "queue-1", "now": NOW, **changes}
    made = asked.pop("made", plan(effect("k", radius="machine")))
    return TrustElevationSource(earn_after).answer({item.grant_id: item for item in grants}, record, made, **asked)


def test_a_grant_that_covers_the_plan_elevates_and_names_the_person_the_end_and_the_reason() -> None:
    found = answer(grant())
    assert (found.granted, found.by) == (True, "alice")
    assert "well watched" in found.reason
    assert "until 20" in found.reason


@pytest.mark.parametrize(
    ("changes", "asked", "why"),
    [
        ({"not_after": NOW}, {}, "expired"),
        ({"code_digest": "other"}, {}, "other code"),
        ({"subjects": "mail-*"}, {}, "mail-*"),
        ({"radius": Radius.PROCESS}, {}, "process only"),
        ({"reversibility": Reversibility.REVERSIBLE}, {"made": plan(effect("k", reversibility="disposable"))}, "reversible plans"),
        ({"runbook": "another"}, {}, "not earned"),
    ],
)
def test_a_grant_beyond_its_scope_is_refused_with_the_reason(changes: dict[str, Any], asked: dict[str, Any], why: str) -> None:
    found = answer(grant(**changes), **asked)
    assert not found.granted
    assert why in found.reason


def test_one_grant_that_covers_is_enough_whatever_the_others_are() -> None:
    assert answer(grant(grant_id="a", not_after=NOW), grant(grant_id="b"), grant(grant_id="c", subjects="x")).granted


def test_without_grants_and_without_a_rule_nothing_is_trusted_and_it_says_why() -> None:
    assert answer() == Elevation("", "trust is not earned here ([trust] earn_after is 0)")


@pytest.mark.parametrize(("clean", "expected"), [(0, False), (8, False), (9, True), (50, True)])
def test_a_record_earns_at_the_stated_number_of_heals_and_not_before(clean: int, expected: bool) -> None:
    found = answer(record=replace(RECORD, clean=clean), earn_after=9, profile="collaborative")
    assert found.granted is expected
    assert f"{clean} verified heals" in found.reason


@pytest.mark.parametrize("profile", ["observe", "supervised", "autonomous"])
def test_nothing_is_earned_under_another_profile_than_collaborative(profile: str) -> None:
    assert not answer(record=replace(RECORD, clean=100), earn_after=1, profile=profile).granted


@pytest.mark.parametrize(
    ("reversibility", "radius"), [("partial", "machine"), ("irreversible", "machine"), ("reversible", "fleet")]
)
def test_what_loses_something_or_reaches_the_fleet_can_not_be_earned(reversibility: str, radius: str) -> None:
    made = plan(effect("k", reversibility=reversibility, radius=radius))
    assert not answer(record=replace(RECORD, clean=100), earn_after=1, profile="collaborative", made=made).granted


# -- the record -----------------------------------------------------------------------------------------------------------


def told(ledger: Ledger, *outcomes: tuple[str, str]) -> int:
    """The clean heals of `mend` after attempts with these outcomes and radii."""
    for number, (outcome, radius) in enumerate(outcomes):
        incident = ledger.take_in(ledger.report(rest=f"{number}-{len(ledger.records)}"), "mend")
        made = planned(runbook="mend", plan=plan(effect("k", radius=radius)))
        ledger.tell(incident, made, finished(made, outcome))
        ledger.settle(incident)
    return ledger.state.runbooks["mend"].clean


def test_verified_heals_of_lower_reach_count_and_wider_ones_do_not() -> None:
    assert told(Ledger(), ("healed", "process"), ("healed", "machine"), ("inconclusive", "process"), ("healed", "process")) == 2


def test_one_failed_verdict_takes_back_all_that_was_earned() -> None:
    assert told(Ledger(), ("healed", "process"), ("healed", "process"), ("failed", "process"), ("healed", "process")) == 1


@pytest.mark.parametrize(
    "entry",
    [
        entries.RunbookFaulted(runbook="mend", step="verify", error="boom"),
        entries.RunbookQuarantined(runbook="mend", by="alice", reason="odd"),
        entries.RunbookRegistered(runbook="mend", code_digest="new", plugin="p", spec="{}"),
    ],
)
def test_a_fault_a_quarantine_and_new_code_take_back_all_that_was_earned(entry: Any) -> None:
    ledger = Ledger()
    assert told(ledger, ("healed", "process")) == 1
    ledger.add("runbook/mend", entry)
    assert ledger.state.runbooks["mend"].clean == 0


def test_grants_stand_until_they_are_revoked_and_count_only_in_their_own_stream() -> None:
    ledger = Ledger()
    ledger.add("trust/g1", grant())
    ledger.add("incident/0123456789abcdef/x", grant(grant_id="g2"))
    assert set(ledger.state.grants) == {"g1"}
    ledger.add("trust/g1", entries.TrustRevoked(grant_id="g1", by="bob", reason="he left"))
    assert not ledger.state.grants


@given(
    st.sampled_from(list(Radius)),
    st.sampled_from(list(Reversibility)),
    st.sampled_from(list(Radius)),
    st.sampled_from(list(Reversibility)),
)
def test_a_wider_grant_never_gives_less(radius: Radius, undo: Reversibility, reach: Radius, loss: Reversibility) -> None:
    made = plan(effect("k", radius=reach.value, reversibility=loss.value))
    narrow = answer(grant(radius=radius, reversibility=undo), made=made)
    for wider in Radius:
        if wider.rank >= radius.rank and narrow.granted:
            assert answer(grant(radius=wider, reversibility=undo), made=made).granted
    assert narrow.granted == (reach.rank <= radius.rank and loss.rank <= undo.rank)
