"""
Secrets at rest: the key that signs the journal.

This package keeps private keys in files and signs with them; what it signs, and when, is not its business. It must not print, log
or copy a private key, must not read one that others can read, and must not decide about trust.
"""

from __future__ import annotations

from remediation.keys.files import KeyFileRefused
from remediation.keys.passphrase import PassphraseRefused
from remediation.keys.signing import SigningKey

__all__ = ["KeyFileRefused", "PassphraseRefused", "SigningKey"]
