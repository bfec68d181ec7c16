"""The signed head that may leave a home, for the commands that hand something out."""

from __future__ import annotations

import contextlib

from remediation.errors import ConfigurationError, JournalDamaged, JournalRolledBack, JournalUnavailable
from remediation.settings.home import Home


def published_head(home: Home) -> str:
    """
    The newest signed head, once ``head.note`` knows it durably: no other one may leave the process.

    Needs no key, and may run beside the home's hosts. Where the home may not be written to, ``head.note`` stands as it is.

    Raises:
        ConfigurationError: the journal is another host's than the settings say.
        JournalDamaged: it is not signed by a key of the home.
        JournalRolledBack: head.note is missing, or more entries are known to exist than the journal holds.
        JournalUnavailable: the journal can't be read.

    """
    from remediation.bootstrap.belonging import foreign
    from remediation.journal.head import HeadNote
    from remediation.journal.lock import locked
    from remediation.proof import claimed_size

    if why := foreign(home):
        raise ConfigurationError(why)
    head = HeadNote(home.head_note)
    # First what is known, then what is there, which only grows.
    known = max(claimed_size(head.read()), head.acknowledged(head.origin()))
    newest = _newest(home)
    if claimed_size(newest) < known:
        raise JournalRolledBack(
            f"the newest head of the journal is over {claimed_size(newest)} entries, but {known} entries are known to exist: "
            "it was rolled back; run `remediation journal verify`"
        )
    # Only readable to us: what is published already may be told again.
    with contextlib.suppress(JournalUnavailable, PermissionError), locked(home.journal_lock):
        head.advance(newest)
    return _checked(home, head.read())


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
