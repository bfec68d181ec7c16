"""No change of an exported log passes: every byte, every line, every field, at every place."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.sample_log import SampleLog, canonical, new_signer

from remediation.proof.export import entry_line, verify_export, verify_export_file
from remediation.proof.verdict import ProblemKind


def sample() -> SampleLog:
    """A log with everything that a log can have: several streams, escapes, an erasure, a key rotation."""
    log = SampleLog.of(7)
    log.add('stream "quoted" ü', text="escapes \\ and \x01 controls")
    log.erase(2)
    log.rotate()
    log.add(note="by the new key")
    return log


LOG = sample()
LINES = LOG.lines()
KEYS = LOG.vkeys[:1]
OTHER = SampleLog()
for number in range(11):
    OTHER.add(note=f"of another log {number}")


def refused(lines: list[bytes], why: str = "") -> None:
    for vkeys in (KEYS, LOG.vkeys, []):
        result = verify_export(lines, vkeys=vkeys)
        assert not result.ok, why
        assert result.worst in {ProblemKind.TAMPERING, ProblemKind.INCOMPLETE}, why


def test_the_unchanged_file_passes():
    result = verify_export(LINES, vkeys=KEYS)
    assert result.ok
    assert (result.proven, result.erased) == (11, 1)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_no_flipped_bit_passes(number):
    """One bit of every byte of the file: also of the frames of the lines, which no signature covers."""
    line = LINES[number]
    for at in range(len(line)):
        changed = bytearray(line)
        changed[at] ^= 1 << at % 8
        raw = b"".join([*LINES[:number], bytes(changed), *LINES[number + 1 :]])
        assert not verify_export_file(io.BytesIO(raw), vkeys=KEYS).ok, f"byte {at}"


@settings(max_examples=300)
@given(st.data())
def test_no_edit_at_any_place_passes(data):
    raw = b"".join(LINES)
    start = data.draw(st.integers(min_value=0, max_value=len(raw)))
    end = data.draw(st.integers(min_value=start, max_value=min(len(raw), start + 40)))
    put = data.draw(st.binary(max_size=20) | st.sampled_from([b"\n", b" ", b"\\u0061", b"null", b"{}", b"0"]))
    changed = raw[:start] + put + raw[end:]
    if changed != raw:
        refused(
            [part + b"\n" for part in changed.split(b"\n")[:-1]] + ([changed.split(b"\n")[-1]] if changed[-1:] != b"\n" else [])
        )


@pytest.mark.parametrize("number", range(len(LINES)))
def test_no_removed_repeated_or_emptied_line_passes(number):
    before, line, after = LINES[:number], LINES[number], LINES[number + 1 :]
    refused([*before, *after], "removed")
    refused([*before, line, line, *after], "repeated")
    refused([*before, b"\n", *after], "emptied")
    refused([*before, b"\n", line, *after], "blank line before")
    refused([*before, line, b"\n", *after], "blank line after")
    refused([*before, line[:-1] + b" \n", *after], "space at the end")
    refused([*before, line[:-1] + b"\r\n", *after], "carriage return")
    refused([*before, b" " + line, *after], "space at the start")
    refused([*before, b"\xef\xbb\xbf" + line, *after], "byte order mark")
    refused([*before, line[:-1], *after], "no newline")
    refused([*before, b"{}\n", *after], "empty object")
    refused([*before, b"null\n", *after], "null")


@pytest.mark.parametrize("first", range(len(LINES)))
def test_no_swapped_lines_pass(first):
    for second in range(first + 1, len(LINES)):
        changed = LINES.copy()
        changed[first], changed[second] = changed[second], changed[first]
        refused(changed, f"{first} and {second}")


@pytest.mark.parametrize("kept", range(len(LINES)))
def test_no_shortened_file_passes(kept):
    refused(LINES[:kept])
    refused([*LINES[:kept], LINES[kept][: len(LINES[kept]) // 2]])
    if kept < len(LINES) - 1:
        refused([*LINES[:kept], LINES[-1]], "the middle is gone")


def test_nothing_may_follow_the_last_line():
    for more in (b"\n", b" \n", b"{}\n", b"x", LINES[-1], LINES[1]):
        refused([*LINES, more])
    refused([*LINES, *LINES], "the file twice")


@pytest.mark.parametrize("number", range(1, len(LINES) - 1))
def test_no_line_of_another_log_passes(number):
    foreign = entry_line(OTHER.leaves[number - 1], *OTHER.payloads[number - 1])
    refused([*LINES[:number], foreign, *LINES[number + 1 :]])
    refused([*LINES[:number], foreign, *LINES[number:]])


def other_values(value: Any) -> Iterator[Any]:
    """Values that might pass for `value` where somebody compares carelessly."""
    yield from (None, True, False, 0, 1, "", "x", [], {}, [value], 2**53, -1)
    if isinstance(value, str):
        yield from (value + " ", " " + value, value[:-1], value.upper(), value + "\0", value[::-1])
    if isinstance(value, int) and not isinstance(value, bool):
        yield from (value + 1, value - 1, float(value), str(value))
    if isinstance(value, list):
        yield from ([*value, *value], value[:-1], value[::-1], [*value, "x"])


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("number", range(len(LINES)))
def test_no_changed_member_of_a_line_passes(number):
    members = json.loads(LINES[number])
    for name, value in members.items():
        for changed in other_values(value):
            if not same(changed, value):
                refused(
                    [*LINES[:number], canonical(members | {name: changed}) + b"\n", *LINES[number + 1 :]], f"{name}: {changed!r}"
                )
        without = {key: item for key, item in members.items() if key != name}
        refused([*LINES[:number], canonical(without) + b"\n", *LINES[number + 1 :]], f"without {name}")
    refused([*LINES[:number], canonical(members | {"more": 1}) + b"\n", *LINES[number + 1 :]], "one member more")


@pytest.mark.parametrize("number", range(1, len(LINES) - 1))
@pytest.mark.parametrize("part", ["leaf", "body"])
def test_no_changed_member_of_a_leaf_or_body_passes(number, part):
    members = json.loads(LINES[number])
    if members[part] is None:
        return
    inner = json.loads(members[part])
    for name, value in inner.items():
        for changed in other_values(value):
            if not same(changed, value):
                text = canonical(inner | {name: changed}).decode()
                refused([*LINES[:number], canonical(members | {part: text}) + b"\n", *LINES[number + 1 :]], f"{name}: {changed!r}")
    for text in (members[part] + " ", " " + members[part], json.dumps(inner, indent=1), json.dumps(inner), members[part][:-1]):
        refused([*LINES[:number], canonical(members | {part: text}) + b"\n", *LINES[number + 1 :]], text)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_line_written_anew_in_another_style_does_not_pass(number):
    members = json.loads(LINES[number])
    backwards = dict(reversed(members.items()))
    for text in (
        json.dumps(members),
        json.dumps(members, ensure_ascii=True, separators=(",", ":")),
        json.dumps(backwards, separators=(",", ":")),
    ):
        line = text.encode() + b"\n"
        if line != LINES[number]:
            refused([*LINES[:number], line, *LINES[number + 1 :]], text)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_repeated_key_does_not_pass(number):
    """The first or the last of two: parsers differ, so there must be one."""
    line = LINES[number]
    for name, value in json.loads(line).items():
        twice = b"{" + canonical({name: value})[1:-1] + b"," + line[1:]
        refused([*LINES[:number], twice, *LINES[number + 1 :]], name)


@pytest.mark.parametrize("number", range(1, len(LINES) - 1))
def test_a_removed_body_does_not_pass(number):
    """Unless an entry says that it was erased, which one does for entry 2."""
    members = json.loads(LINES[number])
    for gone in ({"body": None, "salt": None}, {"body": None}, {"salt": None}):
        if members | gone != members:
            refused([*LINES[:number], canonical(members | gone) + b"\n", *LINES[number + 1 :]], str(gone))


def test_an_erased_body_does_not_come_back_as_another():
    members = json.loads(LINES[3])
    assert members["body"] is None
    refused([*LINES[:3], canonical(members | {"body": "{}", "salt": "00" * 32}) + b"\n", *LINES[4:]])


def test_no_edited_note_passes():
    members = json.loads(LINES[-1])
    note = members["checkpoint"]
    text, signature = note.split("\n\n")
    origin, size, root = text.split("\n")
    intruder = new_signer()
    changed_notes = [
        "",
        text,
        f"{text}\n",
        f"{text}\n\n",
        f"{origin}x\n{size}\n{root}\n\n{signature}",
        f"{origin}\n{int(size) - 1}\n{root}\n\n{signature}",
        f"{origin}\n0{size}\n{root}\n\n{signature}",
        f"{origin}\n{size}\n{base64.b64encode(bytes(32)).decode()}\n\n{signature}",
        f"{text}\nextension\n\n{signature}",
        f"{text}\n\n{signature}{signature}",
        f"{text}\n\n{signature}\n",
        note + note,
        json.loads(LINES[-1])["rotations"][0],
        OTHER.checkpoint(),
        LOG.checkpoint(signers=[intruder]),
        LOG.checkpoint(signers=LOG.signers[:1]),
        LOG.checkpoint(5),
        LOG.checkpoint(0),
    ]
    for changed in changed_notes:
        refused([*LINES[:-1], canonical(members | {"checkpoint": changed}) + b"\n"], repr(changed))


def test_no_edited_signatures_of_a_rotation_pass():
    """Other signers, another order: what the format says is there, and nothing else."""
    members = json.loads(LINES[-1])
    text, _, below = members["rotations"][0].partition("\n\n")
    old, new = below.splitlines(keepends=True)
    stranger = LOG.checkpoint(LOG.rotated[0], signers=[new_signer()]).rpartition("\n\n")[2]
    for signatures in (new + old, old, new, old + new + stranger, stranger + old + new, old + stranger, old + old + new):
        changed = canonical(members | {"rotations": [f"{text}\n\n{signatures}"]}) + b"\n"
        assert (changed == LINES[-1]) == (signatures == below)
        refused([*LINES[:-1], changed], signatures)
    cosigned = canonical(members | {"checkpoint": members["checkpoint"] + stranger}) + b"\n"
    refused([*LINES[:-1], cosigned], "a cosignature that nobody asked for")


def test_a_log_written_anew_by_another_key_is_not_that_of_the_known_key():
    """Consistent with itself, so only a key from elsewhere tells: that is what `key_source` is for."""
    forged = SampleLog(signers=[new_signer()])
    for number in range(9):
        forged.add(note=f"forged {number}")
    assert verify_export(forged.lines()).ok
    assert verify_export(forged.lines()).key_source == "export"
    result = verify_export(forged.lines(), vkeys=KEYS)
    assert result.worst is ProblemKind.TAMPERING
    assert result.proven == 0
