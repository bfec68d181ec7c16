"""The frame of an entry: its type, its place, and how bodies are decoded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ValidationError

from remediation.errors import JournalTooNew
from remediation.model import canonical
from remediation.model.base import Frozen

_TYPES: dict[str, type[Entry]] = {}


class Entry(Frozen):
    """Base of all entry types. Subclasses set `type` and are frozen for ever once released: a change is a new `v`."""

    type: ClassVar[str]
    v: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _TYPES[cls.type] = cls

    def body(self) -> bytes:
        """
        The canonical JSON of this entry: ``{"v": …, …fields}``; fields at their default are left out.

        Raises:
            NotCanonical: a field lies outside the journal's JSON domain.

        """
        fields = self.model_dump(mode="json", exclude_defaults=True)
        fields["v"] = self.v
        return canonical.dumps(fields)


_decode = json.JSONDecoder().raw_decode
"""`json.loads` guesses at an encoding and looks for white space, which takes longer than a small body itself."""


def entry_types() -> dict[str, type[Entry]]:
    """All entry types by name."""
    return dict(_TYPES)


def decode(type_: str, body: bytes) -> Entry:
    """
    The typed entry of a stored body.

    Raises:
        JournalTooNew: an entry type or version that this release does not know.

    """
    cls = _TYPES.get(type_)
    if cls is None:
        raise JournalTooNew(f"the journal holds an entry of type {type_!r}, which this release does not know; upgrade remediation")
    try:
        fields, end = _decode(text := body.decode())
        if end < len(text):
            raise ValueError("something stands behind it")
        version = fields.pop("v", None)
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise JournalTooNew(f"the journal holds a {type_} whose body this release can't read ({type(error).__name__})") from error
    if version != cls.v:
        raise JournalTooNew(f"the journal holds {type_} in version {version}, this release reads {cls.v}; upgrade remediation")
    try:
        return cls.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False))
        raise JournalTooNew(f"the journal holds a {type_} that this release can't read ({faults}); upgrade remediation") from error


@dataclass(frozen=True, slots=True)
class Position:
    """Where an entry stands: in the log and in its stream, both from 0."""

    seq: int
    stream_seq: int


@dataclass(frozen=True, slots=True)
class EntryHead:
    """The signed frame of an entry, as in its leaf."""

    seq: int
    id: str
    stream: str
    stream_seq: int
    type: str
    time: str
    actor: str
    causation: str | None
    correlation: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A stored entry: its frame and its typed body. Of an erased body it is what was kept, or `None` if nothing was."""

    head: EntryHead
    entry: Entry | None
    erased: bool = False
    """Whether the body was erased: then texts in `entry` are missing, or say so."""

    @property
    def seq(self) -> int:
        """Position in the log."""
        return self.head.seq
