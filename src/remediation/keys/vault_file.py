"""
The vault's file: what it says in the clear, how its values are encrypted, and how all of it is authenticated. Pure; no I/O.

``vault.json`` is canonical JSON (RFC 8785) of `format`, `origin`, `generation`, `key`, `records` and `mac`. Each record has `name`,
`version`, `set_at`, `nonce` and `ciphertext`, the last two in base64. A value is encrypted with AES-256-GCM (NIST SP 800-38D) under a
fresh random nonce of 96 bits; the associated data is a tag, the log's origin, the name and the version, each with its length in front.
`mac` is HMAC-SHA-256 over all the rest, so that no record can be taken out, put in, or put back as it was. The two keys, and the `key`
that names the vault key, come from the vault key by HKDF-SHA-256 (RFC 5869) with tagged info.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Never

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from remediation.errors import ConfigurationError, NotCanonical
from remediation.model import canonical
from remediation.model.text import wellformed

FORMAT: Final = "remediation-vault/1"
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_RECORD_KEYS: Final = {"name", "version", "set_at", "nonce", "ciphertext"}
_DOCUMENT_KEYS: Final = {"format", "origin", "generation", "key", "records", "mac"}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_VALUE: Final = 64 * 1024
"""Bytes of a value in UTF-8."""
MAX_SECRETS: Final = 1000
MAX_FILE: Final = MAX_SECRETS * 96 * 1024
"""Bytes: room for the largest values in base64."""


class VaultRefused(ConfigurationError):
    """The vault, or what is to be put into it, can't be used as it is. The message never quotes a value."""


@dataclass(frozen=True, slots=True)
class Record:
    """One secret as it is stored."""

    name: str
    version: int
    """1 for the first value of a name, one more for each that replaces it."""
    set_at: str
    """UTC, as in the journal."""
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class VaultContent:
    """A whole vault, values encrypted."""

    origin: str
    """The log that the vault belongs to."""
    generation: int
    """How often the vault was changed."""
    records: tuple[Record, ...] = ()

    def record(self, name: str) -> Record | None:
        """The record of `name`, if there is one."""
        return next((record for record in self.records if record.name == name), None)


class VaultKey:
    """The 32 random bytes that all of a vault hangs on. It can't be printed, pickled or copied."""

    __slots__ = ("_encrypting", "_mac", "_raw", "id")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError("a vault key has 32 bytes")
        self._raw = raw
        self._encrypting = AESGCM(_derived(raw, "records"))
        self._mac = _derived(raw, "file")
        self.id: str = _derived(raw, "name of the key")[:8].hex()
        """Names the key; says nothing about it."""

    @classmethod
    def generate(cls) -> VaultKey:
        """A new key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def reveal(self) -> bytes:
        """The key itself, for its own file alone."""
        return self._raw

    def encrypt(self, origin: str, name: str, version: int, set_at: str, value: str) -> Record:
        """`value` as a record, under a fresh nonce."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Record(
            name, version, set_at, nonce, self._encrypting.encrypt(nonce, value.encode("utf-8"), _bound(origin, name, version))
        )

    def decrypt(self, origin: str, record: Record) -> str:
        """
        The value of `record`.

        Raises:
            VaultRefused: it was not encrypted with this key, for this log, as this version of this name.

        """
        try:
            return self._encrypting.decrypt(record.nonce, record.ciphertext, _bound(origin, record.name, record.version)).decode(
                "utf-8"
            )
        except (InvalidTag, ValueError):
            raise VaultRefused(
                f"the secret {record.name!r} is not what was stored as its version {record.version} in the vault of {origin}: it was "
                f"altered, or comes from elsewhere; set it again with `remediation secrets set {record.name}`"
            ) from None

    def serialise(self, content: VaultContent) -> bytes:
        """The bytes of the file."""
        document = _document(content, self.id)
        return canonical.dumps({**document, "mac": self._authenticator(document)}) + b"\n"

    def authentic(self, document: dict[str, Any]) -> bool:
        """Whether `document`, parsed, was written with this key."""
        rest = {name: value for name, value in document.items() if name != "mac"}
        try:
            return hmac.compare_digest(self._authenticator(rest), document["mac"])
        except NotCanonical:
            return False

    def _authenticator(self, document: dict[str, Any]) -> str:
        return hmac.digest(self._mac, _joined(FORMAT.encode(), canonical.dumps(document)), "sha256").hex()

    def __repr__(self) -> str:
        return f"VaultKey(id={self.id}, key=<not shown>)"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a VaultKey is not copied or pickled: it stays in one place")


def parse(data: bytes, path: str) -> dict[str, Any]:
    """
    The document in `data`, well-formed but not yet authenticated.

    Raises:
        VaultRefused: it is no vault, or one of a newer form.

    """
    damaged = f"{path} is not a vault: it is damaged; restore it from a backup, together with vault.head"
    if len(data) > MAX_FILE:
        raise VaultRefused(f"{path} is too large to be a vault")
    try:
        document = canonical.loads(data)
    except NotCanonical:
        raise VaultRefused(damaged) from None
    if not isinstance(document, dict):
        raise VaultRefused(damaged)
    form = document.get("format")
    if form != FORMAT:
        if isinstance(form, str) and form.startswith("remediation-vault/"):
            raise VaultRefused(f"{path} is a vault in a form that this version can't read; upgrade remediation")
        raise VaultRefused(damaged)
    kinds = {"origin": str, "generation": int, "key": str, "records": list, "mac": str}
    if set(document) != _DOCUMENT_KEYS or any(type(document[name]) is not kind for name, kind in kinds.items()):
        raise VaultRefused(damaged)
    if not document["mac"].isascii():
        raise VaultRefused(damaged)
    return document


def content_of(document: dict[str, Any], path: str) -> VaultContent:
    """
    What an authentic document says.

    Raises:
        VaultRefused: it says what no vault does.

    """
    try:
        records = tuple(_record(item) for item in document["records"])
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise VaultRefused(f"{path} is not a vault: one of its records is malformed; restore it from a backup") from None
    return VaultContent(document["origin"], document["generation"], records)


def check_name(name: str) -> str:
    """
    `name`, if it can be that of a secret.

    Raises:
        VaultRefused: it can't.

    """
    if not _NAME.fullmatch(name):
        # Not quoted: somebody may have put the value where the name belongs.
        raise VaultRefused("the name of a secret is 1-64 letters, digits, '_', '.' and '-', beginning with a letter or digit")
    return name


def check_value(value: str) -> str:
    """
    `value`, if it can be kept: not empty, at most 64 KiB of UTF-8, no NUL (a process could not be given it).

    Raises:
        VaultRefused: it can't.

    """
    if "\0" in value or wellformed(value) != value:
        raise VaultRefused("the value must be text without NUL characters; encode binary secrets in base64")
    size = len(value.encode("utf-8"))
    if not 1 <= size <= MAX_VALUE:
        raise VaultRefused(f"the value has {size} bytes; it must have 1 to {MAX_VALUE}")
    return value


def _record(item: Any) -> Record:
    if type(item) is not dict or set(item) != _RECORD_KEYS or type(item["version"]) is not int or type(item["set_at"]) is not str:
        raise ValueError("record")
    nonce, ciphertext = (base64.b64decode(item[name], validate=True) for name in ("nonce", "ciphertext"))
    return Record(check_name(item["name"]), item["version"], item["set_at"], nonce, ciphertext)


def _document(content: VaultContent, key: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "origin": content.origin,
        "generation": content.generation,
        "key": key,
        "records": [
            {
                "name": record.name,
                "version": record.version,
                "set_at": record.set_at,
                "nonce": base64.b64encode(record.nonce).decode("ascii"),
                "ciphertext": base64.b64encode(record.ciphertext).decode("ascii"),
            }
            for record in _sorted(content.records)
        ],
    }


def _sorted(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.name)


def _bound(origin: str, name: str, version: int) -> bytes:
    return _joined(b"remediation-vault-record/1", origin.encode(), name.encode(), str(version).encode())


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _derived(raw: bytes, purpose: str) -> bytes:
    info = _joined(b"remediation-vault-key/1", purpose.encode())
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(raw)
