"""Where the key that signs the log is kept: what a provider of keys has to do, and what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Signer(Protocol):
    """
    An Ed25519 key that signs (RFC 8032); it may live elsewhere, in a token or a service.

    Guarantees: signatures are those of `public`; `derive` gives the same bytes for the same purpose as long as the key exists. `sign` is
    called once for each commit while nobody else can append: it must be quick, and it must not wait for a person.
    """

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`."""

    def derive(self, purpose: str) -> bytes:
        """32 bytes that only holders of this key can make, another value for each purpose."""


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Which keys are meant, and what their provider may need."""

    folder: Path
    """The folder of the home's keys; it exists."""
    host: str
    """The host's id."""
    passphrase: Callable[[str], bytes]
    """Gives the operator's passphrase; takes what it is for, in words. Raises ConfigurationError if there is none."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """What can be said of the keys without using them."""

    held: tuple[bytes, ...]
    """The public keys whose private halves are held: first the one in use; a second one while a rotation is under way."""
    encrypted: bool
    """Whether reading the files (or what else there is) is not enough to have the key."""
    kept: str
    """Where and how they are kept, in words."""
    unsettled: bool = False
    """Whether a key that is no longer in use has still to be destroyed."""


class KeyStore(Protocol):
    """
    The private keys of one log: the one in use and, during a rotation, the one that comes next.

    A rotation is `stage`, then the entry that tells of it, then `settle`. Guarantees: what `create` and `stage` return is durable; a
    process that is killed anywhere loses no key that the log may need; `settle` may be repeated. The caller sees to it that only one
    process at a time uses `create`, `stage` and `settle`; `load` may run beside them in any process, and finds the key that is asked for.

    All methods may block; all raise `remediation.errors.ConfigurationError` when they can't do what they say.
    """

    def exists(self) -> bool:
        """Whether there is a key in use."""

    def create(self, *, encrypt: bool = False) -> Signer:
        """Make the log's first key. Never replaces one."""

    def load(self, public: bytes | None = None) -> Signer:
        """The key with this public half, whichever it is; `None`: the one in use."""

    def stage(self) -> Signer:
        """Make the key that comes next, protected as the one in use is. One that was staged before and never used is destroyed."""

    def settle(self, public: bytes) -> None:
        """
        Make the key with this public half the one in use, then destroy the one that was, as far as that can be done.

        If it is in use already, only what an earlier call left undone is done: a staged key stays.
        """

    def state(self) -> KeyState:
        """What is kept. Needs no passphrase."""


class KeyProvider(Protocol):
    """A kind of place for keys. Plugins bring theirs by the hook ``remediation_key_providers``; ``[keys] provider`` chooses by name."""

    name: str
    """What ``[keys] provider`` calls it: letters, digits and ``-``."""

    def open(self, place: KeyPlace) -> KeyStore:
        """
        The keys of `place`; makes nothing.

        Raises:
            ConfigurationError: this place for keys can't be used here.

        """
