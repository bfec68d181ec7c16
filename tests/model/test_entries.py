"""Every type of entry, with anything that its fields can hold: stored as canonical JSON within the cap, and read back equal."""

import enum
import types
import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from remediation.errors import JournalTooNew, NotCanonical
from remediation.journal.encoding import draft
from remediation.model import canonical
from remediation.model.entries import AttemptFinished, Entry, IncidentSettled, PauseStarted, decode, entry_types
from remediation.model.events import DegradationEvent
from remediation.model.runbook import Finding, Verdict
from remediation.proof.leaf import MAX_BODY_BYTES

TYPES = entry_types()
any_text = st.text(st.characters(), max_size=30)
proper_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER) | st.integers(0, 100)


def values(annotation: Any, text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """What a field with this annotation can hold."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(each, text) for each in inner])
    if annotation is type(None):
        return st.none()
    if origin is typing.Literal:
        return st.sampled_from(inner)
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return st.lists(values(inner[0], text), max_size=3).map(tuple)
        return st.tuples(*(values(each, text) for each in inner))
    if origin is dict:
        return st.dictionaries(text, st.none() | st.booleans() | st.floats() | text | st.lists(text, max_size=2), max_size=3)
    if annotation is str:
        return text
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return numbers
    if issubclass(annotation, enum.Enum):
        return st.sampled_from(annotation)
    assert issubclass(annotation, BaseModel), annotation
    return models(annotation, text)


@st.composite
def models(draw: st.DrawFn, model: type[BaseModel], text: st.SearchStrategy[str]) -> BaseModel:
    """An instance, whatever its validators make of the values."""
    for _ in range(20):
        given = {}
        for name, field in model.model_fields.items():
            if field.is_required() or draw(st.booleans()):
                given[name] = draw(values(field.annotation, text))
        if model is DegradationEvent:
            given |= {"code": "C", "subsystem": "s"}
        try:
            return model(**given)
        except ValidationError:
            continue
    return draw(st.nothing())


def test_the_union_is_what_the_design_says() -> None:
    assert set(TYPES) == {
        *("host.started", "host.stopped", "degradation.reported", "degradation.coalesced", "degradation.cleared"),
        *("incident.opened", "incident.waiting", "incident.settled", "incident.reopened", "attempt.planned", "stage.applied"),
        *("effect.started", "effect.applied", "effect.failed", "effect.reverted", "effect.revert_failed", "effect.uncertain"),
        *("verification.started", "attempt.finished", "approval.requested", "approval.granted", "approval.denied"),
        *("approval.expired", "runbook.registered", "runbook.promoted", "runbook.degraded", "runbook.quarantined"),
        *("runbook.released", "runbook.faulted", "trust.requested", "trust.granted", "trust.refused", "trust.revoked"),
        *("proposal.drafted", "proposal.approved", "proposal.rejected", "credential.used", "pause.started", "pause.ended"),
        *("key.rotated", "key.revoked", "payload.erased", "journal.recovered", "journal.archived"),
    }


@pytest.mark.parametrize("name", sorted(TYPES))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_an_entry_is_read_back_as_it_was_written(name: str, data: st.DataObject) -> None:
    entry = data.draw(models(TYPES[name], proper_text))
    assert isinstance(entry, Entry)
    body = entry.body()
    assert decode(name, body) == entry
    assert decode(name, body).body() == body
    assert canonical.loads(body)["v"] == 1
    assert len(draft(entry).body) <= MAX_BODY_BYTES


@pytest.mark.parametrize("name", sorted(TYPES))
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_text_that_can_not_be_stored_is_refused_with_an_error_of_ours(name: str, data: st.DataObject) -> None:
    entry = data.draw(models(TYPES[name], any_text))
    assert isinstance(entry, Entry)
    try:
        body = entry.body()
    except NotCanonical:
        return
    assert decode(name, body) == entry


@pytest.mark.parametrize("name", sorted(TYPES))
def test_fields_keep_to_what_the_journal_can_hold(name: str) -> None:
    """No floats, no foreign JSON: otherwise some value of the type could be made, but never stored."""

    def check(annotation: Any, of: type) -> None:
        for inner in typing.get_args(annotation):
            if isinstance(inner, type) or typing.get_args(inner):
                check(inner, of)
        assert annotation is not float
        if typing.get_origin(annotation) is dict or annotation in (dict, Any):
            assert of is DegradationEvent  # whose evidence is written as one text
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for field_name, field in annotation.model_fields.items():
                assert canonical._KEY(field_name)
                if not (of is DegradationEvent and field_name == "evidence"):
                    check(field.annotation, annotation)

    check(TYPES[name], TYPES[name])


def test_a_field_at_its_default_is_left_out() -> None:
    assert PauseStarted(reason="r", by="b").body() == b'{"by":"b","reason":"r","v":1}'
    assert decode("pause.started", b'{"by":"b","reason":"r","v":1}') == PauseStarted(reason="r", by="b")


def test_an_entry_is_frozen_and_closed() -> None:
    entry = PauseStarted(reason="r", by="b")
    with pytest.raises(ValidationError):
        entry.reason = "other"
    with pytest.raises(ValidationError):
        PauseStarted(reason="r", by="b", colour="red")


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        ("pause.begun", b'{"v":1}'),
        ("", b'{"v":1}'),
        ("pause.started", b'{"by":"b","reason":"r","v":2}'),
        ("pause.started", b'{"by":"b","reason":"r"}'),
        ("pause.started", b'{"by":"b","reason":"r","v":"1"}'),
        ("pause.started", b'{"by":"b","reason":"r","v":1,"new":1}'),
        ("pause.started", b'{"by":"b","v":1}'),
        ("pause.started", b'{"by":5,"reason":"r","v":1}'),
        ("incident.settled", b'{"reason":"r","status":"forgotten","v":1}'),
    ],
)
def test_what_this_release_does_not_know_is_of_a_newer_one(type_: str, body: bytes) -> None:
    with pytest.raises(JournalTooNew, match="upgrade remediation"):
        decode(type_, body)


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"null", b"5", b"{", b"\xff", b'{"v":1.0}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused_with_an_error_of_ours(body: bytes) -> None:
    with pytest.raises((NotCanonical, JournalTooNew)):
        decode("pause.started", body)


def test_an_entry_that_is_too_large_is_refused_before_it_is_stored() -> None:
    fits = IncidentSettled(status="resolved", reason="r", analysis="x" * (MAX_BODY_BYTES - 100))
    assert draft(fits).body == fits.body()
    with pytest.raises(NotCanonical, match="larger than"):
        draft(IncidentSettled(status="resolved", reason="r", analysis="x" * MAX_BODY_BYTES))


@pytest.mark.parametrize("worst", ["\x01", '"', "\U0010ffff", "\ud800"], ids=ascii)
def test_what_a_runbook_found_and_saw_always_fits_into_an_entry(worst: str) -> None:
    """A plugin may say as much as it likes, through the helpers or past them."""
    lines = [worst * 3000] * 500
    for finding in (
        Finding.applies(evidence=lines, reason=worst * 5000),
        Finding(applicable=True, reason=worst * 5000, evidence=tuple(lines)),
    ):
        assert sum(map(len, finding.evidence)) <= 16 * 1024
        assert len(finding.evidence) <= 64
        assert finding.evidence[-1].startswith("… [")
        assert Finding(**finding.model_dump()) == finding
    for verdict in (Verdict.failed(worst * 5000, evidence=lines), Verdict(status="failed", evidence=tuple(lines))):
        entry = AttemptFinished(attempt="a", runbook="r", outcome="failed", verdict=verdict)
        assert decode(entry.type, draft(entry).body) == entry


@given(st.lists(st.text(st.characters(), max_size=3000), max_size=80))
def test_lines_of_evidence_that_were_cut_stay_as_they_are(lines: list[str]) -> None:
    once = Finding.applies(evidence=lines)
    assert Finding.applies(evidence=once.evidence) == once
    if len(lines) <= 64 and sum(len(line) for line in lines) * 6 <= 16 * 1024 and all(len(line) < 300 for line in lines):
        assert len(once.evidence) == len(lines)
