"""
Canonical JSON (RFC 8785) on the journal's restricted domain, as far as a verifier needs it.

Domain: objects with keys ``[a-z0-9_.-]+``, arrays, strings without lone surrogates, booleans, null, integers below 2**53. The
journal's model has its own writer of this form; this one stands here so that proofs can be checked without the model.
"""

from __future__ import annotations

import json
import re
from typing import Any

from remediation.errors import NotCanonical

MAX_INTEGER = 2**53 - 1

_KEY = re.compile(r"[a-z0-9_.-]+").fullmatch
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def encode(value: Any) -> bytes:
    """The canonical bytes of `value`, which is taken to lie inside the domain."""
    return _encode(value).encode()


def decode(data: bytes) -> Any:
    """
    The value of a canonical JSON text.

    Raises:
        NotCanonical: not JSON, outside the domain, or not in the one canonical form; so there is never a second text for one value.

    """
    try:
        value = json.loads(
            data.decode(), parse_float=_refuse, parse_constant=_refuse, parse_int=_integer, object_pairs_hook=_object
        )
        canonical = encode(value)
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not JSON: {error}") from error
    if canonical != data:
        raise NotCanonical("not in canonical form: white space, the order of keys or an escape differs from RFC 8785")
    return value


def decode_object(data: bytes, keys: frozenset[str] | None = None) -> dict[str, Any]:
    """
    Like `decode`, for an object; with `keys`, for one with exactly these.

    Raises:
        NotCanonical: see `decode`; or not an object, or not with these keys.

    """
    value = decode(data)
    if not isinstance(value, dict):
        raise NotCanonical("not a JSON object")
    if keys is not None and value.keys() != keys:
        raise NotCanonical(
            f"an object with the keys {', '.join(sorted(keys))} was expected, not {', '.join(sorted(value)) or 'an empty one'}"
        )
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise NotCanonical("an object repeats a key")
    for key in result:
        if not _KEY(key):
            raise NotCanonical(f"the key {key!r} is outside [a-z0-9_.-]")
    return result


def _integer(text: str) -> int:
    value = int(text) if len(text) <= 17 else MAX_INTEGER + 1
    if abs(value) > MAX_INTEGER:
        raise NotCanonical("an integer is not below 2**53")
    return value


def _refuse(text: str) -> Any:
    raise NotCanonical(f"{text} is not an integer")
