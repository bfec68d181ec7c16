"""Hostile text is made harmless where it comes in and where it goes out, in time that grows with its length only."""

import json
import math
import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediation.model.events import DegradationEvent
from remediation.model.text import (
    EVIDENCE_CAP,
    EVIDENCE_DEPTH,
    capped,
    capped_identity,
    clamp_json,
    printable,
    reason_of,
    wellformed,
)

any_text = st.text(st.characters())  # lone surrogates too
INVISIBLE = [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)]
VISIBLE_FORMAT = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
"""Signs that Unicode counts as format characters though they are seen: "prepended concatenation marks"."""
DANGEROUS = sorted(
    {code for code in range(0x110000) if unicodedata.category(chr(code)) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    - VISIBLE_FORMAT
    - {0x09, 0x0A}
    | set(INVISIBLE)
)


def test_nothing_that_steers_a_terminal_or_hides_or_turns_text_gets_through() -> None:
    leaking = [hex(code) for code in DANGEROUS if chr(code) in printable(f"a{chr(code)}b", newlines=True)]
    assert leaking == []


def test_one_value_is_one_line_unless_lines_are_wanted() -> None:
    text = "one\ntwo\r\nthree\u2028four\x85five\x0bsix"
    assert "\n" not in printable(text)
    assert len(printable(text).splitlines()) == 1
    assert len(printable(text, newlines=True).splitlines()) == 3


@given(any_text)
def test_printable_text_stays_as_it_is_and_can_be_written_anywhere(text: str) -> None:
    once = printable(text)
    assert printable(once) == once
    once.encode("utf-8")
    if text.isprintable() and not set(map(ord, text)) & set(DANGEROUS):
        assert once == text


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b[2J\x1b[H",
        "\x1b]0;title\x07",
        "\x1b]52;c;Y2F0\x07",
        "\x9b31m",
        "a\u202egnp.exe",
        "\u2066a\u2069",
        "a\rb",
        "a\bb",
        "\x00",
    ],
    ids=ascii,
)
def test_known_attacks_are_shown_as_what_they_are(attack: str) -> None:
    shown = printable(attack)
    assert shown.isprintable()
    assert "\\" in shown


@given(any_text)
def test_wellformed_text_can_be_stored_and_keeps_all_that_could_be(text: str) -> None:
    stored = wellformed(text)
    stored.encode("utf-8")
    if not any(0xD800 <= ord(each) < 0xE000 for each in text):
        assert stored == text
    assert wellformed(stored) == stored


@given(any_text, st.integers(0, 60))
def test_a_cap_holds_whatever_it_is(text: str, cap: int) -> None:
    short = capped(text, cap)
    assert len(short) <= cap
    assert short == text or len(text) > cap


def test_a_cut_says_so_in_the_text() -> None:
    short = capped("x" * 5000, 2048)
    assert len(short) == 2048
    assert short.endswith("… [5000 characters, cut]")


@given(any_text, any_text, st.integers(100, 200))
def test_a_capped_identity_still_identifies(one: str, other: str, cap: int) -> None:
    for long in (one, one * 100):
        for second in (other, long + "x", long[:-1]):
            assert (capped_identity(long, cap) == capped_identity(second, cap)) == (long == second)
        assert len(capped_identity(long, cap)) <= cap


plain = st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary(max_size=20)
nested: st.SearchStrategy[Any] = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text | st.integers() | st.none(), inner, max_size=4),
    max_leaves=40,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(item) for item in value.values()), default=0)
    return 1 + max((depth(item) for item in value), default=0) if isinstance(value, list) else 0


def check_storable(evidence: dict[str, Any]) -> None:
    text = json.dumps(evidence, ensure_ascii=False, allow_nan=False)
    assert len(text.encode("utf-8")) <= EVIDENCE_CAP
    assert depth(evidence) <= EVIDENCE_DEPTH
    assert json.loads(text) == evidence
    assert clamp_json(evidence) == evidence
    assert clamp_json(json.loads(text)) == evidence


@given(nested)
def test_any_evidence_becomes_storable_and_then_stays_as_it_is(value: Any) -> None:
    check_storable(clamp_json(value))


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(-9, 9) | st.text("ab"), max_size=9)
)
def test_evidence_that_is_storable_is_not_touched(value: dict[str, Any]) -> None:
    assert clamp_json(value) == value


class Spiteful:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def _tower(levels: int, width: int) -> Any:
    value: Any = "brick"
    for _ in range(levels):
        value = [value] * width
    return value


def _deep(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = {"in": value}
    return value


def _cycle() -> Any:
    value: list[Any] = []
    value.extend([value] * 50)
    return value


class Shown(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"text": "x" * 10_000_000}, id="10 MB of text"),
        pytest.param({"text": "\ud800" * 1_000_000}, id="a million surrogates"),
        pytest.param({"text": '"\\\x00' * 30_000}, id="text that doubles when it is quoted"),
        pytest.param({"text": "😀" * 16_000}, id="four bytes a character"),
        pytest.param({f"key{n}": "x" * 60_000 for n in range(100)}, id="many long texts"),
        pytest.param({"k" * 1_000_000: 1}, id="a key of 1 MB"),
        pytest.param({f"{'k' * 300}{n}": n for n in range(5)}, id="keys that are equal once they are cut"),
        pytest.param({n: n for n in range(1_000_000)}, id="a million items"),
        pytest.param([0] * 1_000_000, id="a million elements"),
        pytest.param({"bytes": b"\xff" * 10_000_000}, id="10 MB of bytes"),
        pytest.param({"n": 10**5000, "m": -(2**60), "k": 2**53}, id="huge integers"),
        pytest.param({10**5000: 1}, id="a huge integer as key"),
        pytest.param({"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0, "e": 5e-324, "f": 1.7e308}, id="strange floats"),
        pytest.param(_deep(100_000), id="100,000 levels"),
        pytest.param(_tower(8, 200), id="few objects, but 200 to the eighth when written out"),
        pytest.param(_cycle(), id="itself, fifty times"),
        pytest.param({Spiteful(): Spiteful()}, id="objects that can't be printed"),
        pytest.param({(Spiteful(),): {Spiteful(), 1}}, id="a tuple of them as key"),
        pytest.param({Shown("a"): Shown("b")}, id="a text that shows itself as another"),
        pytest.param(Spiteful(), id="an object"),
        pytest.param(None, id="nothing"),
    ],
)
def test_hostile_evidence_is_cut_quickly(value: Any) -> None:
    begun = time.process_time()
    evidence = clamp_json(value)
    assert time.process_time() - begun < 5
    check_storable(evidence)


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda size: printable("\x1b\u202ex" * size), id="printable"),
        pytest.param(lambda size: wellformed("x\ud800" * size), id="wellformed"),
        pytest.param(lambda size: capped("x" * size, 2048), id="capped"),
        pytest.param(lambda size: capped_identity("x" * size), id="capped_identity"),
        pytest.param(lambda size: clamp_json({"a": ["x\x00" * 50] * size, "b": "x" * size}), id="clamp_json"),
    ],
)
def test_cleaning_takes_linear_time(work: Callable[[int], object]) -> None:
    def seconds(size: int) -> float:
        best = math.inf
        for _ in range(3):
            begun = time.perf_counter()
            work(size)
            best = min(best, time.perf_counter() - begun)
        return best

    assert seconds(400_000) < 8 * 5 * max(seconds(50_000), 0.0005)


def test_what_pydantic_says_is_told_on_one_line_without_its_furniture() -> None:
    with pytest.raises(ValidationError) as raised:
        DegradationEvent(code="no code", subsystem="s", subject="x", severity="P9", summary=3)
    told = reason_of(raised.value)
    assert told.startswith("code: must be 1-64 letters, digits or _.:- and begin with a letter or digit; severity: ")
    assert "\n" not in told
    assert "pydantic" not in told
    assert reason_of(KeyError("oops")) == "'oops'"
