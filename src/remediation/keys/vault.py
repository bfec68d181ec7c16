"""
`RemediationKeyVault`: the credentials that runbooks declare, encrypted at rest.

Three files in the keys' folder: ``vault.key`` (its own 32 random bytes; never derived from the signing key), ``vault.json`` (see
`remediation.keys.vault_file`), and ``vault.head``, which knows how often the vault was changed, so that an old copy is noticed.
A change is made under ``vault.lock``: the new file replaces the old one durably, then the head follows. A process that is killed
anywhere leaves the vault before the change or after it. Readers take no lock.

Non-guarantees: who can read the key and the file has the values; so has who can read this process's memory or run code in it. When
``vault.json`` and ``vault.head`` are put back together, from one old copy, only a host that runs meanwhile notices.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Never

from remediation.errors import ConfigurationError, CredentialRefused
from remediation.keys import vault_file
from remediation.keys.files import replace_private
from remediation.keys.vault_file import MAX_SECRETS, Record, VaultContent, VaultKey, VaultRefused, check_name, check_value
from remediation.keys.vault_keys import VaultKeys
from remediation.keys.watched_file import WatchedFile
from remediation.model.base import timestamp

_HEAD_FORMAT: Final = "remediation-vault-head/1"
_PATIENCE: Final = 10.0
"""Seconds that a change waits for another one."""
_SHORTEST_MASKED: Final = 6


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be said of a secret."""

    name: str
    version: int
    set_at: str
    """UTC, with milliseconds and ``Z``."""


class RemediationKeyVault:
    """
    The vault in `folder`, which belongs to the log `origin`. Making one touches nothing; a folder without a vault is an empty vault.

    Safe for threads, and for several processes at once. What another process changes is seen at the next use.

    Args:
        folder: The folder of the keys (`Home.keys`); it exists.
        origin: The name of the host's log; a vault of another log is refused.
        passphrase: Gives the passphrase of a vault key that is kept under one; takes what it is for, in words.

    """

    def __init__(self, folder: str | os.PathLike[str], origin: str, *, passphrase: Callable[[str], bytes] | None = None) -> None:
        self._folder = Path(folder)
        self.path: Path = self._folder / "vault.json"
        self._head = self._folder / "vault.head"
        self._origin = origin
        self._keys = VaultKeys(self._folder, passphrase)
        self._guard = threading.RLock()
        self._content = VaultContent(origin, 0)
        self._key: VaultKey | None = None
        self._seen: WatchedFile | None = None
        self._values: dict[str, None] = {}

    def names(self) -> tuple[str, ...]:
        """The names of all secrets, sorted. Raises VaultRefused: the vault can't be used as it is."""
        return tuple(info.name for info in self.list())

    def list(self) -> tuple[SecretInfo, ...]:
        """All secrets, by name. Raises VaultRefused: the vault can't be used as it is."""
        with self._guard:
            self._refresh()
            records = sorted(self._content.records, key=lambda record: record.name)
            return tuple(SecretInfo(record.name, record.version, record.set_at) for record in records)

    def get(self, name: str) -> str:
        """
        The value of `name`, as it is now.

        Raises:
            CredentialRefused: there is none.
            VaultRefused: the vault can't be used as it is.

        """
        with self._guard:
            self._refresh()
            record = self._content.record(name)
            if record is None or self._key is None:
                raise CredentialRefused(f"the vault holds no secret {name!r}; `remediation secrets set {name}` stores one")
            return self._key.decrypt(self._origin, record)

    def values(self) -> tuple[str, ...]:
        """
        The values of at least six characters, for those who mask them; also ones that were replaced since this object first read them.

        Never raises for a vault that became unreadable: then, the last known ones.

        Raises:
            VaultRefused: the vault was not readable yet.

        """
        with self._guard:
            try:
                self._refresh()
            except ConfigurationError:
                if self._seen is None:
                    raise
            return tuple(self._values)

    def set(self, name: str, value: str, *, at: datetime | None = None, sealed: bool = False) -> SecretInfo:
        """
        Store `value` durably as `name`, in the place of what was there.

        Args:
            name: 1-64 letters, digits, ``_``, ``.`` and ``-``, beginning with a letter or digit.
            value: Text of at most 64 KiB in UTF-8, not empty, without NUL.
            at: When; now by default. Aware.
            sealed: Keep a new vault's key under the passphrase. A vault that exists stays as it is; see `rotate`.

        Raises:
            VaultRefused: name or value can't be kept, or the vault can't be used or written; nothing was changed.

        """
        check_name(name)
        check_value(value)
        with self._changing():
            key = self._key or self._keys.create(sealed=sealed)
            before = self._content.record(name)
            others = tuple(record for record in self._content.records if record.name != name)
            if len(others) >= MAX_SECRETS:
                raise VaultRefused(f"the vault holds {MAX_SECRETS} secrets already; remove one with `remediation secrets rm`")
            version = 1 if before is None else before.version + 1
            record = key.encrypt(self._origin, name, version, timestamp(at or datetime.now(UTC)), value)
            self._write(key, (*others, record))
            return SecretInfo(name, version, record.set_at)

    def remove(self, name: str) -> None:
        """
        Remove `name`. What an old copy of the file holds can still be read with the key, until the key is rotated.

        Raises:
            CredentialRefused: there is no such secret.
            VaultRefused: the vault can't be used or written; nothing was changed.

        """
        with self._changing():
            if self._key is None or self._content.record(name) is None:
                raise CredentialRefused(f"the vault holds no secret {name!r}; nothing was removed")
            self._write(self._key, tuple(record for record in self._content.records if record.name != name))

    def rotate(self, *, sealed: bool = False, adopt: bool = False) -> int:
        """
        Encrypt all values with a new key, destroy the old one; how many there are. Versions stay.

        Args:
            sealed: Keep the new key under the passphrase.
            adopt: Take over a vault of another log: one that went on after `journal recover`. Its values must be trusted.

        Raises:
            VaultRefused: there is no vault, or it can't be used or written; the old key is in use.

        """
        with self._changing(adopt=adopt):
            old, content = self._key, self._content
            if old is None:
                raise VaultRefused(f"there is no vault in {self._folder} yet; `remediation secrets set NAME` makes it")
            values = [(record, old.decrypt(content.origin, record)) for record in content.records]
            new = self._keys.stage(sealed=sealed)
            records = tuple(
                new.encrypt(self._origin, record.name, record.version, record.set_at, value) for record, value in values
            )
            self._write(new, records)
            self._keys.settle(new.id)
            return len(records)

    @property
    def sealed(self) -> bool:
        """Whether the vault's key is kept under a passphrase."""
        return self._keys.sealed

    @contextlib.contextmanager
    def _changing(self, *, adopt: bool = False) -> Iterator[None]:
        with self._guard, _locked(self._folder / "vault.lock"):
            self._refresh(adopt=adopt)
            if self._key is not None:
                self._keys.settle(self._key.id)
            yield

    def _write(self, key: VaultKey, records: tuple[Record, ...]) -> None:
        content = VaultContent(self._origin, self._content.generation + 1, records)
        head = f"{_HEAD_FORMAT} {self._origin} {content.generation}\n".encode()
        try:
            if self._content.origin != self._origin:
                # Taken over from another log, whose head says nothing here: until the vault follows, it is still the other log's.
                replace_private(self._head, head)
            replace_private(self.path, key.serialise(content))
            replace_private(self._head, head)
        except OSError as error:
            raise VaultRefused(
                f"the vault {self.path} can't be written: {error.strerror}; look with `remediation secrets list` whether it was changed"
            ) from error
        self._refresh()

    def _refresh(self, *, adopt: bool = False) -> None:
        """Read what is there now, if it is not what was read last."""
        if self._seen is not None and self._seen.still_at(self.path) and self._content.origin == self._origin:
            return
        for _ in range(5):
            # In this order: the head never knows more than the file that was written before it.
            head = self._known_generation()
            try:
                opened = WatchedFile.at(self.path, vault_file.MAX_FILE)
            except OSError as error:
                raise VaultRefused(f"the vault {self.path} can't be read: {error.strerror}; run this as its owner") from error
            if opened is None:
                if head or self._content.generation:
                    raise VaultRefused(
                        f"{self.path} is missing, though {self._head.name} knows a vault: restore it from a backup, together with "
                        f"{self._head.name}; if the secrets are to be set anew, remove {self._head.name}"
                    )
                return
            document = vault_file.parse(opened.take(), str(self.path))
            origin, generation = document["origin"], document["generation"]
            if origin != self._origin and not adopt:
                raise VaultRefused(
                    f"{self.path} is the vault of the log {origin}, not of {self._origin}. If this log was begun by `journal recover`, "
                    "`remediation secrets rotate --adopt` takes the vault over; else bring back the vault that belongs here"
                )
            key = self._keys.find(document["key"])
            if key is None:
                continue  # a rotation went on between our two looks
            if not key.authentic(document):
                raise VaultRefused(
                    f"{self.path} is not what was written: it was altered, or put together from several files; restore it from a backup"
                )
            known = max(head, self._content.generation)
            if origin == self._origin and (generation < known or (head == 0 and generation > 1)):
                raise self._rolled_back(generation, known)
            content = vault_file.content_of(document, str(self.path))
            self._values.update(dict.fromkeys(_masked(key.decrypt(origin, record) for record in content.records)))
            self._content, self._key, self._seen = content, key, opened
            return
        raise VaultRefused(
            f"the key of the vault {self.path} is not in {self._folder}: restore vault.key from a backup. Without it nobody can read "
            "the secrets: remove vault.json, vault.key and vault.head, and set them anew"
        )

    def _rolled_back(self, generation: int, known: int) -> VaultRefused:
        if not known:
            return VaultRefused(f"{self._head} is missing, so that nobody can tell whether {self.path} is an old one; restore it")
        return VaultRefused(
            f"{self.path} is an old copy: it was changed {generation} times, the vault {known} times. Restore the newest one; if it is "
            f"lost, remove {self._head.name}, vault.json and vault.key, and set the secrets anew"
        )

    def _known_generation(self) -> int:
        """How often the vault was changed for this log, as far as the head knows; 0 without a head."""
        try:
            words = self._head.read_bytes().decode("ascii", "replace").split()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise VaultRefused(f"{self._head} can't be read: {error.strerror}; make it readable for the host's user") from error
        if len(words) != 3 or words[0] != _HEAD_FORMAT or not words[2].isdecimal():
            raise VaultRefused(f"{self._head} is damaged; restore it from a backup")
        return int(words[2]) if words[1] == self._origin else 0

    def __repr__(self) -> str:
        return f"RemediationKeyVault({str(self.path)!r}, secrets=<not shown>)"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a RemediationKeyVault is not copied or pickled: secrets stay in one place")


def _masked(values: Iterator[str]) -> Iterator[str]:
    return (value for value in values if len(value) >= _SHORTEST_MASKED)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise VaultRefused(f"{path} can't be made: {error.strerror}; only the keys' owner can change the vault") from error
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise VaultRefused(f"another process changes the vault and does not end ({path} is locked)") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
