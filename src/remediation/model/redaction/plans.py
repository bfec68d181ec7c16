"""Secrets in plans: what is applied and approved must hold none, because it is journaled as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from remediation.model.plan import PlannedEffect, PlanRecord
from remediation.model.redaction.assignments import is_value
from remediation.model.redaction.commands import arguments
from remediation.model.redaction.names import is_pair, is_secret_under, names_secret
from remediation.model.redaction.redactor import Redactor
from remediation.model.runbook import Bounds

_TOLD = 5
_FLAG = re.compile(r"--[A-Za-z][\w-]*")
_DEPTH = 64
Found = tuple[str, str]
"""Where, and of which class."""


def secrets_of(redactor: Redactor, plan: PlanRecord) -> str:
    """
    Where `plan` holds credentials, and of which classes, for people; empty if it holds none.

    Looked at is all that is stored and applied: the fields of effects (commands, variables, arguments, paths, texts that stand in the
    plan), what they prepared, and the bounds. Personal data is no credential; a `SecretRef` is no secret; contents that are kept as
    blobs, and the files that effects change, are not looked at.
    """
    found: list[str] = []
    for number, item in enumerate(plan.effects, 1):
        places = dict.fromkeys((*_in(redactor, item.effect.data), *_in(redactor, item.prepared)))
        found += [f"effect {number}, {item.effect.kind}: {where or 'its fields'}: {what}" for where, what in places]
    if plan.bounds is not None:
        found += [f"bounds: {where}: {what}" for where, what in _walk(redactor, plan.bounds.model_dump(mode="json"), "", _DEPTH)]
    more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return "; ".join(found[:_TOLD]) + more


def without_secrets(redactor: Redactor, plan: PlanRecord) -> PlanRecord:
    """`plan` as it is recorded when it is refused for its secrets: masked, and good for nothing but being read."""

    def effect(item: PlannedEffect) -> PlannedEffect:
        record = item.effect.model_copy(update={"data": _masked(redactor, item.effect.data)})
        return item.model_copy(update={"effect": record, "prepared": _masked(redactor, item.prepared)})

    bounds = plan.bounds
    if bounds is not None:
        bounds = Bounds.model_validate(redactor.json(bounds.model_dump(mode="json"), typed=True))
    return plan.model_copy(update={"effects": tuple(map(effect, plan.effects)), "bounds": bounds})


def _masked(redactor: Redactor, text: str) -> str:
    try:
        return json.dumps(redactor.json(json.loads(text), typed=True), ensure_ascii=False)
    except (ValueError, RecursionError):
        return redactor.text(text)


def _in(redactor: Redactor, text: str) -> Iterator[Found]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        yield from (("", what) for what in redactor.fires(text))
    else:
        yield from _walk(redactor, value, "", _DEPTH)


def _walk(redactor: Redactor, value: Any, where: str, depth: int) -> Iterator[Found]:
    if isinstance(value, str):
        yield from ((where, what) for what in redactor.fires(value))
        if value[:1] in ("{", "["):
            yield from _nested(redactor, value, where, depth)
    elif not isinstance(value, dict | list):
        return
    elif depth == 0:
        yield where, "nested too deeply to be looked at"
    elif isinstance(value, dict):
        for key, item in value.items():
            name = redactor.text(key)
            yield from ((where, what) for what in redactor.fires(key))
            if is_secret_under(key, item) and not _is_reference(value, item) and _holds(item):
                yield name, "the value of a secret's name"
            else:
                yield from _walk(redactor, item, name, depth - 1)
    else:
        if is_pair(value) and is_value(value[1]):
            yield value[0], "the value of a secret's name"
        passwords = arguments(value)
        for number, (before, item) in enumerate(zip(("", *value), value, strict=False)):
            flag = isinstance(before, str) and _FLAG.fullmatch(before) and names_secret(before)
            if flag and isinstance(item, str) and not item.startswith("-") and is_value(item):
                yield where, f"the value of {before}"
            elif number in passwords:
                yield where, "a password among arguments"
            else:
                yield from _walk(redactor, item, where, depth - 1)


def _nested(redactor: Redactor, text: str, where: str, depth: int) -> Iterator[Found]:
    """JSON in a text, as the arguments of a control are."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    yield from _walk(redactor, value, where, depth - 1)


def _is_reference(value: dict[str, Any], item: Any) -> bool:
    """Whether this is a `SecretRef`: the field ``secret`` of a value that has no other, or a name that refers to one, or to several."""
    if isinstance(item, dict):
        return _refers(item) or (bool(item) and all(map(_refers, item.values())))
    return value.keys() == {"secret"} and isinstance(item, str)


def _refers(item: Any) -> bool:
    return isinstance(item, dict) and item.keys() == {"secret"} and isinstance(item["secret"], str)


def _holds(item: Any) -> bool:
    if isinstance(item, str):
        return is_value(item)
    return isinstance(item, dict | list) and any(map(_holds, item.values() if isinstance(item, dict) else item))
