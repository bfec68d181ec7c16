"""Proofs of single entries: the text of C2SP tlog-proof, and what is believed of it."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.sample_log import SampleLog, new_signer

from remediation.proof import (
    BodyState,
    NoteError,
    ProblemKind,
    TlogProof,
    TlogProofError,
    entry_proof,
    hashes_of,
    inclusion_proof,
    leaf_hash,
    verify_entry_proof,
)
from remediation.proof.evidence import MAX_LINE_BYTES
from remediation.proof.tlogproof import extra_line_bytes

LOG = SampleLog.of(12)
VKEY = LOG.vkeys[0]


def proven(log: SampleLog, seq: int, size: int | None = None) -> tuple[TlogProof, bytes | None]:
    size = log.size if size is None else size
    hashes = inclusion_proof(seq, size, hashes_of([leaf_hash(leaf) for leaf in log.leaves[:size]]))
    return entry_proof(seq, hashes, log.checkpoint(size), log.leaves[seq], *log.payloads[seq])


PROOF, _ = proven(LOG, 5)
TEXT = str(PROOF)
LINES = TEXT.split("\n")


def test_the_text_is_that_of_the_specification() -> None:
    lines = TEXT.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1].startswith("extra ")
    assert lines[2] == "index 5"
    assert lines[7] == ""
    assert [base64.b64decode(line) for line in lines[3:7]] == list(PROOF.hashes)
    assert "\n".join(lines[8:]) == LOG.checkpoint()


def test_the_example_of_the_specification_is_read() -> None:
    """C2SP tlog-proof, "Transparency Log Proofs"; what is abridged there in brackets is filled with other signatures."""
    hashes = [
        "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=",
        "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=",
        "EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=",
    ]
    note = "example.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n— example.com/fancylog hI2DJwAA\n"
    extra = "YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ"
    text = "\n".join(["c2sp.org/tlog-proof@v1", f"extra {extra}", "index 73894", *hashes, "", note])
    proof = TlogProof.parse(text)
    assert (proof.index, proof.checkpoint, proof.extra) == (73894, note, base64.b64decode(extra))
    assert [base64.b64encode(each).decode() for each in proof.hashes] == hashes
    assert str(proof) == text


def test_a_proof_without_extra_or_hashes_is_read() -> None:
    proof = TlogProof(0, (), "x\n1\nroot\n\nsigned\n")
    assert str(proof) == "c2sp.org/tlog-proof@v1\nindex 0\n\nx\n1\nroot\n\nsigned\n"
    assert TlogProof.parse(str(proof)) == proof


@given(
    index=st.integers(0, 2**53 - 1),
    hashes=st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    extra=st.none() | st.binary(max_size=100),
    note=st.text("ab\n— ", min_size=1).filter(lambda text: text.encode() != b""),
)
def test_what_is_written_is_read_again(index: int, hashes: list[bytes], extra: bytes | None, note: str) -> None:
    proof = TlogProof(index, tuple(hashes), note, extra)
    assert TlogProof.parse(str(proof)) == proof
    assert extra is None or len(str(proof).split("\n")[1]) + 1 == extra_line_bytes(extra)


MALFORMED = {
    "empty": "",
    "another header": TEXT.replace("@v1", "@v2", 1),
    "a space after the header": TEXT.replace("@v1", "@v1 ", 1),
    "carriage returns": TEXT.replace("\n", "\r\n"),
    "no index": TEXT.replace("index 5\n", "", 1),
    "a negative index": TEXT.replace("index 5", "index -5", 1),
    "a leading zero": TEXT.replace("index 5", "index 05", 1),
    "other digits": TEXT.replace("index 5", "index ٥", 1),
    "a huge index": TEXT.replace("index 5", "index " + "9" * 17, 1),
    "no blank line": TEXT.replace("\n\n", "\n"),
    "nothing after the blank line": TEXT.partition("\n\n")[0] + "\n\n",
    "extra twice": TEXT.replace(LINES[1], LINES[1] + "\n" + LINES[1], 1),
    "extra after the index": "\n".join([LINES[0], LINES[2], LINES[1], *LINES[3:]]),
    "extra that is no base64": TEXT.replace("extra ", "extra !", 1),
    "a hash that is no base64": TEXT.replace(LINES[3], "!" + LINES[3][1:], 1),
    "a short hash": TEXT.replace(LINES[3], base64.b64encode(b"x" * 31).decode(), 1),
    "base64 with other unused bits": TEXT.replace(LINES[3], LINES[3][:-2] + chr(ord(LINES[3][-2]) + 1) + "=", 1),
    "64 hashes": TEXT.replace(LINES[3], "\n".join([LINES[3]] * 61), 1),
    "longer than any": TEXT + "x" * (1 << 20),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_what_is_not_of_the_format_is_refused_and_never_proves_anything(how: str) -> None:
    assert MALFORMED[how] != TEXT
    with pytest.raises(TlogProofError):
        TlogProof.parse(MALFORMED[how])
    found = verify_entry_proof(MALFORMED[how], vkeys=[VKEY])
    assert not found.ok
    assert (found.leaf, found.body, found.worst) == (None, None, ProblemKind.TAMPERING)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(TlogProofError):
        TlogProof.parse(b"\xff\xfe")
    with pytest.raises(TlogProofError):
        TlogProof.parse("\ud800")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 12])
def test_each_entry_of_each_size_is_proven_with_its_body(size: int) -> None:
    for seq in range(size):
        proof, apart = proven(LOG, seq, size)
        found = verify_entry_proof(str(proof), vkeys=[VKEY], origin=LOG.origin)
        assert found.ok, found.problems
        assert apart is None
        assert (found.index, found.size, found.key, found.body_state) == (seq, size, VKEY, BodyState.PROVEN)
        assert found.leaf is not None
        assert found.leaf.encode() == LOG.leaves[seq]
        assert found.body == LOG.payloads[seq][1]
        answer = json.loads(json.dumps(found.as_dict()))
        assert (answer["ok"], answer["entry"]["seq"], answer["body"]["note"]) == (True, seq, f"entry {seq}")
        assert answer["leaf_hash"] == leaf_hash(LOG.leaves[seq]).hex()


def test_an_erased_entry_is_proven_by_its_leaf_alone() -> None:
    log = SampleLog.of(4)
    log.erase(1)
    proof, apart = proven(log, 1)
    found = verify_entry_proof(str(proof), vkeys=log.vkeys)
    assert (found.ok, found.body, found.body_state, apart) == (True, None, BodyState.ERASED, None)
    assert found.leaf is not None


def test_a_body_can_not_be_given_for_an_entry_without_salt() -> None:
    log = SampleLog.of(4)
    _, body = log.payloads[1]
    log.erase(1)
    found = verify_entry_proof(str(proven(log, 1)[0]), vkeys=log.vkeys, body=body)
    assert (found.ok, found.body_state, found.worst) == (False, BodyState.WRONG, ProblemKind.TAMPERING)


def test_a_body_too_long_for_common_readers_comes_as_a_file_of_its_own() -> None:
    log = SampleLog.of(3)
    log.add(text="x" * 60_000)
    proof, apart = proven(log, 3)
    assert apart == log.payloads[3][1]
    assert max(map(len, str(proof).split("\n"))) < MAX_LINE_BYTES
    alone = verify_entry_proof(str(proof), vkeys=log.vkeys)
    assert (alone.ok, alone.body_state, alone.worst) == (False, BodyState.ELSEWHERE, ProblemKind.INCOMPLETE)
    assert alone.leaf is not None
    whole = verify_entry_proof(str(proof), vkeys=log.vkeys, body=apart)
    assert (whole.ok, whole.body) == (True, apart)
    other = verify_entry_proof(str(proof), vkeys=log.vkeys, body=apart.replace(b"x", b"y", 1))
    assert (other.body_state, other.worst, other.body) == (BodyState.WRONG, ProblemKind.TAMPERING, None)


def test_no_line_of_any_proof_is_longer_than_common_readers_take() -> None:
    for length in range(47_800, 48_400, 50):
        log = SampleLog.of(1)
        log.add(text="x" * length)
        proof, apart = proven(log, 1)
        assert max(len(line) + 1 for line in str(proof).split("\n")) <= MAX_LINE_BYTES
        assert verify_entry_proof(str(proof), vkeys=log.vkeys, body=apart).ok


def altered(**changes: object) -> str:
    members = json.loads(PROOF.extra or b"") | changes
    extra = json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return str(TlogProof(PROOF.index, PROOF.hashes, PROOF.checkpoint, extra))


OTHER = SampleLog.of(12)
TAMPERED = {
    "another index": TEXT.replace("index 5", "index 4", 1),
    "an index beyond": TEXT.replace("index 5", "index 12", 1),
    "another hash": TEXT.replace(LINES[3], LINES[4], 1),
    "a hash fewer": TEXT.replace(LINES[3] + "\n", "", 1),
    "a hash more": TEXT.replace(LINES[3], LINES[3] + "\n" + LINES[3], 1),
    "another leaf": altered(leaf=LOG.leaves[6].decode()),
    "an altered leaf": altered(leaf=LOG.leaves[5].decode().replace("note.made", "note.mode")),
    "another body": altered(body=json.loads(proven(LOG, 6)[0].extra or b"")["body"]),
    "another salt": altered(salt="00" * 32),
    "a short salt": altered(salt="00" * 31),
    "a salt in capitals": altered(salt=json.loads(PROOF.extra or b"")["salt"].upper()),
    "a salt that is none": altered(salt="zz" * 32),
    "a salt of another type": altered(salt=5),
    "a leaf of another type": altered(leaf=None),
    "no salt": altered(salt=None),
    "an extra member": altered(more=1),
    "extra that is no JSON": str(TlogProof(5, PROOF.hashes, PROOF.checkpoint, b"{")),
    "another size": TEXT.replace("\n12\n", "\n13\n", 1),
    "a checkpoint of an earlier size": str(TlogProof(5, PROOF.hashes, LOG.checkpoint(11), PROOF.extra)),
    "another log's checkpoint": str(TlogProof(5, PROOF.hashes, OTHER.checkpoint(), PROOF.extra)),
    "a stranger's signature": str(TlogProof(5, PROOF.hashes, LOG.checkpoint(signers=[new_signer()]), PROOF.extra)),
    "no signature": TEXT.rpartition("\n— ")[0] + "\n",
}


@pytest.mark.parametrize("how", TAMPERED)
def test_an_altered_proof_is_tampering(how: str) -> None:
    assert TAMPERED[how] != TEXT
    found = verify_entry_proof(TAMPERED[how], vkeys=[VKEY])
    assert found.worst is ProblemKind.TAMPERING, found.problems
    assert found.body is None
    assert json.dumps(found.as_dict())


@settings(max_examples=300)
@given(st.data())
def test_no_flipped_byte_goes_unnoticed(data: st.DataObject) -> None:
    raw = bytearray(TEXT.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    found = verify_entry_proof(bytes(raw), vkeys=[VKEY])
    assert not found.ok
    assert found.body is None


def test_a_proof_without_the_entry_says_only_that_something_is_there() -> None:
    found = verify_entry_proof(str(TlogProof(5, PROOF.hashes, PROOF.checkpoint)), vkeys=[VKEY])
    assert (found.ok, found.worst, found.leaf) == (False, ProblemKind.INCOMPLETE, None)


def test_a_leaf_of_another_log_is_not_proven_by_this_ones_head() -> None:
    """Whoever has the key could sign any tree; the leaf must still say that it belongs to this log and place."""
    log = SampleLog.of(3)
    log.add(leaf={"origin": "atlas-2/remediation/0"})
    log.add(leaf={"seq": 99})
    for seq in (3, 4):
        found = verify_entry_proof(str(proven(log, seq)[0]), vkeys=log.vkeys)
        assert (found.worst, found.leaf) == (ProblemKind.TAMPERING, None)


def test_another_origin_than_asked_for_is_refused() -> None:
    assert not verify_entry_proof(TEXT, vkeys=[VKEY], origin="atlas-2/remediation/0").ok


def test_after_a_rotation_the_newer_key_proves_and_the_older_alone_does_not() -> None:
    log = SampleLog.of(4)
    log.rotate()
    rotated = log.size
    log.add(note="by the new key")
    at_rotation = str(proven(log, 2, rotated)[0])
    later = str(proven(log, 2)[0])
    old, new = log.vkeys
    assert verify_entry_proof(at_rotation, vkeys=[old]).ok
    assert verify_entry_proof(at_rotation, vkeys=[new]).ok
    assert verify_entry_proof(later, vkeys=[new]).ok
    assert verify_entry_proof(later, vkeys=[old, new]).ok
    refused = verify_entry_proof(later, vkeys=[old])
    assert not refused.ok
    assert "ask for the new one" in refused.problems[0].message


def test_signatures_of_witnesses_do_no_harm() -> None:
    witness = new_signer("witness.example")
    note = LOG.checkpoint() + witness.line(LOG.checkpoint().partition("\n\n")[0].encode() + b"\n")
    assert verify_entry_proof(str(TlogProof(5, PROOF.hashes, note, PROOF.extra)), vkeys=[VKEY]).ok


def test_verifying_without_a_key_is_refused() -> None:
    with pytest.raises(NoteError):
        verify_entry_proof(TEXT, vkeys=[])
    with pytest.raises(NoteError):
        verify_entry_proof(TEXT, vkeys=["nonsense"])
