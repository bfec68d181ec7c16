"""Which copy is taken, and what is said to be lost: pure, so every case can be written down."""

from hypothesis import given
from hypothesis import strategies as st

from remediation.effects.sqlite.known import LastGood
from remediation.runbooks._sqlite.choice import Candidate, Difference, better, choose

NOTHING = LastGood()
TABLES = ("a", "b", "c")
counts = st.dictionaries(st.sampled_from(TABLES), st.integers(0, 50), min_size=1)


def salvage(rows: dict[str, int], **changes: object) -> Candidate:
    return Candidate(**({"kind": "salvage", "file": "walked", "told": "a salvage row by row", "rows": rows} | changes))


def backup(rows: dict[str, int], **changes: object) -> Candidate:
    return Candidate(**({"kind": "backup", "file": "backup-0", "told": "the backup b.db", "rows": rows, "made_at": 1} | changes))


def difference(name: str, left: int, right: int, *counted: int | None) -> Difference:
    only_left, only_right, differ = counted or (None, None, None)
    return Difference(name=name, left=left, right=right, only_left=only_left, only_right=only_right, differ=differ)


def test_of_salvages_a_whole_one_goes_first_then_the_one_with_most_rows_then_the_first() -> None:
    few, many = salvage({"a": 5}, whole=True), salvage({"a": 9}, file="recovered")
    assert better([many, few]) is few
    assert better([salvage({"a": 5}), many]) is many
    same = salvage({"a": 9}, file="other")
    assert better([many, same]) is many
    assert better([]) is None


def test_there_may_be_nothing_to_take() -> None:
    assert choose(None, None, [], NOTHING) is None
    assert choose(salvage({"a": 0}), None, [], NOTHING) is None


def test_a_whole_salvage_is_taken_even_if_a_backup_has_more_rows() -> None:
    taken = choose(salvage({"a": 5}, whole=True), backup({"a": 9}), [difference("a", 5, 9, 0, 4, 0)], LastGood(at=1, rows={"a": 5}))
    assert taken is not None
    assert (taken.chosen.kind, taken.lossless, taken.lost, taken.loses) == ("salvage", True, 0, "")


def test_a_whole_salvage_with_fewer_rows_than_at_the_last_good_check_is_not_called_lossless() -> None:
    taken = choose(salvage({"a": 5}, whole=True), None, [], LastGood(at=1, rows={"a": 6, "b": 2}))
    assert taken is not None
    assert (taken.lossless, taken.lost) == (False, 3)
    assert "2 of b" in taken.loses


def test_whichever_has_more_rows_is_taken_and_the_salvage_if_they_have_equally_many() -> None:
    damaged = salvage({"a": 5})
    for rows, kind in ((4, "salvage"), (5, "salvage"), (6, "backup")):
        taken = choose(damaged, backup({"a": rows}), [difference("a", 5, rows, 1, 1, 0)], NOTHING)
        assert taken is not None
        assert taken.chosen.kind == kind


def test_a_salvage_that_lacks_tables_because_its_schema_is_damaged_is_not_taken_before_a_backup() -> None:
    damaged = salvage({"a": 50}, schema_whole=False)
    assert choose(damaged, backup({"a": 1, "b": 1}), [], NOTHING).chosen.kind == "backup"
    assert choose(damaged, backup({"a": 1}), [], NOTHING).chosen.kind == "salvage"
    assert choose(damaged, None, [], NOTHING).chosen.kind == "salvage"


def test_a_backup_is_lossless_only_if_everything_shows_it() -> None:
    current = backup({"a": 9}, unchanged_since=True)
    inside, before = [difference("a", 5, 9, 0, 4, 0)], LastGood(at=1, rows={"a": 9})
    assert choose(salvage({"a": 5}), current, inside, before).lossless
    assert not choose(salvage({"a": 5}), backup({"a": 9}), inside, before).lossless
    assert not choose(salvage({"a": 5}), current, [difference("a", 5, 9, 0, 4, 1)], before).lossless
    assert not choose(salvage({"a": 5}), current, [difference("a", 5, 9, 1, 5, 0)], before).lossless
    assert not choose(salvage({"a": 5}), current, [difference("a", 5, 9)], before).lossless
    assert not choose(salvage({"a": 5}), current, inside, LastGood(at=1, rows={"a": 10})).lossless
    assert not choose(None, current, [], before).lossless


def test_what_a_backup_loses_is_not_claimed_to_be_known() -> None:
    inside = [difference("a", 5, 9, 0, 4, 0)]
    unknown = choose(salvage({"a": 5}), backup({"a": 9}), inside, LastGood(at=1, rows={"a": 9}))
    assert unknown.loses.startswith("possibly what was changed since the backup of 1970-01-01T00:00:00")
    assert unknown.loses.endswith(": it can't be shown that nothing was changed since")
    known = choose(salvage({"a": 5}), backup({"a": 9}), [difference("a", 5, 9, 2, 6, 0)], NOTHING)
    assert known.loses.endswith(", at least 2 rows")
    assert any("not known to be that of the damaged database" in line for line in unknown.lines)


def test_a_loss_is_told_by_the_best_that_is_known() -> None:
    damaged = salvage({"a": 5, "b": 7}, unattributed=3)
    known = choose(damaged, None, [], LastGood(at=1, rows={"a": 9, "b": 7}))
    assert known.loses == "rows of the damaged pages, 4 by the counts of the last good check (4 of a)"
    assert "3 rows were found that belong to no table any more, and left out" in known.lines
    unknown = choose(damaged, None, [], NOTHING)
    assert unknown.loses == "rows of the damaged pages; how many is not known, 3 of them found but belonging to no table"
    by_backup = choose(damaged, backup({"a": 6, "b": 1}), [difference("a", 5, 6, 0, 1, 0), difference("b", 7, 1, 6, 0, 0)], NOTHING)
    assert by_backup.loses.startswith("rows of the damaged pages; at least 1 that the backup has")
    none_missing = choose(damaged, None, [], LastGood(at=1, rows={"a": 5}))
    assert none_missing.loses.startswith("possibly rows of the damaged pages")


def test_tables_that_could_not_be_compared_are_told_so() -> None:
    taken = choose(salvage({"a": 5}), backup({"a": 4}), [difference("a", 5, 4)], NOTHING)
    assert "a: the backup has up to 4 rows that the salvage lacks" in taken.lines


def test_a_thousand_tables_make_no_endless_story() -> None:
    before = LastGood(at=1, rows={f"t{i}": 5 for i in range(1000)})
    taken = choose(salvage({"t0": 5}), None, [], before)
    assert len(taken.lines) <= 41
    assert len(taken.loses) < 400


@given(counts, st.one_of(st.none(), counts), counts, st.booleans(), st.booleans())
def test_what_is_not_lossless_says_what_it_loses(
    kept: dict[str, int], older: dict[str, int] | None, before: dict[str, int], whole: bool, current: bool
) -> None:
    other = backup(older, unchanged_since=current) if older is not None else None
    differences = [difference(name, kept.get(name, 0), (older or {}).get(name, 0)) for name in TABLES]
    taken = choose(salvage(kept, whole=whole), other, differences, LastGood(at=1, rows=before))
    if taken is None:
        assert not sum(kept.values())
        assert not whole
        assert other is None
        return
    assert taken.lossless == (taken.loses == "")
    if taken.lossless:
        assert all(taken.chosen.rows.get(name, 0) >= count for name, count in before.items())
    if not whole and other is not None:
        assert taken.chosen.total == max(sum(kept.values()), other.total)
