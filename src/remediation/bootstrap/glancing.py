"""What the host of a home knows, read beside it: no key, no lock, nothing written."""

from __future__ import annotations

from remediation.core.state import HostState
from remediation.journal import JournalReader
from remediation.journal.snapshot import Snapshot, glance, schema
from remediation.proof.errors import ProofError
from remediation.settings.home import Home


async def known_state(home: Home, journal: JournalReader) -> HostState:
    """
    All that is open or held, runbooks, pauses, limits, and the incidents that were settled last.

    Begins with the snapshot that the host kept, if this release made it and its root is the log's, and reads what came after it. It is
    not verified who kept it, as that takes the host's key: for showing only.

    Raises:
        JournalError: the journal can't be read.

    """
    state = HostState()
    size, _ = await journal.head()
    kept = glance(home.snapshot, schema())
    if kept is not None and kept.size <= size and await _fits(journal, kept):
        try:
            state.restore(kept.content)
        except Exception:
            state.reset()
    if state.position < 0 and (base := await journal.base()) is not None:
        state.begin(base.state)
    async for record in journal.read(after=state.position):
        state.apply(record)
    return state


async def _fits(journal: JournalReader, kept: Snapshot) -> bool:
    """Whether the snapshot is of this very log."""
    try:
        return await journal.root(kept.size) == kept.root
    except ProofError:
        return False
