"""Leaves: one form, read by pattern and by parser alike."""

import hmac
import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.sample_log import ORIGIN

from remediation.errors import NotCanonical
from remediation.model import canonical
from remediation.proof import jsontext
from remediation.proof.leaf import Leaf, leaf_pattern, payload_digest

LEAF = Leaf(
    origin=ORIGIN,
    seq=17,
    id="0123456789abcdef0123456789abcdef",
    stream="incident/1",
    stream_seq=3,
    type="attempt.planned",
    time="2026-03-01T12:00:00.250Z",
    actor="host:atlas-1",
    causation=None,
    correlation="c0ffee",
    payload="ab" * 32,
)
texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_the_payload_digest_is_hmac_sha_256(salt, body):
    assert payload_digest(salt, body) == hmac.new(salt, body, "sha256").hexdigest()


@given(
    st.builds(
        Leaf,
        origin=texts,
        seq=st.integers(min_value=0, max_value=2**53 - 1),
        id=texts,
        stream=texts,
        stream_seq=st.integers(min_value=0, max_value=2**53 - 1),
        type=st.from_regex(r"[a-z0-9_.-]{1,64}", fullmatch=True),
        time=st.just("2026-03-01T12:00:00.250Z"),
        actor=texts,
        causation=st.none() | texts,
        correlation=st.none() | texts,
        payload=st.just("ab" * 32),
    )
)
def test_a_leaf_is_the_canonical_json_of_its_fields(leaf):
    assert leaf.encode() == canonical.dumps(asdict(leaf) | {"v": 1})
    assert Leaf.parse(leaf.encode()) == leaf


@given(st.data())
def test_pattern_and_parser_agree_on_every_changed_leaf(data):
    """Whatever matches the pattern is a leaf of this log with just these fields; what is one, and holds no escape, matches."""
    raw = LEAF.encode()
    at = data.draw(st.integers(min_value=0, max_value=len(raw)))
    cut = data.draw(st.integers(min_value=0, max_value=3))
    put = data.draw(
        st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b"0", b"1", b" ", b"null", b'",', b"\\u0041", "ü".encode()])
    )
    changed = raw[:at] + put + raw[at + cut :]
    match = leaf_pattern(ORIGIN).fullmatch(changed) if _is_utf8(changed) else None
    try:
        parsed = Leaf.parse(changed)
    except NotCanonical:
        assert match is None
        return
    plain = b"\\" not in changed and parsed.origin == ORIGIN and max(parsed.seq, parsed.stream_seq) < 10**15
    assert (match is not None) == plain
    if match is not None:
        fields = (parsed.id, parsed.payload, parsed.seq, parsed.stream, parsed.stream_seq, parsed.time, parsed.type)
        assert match.groups() == tuple(str(field).encode() for field in fields)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"v": "1"},
        {"seq": -1},
        {"seq": True},
        {"seq": "17"},
        {"seq": 2**53},
        {"stream_seq": None},
        {"id": ""},
        {"id": None},
        {"stream": 3},
        {"origin": []},
        {"actor": ""},
        {"causation": ""},
        {"correlation": 5},
        {"payload": "AB" * 32},
        {"payload": "ab"},
        {"time": "2026-03-01T12:00:00Z"},
        {"time": "2026-03-01 12:00:00.250Z"},
        {"type": "Attempt"},
        {"type": "x" * 65},
        {"more": 1},
    ],
)
def test_a_leaf_with_a_wrong_member_is_none(change):
    raw = jsontext.encode(asdict(LEAF) | {"v": 1} | change)
    assert leaf_pattern(ORIGIN).fullmatch(raw) is None
    with pytest.raises(NotCanonical):
        Leaf.parse(raw)


def test_a_leaf_that_lacks_a_member_is_none():
    members = asdict(LEAF) | {"v": 1}
    for name in members:
        with pytest.raises(NotCanonical, match="an object with the keys"):
            Leaf.parse(jsontext.encode({key: value for key, value in members.items() if key != name}))


def test_a_leaf_that_is_too_large_is_none():
    with pytest.raises(NotCanonical, match="at most 65535 bytes"):
        Leaf.parse(replace(LEAF, actor="x" * 65_535).encode())


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":1}x', "not JSON"),
        (b'{"a":1}\n', "canonical form"),
        (b' {"a":1}', "canonical form"),
        (b'{"a": 1}', "canonical form"),
        (b'{"b":1,"a":1}', "canonical form"),
        (b'{"a":"\\u0041"}', "canonical form"),
        (b'{"a":"\\/"}', "canonical form"),
        (b'{"a":-0}', "canonical form"),
        (b'{"a":1,"a":1}', "repeats a key"),
        (b'{"a":{"b":1,"b":2}}', "repeats a key"),
        (b'{"A":1}', "outside"),
        (b'{"a":1.0}', "not an integer"),
        (b'{"a":1e3}', "not an integer"),
        (b'{"a":NaN}', "not an integer"),
        (b'{"a":Infinity}', "not an integer"),
        (b'{"a":9007199254740992}', "below 2"),
        (b'{"a":' + b"9" * 5000 + b"}", "below 2"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"a":"\t"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "not a JSON object"),
    ],
)
def test_json_that_is_not_canonical_is_refused(raw, message):
    with pytest.raises(NotCanonical, match=message):
        jsontext.decode_object(raw)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_the_proofs_json_is_the_models_json(value):
    assert jsontext.encode(value) == canonical.dumps(value)
    assert jsontext.decode(canonical.dumps(value)) == value
    respaced = json.dumps(value).encode()
    if respaced != canonical.dumps(value):
        with pytest.raises(NotCanonical):
            jsontext.decode(respaced)
