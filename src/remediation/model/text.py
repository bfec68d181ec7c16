"""
Hostile text: one sanitiser and the caps, for everything that strangers may have written.

What comes from outside passes `wellformed` and a cap before it is stored; what is shown passes `printable` first. Nothing else in
the package cleans text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

SUBJECT_CAP = 4096
SUMMARY_CAP = 2048
EVIDENCE_CAP = 64 * 1024
EVIDENCE_DEPTH = 8

# C0 and C1 controls but tab and newline; bidi embeddings, overrides and isolates (Unicode TR 36, 3.3); line and paragraph separators;
# zero-width and invisible format characters that can hide text.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
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


def capped(text: str, cap: int) -> str:
    """At most `cap` characters of `text`; what was cut is said in the text itself."""
    if len(text) <= cap:
        return text
    note = f"… [{len(text)} characters, cut]"
    return text[: cap - len(note)] + note


def capped_identity(text: str, cap: int = SUBJECT_CAP) -> str:
    """Like `capped` for texts that identify something: equal results mean equal inputs, by a SHA-256 of the whole."""
    if len(text) <= cap:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: cap - 80]}…sha256:{digest}"


def clamp_json(value: Any) -> dict[str, Any]:
    """
    Evidence made storable: JSON values only, depth at most 8, at most 64 KiB as JSON text.

    NaN and infinities become strings, keys become strings, unknown objects their type's name, deeper levels their JSON text (cut). What is
    too large is replaced by ``{"cut": true, "size": bytes, "head": text}``. A value that is not a mapping is put under ``value``.
    """
    plain = _plain(value, EVIDENCE_DEPTH)
    evidence = plain if isinstance(plain, dict) else {"value": plain}
    text = json.dumps(evidence, ensure_ascii=False)
    size = len(text.encode("utf-8"))
    if size <= EVIDENCE_CAP:
        return evidence
    return {"cut": True, "size": size, "head": text.encode("utf-8")[: EVIDENCE_CAP // 4].decode("utf-8", "ignore")}


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return wellformed(value if len(value) <= EVIDENCE_CAP else capped(value, EVIDENCE_CAP // 4))
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value) if value.bit_length() < 4096 else "a huge integer"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return wellformed(value[:EVIDENCE_CAP].decode("utf-8", "surrogateescape"))
    if isinstance(value, dict | list | tuple | set | frozenset):
        if depth <= 1:
            return f"[deeper than {EVIDENCE_DEPTH} levels: {type(value).__name__} of {len(value)}]"
        if isinstance(value, dict):
            return {wellformed(str(key))[:256]: _plain(item, depth - 1) for key, item in list(value.items())[:4096]}
        return [_plain(item, depth - 1) for item in list(value)[:4096]]
    return f"[{type(value).__name__}]"
