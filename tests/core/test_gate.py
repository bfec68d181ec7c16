"""The gate: its table row by row, each boundary, the order of precedence, and what must hold for every plan."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.folding import NOW, effect, plan, spec

from remediation.core.gate import HIGH_RISK, STRICTNESS, Situation, admit, gate
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Radius, Reversibility

PROFILES = ("observe", "supervised", "collaborative", "autonomous")
STATES = ("registered", "live", "degraded", "quarantined", "deprecated")


def situation(**changes: Any) -> Situation:
    return replace(Situation(profile="autonomous", threshold=70, state="live", changes_left=5), **changes)


def decided(made: PlanRecord | None = None, *, confidence: int = 90, declared: Any = None, **changes: Any) -> tuple[str, set[str]]:
    """The decision, and the rows that had to do with it."""
    wide = declared or spec(blast_radius="fleet", reversibility="irreversible")
    record = gate(made or plan(effect("k")), confidence, wide, situation(**changes), now=NOW)
    return record.decision, {reason.row for reason in record.reasons if reason.decision == record.decision}


# -- what each profile allows ---------------------------------------------------------------------------------------------

ALONE = {
    "observe": set(),
    "supervised": set(),
    "collaborative": {("reversible", "process"), ("disposable", "process")},
    "autonomous": {(undo, reach) for undo in ("reversible", "disposable") for reach in ("process", "machine")},
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("reversibility", [item.value for item in Reversibility])
@pytest.mark.parametrize("radius", [item.value for item in Radius])
def test_what_a_profile_lets_a_confident_live_runbook_do_alone(profile: str, reversibility: str, radius: str) -> None:
    expected = "proceed" if (reversibility, radius) in ALONE[profile] else "observe" if profile == "observe" else "ask"
    assert decided(plan(effect("k", reversibility=reversibility, radius=radius)), profile=profile)[0] == expected


@pytest.mark.parametrize("profile", ["collaborative", "autonomous"])
@pytest.mark.parametrize(("confidence", "expected"), [(0, "ask"), (69, "ask"), (70, "proceed"), (71, "proceed"), (100, "proceed")])
def test_confidence_below_the_threshold_asks_and_at_the_threshold_acts(profile: str, confidence: int, expected: str) -> None:
    assert decided(confidence=confidence, profile=profile)[0] == expected


def test_a_threshold_of_zero_lets_any_confidence_pass_and_one_of_a_hundred_only_certainty() -> None:
    assert decided(confidence=0, threshold=0)[0] == "proceed"
    assert decided(confidence=99, threshold=100) == ("ask", {"confidence"})
    assert decided(confidence=100, threshold=100)[0] == "proceed"


def test_a_supervised_profile_asks_for_the_sake_of_the_profile_whatever_the_confidence() -> None:
    assert decided(confidence=0, profile="supervised") == ("ask", {"profile", "confidence"})
    assert decided(confidence=100, profile="supervised") == ("ask", {"profile"})


def test_trust_beyond_the_profile_never_makes_up_for_low_confidence() -> None:
    for profile in ("supervised", "collaborative", "autonomous"):
        assert decided(confidence=69, profile=profile, elevated="granted by alice") == ("ask", {"confidence"})
        assert decided(confidence=70, profile=profile, elevated="granted by alice")[0] == "proceed"


# -- rows, one by one -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["registered", "quarantined", "deprecated"])
def test_a_runbook_that_is_not_live_observes(state: str) -> None:
    assert decided(state=state) == ("observe", {"lifecycle"})


def test_a_degraded_runbook_still_acts() -> None:
    assert decided(state="degraded")[0] == "proceed"


@pytest.mark.parametrize("tag", sorted(HIGH_RISK))
def test_high_risk_tags_ask_wherever_they_stand(tag: str) -> None:
    assert decided(plan(effect("k"), tags=(tag,))) == ("ask", {"high-risk"})
    assert decided(declared=spec(tags=(tag,))) == ("ask", {"high-risk"})


def test_other_tags_mean_nothing_to_the_gate() -> None:
    assert decided(plan(effect("k"), tags=("nightly",)), declared=spec(tags=("sqlite",)))[0] == "proceed"


@pytest.mark.parametrize("reversibility", ["partial", "irreversible"])
def test_what_loses_something_asks_even_an_autonomous_host(reversibility: str) -> None:
    assert decided(plan(effect("k", reversibility=reversibility))) == ("ask", {"lasting-loss"})


def test_a_plan_that_reaches_the_fleet_asks() -> None:
    assert decided(plan(effect("k", radius="fleet"))) == ("ask", {"fleet"})


@pytest.mark.parametrize("declared", list(Reversibility))
@pytest.mark.parametrize("planned", list(Reversibility))
def test_a_plan_less_reversible_than_declared_is_refused(declared: Reversibility, planned: Reversibility) -> None:
    found = decided(plan(effect("k", reversibility=planned)), declared=spec(reversibility=declared))
    assert (found == ("refuse", {"reversibility"})) == (planned.rank > declared.rank)


@pytest.mark.parametrize("declared", list(Radius))
@pytest.mark.parametrize("planned", list(Radius))
def test_a_plan_that_reaches_wider_than_declared_is_refused(declared: Radius, planned: Radius) -> None:
    found = decided(plan(effect("k", radius=planned)), declared=spec(blast_radius=declared))
    assert (found == ("refuse", {"radius"})) == (planned.rank > declared.rank)


def test_a_plan_that_holds_a_secret_is_refused_with_the_place() -> None:
    record = gate(plan(effect("k")), 90, spec(), situation(secrets="effect 1, content"), now=NOW)
    assert record.decision == "refuse"
    assert "effect 1, content" in record.reasons[0].reason


def test_a_pause_waits_until_its_end_or_without_one() -> None:
    paused = admit(situation(paused="maintenance"), now=NOW)
    assert (paused.decision, paused.until) == ("wait", 0)
    paused = admit(situation(paused="maintenance", paused_until=NOW + 5), now=NOW)
    assert (paused.decision, paused.until) == ("wait", NOW + 5)
    assert "maintenance" in paused.reasons[0].reason


@pytest.mark.parametrize(("panic", "expected"), [(False, "proceed"), (True, "wait")])
def test_a_pause_lets_later_stages_go_on_and_a_panic_does_not(panic: bool, expected: str) -> None:
    assert decided(paused="why", panic=panic, first_stage=False)[0] == expected
    assert decided(paused="why", panic=panic)[0] == "wait"


def test_a_cooldown_lets_later_stages_go_on() -> None:
    assert decided(cooldown_until=NOW + 1, first_stage=False)[0] == "proceed"


@pytest.mark.parametrize("known", [{"state": "registered"}, {"state": "quarantined"}, {"profile": "observe"}])
def test_what_only_observes_never_meets_the_change_rate(known: dict[str, Any]) -> None:
    assert decided(changes_left=0, **known)[0] == "observe"
    assert admit(situation(changes_left=0, **known), now=NOW).decision == "proceed"


def test_a_fenced_subject_is_refused_with_the_incident_that_fenced_it() -> None:
    refused = admit(situation(fenced_by="0123-abc"), now=NOW)
    assert refused.decision == "refuse"
    assert "0123-abc" in refused.reasons[0].reason


@pytest.mark.parametrize(("until", "expected"), [(NOW - 1, "proceed"), (NOW, "proceed"), (NOW + 1, "wait")])
def test_a_cooldown_waits_until_it_is_over(until: int, expected: str) -> None:
    record = admit(situation(cooldown_until=until), now=NOW)
    assert record.decision == expected
    assert record.until == (until if expected == "wait" else 0)


@pytest.mark.parametrize(
    ("left", "first", "expected"), [(1, True, "proceed"), (0, True, "refuse"), (-1, True, "refuse"), (0, False, "proceed")]
)
def test_the_change_rate_refuses_new_changes_but_lets_later_stages_of_one_go_on(left: int, first: bool, expected: str) -> None:
    assert admit(situation(changes_left=left, first_stage=first), now=NOW).decision == expected


def test_what_nothing_objects_to_proceeds_and_says_so() -> None:
    record = gate(plan(effect("k")), 90, spec(), situation(), now=NOW)
    assert record.decision == "proceed"
    assert [reason.row for reason in record.reasons] == ["allowed"]


@pytest.mark.parametrize(
    ("free", "first", "expected"), [(NOW, True, "proceed"), (NOW + 1, True, "wait"), (NOW + 1, False, "proceed")]
)
def test_a_runbook_beyond_its_window_waits_until_there_is_room_but_goes_on_with_what_it_began(
    free: int, first: bool, expected: str
) -> None:
    record = admit(situation(runbook_free_at=free, first_stage=first), now=NOW)
    assert (record.decision, record.until) == (expected, free if expected == "wait" else 0)


@pytest.mark.parametrize(("until", "expected"), [(0, "proceed"), (NOW, "proceed"), (NOW + 1, "wait")])
def test_in_a_storm_nothing_new_is_begun_until_its_end(until: int, expected: str) -> None:
    assert admit(situation(storm_until=until), now=NOW).decision == expected


def test_what_is_held_back_by_others_waits_without_a_time() -> None:
    record = admit(situation(held_back="two others act"), now=NOW)
    assert (record.decision, record.until) == ("wait", 0)
    assert admit(situation(held_back="two others act", first_stage=False), now=NOW).decision == "proceed"


# -- consent and trust ----------------------------------------------------------------------------------------------------

ASKING: dict[str, dict[str, Any]] = {
    "lasting-loss": {"made": plan(effect("k", reversibility="partial"))},
    "fleet": {"made": plan(effect("k", radius="fleet"))},
    "high-risk": {"made": plan(effect("k"), tags=("auth",))},
    "profile": {"profile": "supervised"},
    "confidence": {"confidence": 10},
}


@pytest.mark.parametrize("row", ASKING)
def test_consent_lifts_each_row_that_asks_and_says_whose_it_was(row: str) -> None:
    asking = dict(ASKING[row])
    made, confidence = asking.pop("made", plan(effect("k"))), asking.pop("confidence", 90)
    wide = spec(blast_radius="fleet", reversibility="irreversible")
    assert gate(made, confidence, wide, situation(**asking), now=NOW).decision == "ask"
    record = gate(made, confidence, wide, situation(**asking, approved_by="alice"), now=NOW)
    assert record.decision == "proceed"
    assert any(reason.row == row and "alice consented" in reason.reason for reason in record.reasons)


@pytest.mark.parametrize("row", ASKING)
def test_trust_lifts_the_row_of_the_profile_and_no_other(row: str) -> None:
    asking = dict(ASKING[row])
    made, confidence = asking.pop("made", plan(effect("k"))), asking.pop("confidence", 90)
    wide = spec(blast_radius="fleet", reversibility="irreversible")
    record = gate(made, confidence, wide, situation(**asking, elevated="granted by alice"), now=NOW)
    assert record.decision == ("proceed" if row == "profile" else "ask")


@pytest.mark.parametrize(
    "stricter",
    [{"fenced_by": "i"}, {"cooldown_until": NOW + 9}, {"state": "quarantined"}, {"profile": "observe"}, {"secrets": "here"}],
)
def test_consent_and_trust_lift_nothing_but_what_asks(stricter: dict[str, Any]) -> None:
    plain = gate(plan(effect("k")), 90, spec(), situation(**stricter), now=NOW)
    lifted = gate(plan(effect("k")), 90, spec(), situation(**stricter, approved_by="alice", elevated="granted"), now=NOW)
    assert plain.decision == lifted.decision != "proceed"


# -- precedence -----------------------------------------------------------------------------------------------------------

SPEAKING: dict[str, dict[str, Any]] = {
    "refuse": {"fenced_by": "i"},
    "wait": {"cooldown_until": NOW + 10},
    "observe": {"state": "registered"},
    "ask": {"profile": "supervised"},
}


@pytest.mark.parametrize(("stricter", "milder"), [(a, b) for i, a in enumerate(SPEAKING) for b in list(SPEAKING)[i + 1 :]])
def test_the_stricter_row_wins_and_the_milder_one_is_told_too(stricter: str, milder: str) -> None:
    record = gate(plan(effect("k")), 90, spec(), situation(**SPEAKING[milder], **SPEAKING[stricter]), now=NOW)
    assert record.decision == stricter
    assert {reason.decision for reason in record.reasons} == {stricter, milder}


def test_of_several_waits_the_longest_counts() -> None:
    record = admit(situation(cooldown_until=NOW + 10, paused="x", paused_until=NOW + 20), now=NOW)
    assert record.until == NOW + 20


def test_a_pause_without_end_is_not_cut_short_by_a_cooldown() -> None:
    assert admit(situation(cooldown_until=NOW + 10, paused="x", paused_until=0), now=NOW).until == 0


def test_a_refusal_names_no_time_to_wait_for() -> None:
    assert admit(situation(cooldown_until=NOW + 10, fenced_by="i"), now=NOW).until == 0


# -- what holds for everything --------------------------------------------------------------------------------------------

effects = st.builds(
    effect,
    st.just("k"),
    reversibility=st.sampled_from([item.value for item in Reversibility]),
    radius=st.sampled_from([item.value for item in Radius]),
)
situations = st.builds(
    Situation,
    profile=st.sampled_from(PROFILES),
    threshold=st.integers(0, 100),
    state=st.sampled_from(STATES),
    paused=st.sampled_from(["", "maintenance"]),
    paused_until=st.sampled_from([0, NOW + 1]),
    fenced_by=st.sampled_from(["", "i"]),
    cooldown_until=st.integers(NOW - 2, NOW + 2),
    changes_left=st.integers(-1, 2),
    first_stage=st.booleans(),
    secrets=st.sampled_from(["", "here"]),
    runbook_free_at=st.sampled_from([0, NOW + 1]),
    storm_until=st.sampled_from([0, NOW + 1]),
    held_back=st.sampled_from(["", "others act"]),
    approved_by=st.sampled_from(["", "alice"]),
    elevated=st.sampled_from(["", "granted by alice"]),
)
specs = st.builds(
    lambda reach, undo, tags: spec(blast_radius=reach, reversibility=undo, tags=tags),
    st.sampled_from(list(Radius)),
    st.sampled_from(list(Reversibility)),
    st.sets(st.sampled_from([*sorted(HIGH_RISK), "other"])).map(lambda tags: tuple(sorted(tags))),
)
confidences = st.integers(0, 100)


def strictness(made: PlanRecord, confidence: int, declared: Any, known: Situation) -> int:
    return STRICTNESS.index(gate(made, confidence, declared, known, now=NOW).decision)


@given(st.lists(effects, max_size=4), effects, specs, situations, confidences)
def test_a_longer_plan_never_gets_more_permission(
    some: list[Any], more: Any, declared: Any, known: Situation, confidence: int
) -> None:
    assert strictness(plan(*some, more), confidence, declared, known) >= strictness(plan(*some), confidence, declared, known)


@given(effects, st.sampled_from(list(Radius)), specs, situations, confidences)
def test_a_wider_radius_never_gets_more_permission(
    one: Any, wider: Radius, declared: Any, known: Situation, confidence: int
) -> None:
    made = plan(one)
    widened = made.model_copy(update={"radius": max(made.radius, wider, key=lambda item: item.rank)})
    assert strictness(widened, confidence, declared, known) >= strictness(made, confidence, declared, known)


@given(effects, specs, situations, confidences, confidences)
def test_less_confidence_never_gets_more_permission(one: Any, declared: Any, known: Situation, confidence: int, other: int) -> None:
    less, more = sorted((confidence, other))
    assert strictness(plan(one), less, declared, known) >= strictness(plan(one), more, declared, known)


@given(effects, specs, situations, confidences, st.permutations(PROFILES))
def test_a_stricter_profile_never_gives_more_permission(
    one: Any, declared: Any, known: Situation, confidence: int, some: Any
) -> None:
    stricter, milder = (replace(known, profile=profile) for profile in sorted(some[:2], key=PROFILES.index))
    assert strictness(plan(one), confidence, declared, stricter) >= strictness(plan(one), confidence, declared, milder)


@given(effects, specs, situations, confidences)
def test_more_trust_or_consent_never_gives_less_permission(one: Any, declared: Any, known: Situation, confidence: int) -> None:
    none, trusted, consented = (
        strictness(plan(one), confidence, declared, replace(known, approved_by=who, elevated=why))
        for who, why in (("", ""), ("", "granted"), ("alice", ""))
    )
    assert consented <= trusted <= none


@given(effects, specs, situations, confidences)
def test_the_profile_observe_never_proceeds_nor_asks(one: Any, declared: Any, known: Situation, confidence: int) -> None:
    record = gate(plan(one), confidence, declared, replace(known, profile="observe"), now=NOW)
    assert record.decision in ("observe", "wait", "refuse")


@given(effects, specs, situations, confidences, st.sampled_from(["registered", "quarantined", "deprecated"]))
def test_a_runbook_that_is_not_live_never_acts(one: Any, declared: Any, known: Situation, confidence: int, state: Any) -> None:
    assert gate(plan(one), confidence, declared, replace(known, state=state), now=NOW).decision in ("observe", "wait", "refuse")


@given(effects, specs, situations, confidences)
def test_the_same_question_gets_the_same_answer(one: Any, declared: Any, known: Situation, confidence: int) -> None:
    first, second = (gate(plan(one), confidence, declared, known, now=NOW) for _ in range(2))
    assert first == second


@given(effects, specs, situations, confidences)
def test_the_gate_is_never_milder_than_admission(one: Any, declared: Any, known: Situation, confidence: int) -> None:
    assert strictness(plan(one), confidence, declared, known) >= STRICTNESS.index(admit(known, now=NOW).decision)


@given(effects, specs, situations, confidences)
def test_every_decision_has_reasons_and_the_strictest_of_them_is_it(
    one: Any, declared: Any, known: Situation, confidence: int
) -> None:
    record = gate(plan(one), confidence, declared, known, now=NOW)
    assert record.reasons
    assert all(reason.reason for reason in record.reasons)
    assert record.decision == max((reason.decision for reason in record.reasons), key=STRICTNESS.index)
    assert record.until == 0 or record.decision == "wait"


@given(effects, specs, situations, confidences)
def test_acting_alone_means_reversible_confident_live_and_within_what_was_declared(
    one: Any, declared: Any, known: Situation, confidence: int
) -> None:
    made, known = plan(one), replace(known, approved_by="", elevated="")
    if gate(made, confidence, declared, known, now=NOW).decision == "proceed":
        assert made.reversibility in (Reversibility.REVERSIBLE, Reversibility.DISPOSABLE)
        assert made.reversibility.rank <= declared.reversibility.rank
        assert made.radius is not Radius.FLEET
        assert made.radius.rank <= declared.blast_radius.rank
        assert confidence >= known.threshold
        assert known.state in ("live", "degraded")
        assert known.profile in ("collaborative", "autonomous")
        assert (known.paused, known.fenced_by, known.secrets) == ("", "", "")
        assert not HIGH_RISK & {*made.tags, *declared.tags}
