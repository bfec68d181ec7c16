"""
Canonical JSON: RFC 8785 (JCS) on a restricted domain.

Domain: objects with keys ``[a-z0-9_.-]+``, arrays, strings without lone surrogates, booleans, null, and integers with an absolute
value below 2**53. No floats. Inside this domain RFC 8785's rules for numbers (3.2.2.3) and key order (3.2.3, UTF-16 code units)
coincide with plain decimal integers and byte order, and ``json.dumps`` escapes strings as 3.2.2.2 asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from remediation.errors import NotCanonical

MAX_INTEGER = 2**53 - 1
_KEY = re.compile(r"[a-z0-9_.-]+").fullmatch
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _faster() -> Callable[[Any], str]:
    """`_encoder.encode` without making the inner encoder anew for each value, which takes as long as a small value itself."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # another interpreter than CPython
        return _encoder.encode
    text = json.encoder.encode_basestring
    inner = make(None, _encoder.default, text, None, ":", ",", True, False, False)
    return lambda value: "".join(inner(value, 0))


_encode = _faster()
_known_keys: set[str] = set()


def _check(value: Any, where: str) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise NotCanonical(f"{where}: an integer of {value.bit_length()} bits is not below 2**53; store it as a string")
    elif kind is dict:
        for key, item in value.items():
            if key not in _known_keys or type(key) is not str:
                if type(key) is not str or not _KEY(key):
                    raise NotCanonical(f"{where}: key {key!r} is outside [a-z0-9_.-]; store the map as a list of pairs")
                if len(_known_keys) < 4096:
                    _known_keys.add(key)
            inner = type(item)
            if inner is not str and inner is not bool and item is not None:
                _check(item, key)
    elif kind is list or kind is tuple:
        for item in value:
            _check(item, where)
    else:
        raise NotCanonical(f"{where}: {kind.__name__} is not in the journal's JSON domain; store it as a string")


def dumps(value: Any) -> bytes:
    """
    The canonical bytes of `value`.

    Raises:
        NotCanonical: `value` lies outside the domain (the message names the place).

    """
    try:
        _check(value, "$")
        return _encode(value).encode("utf-8")
    except RecursionError as error:
        raise NotCanonical("the value contains itself, or is nested too deeply; store it as a string") from error
    except UnicodeEncodeError as error:
        raise NotCanonical("a string holds a lone surrogate; store undecodable bytes as base64") from error


def loads(data: bytes | str) -> Any:
    """
    Parse JSON, refusing duplicate keys, floats and the constants that JSON does not have.

    Does not prove that `data` is canonical, nor that keys, integers and escaped surrogates are in the domain: compare
    ``dumps(loads(data))`` for that.

    Raises:
        NotCanonical: not UTF-8, not JSON, or one of these.

    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise NotCanonical("an object repeats a key")
    return result


def _no_float(text: str) -> Any:
    raise NotCanonical(f"{text} is not an integer")
