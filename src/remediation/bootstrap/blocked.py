"""Steps that blocked a host's event loop until it was ended, as that host noted it: journaled by the next one."""

from __future__ import annotations

import hashlib

from remediation.coordination.locks import alive
from remediation.engine.blocking import Blocked, notes_in
from remediation.journal import IntentJournal
from remediation.model.entries import Entry, RunbookFaulted, RunbookQuarantined
from remediation.settings import Home


async def take_over(home: Home, journal: IntentJournal) -> None:
    """
    Journal what hosts that are gone noted, and remove the notes.

    The runbook is quarantined, and not called any more: it would block this host as well.

    Raises:
        JournalError: it can't be journaled; the notes stay.

    """
    for path, blocked in notes_in(home.hosts):
        if alive(home.locks / f"host-{path.stem}.lock"):
            continue
        if blocked is not None:
            # Two hosts that start together find the same note: the id makes one entry of it.
            id_ = hashlib.sha256(f"{path.name}:{blocked}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
            await journal.append(f"runbook/{blocked.runbook}", _entries(blocked), event_id=id_)
        path.unlink(missing_ok=True)


def _entries(blocked: Blocked) -> list[Entry]:
    where = f", in {blocked.stack[-1]}" if blocked.stack else ""
    why = f"blocked the event loop for {blocked.seconds:g} s at least, until its host was ended{where}"
    return [
        RunbookFaulted(runbook=blocked.runbook, step=blocked.step, error=why, incident=blocked.incident),
        RunbookQuarantined(runbook=blocked.runbook, by="engine", reason=f"{blocked.step} {why}"),
    ]
