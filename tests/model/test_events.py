"""Whatever a degradation is made of: it is refused at once, or it can be stored, and read back equal."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.support.journals import make_home, open_with

from remediation.journal import IntentJournal
from remediation.model.entries import DegradationReported, Record, decode
from remediation.model.events import DegradationEvent, Provenance, fingerprint
from remediation.model.redaction import Redactor
from remediation.model.redaction.journaled import redacted_event
from remediation.proof.leaf import MAX_BODY_BYTES

any_text = st.text(st.characters())
word = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", fullmatch=True)
plain = st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary(max_size=20)
evidence: st.SearchStrategy[Any] = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4), max_leaves=20
)
anything = plain | evidence
events = st.fixed_dictionaries(
    {"code": word | any_text, "subsystem": word | any_text, "subject": any_text | st.sampled_from(["/srv/app.db", "x" * 5000])},
    optional={
        "severity": st.sampled_from(["P0", "P1", "P2", "P3"]) | any_text,
        "summary": any_text | st.sampled_from(["s" * 3000, "\x00" * 3000]),
        "evidence": evidence | st.sampled_from(['{"a": 1}', "not JSON", '{"a": NaN}', "[" * 2000, {"a": "x" * 70_000}]),
        "tainted": st.lists(any_text | st.sampled_from(["t" * 300]), max_size=70),
        "observed_at": st.integers() | st.floats() | any_text,
    },
)
good = st.fixed_dictionaries(
    {"code": word, "subsystem": word, "subject": any_text.filter(str.strip)},
    optional={
        "severity": st.sampled_from(["P0", "P1", "P2", "P3"]),
        "summary": any_text,
        "evidence": evidence,
        "tainted": st.lists(any_text, max_size=8),
        "observed_at": st.integers(0, 2**41),
    },
)
BASE = {"code": "LOCK_STALE", "subsystem": "mail", "subject": "/run/mail.pid"}


class Ledger:
    """One real journal for many examples."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="events-"))
        self.runner = asyncio.Runner()
        self.journal: IntentJournal = self.runner.run(open_with(make_home(self.folder)))

    def through(self, event: DegradationEvent) -> DegradationEvent:
        """The event as it comes out of the journal's file."""

        async def work() -> Record:
            position = await self.journal.append("s", [DegradationReported(event=event, provenance=Provenance.NATIVE)])
            return await anext(self.journal.read(after=position.seq - 1))

        record = self.runner.run(work())
        assert isinstance(record.entry, DegradationReported)
        return record.entry.event

    def close(self) -> None:
        self.runner.run(self.journal.close())
        self.runner.close()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


@given(given=events | good)
def test_what_is_accepted_goes_through_the_journal_unchanged_but_for_its_secrets(ledger: Ledger, given: dict[str, Any]) -> None:
    try:
        event = redacted_event(Redactor(), DegradationEvent(**given))
    except ValidationError:
        return
    back = ledger.through(event)
    assert back == event
    assert back.fingerprint == event.fingerprint


@given(given=good)
def test_hostile_text_is_made_harmless_and_not_refused(given: dict[str, Any]) -> None:
    event = DegradationEvent(**given)
    assert len(event.summary) <= 2048
    assert len(event.subject) <= 4096
    json.dumps(event.model_dump(mode="json"), allow_nan=False).encode("utf-8")


@given(given=good)
def test_making_it_again_from_its_own_words_changes_nothing(given: dict[str, Any]) -> None:
    event = DegradationEvent(**given)
    assert DegradationEvent(**event.model_dump()) == event
    assert DegradationEvent.model_validate(event.model_dump(mode="json")) == event
    assert DegradationEvent.model_validate_json(event.model_dump_json()) == event
    entry = DegradationReported(event=event, provenance=Provenance.SENTINEL)
    assert decode(entry.type, entry.body()) == entry


def test_the_largest_event_that_can_be_made_fits_into_an_entry() -> None:
    """Every text at its cap, of characters that grow most when they are quoted."""
    for worst in ("\x01", '"', "\\", "\U0010ffff", "\ud800"):
        event = DegradationEvent(
            code="C" * 64,
            subsystem="s" * 64,
            subject="x" + worst * 4095,
            summary=worst * 2048,
            evidence={"text": worst * 60_000, worst * 200: worst},
            tainted=[worst * 256] * 64,
            observed_at=2**41,
        )
        assert len(DegradationReported(event=event, provenance=Provenance.EXPLICIT).body()) <= MAX_BODY_BYTES


@pytest.mark.parametrize("field", ["code", "subsystem"])
@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a/b", "-a", ".a", "é", "a\n", "x" * 65, "\ud800", "a\x00", "\u202ea", None, 5, ["A"]], ids=ascii
)
def test_a_malformed_name_is_refused_without_repeating_it(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        DegradationEvent(**{**BASE, field: value})
    if isinstance(value, str) and len(value) > 10:
        assert value not in str(refused.value)


@pytest.mark.parametrize("value", ["", "   ", "\n", "\u2003", None, 5, b"  ", {"a": 1}], ids=ascii)
def test_a_subject_that_names_nothing_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        DegradationEvent(**{**BASE, "subject": value})


@pytest.mark.parametrize("value", ["P4", "p1", "", "high", 1, None, "P1\n"])
def test_a_severity_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        DegradationEvent(**{**BASE, "severity": value})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        DegradationEvent(**BASE, provenance="native")


@pytest.mark.parametrize("value", [2**53, 2**60, -1, -(2**60), 10**30, 253_402_300_800_000])
def test_a_time_that_no_calendar_has_is_dropped_and_the_report_kept(value: int) -> None:
    assert DegradationEvent(**BASE, observed_at=value).observed_at is None


@pytest.mark.parametrize("value", [0, 1, 1_767_225_600_000, 253_402_300_799_999])
def test_a_time_of_this_calendar_is_kept(value: int) -> None:
    assert DegradationEvent(**BASE, observed_at=value).observed_at == value


def test_a_mark_of_taint_is_never_lost() -> None:
    """Rather is the report refused: what anybody may have written must not pass for what was seen."""
    names = tuple(f"field{n}" for n in range(64))
    assert DegradationEvent(**BASE, tainted=names).tainted == names
    with pytest.raises(ValidationError, match="tainted"):
        DegradationEvent(**BASE, tainted=[*names, "one more"])


def test_a_tainted_name_matches_the_name_in_the_evidence_however_strange() -> None:
    for name in ("a\udc80", "x" * 1000, "", "\x00", "é"):
        event = DegradationEvent(**BASE, evidence={name: 1}, tainted=[name])
        assert list(event.tainted) == list(event.evidence)


def test_bytes_are_text_like_any_other() -> None:
    event = DegradationEvent(**{**BASE, "subject": b"x" * 10_000}, summary=b"y" * 10_000)
    assert (len(event.subject), len(event.summary)) == (4088, 2048)


@given(st.tuples(any_text, any_text, any_text), st.tuples(any_text, any_text, any_text))
def test_fingerprints_are_equal_for_equal_triples_only(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    if not any("\0" in text for text in (*one, *other)):
        assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


def test_long_subjects_that_differ_at_the_end_are_different_incidents() -> None:
    one, other = (DegradationEvent(**{**BASE, "subject": "/very/long/" * 1000 + end}) for end in ("a", "b"))
    assert one.fingerprint != other.fingerprint


def test_an_event_can_not_be_changed() -> None:
    event = DegradationEvent(**BASE)
    with pytest.raises(ValidationError):
        event.code = "OTHER"
