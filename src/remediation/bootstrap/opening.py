"""A home's key, journal and first head: made once, opened ever after."""

from __future__ import annotations

import functools
import os
import secrets as random
from collections.abc import Sequence
from pathlib import Path

from remediation.bootstrap.belonging import claim, refuse_journal_of_another_host, refuse_keys_of_another_home, take_along
from remediation.bootstrap.erasing import finish_quietly
from remediation.bootstrap.keys import finish_rotation, list_keys, open_keys
from remediation.bootstrap.leftovers import RECOVERY, UNFINISHED
from remediation.core.state import HostState
from remediation.errors import JournalUnavailable
from remediation.journal import IntentJournal, JournalReader
from remediation.journal.folding import Folds
from remediation.journal.head import HeadNote
from remediation.journal.lock import WriterLock, locked
from remediation.journal.snapshot import SnapshotFile, schema
from remediation.journal.tree import SignedTree
from remediation.ports.clock import Clock
from remediation.ports.journal import Fold
from remediation.ports.keys import KeyStore
from remediation.proof.checkpoint import Checkpoint
from remediation.proof.merkle import root_of
from remediation.proof.note import NoteSigner, VerifierKey
from remediation.settings import Home, Settings
from remediation.stores.sqlite import SqliteJournalStore, create


def initialise(settings: Settings, *, encrypt: bool = False, keys: KeyStore | None = None) -> str:
    """
    Make the home's folders, key, first head and empty journal; returns the journal's origin. Finishes what a crash left half done.

    `encrypt`: a new key is kept under a passphrase, which ``[keys] passphrase`` says where to find. `keys`: see `open_journal`.

    Raises:
        ConfigurationError, JournalError: it can't be made here; what exists is never replaced. If the keys that the settings lead to
            are those of another home, or of a journal that is gone, nothing was made.

    """
    home = settings.home
    refuse_keys_of_another_home(home)
    home.make()
    with locked(home.journal_lock):
        return _finish(home, settings.host.id, open_keys(home) if keys is None else keys, encrypt=encrypt)


def _finish(home: Home, host: str, keys: KeyStore, *, encrypt: bool) -> str:
    _refuse_unfinished_recovery(home)
    refuse_keys_of_another_home(home)  # again: somebody may have made it while the lock was waited for
    claim(home)
    head = HeadNote(home.head_note)
    # A log that has begun is not continued by a new key.
    key = keys.create(encrypt=encrypt) if head.size() < 0 and not keys.exists() else keys.load()
    if head.size() < 0:
        if home.journal.exists():
            head.read()  # raises: a journal whose head is missing may have been rolled back
        origin = f"{host}/remediation/{random.token_hex(6)}"
        signer = NoteSigner(VerifierKey(origin, key.public), key.sign)
        head.advance(Checkpoint(origin, 0, root_of([])).sign([signer]))
    note, origin = head.read(), head.origin()
    if not home.verifier_keys.exists():
        list_keys(home, [VerifierKey(origin, key.public)])
    if not home.journal.exists():
        # Last of all, and whole or not there: a home with a journal is one that can be opened.
        unfinished = home.root / UNFINISHED
        for path in home.root.glob(f"{UNFINISHED}*"):
            path.unlink()
        create(unfinished, note)
        os.rename(unfinished, home.journal)
        _sync(home.root)
    return origin


def _refuse_unfinished_recovery(home: Home) -> None:
    if (home.root / RECOVERY).exists():
        raise JournalUnavailable(
            f"a recovery of the journal of {home.root} was begun and not finished; `remediation journal recover` goes on with it"
        )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def initialised(home: Home) -> bool:
    """Whether the home has its head and its journal. The key comes before both; if it is gone, opening says so."""
    return home.head_note.exists() and home.journal.exists()


def open_reader(home: Home) -> JournalReader:
    """A reader of the home's journal, an async context manager; needs no key, and may run beside hosts."""
    return JournalReader(SqliteJournalStore(home.journal, readonly=True))


async def open_journal(
    home: Home, clock: Clock, *, state: HostState | None = None, folds: Sequence[Fold] = (), keys: KeyStore | None = None
) -> IntentJournal:
    """
    The home's journal, opened for writing with the home's key; `state` and `folds` are folded from it, and kept current.

    A rotation of the key and an erasure that were interrupted are finished. `keys`: where the private keys are kept; see `open_keys`.

    Raises:
        ConfigurationError, JournalError: it can't be.

    """
    _refuse_unfinished_recovery(home)
    if home.journal.exists():
        refuse_journal_of_another_host(home)
    keys = open_keys(home) if keys is None else keys
    head = HeadNote(home.head_note)
    tree = SignedTree(head.origin(), keys.load)
    store = SqliteJournalStore(home.journal)
    snapshots = SnapshotFile(home.snapshot, functools.partial(tree.derived, "snapshot"), schema())
    kept = Folds(folds if state is None else (state, *folds), state, snapshots)
    lock = WriterLock(home.journal_lock)
    journal = await IntentJournal.open(store, tree, lock, head, clock, folds=kept)
    try:
        await finish_rotation(home, keys, journal)
        await finish_quietly(home, journal, clock)
        take_along(home)
    except BaseException:
        await journal.close()
        raise
    return journal
