"""Reading entries: everything that can be wrong with them without looking at a signature."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.sample_log import ORIGIN, SampleLog, new_signer

from remediation.model.entries.base import entry_types
from remediation.proof.leaf import MAX_BODY_BYTES
from remediation.proof.merkle import Frontier, leaf_hash
from remediation.proof.replay import Replay
from remediation.proof.verdict import MAX_PROBLEMS, ProblemCode


def read(rows, **options) -> Replay:
    replay = Replay(options.pop("origin", ORIGIN), **options)
    replay.feed(rows)
    replay.close()
    return replay


def found(replay: Replay) -> list[tuple[ProblemCode, int | None]]:
    return [(problem.code, problem.seq) for problem in replay.problems.listed]


def test_a_genuine_log_has_no_problems_and_its_root():
    log = SampleLog.of(2_500)
    replay = read(log.rows())
    assert found(replay) == []
    assert replay.size == 2_500
    assert replay.roots == {2_500: log.root()}


@given(st.lists(st.integers(min_value=0, max_value=40), max_size=5), st.lists(st.integers(min_value=0, max_value=120), max_size=5))
def test_portions_and_watched_sizes_make_no_difference(portions, watch):
    log = SampleLog.of(60)
    replay = Replay(ORIGIN, watch=watch)
    rows = iter(log.rows())
    for portion in portions:
        replay.feed(row for _, row in zip(range(portion), rows, strict=False))
    replay.feed(rows)
    replay.close()
    assert found(replay) == []
    assert replay.roots == {size: log.root(size) for size in {*watch, 60} if size <= 60}


def test_columns_are_checked_against_the_leaf():
    log = SampleLog.of(5)
    log.add("ünï", actor_note="a leaf that is not ASCII")
    log.add('a "quoted" stream', note="a leaf with escapes")
    table = log.table()
    assert found(read(table)) == []
    for column, value in ((3, 99), (4, "x"), (5, "x"), (6, 7), (7, "x"), (8, "x"), (4, None)):
        changed = [list(row) for row in table]
        changed[4][column] = value
        assert found(read([tuple(row) for row in changed])) == [(ProblemCode.COLUMNS, 4)]


def test_a_body_must_be_the_one_that_the_leaf_commits_to():
    log = SampleLog.of(6)
    salt, body = log.payloads[3]
    log.payloads[3] = (salt, body + b" ")
    log.payloads[4] = (b"x" * 32, log.payloads[4][1])
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD, 3), (ProblemCode.PAYLOAD, 4)]


def test_a_salt_that_hmac_would_pad_to_the_same_key_is_no_salt():
    """HMAC pads short keys with zeros: without a length check, a salt that ends in zeros has shorter twins."""
    log = SampleLog.of(3)
    from remediation.proof.leaf import payload_digest

    salt = b"s" * 31 + b"\0"
    body = log.payloads[1][1]
    log = SampleLog(signers=log.signers)
    log.add(leaf={"payload": payload_digest(salt, body)})
    log.payloads[0] = (salt, body)
    assert found(read(log.rows())) == []
    log.payloads[0] = (salt[:-1], body)
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD, 0)]


def test_a_body_beyond_the_limit_is_a_problem():
    log = SampleLog.of(1)
    log.add(text="x" * MAX_BODY_BYTES)
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD, 1)]


def test_an_erased_body_needs_a_later_entry_that_says_so():
    log = SampleLog.of(4)
    log.payloads[1] = (None, None)
    log.payloads[2] = (None, None)
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD_MISSING, 1), (ProblemCode.PAYLOAD_MISSING, 2)]
    log.erase(2)
    replay = read(log.rows())
    assert found(replay) == [(ProblemCode.PAYLOAD_MISSING, 1)]
    assert replay.erased == 1
    log.erase(1)
    replay = read(log.rows())
    assert found(replay) == []
    assert replay.erased == 2


def test_an_erasure_can_not_be_announced_before_the_entry_it_erases():
    log = SampleLog.of(2)
    log.add(type_="payload.erased", seq=3, reason="in advance")
    log.add(note="erased in advance")
    log.payloads[3] = (None, None)
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD, 2), (ProblemCode.PAYLOAD_MISSING, 3)]


def test_an_erasure_that_was_itself_erased_justifies_nothing():
    log = SampleLog.of(2)
    saying = log.erase(0)
    log.erase(saying)
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD_MISSING, 0)]


@pytest.mark.parametrize("named", [None, "1", 1.5, True, -1, 2, 99])
def test_an_erasure_names_an_earlier_entry(named):
    log = SampleLog.of(2)
    log.add(type_="payload.erased", **({} if named is None else {"seq": named}), reason="")
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD, 2)]


def test_a_body_that_was_erased_does_not_come_back():
    log = SampleLog.of(2)
    backup = log.payloads[1]
    log.erase(1)
    assert found(read(log.rows())) == []
    log.payloads[1] = backup
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD, 1)]
    assert found(read(log.rows()[:2])) == [], "what was exported before the erasure stays what it was"


def test_an_erasure_that_is_told_twice_is_one():
    log = SampleLog.of(3)
    log.erase(1)
    log.erase(1)
    replay = read(log.rows())
    assert (found(replay), replay.erased) == ([], 1)


SPECIAL = ("payload.erased", "key.rotated", "journal.archived")


@pytest.mark.parametrize("type_", [*SPECIAL, *sorted(set(entry_types()) - set(SPECIAL)), "note.made"])
def test_the_quick_way_and_the_careful_one_tell_the_same_of_every_type_of_entry(type_):
    """Rows without columns are always read with care; those with columns only if their type is known to need it."""
    log = SampleLog.of(3)
    log.payloads[1] = (None, None)
    members = {"seq": 1, "before": 2, "snapshot_sha256": "00" * 32, "old": str(log.signer.key), "new": str(new_signer().key)}
    log.add(type_=type_, **members)
    quick, careful = read(log.table()), read(log.rows())
    for name in ("size", "rotations", "archives", "erased", "roots", "streams"):
        assert getattr(quick, name) == getattr(careful, name), name
    assert found(quick) == found(careful)
    changed = bool(careful.rotations or careful.archives or careful.erased)
    assert changed == (type_ in SPECIAL)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_salt_or_a_body_alone_is_a_problem(kept):
    log = SampleLog.of(3)
    log.payloads[1] = tuple(value if index == kept else None for index, value in enumerate(log.payloads[1]))
    assert found(read(log.rows())) == [(ProblemCode.PAYLOAD, 1)]


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"origin": "atlas-1/remediation/other"}, [(ProblemCode.LEAF, 3)]),
        ({"seq": 4}, [(ProblemCode.SEQUENCE, 3), (ProblemCode.SEQUENCE, 5)]),
        ({"stream_seq": 7}, [(ProblemCode.STREAM_SEQUENCE, 3), (ProblemCode.STREAM_SEQUENCE, 4)]),
        ({"stream": "other", "stream_seq": 1}, [(ProblemCode.STREAM_SEQUENCE, 3), (ProblemCode.STREAM_SEQUENCE, 4)]),
        ({"type": "UPPER"}, [(ProblemCode.LEAF, 3), (ProblemCode.STREAM_SEQUENCE, 4)]),
        ({"time": "yesterday"}, [(ProblemCode.LEAF, 3), (ProblemCode.STREAM_SEQUENCE, 4)]),
        ({"payload": "00"}, [(ProblemCode.LEAF, 3), (ProblemCode.STREAM_SEQUENCE, 4)]),
    ],
)
def test_a_leaf_of_another_place_log_or_form_is_a_problem(change, problems):
    log = SampleLog()
    for number in range(6):
        log.add(leaf=change if number == 3 else None)
    assert found(read(log.rows())) == problems


def test_two_entries_with_one_id_are_a_problem():
    log = SampleLog.of(4)
    log.add(leaf={"id": "0123"})
    log.add(leaf={"id": "4567"})
    log.add(leaf={"id": "0123"})
    log.add(leaf={"id": "0123"})
    assert found(read(log.rows())) == [(ProblemCode.DUPLICATE_ID, 6), (ProblemCode.DUPLICATE_ID, 7)]


@pytest.mark.parametrize(
    "leaf",
    [b"", b"\xff\xfe", b"{}", b"null", b'{"seq":1}', b"\0" * 10, b"[" * 5_000, b'{"seq":' + b"9" * 10_000 + b"}", "ü".encode()],
)
def test_garbage_where_a_leaf_should_be_is_a_problem_and_nothing_worse(leaf):
    log = SampleLog.of(3)
    log.leaves[1] = leaf
    assert (ProblemCode.LEAF, 1) in found(read(log.rows()))


def test_the_greatest_positions_don_t_break_the_reader():
    log = SampleLog.of(2)
    log.add(leaf={"seq": 2**53 - 1, "stream_seq": 2**53 - 1})
    assert found(read(log.rows()))[0] == (ProblemCode.SEQUENCE, 2)


def test_problems_are_many_but_the_list_is_short():
    log = SampleLog.of(500)
    log.payloads = [(b"x" * 32, body) for _, body in log.payloads]
    replay = read(log.rows())
    assert len(replay.problems.listed) == MAX_PROBLEMS
    assert replay.problems.unlisted == 500 - MAX_PROBLEMS
    assert replay.problems.first_seq == 0


def test_a_log_can_be_read_from_the_middle_with_the_tree_before_it():
    log = SampleLog.of(40)
    frontier = Frontier()
    frontier.extend([leaf_hash(leaf) for leaf in log.leaves[:25]])
    replay = read(log.rows()[25:], start=25, frontier=frontier)
    assert found(replay) == []
    assert replay.roots[40] == log.root()
    assert frontier.size == 25
    without = read(log.rows()[25:], start=25)
    assert found(without) == []
    assert without.roots == {}


def test_the_middle_of_a_stream_may_begin_anywhere_but_has_no_gaps():
    log = SampleLog.of(40)
    assert found(read(log.rows()[25:], start=25)) == []
    assert (ProblemCode.STREAM_SEQUENCE, 31) in found(read([*log.rows()[25:28], *log.rows()[29:]], start=25))


def test_a_frontier_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the frontier is of size 0, the entries start at 7"):
        Replay(ORIGIN, start=7, frontier=Frontier())


def test_memory_does_not_grow_with_the_entries_bodies():
    log = SampleLog()
    log.add(note="x")
    leaf, _, _ = log.rows()[0]
    big = b"y" * 100_000

    def rows():
        for _ in range(1_000):
            yield leaf, b"s" * 32, bytes(bytearray(big))

    replay = Replay(ORIGIN)
    tracemalloc.start()
    try:
        replay.feed(rows())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
