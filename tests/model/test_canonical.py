"""Canonical JSON against RFC 8785 read anew, and everything that lies outside its domain."""

import datetime as dt
import decimal
import enum
import json
import math
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.errors import NotCanonical
from remediation.model import canonical

keys = st.from_regex(r"[a-z0-9_.-]{1,12}", fullmatch=True)
characters = st.characters(exclude_categories=["Cs"])
scalars = st.none() | st.booleans() | st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER) | st.text(characters)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=30)


def rfc8785(value: Any) -> str:
    """Section 3.2 of the RFC, word by word: ECMAScript's serialisation of literals, strings and numbers, keys in UTF-16 order."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        assert float(value) == value  # 3.2.2.3: numbers are IEEE 754 doubles, and those that are whole are written without exponent
        return format(value, "d")
    if isinstance(value, str):
        return '"' + "".join(_character(each) for each in value) + '"'
    if isinstance(value, list):
        return "[" + ",".join(rfc8785(each) for each in value) + "]"
    ordered = sorted(value, key=lambda key: key.encode("utf-16-be"))
    return "{" + ",".join(f"{rfc8785(key)}:{rfc8785(value[key])}" for key in ordered) + "}"


def _character(each: str) -> str:
    short = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}
    return short.get(each) or (f"\\u{ord(each):04x}" if ord(each) < 0x20 else each)


@given(values)
def test_every_value_of_the_domain_is_written_as_the_rfc_says(value: Any) -> None:
    assert canonical.dumps(value) == rfc8785(value).encode("utf-8")


@given(values)
def test_what_was_written_is_read_back_equal_and_written_the_same(value: Any) -> None:
    data = canonical.dumps(value)
    assert canonical.loads(data) == value
    assert canonical.dumps(canonical.loads(data)) == data


@given(values, st.randoms())
def test_the_order_in_which_keys_were_put_in_does_not_matter(value: Any, random: Any) -> None:
    def shuffled(each: Any) -> Any:
        if isinstance(each, dict):
            items = [(key, shuffled(item)) for key, item in each.items()]
            random.shuffle(items)
            return dict(items)
        return [shuffled(item) for item in each] if isinstance(each, list) else each

    assert canonical.dumps(shuffled(value)) == canonical.dumps(value)


def test_the_example_of_the_rfc_s_string_rules() -> None:
    """RFC 8785, 3.2.2: the member `string` of the sample object."""
    assert canonical.dumps('€$\u000f\nA\'B"\\\\"/') == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


def test_a_tuple_is_an_array() -> None:
    assert canonical.dumps({"a": (1, ("b",))}) == b'{"a":[1,["b"]]}'


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


_cycle: list[Any] = []
_cycle.append(_cycle)
_deep: list[Any] = []
for _ in range(100_000):
    _deep = [_deep]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(1.0, id="a float"),
        pytest.param(math.nan, id="NaN"),
        pytest.param(math.inf, id="infinity"),
        pytest.param(-0.0, id="negative zero"),
        pytest.param(2**53, id="2**53"),
        pytest.param(-(2**53), id="-2**53"),
        pytest.param(10**5000, id="an integer that Python refuses to print"),
        pytest.param("\ud800", id="a lone high surrogate"),
        pytest.param("a\udfffb", id="a lone low surrogate"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param({1, 2}, id="a set"),
        pytest.param(decimal.Decimal(1), id="a decimal"),
        pytest.param(dt.date(2026, 1, 1), id="a date"),
        pytest.param(Colour.RED, id="a string enum"),
        pytest.param(Number.ONE, id="an integer enum"),
        pytest.param(object(), id="an object"),
        pytest.param(_cycle, id="a cycle"),
        pytest.param(_deep, id="too deep"),
        pytest.param({"A": 1}, id="a capital in a key"),
        pytest.param({"": 1}, id="an empty key"),
        pytest.param({"a b": 1}, id="a space in a key"),
        pytest.param({"a\n": 1}, id="a newline after a key"),
        pytest.param({"ä": 1}, id="another letter in a key"),
        pytest.param({"\ud800": 1}, id="a surrogate in a key"),
        pytest.param({1: 1}, id="an integer as key"),
        pytest.param({None: 1}, id="null as key"),
        pytest.param({True: 1}, id="a boolean as key"),
        pytest.param({Colour.RED: 1, "a": 2}, id="an enum as key"),
        pytest.param({("a",): 1}, id="a tuple as key"),
    ],
)
def test_what_lies_outside_the_domain_is_refused_wherever_it_stands(value: Any) -> None:
    for nested in (value, [value], {"a": {"b": [value]}}, ({"a": 1}, value)):
        with pytest.raises(NotCanonical):
            canonical.dumps(nested)


@given(keys.filter(lambda key: not re.search(r"[^a-z]", key)), st.floats())
def test_the_refusal_names_the_place(key: str, value: float) -> None:
    with pytest.raises(NotCanonical, match=key):
        canonical.dumps({"outer": [{key: value}]})


def test_memory_for_keys_that_were_seen_is_bounded() -> None:
    for number in range(6000):
        canonical.dumps({f"key-{number}": number})
    assert len(canonical._known_keys) <= 4096


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nul",
        "NaN",
        "Infinity",
        "-Infinity",
        "1.5",
        "1e3",
        '{"a":1,"a":2}',
        '{"a":{"b":1,"b":1}}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        "\ufeff{}",
        "{} {}",
        "'a'",
        '"\t"',
        '"\\x"',
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_json_of_the_domain_is_refused(text: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(NotCanonical):
            canonical.loads(data)


@pytest.mark.parametrize("data", [b'"\xff"', b"\xff\xfe", b"\x00", b'"\xed\xa0\x80"'])
def test_bytes_that_are_no_utf_8_are_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        canonical.loads(data)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_input_raises_anything_else(data: bytes | str) -> None:
    try:
        value = canonical.loads(data)
    except NotCanonical:
        return
    json.dumps(value)


def test_writing_takes_linear_time() -> None:
    def seconds(size: int) -> float:
        value = {"text": 'a"\\\x00é' * size, "list": [{"k": "v", "n": n} for n in range(size // 10)]}
        best = math.inf
        for _ in range(3):
            begun = time.perf_counter()
            canonical.dumps(value)
            best = min(best, time.perf_counter() - begun)
        return best

    seconds(1000)
    assert seconds(400_000) < 8 * 5 * max(seconds(50_000), 0.0005)
