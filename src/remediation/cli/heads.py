"""The signed head that may leave a home, for the commands that hand something out."""

from __future__ import annotations

from remediation.errors import JournalDamaged, JournalRolledBack, JournalUnavailable
from remediation.settings.home import Home


def published_head(home: Home) -> str:
    """
    The newest signed head, once ``head.note`` knows it durably: no other one may leave the process.

    Needs no key, and may run beside the home's hosts. Where the home may not be written to, ``head.note`` stands as it is.

    Raises:
        JournalDamaged: it is not signed by a key of the home.
        JournalRolledBack: head.note is missing, or knows of more entries than the journal holds.
        JournalUnavailable: the journal can't be read.

    """
    from remediation.journal.head import HeadNote
    from remediation.journal.lock import locked
    from remediation.proof import claimed_size

    head = HeadNote(home.head_note)
    known = head.read()
    try:
        with locked(home.journal_lock):
            newest = _newest(home)
            if claimed_size(newest) < claimed_size(known):
                raise JournalRolledBack(
                    f"the newest head of the journal is over {claimed_size(newest)} entries, but one over {claimed_size(known)} is "
                    "known to exist: it was rolled back; run `remediation journal verify`"
                )
            head.advance(newest)
            known = head.read()
    except (JournalUnavailable, PermissionError):
        # Only readable to us: what is published already may be told again.
        pass
    return _checked(home, known)


def _newest(home: Home) -> str:
    from remediation.stores.snapshot import Snapshot

    with Snapshot(home.journal) as log:
        notes = log.checkpoints()
    if not notes:
        raise JournalDamaged("the journal holds no signed head; run `remediation journal verify`")
    return _checked(home, notes[-1][1])


def _checked(home: Home, note: str) -> str:
    import asyncio

    from remediation.bootstrap.keys import read_epochs
    from remediation.proof import NoteError, open_checkpoint

    keys = asyncio.run(read_epochs(home)).keys
    try:
        open_checkpoint(note, keys, origin=keys[0].name)
    except NoteError as error:
        raise JournalDamaged(
            f"the newest head is not signed by this home's key: {error}; run `remediation journal verify`"
        ) from error
    return note
