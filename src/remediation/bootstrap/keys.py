"""A home's signing keys: where they are kept, and how one is exchanged for the next."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from remediation.errors import ConfigurationError, JournalDamaged
from remediation.journal import IntentJournal
from remediation.journal.epochs import Epochs
from remediation.keys import BUILTIN_PROVIDERS
from remediation.keys.file_store import FileKeyStore
from remediation.keys.files import KeyFileRefused, replace_private
from remediation.keys.passphrase import passphrase
from remediation.ports.keys import KeyPlace, KeyProvider, KeyStore
from remediation.proof.errors import NoteError
from remediation.proof.note import VerifierKey
from remediation.settings import Home
from remediation.stores.sqlite import SqliteJournalStore


class RotationUnderWay(ConfigurationError):
    """Another process rotates the key, or exchanges its passphrase, at this moment."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did."""

    seq: int
    """Position of its entry."""
    old: VerifierKey
    new: VerifierKey


def open_keys(home: Home, providers: Mapping[str, KeyProvider] | None = None) -> KeyStore:
    """
    The keys of `home`, as ``[keys] provider`` says.

    Args:
        home: With its keys, see `Settings.home`.
        providers: Those of plugins, by name. Default: what the settings of the home bring, if they are needed.

    Raises:
        ConfigurationError: there is no such provider, or it can't be used here.

    """
    name = home.key_provider
    provider = BUILTIN_PROVIDERS.get(name)
    if provider is None:
        brought = _of_plugins(home) if providers is None else providers
        provider = brought.get(name)
        if provider is None:
            there = ", ".join([*BUILTIN_PROVIDERS, *brought])
            raise ConfigurationError(f"[keys] provider = {name!r}: nothing of that name keeps keys here; there are {there}")
    sources = home.passphrase_sources
    return provider.open(KeyPlace(home.keys, home.host_id, functools.partial(passphrase, sources)))


def _of_plugins(home: Home) -> Mapping[str, KeyProvider]:
    from remediation.discovery import discover  # noqa: PLC0415 - loads plugins, which most homes need not do for their keys
    from remediation.settings import Settings  # noqa: PLC0415

    return discover(Settings.of(home)).key_providers()


@contextlib.contextmanager
def exchanging(home: Home) -> Iterator[None]:
    """
    Hold the lock under which private keys are made, moved and destroyed.

    Raises:
        RotationUnderWay: somebody else holds it.
        KeyFileRefused: the lock file can't be made.

    """
    path = home.keys / "rotation.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise KeyFileRefused(f"{path} can't be made: {error.strerror}; only the keys' owner can exchange them") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RotationUnderWay(
                "another process exchanges the key at this moment; wait for it, and look at `keys list`"
            ) from error
        yield
    finally:
        os.close(descriptor)


async def rotate(home: Home, keys: KeyStore, journal: IntentJournal, reason: str = "") -> Rotated:
    """
    Exchange the signing key of `journal` for a new one.

    In this order: the new key is made durable beside the old one; the journal says so, in a commit that both keys sign; ``head.note``
    knows it; the new key takes the old one's place; the list of public keys gets longer; the old private key is destroyed. After a kill
    anywhere the home opens and goes on: with the old key before the commit, with the new one after it.

    Raises:
        RotationUnderWay: another process does the same.
        ConfigurationError: the new key can't be stored; the old one is in use as before.
        JournalError: as `IntentJournal.append`; the old key is in use unless the commit was made and its answer lost.
        OSError: ``head.note`` can't be written. The rotation is done but for the end, which the next start of a host brings.

    """
    with exchanging(home):
        await journal.refresh()
        await asyncio.to_thread(_settle, home, keys, journal.keys)
        old = journal.keys[-1]
        successor = await asyncio.to_thread(keys.stage)
        position = await journal.rotate(successor, reason)
        await journal.publish()
        await asyncio.to_thread(_settle, home, keys, journal.keys)
        return Rotated(position.seq, old, journal.keys[-1])


async def finish_rotation(home: Home, keys: KeyStore, journal: IntentJournal) -> None:
    """
    Do what a rotation that was cut off left undone after its commit; nothing, if another process is at it.

    Raises:
        ConfigurationError, JournalError: it can't be done.

    """
    state = await asyncio.to_thread(keys.state)
    if _listed(home) == [str(key) for key in journal.keys] and state.held[:1] == (journal.keys[-1].public,) and not state.unsettled:
        return
    with contextlib.suppress(RotationUnderWay), exchanging(home):
        # Only now is it sure what the log says: nobody else can rotate.
        await journal.refresh()
        await asyncio.to_thread(_settle, home, keys, journal.keys)


async def read_epochs(home: Home) -> Epochs:
    """
    The log's public keys and from when on each signs, as its signed entries tell; needs no private key.

    The first key is the home's own word. Further ones count where a note bears both signatures, also if ``signing.vkey`` lags behind.

    Raises:
        JournalDamaged: entries, notes and ``signing.vkey`` contradict each other.
        KeyFileRefused: ``signing.vkey`` is missing, or can't be read.
        JournalUnavailable: the journal can't be read.

    """
    listed = _listed(home)
    try:
        epochs = Epochs((VerifierKey.parse(listed[0]),))
    except (NoteError, IndexError) as error:
        raise KeyFileRefused(f"{home.verifier_keys} names no public key; restore it from a backup") from error
    store = SqliteJournalStore(home.journal, readonly=True)
    await store.open()
    try:
        for row in await store.rotations():
            epochs = await epochs.followed(store, row)
    finally:
        await store.close()
    if listed != [str(key) for key in epochs.keys][: len(listed)]:
        raise JournalDamaged(
            f"{home.verifier_keys} names {len(listed)} keys, which are not those that the journal tells of; "
            "run `remediation journal verify` with a key that you kept elsewhere"
        )
    return epochs


async def change_passphrase(home: Home, keys: KeyStore, passphrase: bytes | None) -> None:
    """
    Keep the key file of `home` under another passphrase, or (`None`) under none. Hosts that run keep the key that they have.

    Raises:
        RotationUnderWay: another process exchanges the key.
        ConfigurationError: the key is not kept in a file, or the old passphrase is wrong; it stands as it was.

    """
    if not isinstance(keys, FileKeyStore):
        raise ConfigurationError(
            f"[keys] provider = {home.key_provider!r} guards the key by its own means; only a file has a passphrase"
        )
    with exchanging(home):
        await asyncio.to_thread(keys.protect, passphrase)


def _settle(home: Home, keys: KeyStore, chain: Sequence[VerifierKey]) -> None:
    listed, known = _listed(home), [str(key) for key in chain]
    if listed != known[: len(listed)]:
        raise JournalDamaged(
            f"{home.verifier_keys} names {len(listed)} keys, which are not those that the journal tells of; "
            "run `remediation journal verify` with a key that you kept elsewhere"
        )
    if listed != known:
        list_keys(home, chain)
    keys.settle(chain[-1].public)


def list_keys(home: Home, chain: Sequence[VerifierKey]) -> None:
    """
    Write the list of the log's public keys durably.

    Raises:
        KeyFileRefused: it can't be written; the old one stands.

    """
    try:
        replace_private(home.verifier_keys, "".join(f"{key}\n" for key in chain).encode())
    except OSError as error:
        raise KeyFileRefused(f"{home.verifier_keys} can't be written: {error.strerror}; make room, and do it again") from error


def _listed(home: Home) -> list[str]:
    try:
        return home.verifier_keys.read_text("utf-8").split()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileRefused(f"{home.verifier_keys} can't be read: {error}; restore it from a backup") from error
