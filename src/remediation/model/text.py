"""
Hostile text: one sanitiser and the caps, for everything that strangers may have written.

What comes from outside passes `wellformed` and a cap before it is stored; what is shown passes `printable` first. Nothing else in
the package cleans text. Secrets are masked before a text is cut, as half a secret is recognised by nobody; see
`remediation.model.redaction`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from remediation.model.redaction.redactor import Redactor

SUBJECT_CAP = 4096
SUMMARY_CAP = 2048
EVIDENCE_CAP = 64 * 1024
EVIDENCE_DEPTH = 8
_KEY_CAP = 256
_MARGIN = 8192
"""Characters beyond a cut that are looked at, so that a secret is recognised that it would go through."""
_REDACTOR = Redactor()

# C0 and C1 controls but tab and newline; all format characters (Unicode category Cf: bidi embeddings, overrides and isolates, see TR 36,
# 3.3; zero-width marks; tags) but the visible signs of Arabic, Syriac and Kaithi; line and paragraph separators; surrogates; and what
# is shown as nothing at all (Default_Ignorable_Code_Point: fillers, variation selectors), in which text can be hidden.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BLANK = re.compile(r"\s")
_SURROGATE = re.compile("[\ud800-\udfff]")


def wellformed(text: str) -> str:
    r"""`text` with each lone surrogate written as ``\\udcXX``: it can be encoded as UTF-8, and nothing is lost."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str, *, newlines: bool = False) -> str:
    """
    `text` safe for terminals, logs, commit messages and Markdown source: controls and bidi marks become visible escapes.

    `newlines` keeps line breaks; otherwise they are escaped too, so that one value is one line.
    """
    cleaned = _UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)
    return cleaned if newlines else cleaned.replace("\n", "\\n")


def reason_of(error: BaseException) -> str:
    """The message of an exception as people are to read it: of one of pydantic's, what is wrong where, on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    said = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where, what = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        said.append(f"{where}: {what}" if where else what)
    return "; ".join(said)


def capped(text: str, cap: int) -> str:
    """At most `cap` characters of `text`; what was cut is said in the text itself. Secrets of the built-in classes are masked first."""
    if len(text) <= cap:
        return text
    note = f"… [{len(text)} characters, cut]"
    head = _REDACTOR.text(text[: cap + _MARGIN])
    return (head[: max(0, cap - len(note))] + note)[:cap]


def ending(text: str, cap: int) -> str:
    """At most the last `cap` characters of `text`, from the beginning of a word on; secrets of the built-in classes are masked first."""
    if len(text) <= cap:
        return text
    tail = _REDACTOR.text(text[-cap - _MARGIN :])
    if len(tail) <= cap:
        return tail
    first = _BLANK.search(tail, len(tail) - cap)
    return tail[first.end() if first is not None and first.end() < len(tail) - cap // 2 else -cap :]


def capped_identity(text: str, cap: int = SUBJECT_CAP) -> str:
    """Like `capped` for texts that identify something: equal results mean equal inputs, by a SHA-256 of the whole."""
    if len(text) <= cap:
        return text
    text = _REDACTOR.credentials(text)
    if len(text) <= cap:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: cap - 80]}…sha256:{digest}"


def clean_key(name: str) -> str:
    """The key under which `clamp_json` keeps `name`: storable, at most 256 characters, and different for different names."""
    return capped_identity(wellformed(name), _KEY_CAP)


def clamp_json(value: Any) -> dict[str, Any]:
    """
    Evidence made storable: JSON values only, depth at most 8, at most 64 KiB as JSON text. Made once, it stays as it is.

    NaN and infinities become strings, keys become strings, unknown objects their type's name, deeper levels are named only. What is
    too large is replaced by ``{"cut": true, "size": bytes, "head": text}``, where `size` is how much of it was looked at: the work is
    bounded, also for values that hold themselves. A value that is not a mapping is put under ``value``.
    """
    walk = _Walk()
    evidence = walk.mapping(value if isinstance(value, dict) else {"value": value}, EVIDENCE_DEPTH)
    data = json.dumps(evidence, ensure_ascii=False).encode("utf-8")
    if len(data) <= EVIDENCE_CAP and walk.left >= 0:
        return evidence
    head = json.dumps(_REDACTOR.json(evidence), ensure_ascii=False).encode("utf-8")
    return {"cut": True, "size": len(data), "head": head[: EVIDENCE_CAP // 4].decode("utf-8", "ignore")}


class _Walk:
    """One way through a foreign value, that ends when it has seen more than can be stored."""

    def __init__(self) -> None:
        self.left = 4 * EVIDENCE_CAP

    def mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        result = {}
        for key, item in value.items():
            if self.left < 0:
                break
            result[self._key(key)] = self.plain(item, depth - 1)
        return result

    def plain(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            number = int.__int__(value)
            return number if abs(number) < 2**53 else str(number) if number.bit_length() < 4096 else "a huge integer"
        if isinstance(value, float):
            return float.__float__(value) if math.isfinite(value) else float.__repr__(value)
        if isinstance(value, bytes):
            return self._text(value[:EVIDENCE_CAP].decode("utf-8", "surrogateescape"))
        if isinstance(value, dict | list | tuple | set | frozenset):
            if depth < 1:
                return f"[deeper than {EVIDENCE_DEPTH} levels: {type(value).__name__} of {len(value)}]"
            return self.mapping(value, depth) if isinstance(value, dict) else self._items(value, depth)
        return f"[{type(value).__name__}]"

    def _items(self, value: Iterable[Any], depth: int) -> list[Any]:
        result = []
        for item in value:
            if self.left < 0:
                break
            result.append(self.plain(item, depth - 1))
        return result

    def _text(self, value: str) -> str:
        text = wellformed(value if len(value) <= EVIDENCE_CAP else capped(value, EVIDENCE_CAP // 4))
        self.left -= len(text)
        return text

    def _key(self, key: Any) -> str:
        text = clean_key(str.__str__(key) if isinstance(key, str) else str(self.plain(key, 0)))
        self.left -= len(text)
        return text
