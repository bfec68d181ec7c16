"""
Secrets at rest: the key that signs the journal.

This package keeps private keys in files and signs with them; what it signs, and when, is not its business. It must not print, log
or copy a private key, must not read one that others can read, and must not decide about trust.
"""

from __future__ import annotations

from remediation.keys.file_store import FileKeys
from remediation.keys.files import KeyFileRefused
from remediation.keys.os_keyring import KeyringKeys
from remediation.keys.passphrase import PassphraseRefused
from remediation.keys.signing import SigningKey
from remediation.ports.keys import KeyProvider

BUILTIN_PROVIDERS: dict[str, KeyProvider] = {provider.name: provider for provider in (FileKeys(), KeyringKeys())}
"""The places for keys that come with the package, by what ``[keys] provider`` calls them. They have no privilege over those of plugins."""

__all__ = ["BUILTIN_PROVIDERS", "KeyFileRefused", "PassphraseRefused", "SigningKey"]
