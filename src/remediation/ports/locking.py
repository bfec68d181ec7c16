"""Locks with one holder at a time: what the engine asks of them, whether they reach a machine or, later, a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants a lock, for those who wait for it."""

    instance: str = ""
    """Of the host."""
    incident: str = ""
    attempt: str = ""
    """Empty until there is one; see `HeldLock.tell`."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock."""

    number: int
    """The fencing number that this holder was given."""
    pid: int
    since: int
    """Milliseconds since 1970 UTC."""
    claim: Claim


class HeldLock(Protocol):
    """One held lock."""

    @property
    def number(self) -> int:
        """
        The fencing number.

        Guarantee: larger than that of every earlier holder of the same lock, also over crashes, restarts and power cuts.
        """

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What children must inherit so that the lock outlives a killed holder until they are gone; empty where that can't be."""

    def tell(self, attempt: str) -> None:
        """Show `attempt` to those who wait."""

    def expect_child(self, deadline: float) -> dict[str, str]:
        """
        Note that a child is about to be started, which is to end by `deadline` (seconds on the host's monotonic clock).

        Returns what must stand in its environment: by that it is known to whoever has to take over before `record_child` was called.
        """

    def record_child(self, pid: int, deadline: float) -> None:
        """Note a child and its deadline (seconds on the host's monotonic clock) for whoever has to take over."""

    def join(self, other: HeldLock) -> None:
        """Hold `other` for as long as this one: children inherit both, and both are released together."""

    def release(self) -> None:
        """Give it back; a second time does nothing. While a child still holds it, it stays locked."""


class Locks(Protocol):
    """
    Locks by name.

    Guarantees: a lock has at most one holder; it is free once its holder, and all that inherited it, is gone, however that ended; each
    holder gets a larger fencing number than the one before. Non-guarantee: `holder` is for people, and may be a moment old.
    """

    def try_acquire(self, name: str, claim: Claim = ...) -> HeldLock | None:
        """The lock, or `None` while somebody holds it or waits in line for it. Never waits."""

    async def acquire(self, name: str, claim: Claim = ..., *, within: float) -> HeldLock | None:
        """Wait in line for the lock, `within` seconds at most; `None` when they are over."""

    def holder(self, name: str) -> Holder | None:
        """Who holds it; `None` for nobody, or for somebody who can't be named."""

    def end_orphans(self, name: str) -> None:
        """End children that a dead host left with the lock, if they are past their deadline."""
