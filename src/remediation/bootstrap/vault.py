"""A home's vault: bound to the home's log, and its key protected as the signing key is."""

from __future__ import annotations

import functools

from remediation.bootstrap.keys import open_keys
from remediation.errors import ConfigurationError
from remediation.journal.head import HeadNote
from remediation.keys.passphrase import passphrase
from remediation.keys.vault import RemediationKeyVault
from remediation.settings import Home


def open_vault(home: Home) -> RemediationKeyVault:
    """
    The vault of `home`, which must be initialised; nothing is read yet but the name of the log.

    Raises:
        ConfigurationError: the home has no log yet.
        JournalError: ``head.note`` can't be read.

    """
    head = HeadNote(home.head_note)
    if head.size() < 0:
        raise ConfigurationError(
            f"{home.root} has no journal yet, and secrets belong to one: run `remediation --home {home.root} init` first"
        )
    return RemediationKeyVault(home.keys, head.origin(), passphrase=functools.partial(passphrase, home.passphrase_sources))


def wants_passphrase(home: Home) -> bool:
    """
    Whether a new key of the vault is kept under the passphrase: if the signing key's file is.

    A signing key that is kept elsewhere (a keyring, a token) says nothing about files: then, it is not.

    Raises:
        ConfigurationError: the signing key's file can't be used as it is.

    """
    return home.key_provider == "file" and open_keys(home).state().encrypted
