"""Degradations: what sentinels and hosts publish."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator

from remediation.model.base import Frozen, Severity
from remediation.model.text import SUMMARY_CAP, capped, capped_identity, clamp_json, clean_key, wellformed

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
A_WORD = "1-64 letters, digits or _.:- and begin with a letter or digit"
"""What a code is, in words."""
TAINTED_CAP = 64
_LAST_MOMENT = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, where calendars of four digits end


class Provenance(StrEnum):
    """Through which channel a degradation came; assigned by the engine, never by the reporter."""

    NATIVE = "native"  # the embedding host, in process
    SENTINEL = "sentinel"
    EXPLICIT = "explicit"  # a person or program, through the inbox or command line
    FREE_TEXT = "free-text"  # guessed from text; matches no runbook


def _load_evidence(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = {"text": value}
    return clamp_json(value)


Evidence = Annotated[
    dict[str, Any],
    BeforeValidator(_load_evidence),
    PlainSerializer(lambda value: json.dumps(value, ensure_ascii=False, sort_keys=True), return_type=str),
]
"""Foreign JSON: a mapping in memory, one JSON text in the journal; made storable by `clamp_json`."""


class DegradationEvent(Frozen):
    """
    Something got worse.

    `code`, `subsystem` and `subject` identify it: equal triples are one incident. Hostile text is made harmless rather than refused
    (long texts are cut and say so, evidence is clamped, an impossible time is dropped), because losing a report is worse; only a
    malformed `code`, `subsystem` or `severity`, an empty `subject`, or too many `tainted` names are an error.
    """

    code: str
    """The class, e.g. ``SQLITE_CORRUPT``: 1-64 of letters, digits and ``_.:-``."""
    subsystem: str
    """The part of the host it belongs to: 1-64 characters, as `code`."""
    subject: str
    """The one thing that is affected: a path, a queue, a job; at most 4,096 characters."""
    severity: Severity = Severity.P2
    summary: str = ""
    """One line for people; at most 2 KiB."""
    evidence: Evidence = Field(default_factory=dict)
    """What the reporter saw, as JSON; at most 64 KiB and 8 levels."""
    tainted: tuple[str, ...] = ()
    """Names in `evidence` that derive from text which anybody may have written (a printed traceback): a runbook confirms them in
    the world before it acts on them. At most 64; written as `evidence` writes them (see `remediation.model.text.clean_key`)."""
    observed_at: int | None = None
    """When it was seen, in milliseconds since 1970 UTC; filled with the time of the report if missing."""

    @field_validator("code", "subsystem")
    @classmethod
    def _word(cls, value: str) -> str:
        if not is_word(value):
            raise ValueError(f"must be {A_WORD}")
        return value

    @field_validator("subject")
    @classmethod
    def _subject(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must name what is affected")
        return capped_identity(wellformed(value))

    @field_validator("summary")
    @classmethod
    def _summary(cls, value: str) -> str:
        return capped(wellformed(value), SUMMARY_CAP)

    @field_validator("tainted")
    @classmethod
    def _tainted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > TAINTED_CAP:
            raise ValueError(f"at most {TAINTED_CAP} names may be tainted; leave out of the evidence what nobody needs")
        return tuple(clean_key(name) for name in value)

    @field_validator("observed_at")
    @classmethod
    def _observed_at(cls, value: int | None) -> int | None:
        return value if value is not None and 0 <= value <= _LAST_MOMENT else None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """See pydantic; the copy's fingerprint is its own, also when this one's was asked for before."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("fingerprint", None)
        return copy

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identity of the incident: 16 hexadecimal digits of SHA-256 over code, subsystem and subject, NUL-separated."""
        return fingerprint(self.code, self.subsystem, self.subject)


def is_word(text: str) -> bool:
    """Whether a degradation can have `text` as its code or subsystem."""
    return _WORD.fullmatch(text) is not None


def fingerprint(code: str, subsystem: str, subject: str) -> str:
    """The fingerprint of a degradation with these three names; see `DegradationEvent.fingerprint`."""
    text = f"{code}\0{subsystem}\0{subject}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
