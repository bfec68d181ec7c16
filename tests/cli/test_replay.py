"""`runbooks replay`: a runbook and the degradations of the past."""

from pathlib import Path

import pytest
from tests.support.command_homes import CommandHome


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CommandHome:
    """One incident that was healed and is whole, one that was observed, one that makes the runbook raise, one of another code."""
    made = CommandHome(tmp_path_factory.mktemp("replay"))
    made.report(made.break_file("healed"))
    made("run", "--once")
    made.report(made.break_file("observed"))
    made.report(made.break_file("raises"))
    made.report(made.break_file("other"), code="OTHER")
    made("run", "--once", "--profile", "observe")
    made.break_file("raises", "raising")
    return made


def test_each_recorded_degradation_is_replayed_beside_what_happened(place: CommandHome) -> None:
    before = place.untouchable()
    ran = place("runbooks", "replay", "mend", "--since", "1h", "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert (told["of_its_codes"], told["matching"], told["replayed"]) == (3, 3, 3)
    assert {name: count for name, count in told["results"].items() if count} == {"planned": 1, "declined": 1, "faulted": 1}
    healed, observed, raises = told["incidents"]
    assert Path(healed["subject"]).name == "healed"
    assert (healed["happened"]["status"], healed["happened"]["outcome"]) == ("resolved", "healed")
    assert (healed["would"]["result"], healed["would"]["reason"]) == ("declined", "it is whole")
    assert (observed["happened"]["status"], observed["happened"]["outcome"]) == ("escalated", "withheld")
    assert "+mended" in observed["would"]["plan"]["plan"]["effects"][0]["diff"]
    assert observed["would"]["plan"]["gate"]["decision"] == "proceed"
    assert "out of order" in raises["would"]["reason"]
    assert "as it is now" in told["notes"][0]
    assert place.untouchable() == before


def test_people_read_counts_diffs_and_the_warning(place: CommandHome) -> None:
    ran = place("runbooks", "replay", "mend", "--since", "1h")
    assert "Would plan: 1" in ran.out
    assert "Would decline: 1" in ran.out
    assert "Faults: 1" in ran.out
    assert "    +mended\n" in ran.out
    assert "not as it was then" in ran.out


def test_a_runbook_in_any_state_can_be_replayed_even_before_a_host_ran_with_it(place: CommandHome) -> None:
    place.configure(profile="collaborative", state="quarantined")
    told = place("runbooks", "replay", "mend", "--since", "1h", "--json").json
    place.configure(profile="collaborative")
    assert told["incidents"][1]["would"]["plan"]["gate"]["decision"] == "observe"
    assert told["incidents"][1]["would"]["state"] == "quarantined"


def test_the_newest_are_replayed_if_there_are_more(place: CommandHome) -> None:
    told = place("runbooks", "replay", "mend", "--since", "1h", "--limit", "1", "--json").json
    assert (told["matching"], told["replayed"]) == (3, 1)
    assert Path(told["incidents"][0]["subject"]).name == "raises"


def test_where_it_has_a_plan_for_nothing_it_ends_with_1(place: CommandHome) -> None:
    ran = place("runbooks", "replay", "mend", "--since", "2999-01-01T00:00Z", "--json")
    assert (ran.status, ran.json["matching"]) == (1, 0)
    assert place("runbooks", "replay", "sqlite-corruption", "--since", "1h", "--json").json["of_its_codes"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mend", "--since", "whenever"), "neither a time"),
        (("mend", "--since", "1h", "--until", "2h"), "later than --since"),
        (("nobody", "--since", "1h"), "no runbook nobody is installed"),
    ],
)
def test_nonsense_is_wrong_use(arguments: tuple[str, ...], said: str, place: CommandHome) -> None:
    ran = place("runbooks", "replay", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
