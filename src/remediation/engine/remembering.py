"""Remembering: what the state of a host has forgotten of a fingerprint, read back from the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from remediation.core.limits import PastHeal
from remediation.core.state import HostState
from remediation.model.entries import Record


class Reads(Protocol):
    """What is needed of a journal, whether it is open for writing or not."""

    def read(self, *, stream: str | None = None) -> AsyncIterator[Record]:
        """See `remediation.ports.journal.Journal.read`."""


async def past_heals(journal: Reads, state: HostState, fingerprint: str) -> tuple[PastHeal, ...]:
    """Past heals of `fingerprint`, oldest first, also those that `state` has forgotten."""
    known = state.past.get(fingerprint)
    if known is not None or not state.may_have_forgotten(fingerprint):
        return known or ()
    whole = HostState(keep_settled=None)
    async for record in journal.read(stream=f"incident/{fingerprint}/"):
        whole.apply(record)
    return whole.past.get(fingerprint, ())
