"""Anchors: places outside the home that keep the journal's signed heads, so that its past can't be rewritten unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from remediation.errors import RemediationError


class AnchorError(RemediationError):
    """An anchor could not be reached, read or written, or refuses a head; the message says which and why."""


@runtime_checkable
class Anchor(Protocol):
    """
    Keeps signed heads (C2SP checkpoints) of the journal in a place that its host does not rule alone.

    The host calls `keep` with the newest head, at most once in `every` seconds, one call at a time, and only with a head that
    ``head.note`` has durably. An anchor that fails is tried again later and told of; it never stops healing.

    Guarantees that an implementation owes: when `keep` returns, the head is as durable as the place can make it; a head that is
    smaller than one it already has of the same log never takes that one's place; it does not block the event loop.
    Non-guarantee: heads in between are skipped, and one head may come twice, also from another process of the same home.
    """

    name: str
    """Unique among the anchors of a host: ``file:/mnt/audit/head.note``."""
    every: float
    """The pace: seconds between two heads at least."""
    timeout: float
    """Seconds that one call may take; it is cancelled then."""

    async def keep(self, note: str) -> None:
        """
        Keep `note`.

        Raises:
            Exception: it is not kept; any exception will do, AnchorError is shown best.

        """

    async def heads(self) -> Sequence[str] | None:
        """
        What it keeps, oldest first, also of other logs; None if it is of a kind that can't be read back.

        Changes nothing. Not believed: whoever asks checks the signatures.

        Raises:
            Exception: it can't be read now.

        """
