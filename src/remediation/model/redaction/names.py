"""Names of fields, variables and options that say that their values are secrets."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

_PAIRED = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_NAMED_WORDS = """
password passwd passphrase passcode pwd secret secrets token authorization auth cookie cookies credential credentials
bearer otp psk jsessionid phpsessid
"""
_NAMED = frozenset(_NAMED_WORDS.split())
_ENDINGS = (
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "credentials"),
    *("apikey", "privatekey", "accesskey", "secretkey", "accountkey", "sessionkey", "sharedkey"),
)
"""With what a name ends that is written without a border: ``PGPASSWORD``, ``authtoken``."""
_OWNERS_WORDS = """
db my pg su ftp sql ssh vnc key user mail smtp root auth sudo ldap http imap bind repo wifi admin redis proxy mysql mongo login store
"""
PASS_OF = frozenset(_OWNERS_WORDS.split())
"""Before ``pass``: what makes a password of it, if there is no border between them (``dbpass``; ``bypass`` is a word)."""
_PASSES_WORDS = """
low high band first second third one two multi single all last next test tests by did must num total
"""
_PASSES = frozenset(_PASSES_WORDS.split())
"""Before ``pass``: what makes a passage of it (``first_pass``)."""
_KEYS_OF_WORDS = """
api access secret private account encryption signing shared preshared auth session master license subscription consumer hmac jwt aes
"""
_KEYS_OF = frozenset(_KEYS_OF_WORDS.split())


@functools.lru_cache(2048)
def names_secret(name: str) -> bool:
    """Whether a field, variable or option of this name holds a secret: ``db_password``, ``X-Api-Key``, ``clientSecret``."""
    parts = [part.lower() for part in _PART.findall(name[-128:])]
    while parts and parts[-1].isdigit():
        parts.pop()
    if not parts:
        return False
    if parts[-1] == "key":
        return len(parts) > 1 and parts[-2] in _KEYS_OF
    return _tells(parts[-1], parts[-2] if len(parts) > 1 else "")


def _tells(last: str, before: str) -> bool:
    if last == "pass":
        return before not in _PASSES
    return last in _NAMED or last.endswith(_ENDINGS) or (last.endswith("pass") and last[:-4] in PASS_OF)


def is_secret_under(name: str, value: object) -> bool:
    """Whether `value` may be the secret that `name` names: under ``pass`` stand the numbers of tests, too, and their names."""
    return names_secret(name) and (isinstance(value, str | dict) or not name.lower().endswith("pass"))


def is_pair(value: Sequence[object]) -> bool:
    """Whether a list of two texts is a variable or header with its secret value: ``["DB_PASSWORD", "…"]``."""
    if len(value) != 2 or not isinstance(value[0], str) or not isinstance(value[1], str):
        return False
    return _PAIRED.fullmatch(value[0]) is not None and "\n" not in value[1] and names_secret(value[0])
