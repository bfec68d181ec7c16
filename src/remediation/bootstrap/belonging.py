"""
Which home the keys' folder belongs to, and which host the journal is of.

The folder is found by the host's id, so that two homes with one id would share a signing key and a head, and neither log would be
worth anything. Therefore the home's path lies beside the key, in a file ``home``. A home may move: what counts for one that has a
journal is that its log is the one that ``head.note`` knows.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from remediation.bootstrap.leftovers import RECOVERY
from remediation.bootstrap.recovery_plan import sync_folder, write_durably
from remediation.errors import ConfigurationError, JournalRolledBack, RemediationError
from remediation.journal.head import HeadNote
from remediation.model.text import printable
from remediation.proof import Checkpoint, Note, NoteError
from remediation.settings import Home
from remediation.stores.salvaging import some_checkpoints


def refuse_keys_of_another_home(home: Home) -> None:
    """
    Make sure that a journal can be made, or opened, with the keys that the settings lead to. Changes nothing.

    Raises:
        ConfigurationError: the keys belong to another home, or the journal is of another host.
        JournalRolledBack: they know a journal, and it is not there.

    """
    # What nobody may look into is for those to complain of who open it.
    if os.path.exists(home.journal):
        refuse_journal_of_another_host(home)
        return
    if os.path.exists(home.root / RECOVERY):
        return  # its journal is put aside meanwhile
    owner = _owner(home)
    if owner not in (None, _own(home)):
        raise _of_another_home(home, owner or b"")
    size = HeadNote(home.head_note).size()
    if size > 0:
        recover = ", if it is lost `remediation journal recover` starts a new log" if os.path.isdir(home.inbox) else ""
        raise JournalRolledBack(
            f"{home.head_note} knows a journal of {size} entries, but there is none at {home.journal}: "
            f"restore it, it is never replaced{recover}; to start over with nothing, remove {home.keys}"
        )


def refuse_journal_of_another_host(home: Home) -> None:
    """
    Make sure that the id of the settings is that of the journal, if both the journal and these keys tell otherwise. Changes nothing.

    Raises:
        ConfigurationError: it is another one.

    """
    head = HeadNote(home.head_note)
    with contextlib.suppress(RemediationError):
        if head.size() >= 0 and _owner(home) == _own(home):
            return
    found = _origin_in(home.journal)
    host = found.partition("/")[0]
    if not found or not home.host_id or host == home.host_id:
        return  # what is wrong with it then, if anything, is for those to say who open it
    with contextlib.suppress(RemediationError):
        if head.size() >= 0 and head.origin() == found:
            return  # under [keys] dir they are found whatever the id
    raise ConfigurationError(
        f"the journal in {home.root} is of the host {printable(host)}, the settings say {home.host_id}: set [host] id = "
        f'"{printable(host)}" again, as its keys and its known head lie under that id'
    )


def foreign(home: Home) -> str:
    """
    That the journal is another host's, and what to do, for those who only look at it; empty if it isn't.

    Certain only where no known head is this home's own: a journal that was exchanged is not another host's home.
    """
    with contextlib.suppress(RemediationError):
        if HeadNote(home.head_note).size() >= 0 and _owner(home) is None:
            return ""
    try:
        refuse_journal_of_another_host(home)
    except ConfigurationError as error:
        return str(error)
    return ""


def claim(home: Home) -> None:
    """
    Write down that the keys' folder is this home's, before there is anything in it that counts.

    Raises:
        ConfigurationError: another home was first.

    """
    if _owner(home) is None:
        temporary = home.keys / f".{home.keys_owner.name}.{os.getpid()}"
        write_durably(temporary, _own(home) + b"\n")
        try:
            # Of two that come at once, one is first; a name that is there is not replaced.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, home.keys_owner)
        finally:
            temporary.unlink()
        sync_folder(home.keys)
    owner = _owner(home)
    if owner not in (None, _own(home)) and not home.journal.exists():
        raise _of_another_home(home, owner or b"")


def take_along(home: Home) -> None:
    """Note the present path of a home whose journal was opened with these keys: it may have moved."""
    # Only a later `init` elsewhere would miss it: no reason not to open a journal.
    with contextlib.suppress(OSError):
        if _owner(home) != _own(home):
            write_durably(home.keys_owner, _own(home) + b"\n")


def _own(home: Home) -> bytes:
    # However the path was written, and whatever links lead there.
    return os.fsencode(os.path.realpath(home.root))


def _owner(home: Home) -> bytes | None:
    try:
        return home.keys_owner.read_bytes().removesuffix(b"\n") or None
    except OSError:
        return None


def _of_another_home(home: Home, owner: bytes) -> ConfigurationError:
    other = printable(os.fsdecode(owner))
    return ConfigurationError(
        f"the keys in {home.keys} belong to the home {other}: choose another id (`remediation init --id NAME`, or [host] id in the "
        f"settings) or another [keys] dir for {home.root}; if {other} is gone for good and you want to start over, remove {home.keys}"
    )


def _origin_in(journal: Path) -> str:
    """The name of the log in a database, by its own word; empty if it can't be told. Leaves nothing beside it: it may be evidence."""
    for note in some_checkpoints(journal):
        with contextlib.suppress(NoteError):
            return Checkpoint.parse(Note.parse(note).text).origin
    return ""
