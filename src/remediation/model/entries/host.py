"""Entries of the host, its keys and the journal itself. Stream: ``host/<host id>``."""

from __future__ import annotations

from typing import ClassVar

from remediation.model.entries.base import Entry


class HostStarted(Entry):
    """A host instance began to work on this journal."""

    type: ClassVar[str] = "host.started"
    instance: str
    pid: int
    boot_id: str
    version: str
    profile: str
    configuration: str
    """SHA-256 of the effective settings."""


class HostStopped(Entry):
    """A host instance ended in an orderly way."""

    type: ClassVar[str] = "host.stopped"
    instance: str
    reason: str


class KeyRotated(Entry):
    """From the next entry on, checkpoints are signed by the new key."""

    type: ClassVar[str] = "key.rotated"
    old: str
    """vkey of the key that ends."""
    new: str
    """vkey of the key that begins."""
    reason: str = ""


class KeyRevoked(Entry):
    """A key must no longer be believed for anything after this entry."""

    type: ClassVar[str] = "key.revoked"
    key: str
    reason: str


class PayloadErased(Entry):
    """The body and salt of an entry were erased; its leaf stays."""

    type: ClassVar[str] = "payload.erased"
    seq: int
    reason: str
    kept: str = ""
    """What remains of the body, as JSON text: the body of an entry of the same type, without its free text. Empty if nothing does."""


class JournalRecovered(Entry):
    """This log continues the history of another one, whose end was lost."""

    type: ClassVar[str] = "journal.recovered"
    old_head: str
    """The newest signed note known of the old log; empty if there is none."""
    reason: str
    proven: int = 0
    """How many of its entries, from the first on, could still be proven."""
    kept: str = ""
    """The folder in the home in which its files are kept."""


class JournalArchived(Entry):
    """A verified prefix was moved to an export."""

    type: ClassVar[str] = "journal.archived"
    before: int
    """Position of the first entry that was not moved."""
    export_sha256: str
    """Of the whole file."""
    snapshot_sha256: str
    """Of the state after the entries before `before`, as it is kept in the journal."""
    first: int = 0
    """Position of the first entry in the file."""
    path: str = ""
    """Where the file was written."""
