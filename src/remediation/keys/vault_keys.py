"""
The vault key's file: ``vault.key``, and ``vault.key.next`` while a rotation is under way.

The first line names the form: ``remediation-vault-key/1 plain KEY-ID`` with the key in base64 on the second line, or the header of
`remediation.keys.sealing` when it is kept under a passphrase. The id tells which key it is without opening it.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from remediation.keys import sealing
from remediation.keys.files import KeyFileRefused, create_private, destroy, read_private, sync_folder
from remediation.keys.passphrase import forget
from remediation.keys.vault_file import KEY_BYTES, VaultKey, VaultRefused

_FORMAT: Final = "remediation-vault-key/1"
_PLAIN: Final = "plain"
Passphrase = Callable[[str], bytes]


class VaultKeys:
    """
    The vault keys in `folder`. Not for two threads at once.

    Args:
        folder: Where they lie.
        passphrase: Gives the operator's passphrase; takes what it is for, in words.

    """

    def __init__(self, folder: Path, passphrase: Passphrase | None) -> None:
        self.current = folder / "vault.key"
        self.next = folder / "vault.key.next"
        self._old = folder / "vault.key.old"
        self._passphrase = passphrase
        self._open: VaultKey | None = None

    def find(self, id_: str) -> VaultKey | None:
        """
        The key that `id_` names, if it is here.

        Raises:
            KeyFileRefused, VaultRefused, PassphraseRefused: it is, but it can't be used.

        """
        if self._open is not None and self._open.id == id_:
            return self._open
        for path in (self.current, self.next, self.current):
            content = _content(path)
            if content is not None and _names(content, id_):
                self._open = self._opened(content, path)
                return self._open
        return None

    @property
    def exists(self) -> bool:
        """Whether there is a key in use."""
        return os.path.lexists(self.current)

    @property
    def sealed(self) -> bool:
        """Whether the key in use is kept under a passphrase."""
        content = _content(self.current)
        return content is not None and not content.startswith(f"{_FORMAT} {_PLAIN} ".encode())

    def create(self, *, sealed: bool) -> VaultKey:
        """
        The key of a new vault: what a making that was cut off left, else a new one.

        Raises:
            KeyFileRefused, VaultRefused, PassphraseRefused: it can't be made.

        """
        content = _content(self.current)
        if content is not None:
            self._open = self._opened(content, self.current)
        else:
            self._open = self._stored(self.current, sealed=sealed)
        return self._open

    def stage(self, *, sealed: bool) -> VaultKey:
        """
        Make the key that comes next, and put it beside the one in use.

        Raises:
            KeyFileRefused, VaultRefused, PassphraseRefused: it can't be made; the old one is in use.

        """
        try:
            destroy(self.next)
        except OSError as error:
            raise KeyFileRefused(f"{self.next} can't be removed: {error.strerror}") from error
        self._open = self._stored(self.next, sealed=sealed)
        return self._open

    def settle(self, id_: str) -> None:
        """
        Have the key that `id_` names in use, and the one before it destroyed. May be repeated.

        Raises:
            KeyFileRefused: it can't be done; the key is here all the same.

        """
        try:
            content = _content(self.next)
            if content is not None and _names(content, id_):
                self._destroy_old()
                with contextlib.suppress(FileNotFoundError):
                    os.link(self.current, self._old)
                os.rename(self.next, self.current)
                sync_folder(self.current.parent)
            self._destroy_old()
        except OSError as error:
            raise KeyFileRefused(
                f"the keys of the vault in {self.current.parent} can't be put in order: {error.strerror}; do it again"
            ) from error

    def _destroy_old(self) -> None:
        if os.path.lexists(self._old):
            if os.path.lexists(self.current) and os.path.samestat(os.lstat(self._old), os.lstat(self.current)):
                os.unlink(self._old)
            else:
                destroy(self._old)

    def _stored(self, path: Path, *, sealed: bool) -> VaultKey:
        key = VaultKey.generate()
        if sealed:
            content = sealing.seal(_FORMAT, key.reveal(), self._asked(), words=(key.id,))
        else:
            content = f"{_FORMAT} {_PLAIN} {key.id}\n{base64.b64encode(key.reveal()).decode('ascii')}\n".encode("ascii")
        try:
            create_private(path, content)
        except OSError as error:
            raise KeyFileRefused(f"the vault's key can't be stored at {path}: {error.strerror}; nothing was changed") from error
        return key

    def _opened(self, content: bytes, path: Path) -> VaultKey:
        damaged = f"{path} does not hold a readable key: it is damaged; restore it from a backup"
        wrong = False
        raw = b""
        if content.startswith(f"{_FORMAT} {_PLAIN} ".encode()):
            with contextlib.suppress(ValueError):
                raw = base64.b64decode(content.partition(b"\n")[2].strip(), validate=True)
        else:
            try:
                raw = sealing.read(content).open(self._asked())
            except sealing.WrongPassphrase:
                wrong = True
            except sealing.NotSealed:
                raise VaultRefused(damaged) from None
        if wrong:
            forget(self._purpose)
            raise VaultRefused(f"the passphrase does not open {path}, or the file was altered; try again with the right one")
        if len(raw) != KEY_BYTES or not _names(content, (key := VaultKey(raw)).id):
            raise VaultRefused(damaged)
        return key

    @property
    def _purpose(self) -> str:
        return f"the vault key {self.current}"

    def _asked(self) -> bytes:
        if self._passphrase is None:
            raise VaultRefused(f"{self._purpose} is kept under a passphrase, and this program was given none")
        return self._passphrase(self._purpose)


def _content(path: Path) -> bytes | None:
    if not os.path.lexists(path):
        return None
    try:
        return read_private(path)
    except KeyFileRefused:
        if os.path.lexists(path):
            raise
        return None  # renamed between the two looks


def _names(content: bytes, id_: str) -> bool:
    """Whether the first line is that of the key `id_`. One that is being destroyed is none."""
    words = content.partition(b"\n")[0].decode("ascii", "replace").split()
    return len(words) > 2 and words[0] == _FORMAT and words[-1] == id_
