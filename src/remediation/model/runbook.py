"""What a runbook declares, and the values that its steps return."""

from __future__ import annotations

import functools
import re
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from remediation.model.base import Duration, Frozen, parse_duration
from remediation.model.text import SUMMARY_CAP, capped, wellformed

_LINES = 64
_LINES_CAP = 16 * 1024
_NOTE_CAP = 64
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


class Ordered(StrEnum):
    """An enumeration whose members are ordered as declared."""

    @functools.cached_property
    def rank(self) -> int:
        """Position in the declared order, from 0."""
        return list(type(self)).index(self)


class Radius(Ordered):
    """How much of the world a mistake can reach."""

    PROCESS = "process"
    MACHINE = "machine"
    FLEET = "fleet"


class Reversibility(Ordered):
    """What is lost when an effect was wrong, from nothing to everything."""

    REVERSIBLE = "reversible"  # undone exactly
    DISPOSABLE = "disposable"  # destroys only what the operator declared re-creatable
    PARTIAL = "partial"
    IRREVERSIBLE = "irreversible"


class Level(Ordered):
    """What a heal changes: retry, symptom or cause."""

    RECOVERY = "recovery"
    PATCH = "patch"
    HEAL = "heal"


class Tier(Ordered):
    """The model tier that a runbook needs to decide."""

    NONE = "none"
    SMALL = "small"
    LARGE = "large"


def widest(radii: list[Radius]) -> Radius:
    """The widest of `radii`; `process` for none."""
    return max(radii, key=lambda radius: radius.rank, default=Radius.PROCESS)


def worst(values: list[Reversibility]) -> Reversibility:
    """The least reversible of `values`; `reversible` for none."""
    return max(values, key=lambda value: value.rank, default=Reversibility.REVERSIBLE)


class Handles(Frozen):
    """A class of degradations: an exact code, and optional globs (`fnmatch`) on subsystem and subject."""

    code: str
    subsystem: str = "*"
    subject: str = "*"


class Timeouts(Frozen):
    """Bounds of one stage. A number is seconds."""

    decide: Duration = timedelta(seconds=30)
    apply: Duration = timedelta(seconds=60)
    verify: Duration = timedelta(seconds=30)


class RunbookSpec(Frozen):
    """What a runbook declares about itself; the engine holds it to that."""

    id: str
    """Lowercase letters, digits, ``.`` and ``-``; unique in a host."""
    handles: tuple[Handles, ...] = Field(min_length=1)
    blast_radius: Radius
    """The widest radius that any of its plans may have."""
    reversibility: Reversibility
    """The worst reversibility that any of its plans may have."""
    level: Level
    tier: Tier = Tier.NONE
    credentials: tuple[str, ...] = ()
    """Names of secrets that it may read; a host whose vault lacks one refuses the runbook."""
    sustain: Duration = timedelta(0)
    """How long verify must stay healthy before the incident is resolved."""
    timeouts: Timeouts = Timeouts()
    retries: int = Field(default=0, ge=0, le=10)
    """How often the same runbook is tried again after a failed verdict."""
    backoff: tuple[Duration, ...] = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10))
    """Pauses before the retries; the last one repeats."""
    priority: int = 0
    """Higher goes first on the ladder."""
    essential: bool = False
    """Quarantined later than others, alerting each time; never with radius fleet."""
    tags: tuple[str, ...] = ()
    """``data-loss``, ``auth`` and ``payments`` always ask a person."""
    deprecated: str = ""
    """Why it should not be used any more, and what is to be used instead. Such a runbook observes, and can't be promoted."""

    @field_validator("deprecated")
    @classmethod
    def _told(cls, value: str) -> str:
        return str(_line(value))

    @field_validator("id")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError("must be 1-64 of a-z, 0-9, '.' and '-', beginning with a letter or digit")
        return value


def _line(value: Any) -> Any:
    return capped(wellformed(value), SUMMARY_CAP) if isinstance(value, str) else value


def _evidence_lines(value: Any) -> Any:
    items = [value] if isinstance(value, str) else list(value)
    return _fitting(tuple(item if isinstance(item, str) else str(item) for item in items))


def _fitting(lines: tuple[str, ...]) -> tuple[str, ...]:
    """At most 64 lines and 16 Ki characters of `lines`, made storable; what is left out is said in a line of its own."""
    cleaned = tuple(_line(line) for line in lines[:_LINES])
    if len(lines) <= _LINES and sum(map(len, cleaned)) <= _LINES_CAP:
        return cleaned
    kept: list[str] = []
    left = _LINES_CAP - _NOTE_CAP
    for line in cleaned[: _LINES - 1]:
        left -= len(line)
        if left < 0:
            break
        kept.append(line)
    return (*kept, f"… [{len(lines) - len(kept)} more lines, cut]")


class Finding(Frozen):
    """What a precondition found. Use `applies` and `declined`."""

    applicable: bool
    confidence: int = Field(default=0, ge=0, le=100)
    reason: str = ""
    evidence: tuple[str, ...] = ()
    """Lines for people: at most 64, and 16 KiB."""

    @field_validator("reason")
    @classmethod
    def _reason(cls, value: str) -> str:
        return str(_line(value))

    @field_validator("evidence")
    @classmethod
    def _evidence(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _fitting(value)

    @classmethod
    def applies(cls, confidence: int = 100, evidence: list[str] | tuple[str, ...] = (), reason: str = "") -> Finding:
        """The runbook applies, with `confidence` 0-100."""
        return cls(applicable=True, confidence=confidence, reason=_line(reason), evidence=_evidence_lines(evidence))

    @classmethod
    def declined(cls, reason: str, evidence: list[str] | tuple[str, ...] = ()) -> Finding:
        """The runbook does not apply, because of `reason`; this is no attempt."""
        return cls(applicable=False, reason=_line(reason), evidence=_evidence_lines(evidence))


class Verdict(Frozen):
    """What verify saw. Use `healthy`, `failed` and `inconclusive`."""

    status: Literal["healthy", "failed", "inconclusive"]
    reason: str = ""
    evidence: tuple[str, ...] = ()
    """Lines for people: at most 64, and 16 KiB."""

    @field_validator("reason")
    @classmethod
    def _reason(cls, value: str) -> str:
        return str(_line(value))

    @field_validator("evidence")
    @classmethod
    def _evidence(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _fitting(value)

    @classmethod
    def healthy(cls, reason: str = "", evidence: list[str] | tuple[str, ...] = ()) -> Verdict:
        """The subject works; with `sustain`, each sample must say so."""
        return cls(status="healthy", reason=_line(reason), evidence=_evidence_lines(evidence))

    @classmethod
    def failed(cls, reason: str, evidence: list[str] | tuple[str, ...] = ()) -> Verdict:
        """The subject does not work: what was done is reverted, and it counts against the runbook."""
        return cls(status="failed", reason=_line(reason), evidence=_evidence_lines(evidence))

    @classmethod
    def inconclusive(cls, reason: str, evidence: list[str] | tuple[str, ...] = ()) -> Verdict:
        """Nothing can be said (yet): sampled again while the window lasts, then escalated without revert."""
        return cls(status="inconclusive", reason=_line(reason), evidence=_evidence_lines(evidence))


class Wait(Frozen):
    """A durable timer: the same step is called again after `delay`, also when the host restarted meanwhile."""

    delay: Duration
    reason: str

    def __init__(self, delay: Any, reason: str) -> None:
        fields = {"delay": parse_duration(delay), "reason": _line(reason)}
        super().__init__(**fields)


class Bounds(Frozen):
    """
    What later stages of an approved plan may do without asking again. What is not named is not covered.

    Covered are neither commands that are given variables, nor effects that don't say what they reach for.
    """

    kinds: tuple[str, ...] = ()
    """Kinds of effects."""
    paths: tuple[str, ...] = ()
    """Absolute paths of files, and of folders with all that they hold; also those that commands run in."""
    argv_prefixes: tuple[tuple[str, ...], ...] = ()
    """Beginnings of command lines, also of those that undo or observe a command."""
    controls: tuple[str, ...] = ()
    """Names of host controls."""
    max_effects: int = Field(default=16, ge=1)
    """Effects of all later stages together."""
    max_stages: int = Field(default=4, ge=1)
    """Stages of the whole attempt, the approved one included."""


class Escalation(Frozen):
    """What a person is told when the engine can't settle an incident."""

    title: str
    analysis: str = ""
    """Markdown; at most 16 KiB."""
    actions: tuple[str, ...] = ()
    """What a person could do next, one line each."""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = dict(data)
            if isinstance(data.get("title"), str):
                data["title"] = _line(data["title"])
            if isinstance(data.get("analysis"), str):
                data["analysis"] = capped(wellformed(data["analysis"]), 16 * 1024)
            if "actions" in data:
                data["actions"] = _evidence_lines(data["actions"])
        return data


__all__ = [
    "Bounds",
    "Escalation",
    "Finding",
    "Handles",
    "Level",
    "Radius",
    "Reversibility",
    "RunbookSpec",
    "Tier",
    "Timeouts",
    "Verdict",
    "Wait",
    "widest",
    "worst",
]
