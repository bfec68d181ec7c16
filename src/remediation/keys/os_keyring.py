"""
Keys in the keyring of the operating system, through the library ``keyring`` (the extra ``remediation[keyring]``).

A key is one secret text, in the form that an unencrypted key file has; the keyring encrypts it and guards it by the user's session.
Backends that keep nothing, fail, or store plain text are refused: a key that everybody can read, or that is gone, is worse than an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from remediation.errors import ConfigurationError
from remediation.keys import signing
from remediation.keys.signing import SigningKey
from remediation.ports.keys import KeyPlace, KeyState

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

_REFUSED_MODULES = ("keyring.backends.null", "keyring.backends.fail", "keyrings.alt")
_RECOMMENDED = 1
"""What `keyring` calls the least priority of a backend that it recommends; plain-text files have less."""
_CURRENT, _NEXT = "signing key", "signing key, next"


class KeyringRefused(ConfigurationError):
    """The system's keyring can't be used for keys, or does not hold what it should; the message says why, and never quotes a secret."""


class KeyringKeys:
    """The provider ``keyring``. See `remediation.ports.keys.KeyProvider`."""

    name = "keyring"

    def open(self, place: KeyPlace) -> KeyringStore:
        """
        The keys of the host `place.host` in this user's keyring.

        Raises:
            KeyringRefused: the library is not installed, or its backend is not fit for keys.

        """
        try:
            import keyring  # noqa: PLC0415 - an extra that only this provider needs
        except ImportError as error:
            raise KeyringRefused(
                '[keys] provider = "keyring" needs the library keyring: `pip install "remediation[keyring]"`'
            ) from error
        return KeyringStore(fit(keyring.get_keyring()), f"remediation/{place.host}")


def fit(backend: KeyringBackend) -> KeyringBackend:
    """
    `backend` if it keeps secrets; of a chain of backends, the one that would store them.

    Raises:
        KeyringRefused: it keeps nothing, fails, or is not recommended by `keyring` (as those that store plain text).

    """
    kind = type(backend)
    name = f"{kind.__module__}.{kind.__qualname__}"
    chained = getattr(kind, "backends", None) if kind.__module__ == "keyring.backends.chainer" else None
    first = next(iter(chained or ()), None)
    if first is not None:
        return fit(first)
    reason = ""
    if any(base.__module__.startswith(_REFUSED_MODULES) for base in kind.__mro__):
        reason = "it keeps nothing, or stores plain text"
    elif any("plaintext" in base.__name__.lower() for base in kind.__mro__):
        reason = "it stores plain text"
    else:
        try:
            priority = float(kind.priority)
        except Exception as error:  # backends raise what they like where they can't work
            reason = f"it can't be used here ({error})"
        else:
            if priority < _RECOMMENDED:
                reason = f"its priority is {priority:g}, and keyring recommends those from {_RECOMMENDED} on"
    if reason:
        raise KeyringRefused(
            f"the keyring backend {name} is refused: {reason}. Start a session with a keyring (Secret Service, KWallet), "
            'or set [keys] provider = "file" and encrypt the key with `remediation keys passphrase`'
        )
    return backend


class KeyringStore:
    """
    See `remediation.ports.keys.KeyStore`.

    Non-guarantee: whether a secret that was replaced or deleted can still be found on the disk is for the keyring's backend to say.
    """

    def __init__(self, backend: KeyringBackend, service: str) -> None:
        self._backend = backend
        self._service = service

    def exists(self) -> bool:
        return self._get(_CURRENT) is not None

    def create(self, *, encrypt: bool = False) -> SigningKey:
        if encrypt:
            raise KeyringRefused("a key in the system's keyring has no passphrase of its own: the keyring encrypts it")
        if self.exists():
            raise KeyringRefused(f"{self._where(_CURRENT)} is there already and is not replaced")
        return self._new(_CURRENT)

    def load(self, public: bytes | None = None) -> SigningKey:
        if public is None:
            content = self._get(_CURRENT)
            if content is None:
                raise KeyringRefused(
                    f"there is no {self._where(_CURRENT)}; `remediation init` makes one, or restore it from a backup"
                )
            return SigningKey.read(content, self._where(_CURRENT))
        # The first one twice: between two looks, the next key may have become the one in use.
        for user in (_CURRENT, _NEXT, _CURRENT):
            content = self._get(user)
            if content is not None and signing.public_of(content, self._where(user)) == public:
                return SigningKey.read(content, self._where(user))
        raise KeyringRefused(
            f"the key with the public half {public.hex()} is not in the keyring (service {self._service!r}): the log goes on with it, "
            "so run this as the user who rotated the key, in a session with that keyring"
        )

    def stage(self) -> SigningKey:
        return self._new(_NEXT)

    def settle(self, public: bytes) -> None:
        content = self._get(_CURRENT)
        if content is None or signing.public_of(content, self._where(_CURRENT)) != public:
            following = self._get(_NEXT)
            if following is None or signing.public_of(following, self._where(_NEXT)) != public:
                raise KeyringRefused(f"the key with the public half {public.hex()} is not in the keyring ({self._service!r})")
            self._set(_CURRENT, following)
        elif content != self._get(_NEXT):
            return
        self._delete(_NEXT)

    def state(self) -> KeyState:
        found = [(user, content) for user in (_CURRENT, _NEXT) if (content := self._get(user)) is not None]
        held = tuple(dict.fromkeys(signing.public_of(content, self._where(user)) for user, content in found))
        kind = type(self._backend)
        return KeyState(held, True, f"the keyring ({kind.__module__}.{kind.__qualname__}), service {self._service!r}")

    def _new(self, user: str) -> SigningKey:
        key = SigningKey.generate()
        self._set(user, key.plain())
        return key

    def _get(self, user: str) -> bytes | None:
        with self._asking("read"):
            found = self._backend.get_password(self._service, user)
        return None if found is None else found.encode()

    def _set(self, user: str, content: bytes) -> None:
        with self._asking("written"):
            self._backend.set_password(self._service, user, content.decode("ascii"))
        if self._get(user) != content:
            raise KeyringRefused(f"{self._where(user)} was stored, and does not read back; the backend keeps no secrets")

    def _delete(self, user: str) -> None:
        with self._asking("removed"):
            self._backend.delete_password(self._service, user)

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each backend has exceptions of its own, of D-Bus, of the system
            raise KeyringRefused(
                f"the keyring (service {self._service!r}) can't be {what}: {type(error).__name__}: {error}; unlock it and try again"
            ) from error

    def _where(self, user: str) -> str:
        return f"{user!r} in the keyring (service {self._service!r})"
