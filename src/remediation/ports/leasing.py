"""Leases: the right to lead, for a while, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a store keeps of one lease."""

    token: int
    """The fencing token: larger than that of every earlier holder."""
    holder: str


class LeaseStore(Protocol):
    """
    Keeps one lease, on a machine or, later, for a cluster.

    Guarantees: `take` gives the lease to a second holder only after `seconds` have passed since the first one's newest `take` or
    `renew` *began*, or after its `release`; tokens only grow, also over crashes, restarts, reboots and power cuts; a change that was
    answered is durable. Non-guarantee: a holder that was stopped is not told that its time is over.
    """

    async def take(self, holder: str, seconds: float) -> LeaseRecord | None:
        """The lease for `seconds`, with a new token; `None` while somebody has it. Raises LeaseUnavailable."""

    async def renew(self, record: LeaseRecord, seconds: float) -> bool:
        """`seconds` more from now; False when `record` does not have the lease any more. Raises LeaseUnavailable."""

    async def release(self, record: LeaseRecord) -> None:
        """Give it back, if `record` still has it. Raises LeaseUnavailable."""
