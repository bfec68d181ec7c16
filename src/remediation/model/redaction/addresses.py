"""E-mail addresses, also international ones (RFC 6531), in punycode (RFC 3492), and as they stand in URLs (``bob%40example.org``)."""

from __future__ import annotations

import re

from remediation.model.redaction.rules import Rule, masked

_WIDE = "\u00c0-\u1fff\u2c00-\u2dff\u3040-\ud7ff\U00010000-\U0001efff"
"""The letters of other alphabets, and the marks that are combined with letters: an ``ü`` may be a ``u`` and a mark."""
_DOMAIN = re.compile(
    rf"(?:@|%(?:25)?40)((?:[A-Za-z0-9{_WIDE}-]{{1,63}}\.){{1,8}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z{_WIDE}]{{2,24}}))"
    r"(?![A-Za-z0-9_-])(?!\.[A-Za-z0-9])"
)
_LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
_WIDE_LOCAL = re.compile(rf"[{_WIDE}]")
_NO_TLD_WORDS = """
service socket timer mount automount target slice scope path device swap png jpg jpeg gif svg webp ico css js mjs json
yaml yml toml txt md log lock conf cfg ini html xml py git local
"""
_NO_TLD = frozenset(_NO_TLD_WORDS.split())
"""Last labels of what looks like an address and is none: units of systemd (``getty@tty1.service``), files (``icon@2x.png``)."""


def _local(before: str) -> str:
    """With what `before` ends that can be a local part."""
    at = len(before.rstrip(_LOCAL))
    while at and _WIDE_LOCAL.match(before[at - 1]):
        at = len(before[: at - 1].rstrip(_LOCAL))
    return before[at:].lstrip(".-%+")


def _addresses(text: str) -> str:
    """``local@domain`` (RFC 5322, the dot-atom form; of quoted local parts, the part behind the last blank)."""
    parts: list[str] = []
    at = 0
    for match in _DOMAIN.finditer(text):
        local, domain = _local(text[max(at, match.start() - 64) : match.start()]), match[1]
        if not local or local == "git" or domain.rpartition(".")[2].lower() in _NO_TLD:
            continue
        parts += (text[at : match.start() - len(local)], masked("email"))
        at = match.end()
    return "".join([*parts, text[at:]]) if parts else text


ADDRESSES = Rule("email", ("@", "%40", "%2540"), _addresses, personal=True)
