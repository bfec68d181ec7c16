"""Judging a log whose rows come from a database, with the checkpoints that were kept along the way."""

import base64
from pathlib import Path

import pytest
from tests.support.sample_log import ORIGIN, SampleLog, new_signer

from remediation.proof.errors import NoteError
from remediation.proof.judge import Claims, Knowledge, claimed_size, judge
from remediation.proof.merkle import Frontier, leaf_hash
from remediation.proof.note import sign_note
from remediation.proof.replay import Replay
from remediation.proof.verdict import ProblemCode, ProblemKind, Verification

SPECIFICATION = Path(__file__).parents[2] / "docs/specs/journal-format-v1.md"


def verified(log: SampleLog, *, kept: list[str] | None = None, note: str | None = None, **known) -> Verification:
    kept = kept or []
    replay = Replay(ORIGIN, watch=[claimed_size(each) for each in kept])
    replay.feed(log.table())
    replay.close()
    claims = Claims(tuple(log.vkeys), note or log.checkpoint(), tuple(log.rotations), tuple(kept))
    return judge(replay, claims, Knowledge(tuple(signer.key for signer in log.signers[:1]), "home", **known))


def codes(result: Verification) -> set[ProblemCode]:
    return {problem.code for problem in result.problems}


@pytest.fixture
def log() -> SampleLog:
    return SampleLog.of(30)


def test_a_genuine_home_is_proven_and_says_that_its_key_is_its_own(log):
    result = verified(log, kept=[log.checkpoint(size) for size in (0, 10, 20)])
    assert result.ok
    assert (result.proven, result.key_source) == (30, "home")


def test_an_altered_entry_leaves_what_the_last_good_checkpoint_covers(log):
    kept = [log.checkpoint(size) for size in (10, 20)]
    note = log.checkpoint()
    log.leaves[24] = log.leaves[24].replace(b"host:atlas-1", b"host:atlas-9")
    result = verified(log, kept=kept, note=note)
    assert codes(result) == {ProblemCode.ROOT}
    assert result.proven == 20
    assert result.worst is ProblemKind.TAMPERING
    assert result.key is None


def test_every_kept_checkpoint_is_checked(log):
    forged = SampleLog(signers=log.signers)
    for number in range(10):
        forged.add(note=f"forged {number}")
    assert codes(verified(log, kept=[forged.checkpoint()])) == {ProblemCode.ROOT}
    stranger = log.checkpoint(10, signers=[new_signer()])
    assert codes(verified(log, kept=[stranger])) == {ProblemCode.SIGNATURE}


def test_rows_that_were_deleted_from_the_end_are_missed(log):
    note, kept = log.checkpoint(), [log.checkpoint(20)]
    del log.leaves[25:], log.payloads[25:]
    result = verified(log, kept=kept, note=note)
    assert codes(result) == {ProblemCode.CHECKPOINT}
    assert result.worst is ProblemKind.TAMPERING
    assert result.proven == 20


def test_a_newest_note_that_is_not_the_newest_is_noticed(log):
    later = log.checkpoint()
    del log.leaves[25:], log.payloads[25:]
    result = verified(log, kept=[later])
    assert codes(result) == {ProblemCode.CHECKPOINT}
    assert result.proven == 25


def test_a_consistent_older_copy_is_rolled_back_against_the_head(log):
    head = log.checkpoint()
    del log.leaves[25:], log.payloads[25:]
    result = verified(log, head=head)
    assert codes(result) == {ProblemCode.BEHIND_HEAD}
    assert result.worst is ProblemKind.ROLLED_BACK
    assert result.proven == 25


def test_checkpoints_before_and_after_a_rotation_are_signed_by_their_own_keys(log):
    before, old = log.checkpoint(30), log.signers[0]
    log.rotate()
    log.add(note="after")
    after = log.checkpoint()
    log.add(note="newest")
    assert verified(log, kept=[before, log.rotations[0], after]).ok
    assert codes(verified(log, kept=[log.checkpoint(32, signers=[old])])) == {ProblemCode.SIGNATURE}
    assert codes(verified(log, kept=[log.checkpoint(30, signers=log.signers[1:])])) == {ProblemCode.SIGNATURE}


def test_a_journal_without_its_first_part_is_proven_by_the_tree_before_it(log):
    frontier = Frontier()
    frontier.extend([leaf_hash(leaf) for leaf in log.leaves[:12]])
    replay = Replay(ORIGIN, start=12, frontier=frontier)
    replay.feed(log.table()[12:])
    replay.close()
    result = judge(replay, Claims(tuple(log.vkeys), log.checkpoint()), Knowledge())
    assert result.ok
    assert result.root == base64.b64encode(log.root()).decode()
    wrong = Replay(ORIGIN, start=12, frontier=Frontier(12, [b"x" * 32, b"y" * 32]))
    wrong.feed(log.table()[12:])
    wrong.close()
    assert codes(judge(wrong, Claims(tuple(log.vkeys), log.checkpoint()), Knowledge())) == {ProblemCode.ROOT}


def test_without_a_checkpoint_nothing_is_proven(log):
    replay = Replay(ORIGIN)
    replay.feed(log.rows())
    replay.close()
    result = judge(replay, Claims(tuple(log.vkeys), None), Knowledge())
    assert codes(result) == {ProblemCode.NO_CHECKPOINT}
    assert result.worst is ProblemKind.INCOMPLETE
    assert result.proven == 0


def test_the_worst_kind_is_told_first(log):
    result = verified(log, min_size=31, kept=[log.checkpoint(10, signers=[new_signer()])])
    assert codes(result) == {ProblemCode.SIGNATURE, ProblemCode.BELOW_MINIMUM}
    assert result.worst is ProblemKind.TAMPERING


@pytest.mark.parametrize("note", ["", "nonsense"])
def test_the_size_of_what_is_no_checkpoint_is_not_known(note):
    with pytest.raises(NoteError):
        claimed_size(note)
    with pytest.raises(NoteError):
        claimed_size(sign_note("hello\n", [new_signer()]))


def test_every_problem_code_is_in_the_specification():
    section = SPECIFICATION.read_text(encoding="utf-8").partition("## 7. Verification")[2].partition("## 8.")[0]
    told = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3:
            told |= dict.fromkeys(cells[0].replace("`", "").split(", "), cells[2])
    assert {str(code): str(code.kind) for code in ProblemCode}.items() <= told.items()
