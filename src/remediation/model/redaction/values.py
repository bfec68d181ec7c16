"""The forms in which a known secret may turn up in a text."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable

SHORTEST = 7
"""Characters: shorter values are not looked for, as they would be found everywhere."""
_LINE = 16


def forms(value: str) -> frozenset[str]:
    """
    `value` as it is, URL-encoded, JSON-escaped, and in base64 at each of the three alignments (with both alphabets).

    Of a value of several lines, each line of 16 characters and more is a secret of its own: programs print lines.
    """
    found: set[str] = set()
    for part in {value, value.strip(), *(line.strip() for line in value.splitlines() if len(line.strip()) >= _LINE)}:
        if len(part) >= SHORTEST:
            found |= {part, *_escaped(part), *_base64(part)}
    return frozenset(found)


def _escaped(value: str) -> Iterable[str]:
    for quoted in (urllib.parse.quote(value, safe=""), urllib.parse.quote(value), urllib.parse.quote_plus(value)):
        yield quoted
        yield _lower_hex(quoted)
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
    yield repr(value)[1:-1]


def _lower_hex(quoted: str) -> str:
    head, *rest = quoted.split("%")
    return "%".join([head, *(part[:2].lower() + part[2:] for part in rest)])


def _base64(value: str) -> Iterable[str]:
    data = value.encode("utf-8", "surrogatepass")
    for offset in range(3):
        # Of 4 characters that stand for 3 bytes, those are left out that depend on what stands around the value.
        first = (0, 2, 3)[offset]
        last = (offset + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * offset + data).decode("ascii")[first:last]
            yield text
