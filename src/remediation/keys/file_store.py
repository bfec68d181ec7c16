"""
Keys in files of the keys' folder: ``signing.key`` is in use, ``signing.key.next`` comes next, ``signing.key.old`` is being destroyed.

The steps of `settle`, each of which may be the last one before a kill, and all of which may be done again:

1. ``signing.key`` also gets the name ``signing.key.old`` (a hard link);
2. ``signing.key.next`` is renamed to ``signing.key``; the folder is made durable;
3. ``signing.key.old`` is overwritten and removed.

So at every moment the key that the log asks for has a name, and what is overwritten has no other one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from remediation.keys import signing
from remediation.keys.files import KeyFileRefused, create_private, destroy, read_private, replace_private, sync_folder
from remediation.keys.passphrase import PassphraseRefused, forget
from remediation.keys.signing import SigningKey
from remediation.ports.keys import KeyPlace, KeyState


class FileKeys:
    """The provider ``file``: the default. See `remediation.ports.keys.KeyProvider`."""

    name = "file"

    def open(self, place: KeyPlace) -> FileKeyStore:
        """The keys in `place.folder`."""
        return FileKeyStore(place)


class FileKeyStore:
    """See `remediation.ports.keys.KeyStore`. Encrypted or not, as the key in use is."""

    def __init__(self, place: KeyPlace) -> None:
        self._place = place
        self.current: Path = place.folder / "signing.key"
        self.next = self.current.with_name("signing.key.next")
        self.old = self.current.with_name("signing.key.old")

    def exists(self) -> bool:
        return os.path.lexists(self.current)

    def create(self, *, encrypt: bool = False) -> SigningKey:
        return SigningKey.create(self.current, (lambda: self._passphrase(self.current)) if encrypt else None)

    def load(self, public: bytes | None = None) -> SigningKey:
        if public is None:
            return self._open(self.current, read_private(self.current))
        # The first one twice: between two looks, the next key may have become the one in use.
        for path in (self.current, self.next, self.current):
            if os.path.lexists(path):
                try:
                    content = read_private(path)
                except FileNotFoundError:
                    continue
                if signing.public_of(content, str(path)) == public:
                    return self._open(path, content)
        raise KeyFileRefused(
            f"the key with the public half {public.hex()} is not in {self._place.folder}: the log goes on with it, "
            "so bring it there from where the key was rotated, or from a backup"
        )

    def stage(self) -> SigningKey:
        sealed = signing.is_sealed(read_private(self.current))
        key = SigningKey.generate()
        try:
            destroy(self.next)
            create_private(self.next, key.sealed(self._passphrase(self.current)) if sealed else key.plain())
        except OSError as error:
            raise KeyFileRefused(f"the new key can't be stored at {self.next}: {error.strerror}; the old one is kept") from error
        return key

    def settle(self, public: bytes) -> None:
        try:
            if self._public(self.current) != public:
                if not os.path.lexists(self.next) or self._public(self.next) != public:
                    raise KeyFileRefused(f"the key with the public half {public.hex()} is not in {self._place.folder}")
                self._destroy_old()
                os.link(self.current, self.old)
                os.rename(self.next, self.current)
                sync_folder(self._place.folder)
            self._destroy_old()
        except OSError as error:
            raise KeyFileRefused(
                f"the keys in {self._place.folder} can't be put in order: {error.strerror}; the log can go on, do it again"
            ) from error

    def state(self) -> KeyState:
        content = read_private(self.current)
        sealed = signing.is_sealed(content)
        held = [signing.public_of(content, str(self.current))]
        with contextlib.suppress(KeyFileRefused):
            held.append(signing.public_of(read_private(self.next), str(self.next)))
        kept = f"{self.current}, {'under a passphrase' if sealed else 'not encrypted'}"
        return KeyState(tuple(held), sealed, kept, unsettled=os.path.lexists(self.old))

    def protect(self, passphrase: bytes | None) -> None:
        """
        Encrypt the key in use under another passphrase, or (`None`) no longer.

        Raises:
            KeyFileRefused, PassphraseRefused: it stands as it was.

        """
        key = self.load()
        content = key.plain() if passphrase is None else key.sealed(passphrase)
        try:
            self._destroy_old()
            os.link(self.current, self.old)
            replace_private(self.current, content)
            self._destroy_old()
        except OSError as error:
            raise KeyFileRefused(
                f"{self.current} can't be written: {error.strerror}; look what is there, and do it again"
            ) from error
        forget(self._purpose(self.current))

    def _destroy_old(self) -> None:
        if not os.path.lexists(self.old):
            return
        if os.path.samestat(os.lstat(self.old), os.lstat(self.current)):
            os.unlink(self.old)  # the same file under two names: the step after the link was never made
        else:
            destroy(self.old)

    def _public(self, path: Path) -> bytes:
        return signing.public_of(read_private(path), str(path))

    def _open(self, path: Path, content: bytes) -> SigningKey:
        try:
            return SigningKey.read(content, str(path), lambda: self._passphrase(self.current))
        except PassphraseRefused:
            forget(self._purpose(self.current))
            raise

    def _passphrase(self, path: Path) -> bytes:
        return self._place.passphrase(self._purpose(path))

    def _purpose(self, path: Path) -> str:
        return f"the signing key {path}"
