"""docs/specs/entry-types.md says of every type and every field what the code says."""

import enum
import json
import re
import types
import typing
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tests.support import repository

from remediation.model.entries import entry_types

PAGE = (repository.ROOT / "docs" / "specs" / "entry-types.md").read_text()
TYPES = entry_types()
Rows = list[tuple[str, str, str]]


def sections() -> dict[str, Rows]:
    """The tables of the page by their headings: field, JSON, default."""
    found: dict[str, Rows] = {}
    for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        rows = re.findall(r"^\| `([a-z0-9_]+)` \| ([^|]+) \| ([^|]+) \| (\S[^|]+) \|$", text.split("\n## ")[0], flags=re.MULTILINE)
        found[heading.strip("`")] = [(name, kind, default) for name, kind, default, _ in rows]
    return found


def values() -> dict[str, type[BaseModel]]:
    """The models inside entries, by name."""
    found: dict[str, type[BaseModel]] = {}

    def walk(annotation: Any) -> None:
        for inner in typing.get_args(annotation):
            walk(inner)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation.__name__ not in found:
            if annotation not in TYPES.values():
                found[annotation.__name__] = annotation
            for field in annotation.model_fields.values():
                walk(field.annotation)

    for entry in TYPES.values():
        walk(entry)
    return found


def kind(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(kind(each) for each in inner)
    if origin is tuple:
        words, of = ("list", kind(inner[0])) if inner[-1] is Ellipsis else ("pair", kind(inner[0]))
        first, _, rest = of.partition(" ")
        return f"{words} of {first}s{f' {rest}' if rest else ''}"
    names = {type(None): "null", str: "text", bool: "boolean", int: "integer"}
    if annotation in names:
        return names[annotation]
    if origin is typing.Literal or origin is dict or issubclass(annotation, enum.Enum):
        return "text"
    return "object"


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value.value if isinstance(value, enum.Enum) else value)}`"


def rows(model: type[BaseModel]) -> Rows:
    return [(name, kind(field.annotation), default(field)) for name, field in model.model_fields.items()]


@pytest.mark.parametrize("name", sorted(TYPES))
def test_each_type_is_documented_with_each_of_its_fields(name: str) -> None:
    assert sections()[name] == rows(TYPES[name])


@pytest.mark.parametrize("name", sorted(values()))
def test_each_value_inside_entries_is_documented_with_each_of_its_fields(name: str) -> None:
    assert sections()[name] == rows(values()[name])


def test_the_page_documents_nothing_else() -> None:
    assert set(sections()) == {*TYPES, *values()}


def test_all_types_are_in_the_version_that_the_page_states() -> None:
    assert "All types are in version 1." in PAGE
    assert {entry.v for entry in TYPES.values()} == {1}


def test_closed_choices_are_named_with_all_their_members() -> None:
    text = {
        heading: part
        for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
        for heading in [part.partition("\n")[0].strip("`")]
    }
    for name, model in {**TYPES, **values()}.items():
        for field_name, field in model.model_fields.items():
            if typing.get_origin(field.annotation) is typing.Literal:
                line = next(line for line in text[name].splitlines() if line.startswith(f"| `{field_name}` |"))
                for member in typing.get_args(field.annotation):
                    assert f"`{member}`" in line or "this row says" in line, f"{name}.{field_name}: {member}"
