"""What remains of erased entries: all that state is folded from, and no text."""

import random
import typing
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from remediation.core.residue import GONE, KEPT, differs, erasable, residue, without_text
from remediation.model.entries import Entry, KeyRotated, PauseStarted, PayloadErased, decode, entry_types

SECRET = "Hildegard Mustermann"
NAMES = {
    "attempt",
    "runbook",
    "code_digest",
    "instance",
    "plan_digest",
    "key",
    "kind",
    "outcome",
    "tags",
    "nonce",
    "ladder",
    "revert",
}
NAMES |= {"row", "approval_id", "approver", "step", "incident", "code", "subsystem"}
"""Fields of texts that are names which programs give."""


def filled(annotation: Any, name: str) -> Any:
    """A value of the type whose free texts all hold the secret."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return random.Random(name).choice(inner)
    if origin is tuple:
        kinds = inner[:1] if inner[-1] is Ellipsis else inner
        value = tuple(filled(kind, name) for kind in kinds)
        return value
    if inner and type(None) in inner:
        return filled(next(kind for kind in inner if kind is not type(None)), name)
    if origin is not None and isinstance(origin, type) and issubclass(origin, dict):
        return {"said": SECRET}
    if annotation is str:
        return f"n-{name}" if name in NAMES else SECRET
    if annotation is bool:
        return True
    if annotation is int:
        return 7
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return list(annotation)[-1]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation(**{field: filled(info.annotation, field) for field, info in annotation.model_fields.items()})
    raise AssertionError(f"no value for {annotation}")


def full(type_: str) -> Entry:
    return filled(entry_types()[type_], "")


@pytest.mark.parametrize("type_", sorted(KEPT))
def test_no_text_of_a_person_or_a_program_s_output_remains(type_: str) -> None:
    entry = full(type_)
    assert SECRET.encode() in entry.body()
    left = residue(entry)
    assert SECRET.encode() not in left.body()
    assert type(left) is type(entry)
    assert decode(type_, left.body()) == left


@pytest.mark.parametrize("type_", sorted(KEPT))
def test_a_residue_is_its_own_residue(type_: str) -> None:
    left = residue(full(type_))
    assert residue(left) == left
    assert differs(full(type_))
    assert not differs(left)


@pytest.mark.parametrize("type_", sorted(KEPT))
def test_what_is_named_to_stay_is_a_field_and_stays(type_: str) -> None:
    entry, left = full(type_).model_dump(mode="json"), residue(full(type_)).model_dump(mode="json")

    def check(before: Any, after: Any, kept: Any) -> None:
        if isinstance(before, list):
            assert len(before) == len(after)
            for old, new in zip(before, after, strict=True):
                check(old, new, kept)
            return
        for name, how in kept.items():
            assert name in before
            if isinstance(how, dict):
                check(before[name], after[name], how)
            elif before[name] != SECRET:
                assert after[name] in (before[name], GONE)

    check(entry, left, KEPT[type_])


@pytest.mark.parametrize(
    "entry", [PauseStarted(reason=SECRET, by="x"), KeyRotated(old="a", new="b"), PayloadErased(seq=1, reason="x")]
)
def test_what_authority_and_verification_rest_on_can_t_be_erased(entry: Entry) -> None:
    assert not erasable(entry.type)
    assert without_text(entry) is entry
