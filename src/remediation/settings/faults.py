"""Turns what pydantic says about settings into sentences for the person who wrote the file."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from remediation.model.text import capped, printable

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_FOUND = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a decimal number",
    list: "a list",
    tuple: "a list",
    dict: "a table",
}
_WANTED = {
    "int": "must be a whole number",
    "bool": "must be true or false",
    "string": "must be a string",
    "tuple": "must be a list",
    "list": "must be a list",
    "dict": "must be a table",
    "model": "must be a table",
    "path": "must be a path, as a string",
}


def sentences(error: ValidationError, model: type[BaseModel], source: str) -> list[str]:
    """One sentence for each problem in `error`, in the order of the file's tables; `source` (the file) begins each."""
    return [f"{source}: {_sentence(problem, model)}" for problem in error.errors(include_url=False)]


def of_table(error: ValidationError, model: type[BaseModel], table: str) -> list[str]:
    """One sentence for each problem in one `table`, which `model` describes."""
    said = []
    for problem in error.errors(include_url=False):
        location = tuple(problem["loc"])
        if problem["type"] == "extra_forbidden":
            said.append(unknown(location, model, table))
        else:
            complaint = _complaint(problem)
            said.append(f"{table}{_inside(location)}{' ' if complaint.startswith(('must', 'is ')) else ': '}{complaint}")
    return said


def unknown(location: tuple[str | int, ...], model: type[BaseModel], table: str) -> str:
    """That the key at `location` in `table`, which `model` describes, is none; with the nearest one, or all."""
    *parents, last = location
    fields = (_model_at(model, parents) or model).model_fields
    known = [item.validation_alias if isinstance(item.validation_alias, str) else name for name, item in fields.items()]
    said = f"{table}{_inside(parents)} has no key {printable(str(last))!r}"
    if near := nearest(str(last), known):
        return f"{said}; did you mean {near!r}?"
    return f"{said}; it has {', '.join(known)}" if known else f"{said}; it has none at all"


def _inside(location: Sequence[str | int]) -> str:
    parts = [f", item {part + 1}" if isinstance(part, int) else f" {printable(part)}" for part in location if part != "[key]"]
    return "".join(parts)


def _sentence(problem: Any, model: type[BaseModel]) -> str:
    location = tuple(problem["loc"])
    if problem["type"] == "extra_forbidden":
        return _unknown(location, problem["input"], model)
    complaint = _complaint(problem)
    return f"{_place(location)}{' ' if complaint.startswith(('must', 'is ')) else ': '}{complaint}"


def _unknown(location: tuple[str | int, ...], value: Any, model: type[BaseModel]) -> str:
    *parents, last = location
    name = str(last)
    owner = _model_at(model, parents) or model
    near = nearest(name, list(owner.model_fields))
    if parents:
        said = f"{_table(parents)} has no key {printable(name)!r}"
        if near:
            return f"{said}; did you mean {near!r}?"
    elif isinstance(value, dict):
        said = f"there is no table [{printable(name)}]"
        if near:
            return f"{said}; did you mean [{near}]?"
    else:
        said = f"the key {printable(name)!r} stands in no table"
    for table, field in model.model_fields.items():
        inner = model_of(field.annotation)
        if inner is not None and name in inner.model_fields and table != (parents[0] if parents else None):
            return f"{said}; it belongs in [{table}]"
    known = ", ".join(owner.model_fields) if parents else ", ".join(f"[{table}]" for table in owner.model_fields if table != "base")
    return f"{said}; it has {known}" if parents else f"{said}; there are {known}"


def _complaint(problem: Any) -> str:
    kind: str = problem["type"]
    context: dict[str, Any] = problem.get("ctx", {})
    value = problem["input"]
    if kind == "value_error":
        return printable(str(context["error"]))
    if kind == "literal_error":
        said = f"must be one of {context['expected']}"
        near = nearest(value, re.findall(r"'([^']*)'", context["expected"])) if isinstance(value, str) else None
        return f"{said}; did you mean {near!r}?" if near else said
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']}"
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "must not be empty"
    wanted = _WANTED.get(kind.partition("_")[0])
    if wanted is None:
        return capped(printable(problem["msg"]), 300)
    found = _FOUND.get(type(value))
    return f"{wanted}, not {found}" if found else wanted


def _place(location: Sequence[str | int]) -> str:
    words = [part for part in location if part != "[key]"]
    numbers: list[int] = []
    while words and isinstance(words[-1], int):
        numbers.insert(0, words.pop() + 1)  # type: ignore[operator]  # isinstance does not narrow an element
    nth = "".join(f", item {number}" for number in numbers)
    if not words:
        return "the file"
    if len(words) == 1:
        return f"[{_key(words[0])}]{nth}"
    return f"{_table(words[:-1])} {printable(str(words[-1]))}{nth}"


def _table(parts: Sequence[str | int]) -> str:
    return f"[{'.'.join(_key(part) for part in parts)}]"


def _key(part: str | int) -> str:
    text = str(part)
    return text if _BARE.fullmatch(text) else f'"{printable(text)}"'


def nearest(name: str, known: list[str]) -> str | None:
    """Which of `known` was probably meant by `name`."""
    found = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return found[0] if found else None


def _model_at(model: type[BaseModel], parts: Sequence[str | int]) -> type[BaseModel] | None:
    annotation: Any = model
    for part in parts:
        inner = model_of(annotation)
        if inner is not None:
            field = inner.model_fields.get(str(part))
            if field is None:
                return None
            annotation = field.annotation
        else:
            arguments = [item for item in typing.get_args(annotation) if item is not Ellipsis]
            annotation = arguments[-1] if arguments else None
    return model_of(annotation)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that `annotation` names, also beside `None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next((item for item in typing.get_args(annotation) if item is not type(None)), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
