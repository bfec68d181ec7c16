"""Documents that people sign: canonical JSON with exactly the members that are expected."""

from __future__ import annotations

import json
from typing import Any

from remediation.errors import RemediationError

_AS_GIVEN = "sign the bytes exactly as they were given"


def members(content: bytes, refused: type[RemediationError]) -> dict[str, Any]:
    """
    The members of a signed document; nothing is known yet about their values.

    Raises:
        RemediationError: of the kind `refused`; it is no JSON object.

    """
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise refused(f"the document is no JSON: {_AS_GIVEN}") from error
    if not isinstance(told, dict):
        raise refused(f"the document is no JSON object: {_AS_GIVEN}")
    return told


def differing(content: bytes, expected: bytes) -> list[str]:
    """In which members `content` differs from `expected`, both JSON objects; empty only if they are the same bytes."""
    if content == expected:
        return []
    told, meant = json.loads(content), json.loads(expected)
    return sorted(key for key in {*meant, *told} if repr(told.get(key)) != repr(meant.get(key))) or ["its spelling"]
