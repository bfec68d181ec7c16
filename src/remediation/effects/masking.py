"""Masking the secrets that an effect itself was given, in what comes back from where it took them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from remediation.model.text import printable

_SHORTEST = 4
"""Shorter values are not masked: they would be found everywhere."""


def masked(text: str, secrets: Mapping[str, str]) -> str:
    """
    `text` with each value of `secrets` as ``[secret <name>]``: as it is, as it is shown, and as it stands in JSON.

    Non-guarantee: a value that comes back in another form (encoded, split) is not recognised.
    """
    for name, value in secrets.items():
        if len(value) >= _SHORTEST:
            for form in dict.fromkeys(
                (value, printable(value), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
            ):
                text = text.replace(form, f"[secret {name}]")
    return text
