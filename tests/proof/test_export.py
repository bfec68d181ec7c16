"""Exported files: what a genuine one proves, and what each kind of defect means."""

import io
import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.sample_log import ORIGIN, SampleLog, canonical, new_signer

from remediation.proof import export, jsontext
from remediation.proof.errors import NoteError
from remediation.proof.export import entry_line, header_line, last_line, verify_export, verify_export_file
from remediation.proof.note import sign_note
from remediation.proof.verdict import ProblemCode, ProblemKind, Verification


def codes(result: Verification) -> set[ProblemCode]:
    return {problem.code for problem in result.problems}


@pytest.fixture
def log() -> SampleLog:
    return SampleLog.of(20)


@pytest.mark.parametrize("entries", [0, 1, 2, 255, 256, 300])
def test_a_genuine_file_is_proven_as_a_whole(entries, tmp_path):
    log = SampleLog.of(entries)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(log.lines()))
    result = verify_export_file(path, vkeys=log.vkeys, origin=ORIGIN, min_size=entries)
    assert result.ok
    assert result.worst is None
    assert (result.size, result.proven, result.erased) == (entries, entries, 0)
    assert (result.origin, result.key, result.key_source) == (ORIGIN, log.vkeys[0], "argument")
    assert result.root == log.checkpoint().splitlines()[2]


def test_without_a_key_from_elsewhere_the_result_says_so(log):
    result = verify_export(log.lines())
    assert result.ok
    assert result.key_source == "export"
    assert result.key == log.vkeys[0]


def test_the_result_can_be_written_as_json(log):
    result = verify_export(log.lines()[:-1], vkeys=log.vkeys)
    written = json.loads(json.dumps(result.as_dict()))
    assert written["ok"] is False
    assert written["problems"] == [
        {
            "seq": None,
            "kind": "incomplete",
            "code": "cut-off",
            "message": "the file ends before the line with the checkpoint: it is cut off",
        }
    ]
    assert set(written) == {
        "ok",
        "size",
        "root",
        "origin",
        "key",
        "key_source",
        "consistent",
        "signed",
        "anchored",
        "anchored_by",
        "unanchored",
        "head_checked",
        "anchors",
        "proven",
        "erased",
        "archived",
        "problems",
        "unlisted_problems",
    }


def test_lines_that_need_the_slow_path_are_read_as_well(log):
    log.add("stream with ü", text="control \x01 in a body, as an escape")
    log.add('a "stream" with \\', text="and its leaf with escapes")
    log.erase(3)
    result = verify_export(log.lines(), vkeys=log.vkeys)
    assert result.ok
    assert result.erased == 1
    assert result.proven == log.size


def test_a_log_of_somebody_else_is_not_believed(log):
    stranger = SampleLog.of(20)
    result = verify_export(stranger.lines(), vkeys=log.vkeys)
    assert codes(result) == {ProblemCode.KEYS}
    assert result.worst is ProblemKind.TAMPERING
    assert (result.proven, result.key) == (0, None)


def test_a_log_signed_anew_under_the_old_name_is_not_believed(log):
    forged = SampleLog(signers=[new_signer()])
    for number in range(20):
        forged.add(note=f"forged {number}")
    lines = [header_line(ORIGIN, log.vkeys), *forged.lines()[1:]]
    result = verify_export(lines, vkeys=log.vkeys)
    assert codes(result) == {ProblemCode.SIGNATURE}
    assert result.proven == 0


@pytest.mark.parametrize("given_keys", [[0], [1], [2], [0, 2], [0, 1, 2]])
def test_any_key_that_the_log_ever_had_proves_it(given_keys):
    log = SampleLog.of(5)
    log.rotate()
    log.add(note="by the second key")
    log.rotate()
    log.add(note="by the third key")
    result = verify_export(log.lines(), vkeys=[log.vkeys[index] for index in given_keys])
    assert result.ok
    assert result.key == log.vkeys[2]


def test_a_log_may_end_with_its_rotation():
    log = SampleLog.of(5)
    log.rotate()
    assert verify_export(log.lines(), vkeys=log.vkeys[:1]).ok
    by_new = last_line(log.checkpoint(signers=log.signers[1:]), log.rotations)
    assert codes(verify_export([*log.lines()[:-1], by_new], vkeys=log.vkeys)) == {ProblemCode.SIGNATURE}


def test_after_a_rotation_the_old_key_signs_nothing():
    log = SampleLog.of(5)
    log.rotate()
    log.add(note="after")
    lines = log.lines()
    by_old = last_line(log.checkpoint(signers=log.signers[:1]), log.rotations)
    assert ProblemCode.SIGNATURE in codes(verify_export([*lines[:-1], by_old], vkeys=log.vkeys[:1]))


@pytest.mark.parametrize("signer", [0, 1])
def test_a_rotation_needs_both_signatures(signer):
    log = SampleLog.of(5)
    log.rotate()
    log.rotations[0] = log.checkpoint(6, signers=[log.signers[signer]])
    log.add(note="after")
    result = verify_export(log.lines(), vkeys=log.vkeys[:1])
    assert {ProblemCode.SIGNATURE, ProblemCode.KEYS} <= codes(result)


def test_a_key_that_the_log_does_not_tell_of_is_not_believed():
    """Whoever has a stolen old key can't bring in a new one without an entry that says so."""
    log = SampleLog.of(5)
    intruder = new_signer()
    lines = log.lines()
    note = log.checkpoint(signers=[log.signer, intruder])
    lines[0] = header_line(ORIGIN, [*log.vkeys, str(intruder.key)])
    lines[-1] = last_line(note, [note])
    assert ProblemCode.KEYS in codes(verify_export(lines, vkeys=log.vkeys))
    assert ProblemCode.KEYS in codes(verify_export([*log.lines()[:-1], last_line(log.checkpoint(), [note])], vkeys=log.vkeys))


def test_a_rotation_without_its_note_is_not_believed():
    log = SampleLog.of(5)
    log.rotate()
    log.add(note="after")
    lines = log.lines()
    lines[-1] = last_line(log.checkpoint(), [])
    assert codes(verify_export(lines, vkeys=log.vkeys)) == {ProblemCode.KEYS}


def test_a_head_kept_elsewhere_must_be_continued(log):
    head = log.checkpoint(12)
    assert verify_export(log.lines(), vkeys=log.vkeys, head=head).ok
    assert verify_export(log.lines(), vkeys=log.vkeys, head=log.checkpoint()).ok
    assert verify_export(log.lines(), vkeys=log.vkeys, head=log.checkpoint(0)).ok


def test_a_log_that_is_behind_a_known_head_was_rolled_back(log):
    older = log.lines()
    log.add(note="lost")
    result = verify_export(older, vkeys=log.vkeys, head=log.checkpoint())
    assert codes(result) == {ProblemCode.BEHIND_HEAD}
    assert result.worst is ProblemKind.ROLLED_BACK
    assert result.proven == 20
    result = verify_export(older, vkeys=log.vkeys, min_size=21)
    assert codes(result) == {ProblemCode.BELOW_MINIMUM}
    assert result.worst is ProblemKind.ROLLED_BACK


def test_a_log_that_its_own_key_rewrote_does_not_continue_the_head(log):
    """Who holds the key can sign another history; only a head kept elsewhere shows it."""
    rewritten = SampleLog(signers=log.signers)
    for number in range(20):
        rewritten.add(note=f"rewritten {number}")
    assert verify_export(rewritten.lines(), vkeys=log.vkeys).ok
    result = verify_export(rewritten.lines(), vkeys=log.vkeys, head=log.checkpoint(12))
    assert codes(result) == {ProblemCode.HEAD}
    assert result.worst is ProblemKind.TAMPERING


def test_a_head_of_another_log_or_key_is_a_problem(log):
    assert codes(verify_export(log.lines(), head=SampleLog.of(3).checkpoint())) == {ProblemCode.HEAD}


def test_when_the_end_is_damaged_the_known_head_still_proves_what_it_covers(log):
    head = log.checkpoint(12)
    lines = log.lines()
    result = verify_export([*lines[:15], lines[15].replace(b"entry 14", b"entry 13"), *lines[16:]], vkeys=log.vkeys, head=head)
    assert codes(result) == {ProblemCode.PAYLOAD}
    assert result.proven == 14
    leaf_changed = lines[15].replace(b"12:00:14", b"12:00:41")
    result = verify_export([*lines[:15], leaf_changed, *lines[16:]], vkeys=log.vkeys, head=head)
    assert codes(result) == {ProblemCode.ROOT}
    assert result.proven == 12


def test_a_file_that_is_cut_off_is_incomplete_and_the_head_proves_its_part(log):
    whole = b"".join(log.lines())
    for end in range(0, len(whole), 131):
        result = verify_export_file(io.BytesIO(whole[:end]), vkeys=log.vkeys, head=log.checkpoint(0))
        assert not result.ok
        assert result.worst in {ProblemKind.INCOMPLETE, ProblemKind.TAMPERING}
        assert codes(result) & {ProblemCode.CUT_OFF, ProblemCode.HEADER}
    result = verify_export(log.lines()[:15], vkeys=log.vkeys, head=log.checkpoint(12))
    assert result.worst is ProblemKind.INCOMPLETE
    assert (result.size, result.proven) == (14, 12)


def test_a_file_that_does_not_begin_at_the_start_proves_nothing(log):
    lines = [header_line(ORIGIN, log.vkeys, start=8), *log.lines()[9:]]
    result = verify_export(lines, vkeys=log.vkeys)
    assert codes(result) == {ProblemCode.PARTIAL}
    assert result.worst is ProblemKind.INCOMPLETE
    assert (result.size, result.proven, result.root) == (20, 0, None)
    assert ProblemCode.PARTIAL in codes(verify_export(lines, vkeys=log.vkeys, head=log.checkpoint(4)))


def test_a_part_of_a_log_whose_key_was_rotated_before_is_incomplete_and_not_more():
    log = SampleLog.of(5)
    log.rotate()
    for number in range(5):
        log.add(note=f"after {number}")
    lines = [header_line(ORIGIN, log.vkeys, start=8), *log.lines()[9:]]
    assert codes(verify_export(lines, vkeys=log.vkeys[:1], head=log.checkpoint())) == {ProblemCode.PARTIAL}
    assert codes(verify_export(lines, vkeys=[new_signer().key])) == {ProblemCode.PARTIAL, ProblemCode.KEYS}


def test_a_header_with_very_many_keys_is_refused_at_once(log):
    other = str(new_signer().key)
    started = time.process_time()
    result = verify_export([header_line(ORIGIN, [other] * 8_000), *log.lines()[1:]], vkeys=log.vkeys)
    assert codes(result) == {ProblemCode.KEYS}
    assert time.process_time() - started < 1


def test_the_log_must_be_the_one_that_was_asked_for(log):
    assert codes(verify_export(log.lines(), origin="atlas-2/remediation/0")) == {ProblemCode.HEADER}


@pytest.mark.parametrize("given_key", ["", "nonsense", "a+b+c"])
def test_a_malformed_key_from_elsewhere_is_the_callers_mistake(log, given_key):
    with pytest.raises(NoteError):
        verify_export(log.lines(), vkeys=[given_key])


def test_a_malformed_head_is_the_callers_mistake(log):
    for head in ("", "nonsense", sign_note("hello\n", [log.signer])):
        with pytest.raises(NoteError):
            verify_export(log.lines(), head=head)


@pytest.mark.parametrize(
    "members",
    [
        {"format": "remediation-journal/2"},
        {"origin": 5},
        {"origin": ""},
        {"origin": "two words"},
        {"vkeys": "one"},
        {"vkeys": [1]},
        {"from": -1},
        {"from": "0"},
        {"from": True},
        {"more": 1},
    ],
)
def test_a_header_of_another_form_is_a_problem(log, members):
    header = json.loads(log.lines()[0]) | members
    result = verify_export([canonical(header) + b"\n", *log.lines()[1:]], vkeys=log.vkeys)
    assert codes(result) == {ProblemCode.HEADER}
    assert result.proven == 0


@pytest.mark.parametrize("vkeys", [[], ["nonsense"], ["twice"], [str(new_signer("atlas-1/remediation/other").key)]])
def test_a_header_with_other_keys_is_a_problem(log, vkeys):
    vkeys = log.vkeys * 2 if vkeys == ["twice"] else vkeys
    result = verify_export([header_line(ORIGIN, vkeys), *log.lines()[1:]], vkeys=log.vkeys)
    assert ProblemCode.KEYS in codes(result)
    assert result.proven == 0


@pytest.mark.parametrize(
    "members", [{"checkpoint": None}, {"checkpoint": 5}, {"rotations": None}, {"rotations": [1]}, {"more": []}]
)
def test_a_last_line_of_another_form_is_a_problem(log, members):
    last = json.loads(log.lines()[-1]) | members
    result = verify_export([*log.lines()[:-1], canonical(last) + b"\n"], vkeys=log.vkeys)
    assert ProblemCode.LINE in codes(result)


@pytest.mark.parametrize(
    "members", [{"leaf": None}, {"leaf": 5}, {"body": 5}, {"salt": 5}, {"salt": "AB" * 32}, {"salt": ""}, {"more": 1}]
)
def test_an_entrys_line_of_another_form_is_a_problem(log, members):
    line = json.loads(log.lines()[4]) | members
    result = verify_export([*log.lines()[:4], canonical(line) + b"\n", *log.lines()[5:]], vkeys=log.vkeys)
    assert (ProblemCode.LINE, 3) in [(problem.code, problem.seq) for problem in result.problems]
    assert result.proven <= 3


def test_a_line_without_an_end_is_not_read_into_memory(log):
    stream = io.BytesIO(b"".join(log.lines()[:5]) + b"x" * 30_000_000)
    tracemalloc.start()
    try:
        result = verify_export_file(stream, vkeys=log.vkeys)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ProblemCode.LINE in codes(result)
    assert peak < 5_000_000


json_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@given(json_texts, json_texts, st.binary(min_size=32, max_size=32))
def test_the_fast_reading_of_a_line_is_what_a_json_parser_reads(leaf, body, salt):
    line = entry_line(leaf.encode(), salt, body.encode())
    assert line == canonical({"leaf": leaf, "salt": salt.hex(), "body": body}) + b"\n"
    fast = export._plain_entry(line)
    assert fast in {None, (leaf.encode(), salt, body.encode())}
    if not any(char < " " for char in leaf + body):
        assert fast is not None


@given(st.data())
def test_the_fast_reading_accepts_no_line_that_is_not_canonical(data):
    """Any edit of a line is either refused by the fast path or read by a strict parser with the same result."""
    line = entry_line(b'{"a":"\\\\ \\" x"}', b"s" * 32, 'b \\ " ü'.encode())
    at = data.draw(st.integers(min_value=0, max_value=len(line)))
    cut = data.draw(st.integers(min_value=0, max_value=12))
    put = data.draw(
        st.binary(max_size=2)
        | st.sampled_from([b'"', b"\\", b'\\"', b"\\\\", b"\\n", b"\x01", b"\x00", b'","leaf":"', b'","salt":"', b"A", b"\xff"])
    )
    changed = line[:at] + put + line[at + cut :]
    fast = export._plain_entry(changed)
    if fast is not None:
        members = jsontext.decode_object(changed[:-1], frozenset(("leaf", "salt", "body")))
        assert fast == (members["leaf"].encode(), bytes.fromhex(members["salt"]), members["body"].encode())


@given(st.lists(st.binary(max_size=60).map(lambda line: line + b"\n"), max_size=8))
def test_garbage_is_a_verdict_and_never_an_exception(lines):
    assert not verify_export(lines).ok


@given(st.lists(st.binary(max_size=60).map(lambda line: line + b"\n"), max_size=8))
def test_garbage_after_a_header_is_a_verdict_and_never_an_exception(lines):
    header = header_line(ORIGIN, [str(new_signer().key)])
    assert not verify_export([header, *lines]).ok
