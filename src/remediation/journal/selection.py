"""Which entries a reader wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from remediation.model.base import timestamp


@dataclass(frozen=True, slots=True)
class Selection:
    """Entries to read: those for which every field that is set holds."""

    stream: str | None = None
    """Of this stream; with a ``/`` at its end, of all streams that begin so."""
    types: tuple[str, ...] = ()
    """Of one of these types."""
    since: str | None = None
    """Of this journal time or a later one."""
    until: str | None = None
    """Of an earlier journal time than this."""
    correlation: str | None = None
    """Tied together by this id."""

    @classmethod
    def of(
        cls,
        *,
        stream: str | None = None,
        types: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        correlation: str | None = None,
    ) -> Self:
        """
        A selection between two moments.

        Raises:
            ValueError: a moment without time zone, which could be any of many.

        """
        return cls(stream, tuple(types), _time(since), _time(until), correlation)


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: which moment it means can't be told")
    return timestamp(moment)


EVERYTHING = Selection()
