"""What anchors keep is compared with the log: confirmed, contradicted, ahead of it, or of another log."""

import pytest
from tests.support.sample_log import ORIGIN, SampleLog, new_signer

from remediation.proof import Anchored, Claims, Knowledge, ProblemCode, ProblemKind, Replay, Verification, claimed_size, judge
from remediation.proof.anchored import heads_of


def verified(log: SampleLog, *anchors: Anchored, predecessor: str | None = None, **known) -> Verification:
    sizes = [head.size for anchored in anchors for _, head in heads_of(anchored)]
    if head := known.get("head"):
        sizes.append(claimed_size(head))
    replay = Replay(log.origin, watch=sizes)
    replay.feed(log.table())
    replay.close()
    claims = Claims(tuple(log.vkeys), log.checkpoint(), tuple(log.rotations))
    return judge(replay, claims, Knowledge((log.signers[0].key,), "home", anchors=anchors, predecessor=predecessor, **known))


def codes(result: Verification) -> list[ProblemCode]:
    return [problem.code for problem in result.problems]


@pytest.fixture
def log() -> SampleLog:
    return SampleLog.of(30)


def test_without_an_anchor_nothing_is_anchored_and_that_is_no_problem(log):
    result = verified(log)
    assert (result.ok, result.consistent, result.signed, result.anchored, result.unanchored) == (True, True, 30, 0, 30)
    assert result.anchored_by is None


def test_the_farthest_head_of_all_anchors_says_how_far_the_log_is_anchored(log):
    one = Anchored("one", (log.checkpoint(5), log.checkpoint(20)))
    two = Anchored("two", (log.checkpoint(25),))
    result = verified(log, one, two)
    assert result.ok
    assert (result.anchored, result.anchored_by, result.unanchored) == (25, "two", 5)
    assert [(each.name, each.confirmed, each.newest) for each in result.anchors] == [("one", 20, 20), ("two", 25, 25)]


def test_a_head_that_was_given_anchors_too(log):
    result = verified(log, Anchored("one", (log.checkpoint(5),)), head=log.checkpoint(12))
    assert (result.anchored, result.anchored_by) == (12, "the head that was given")


def test_an_anchor_that_knows_more_shows_a_roll_back(log):
    older = SampleLog.of(30)
    older.signers = log.signers
    log.add(note="later")
    result = verified(older, Anchored("one", (log.checkpoint(20), log.checkpoint())))
    assert codes(result) == [ProblemCode.BEHIND_ANCHOR]
    assert result.worst is ProblemKind.ROLLED_BACK
    assert (result.consistent, result.signed, result.anchored, result.anchors[0].newest) == (True, 30, 20, 31)


def test_a_log_that_was_rewritten_with_its_own_key_contradicts_the_anchor(log):
    """Consistent and rightly signed: nothing but a head from elsewhere tells."""
    rewritten = SampleLog(signers=log.signers)
    for number in range(30):
        rewritten.add(note=f"forged {number}")
    assert verified(rewritten).ok
    result = verified(rewritten, Anchored("one", (log.checkpoint(10), log.checkpoint(20))))
    assert codes(result) == [ProblemCode.ANCHOR]
    assert result.worst is ProblemKind.TAMPERING
    assert "the first 10 entries" in result.problems[0].message
    assert (result.consistent, result.signed, result.anchored) == (True, 30, 0)


def test_an_older_head_of_the_history_tells_of_a_fork_that_was_anchored_since(log):
    forked = SampleLog(signers=log.signers)
    for number in range(30):
        forked.add(note=f"forged {number}")
    assert codes(verified(forked, Anchored("one", (log.checkpoint(20), forked.checkpoint(30))))) == [ProblemCode.ANCHOR]
    assert verified(forked, Anchored("one", (forked.checkpoint(30),))).ok, "an anchor without history can't tell"


def test_a_log_that_was_signed_anew_by_another_key_contradicts_the_anchor(log):
    forged = SampleLog(signers=[new_signer()])
    for number in range(40):
        forged.add(note=f"forged {number}")
    result = verified(forged, Anchored("one", (log.checkpoint(),)))
    assert codes(result) == [ProblemCode.ANCHOR_KEY]
    assert result.anchored == 0


def test_heads_of_before_and_after_a_key_rotation_count(log):
    before = log.checkpoint()
    log.rotate()
    log.add(note="later")
    result = verified(log, Anchored("one", (before, log.rotations[0], log.checkpoint())))
    assert result.ok
    assert result.anchored == 32


def test_another_log_in_the_place_of_the_one_that_was_anchored_is_noticed(log):
    other = SampleLog(origin=f"{ORIGIN.rpartition('/')[0]}/another")
    other.add(note="x")
    old = Anchored("one", (log.checkpoint(),))
    assert codes(verified(other, old)) == [ProblemCode.ANCHOR_KEY]
    both = Anchored("one", (log.checkpoint(), other.checkpoint()))
    assert verified(other, both).ok, "the anchor was told of the new log"
    assert verified(other, old, predecessor=log.checkpoint()).ok, "the log says that it goes on from the old one"
    assert codes(verified(other, old, predecessor=log.checkpoint(20))) == [ProblemCode.ANCHOR_KEY], "not from all of it"


def test_heads_of_other_hosts_and_texts_that_are_none_are_passed_over(log):
    stranger = SampleLog(origin="hera/remediation/00")
    stranger.add(note="x")
    result = verified(log, Anchored("one", ("", "nonsense", stranger.checkpoint(), log.checkpoint(3))))
    assert result.ok
    assert result.anchored == 3
    assert verified(log, Anchored("one", (stranger.checkpoint(),))).ok


def test_a_wrong_root_is_wrong_from_the_last_good_checkpoint_on(log):
    note, kept = log.checkpoint(), [log.checkpoint(10), log.checkpoint(20)]
    log.leaves[24] = log.leaves[24].replace(b"host:atlas-1", b"host:atlas-9")
    replay = Replay(ORIGIN, watch=[10, 20])
    replay.feed(log.table())
    replay.close()
    result = judge(replay, Claims(tuple(log.vkeys), note, (), tuple(kept)), Knowledge((log.signers[0].key,), "home"))
    assert [(problem.code, problem.seq) for problem in result.problems] == [(ProblemCode.ROOT, 20)]
    assert (result.consistent, result.signed, result.proven) == (False, 20, 20)
