"""Events and entries with their secrets masked: what goes into the journal passes here."""

from __future__ import annotations

import functools
import json
import types
import typing
from enum import Enum
from typing import Any, Literal, TypeVar, Union

from pydantic import BaseModel

from remediation.model.events import DegradationEvent
from remediation.model.redaction.redactor import Redactor
from remediation.model.text import SUMMARY_CAP, capped, capped_identity, clamp_json, clean_key, wellformed

M = TypeVar("M", bound=BaseModel)

# Identities, digests, signed documents, declared names, and what an effect is applied and undone from: a mask would falsify them.
_EXACT_WORDS = """
approval_id approver attempt boot_id bounds by code_digest configuration data digest document effect export_sha256
fingerprint grant_id history incident instance kept key kind ladder level name new nonce old old_head outcome path plan_digest plugin
prepared profile proposal revert row runbook scope signature snapshot_sha256 spec step subjects tags version
"""
EXACT = frozenset(_EXACT_WORDS.split())
"""Fields of entries whose texts are never masked. All other texts are, also those of entries that are new."""


def redacted_event(redactor: Redactor, event: DegradationEvent) -> DegradationEvent:
    """
    `event` with its secrets masked, the same object if it has none.

    The subject identifies the incident: in it credentials are masked, and personal data is not; the masked subject is the identity.
    """
    changes: dict[str, Any] = {}
    subject = redactor.credentials(event.subject)
    if subject is not event.subject:
        changes["subject"] = capped_identity(subject)
    summary = redactor.text(event.summary)
    if summary is not event.summary:
        changes["summary"] = capped(summary, SUMMARY_CAP)
    if event.evidence:
        evidence = redactor.json(event.evidence)
        if evidence != event.evidence:
            changes["evidence"] = clamp_json(evidence)
    tainted = tuple(clean_key(redactor.text(name)) for name in event.tainted)
    if tainted != event.tainted:
        changes["tainted"] = tainted
    return event.model_copy(update=changes) if changes else event


def identity(redactor: Redactor, subject: str) -> str:
    """`subject` as it stands in events after `redacted_event`."""
    return capped_identity(redactor.credentials(capped_identity(wellformed(subject))))


def redacted(redactor: Redactor, value: M) -> M:
    """An entry, or a part of one, with its secrets masked, but for the fields in `EXACT`; the same object if it has none."""
    changes: dict[str, Any] = {}
    for name in _fields(type(value)):
        before = getattr(value, name)
        if before:
            after = _value(redactor, name, before)
            if after is not before:
                changes[name] = after
    return value.model_copy(update=changes) if changes else value


def _value(redactor: Redactor, name: str, value: Any) -> Any:
    if type(value) is str:
        if name == "output":
            return _json_text(redactor, value, typed=True)
        return _json_text(redactor, value, typed=False) if name == "evidence" else redactor.text(value)
    if isinstance(value, tuple):
        parts = tuple(redactor.text(item) if type(item) is str else _value(redactor, "", item) for item in value)
        return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    if isinstance(value, DegradationEvent):
        return redacted_event(redactor, value)
    return redacted(redactor, value) if isinstance(value, BaseModel) else value


def _json_text(redactor: Redactor, text: str, *, typed: bool) -> str:
    """A JSON text with its secrets masked, as JSON text; one that can't be read is masked as any text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return redactor.text(text)
    result = redactor.json(value, typed=typed)
    return text if result == value else json.dumps(result, ensure_ascii=False)


@functools.cache
def _fields(kind: type[BaseModel]) -> tuple[str, ...]:
    """The fields that may hold prose."""
    return tuple(name for name, field in kind.model_fields.items() if name not in EXACT and _holds_text(field.annotation))


def _holds_text(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return False
    if origin in (Union, types.UnionType, tuple, list):
        return any(_holds_text(argument) for argument in typing.get_args(annotation))
    if origin is not None:
        return True
    return isinstance(annotation, type) and not issubclass(annotation, Enum) and issubclass(annotation, str | BaseModel)
