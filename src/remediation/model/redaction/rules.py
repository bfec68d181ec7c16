"""
What a rule of redaction is, and the three that no regular expression can say in linear time: private keys, e-mail addresses, values.

Every rule takes time linear in the text, whatever the text is: a match begins at a literal, what may be repeated without a bound is
never followed by something that can fail, and what stands before a literal is looked for backwards from it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Mask = Callable[[str], str]
_OTHERS = frozenset(("depth", "password", "secret", "vault"))
"""Names in masks that are no rule's."""
_FEW = 32
"""Up to so many values, plain searches one after the other are faster than one search for an alternation."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One class of secrets."""

    name: str
    """Stands in the mask, ``[redacted:<name>]``."""
    signs: tuple[str, ...]
    """Literals of which a text that holds such a secret holds at least one; of a `named` rule, in lower case."""
    mask: Mask
    """A text with all secrets of the class masked; the same object if there are none."""
    named: bool = False
    """Recognised by a name in any case, and a ``:``, ``=`` or ``--``, one of which the text holds."""
    personal: bool = False
    """Personal data, and no credential: masked in what people write and programs print, but it makes no plan impossible."""


def masked(name: str) -> str:
    """What stands in the place of a secret of the class `name`."""
    return f"[redacted:{name}]"


@functools.cache
def _compiled(expression: str) -> re.Pattern[str]:
    return re.compile(expression)


def matching(
    name: str,
    signs: str,
    expression: str,
    *,
    named: bool = False,
    accept: Callable[[re.Match[str]], bool] | None = None,
) -> Rule:
    """
    A rule that masks the matches of `expression`, or its last group that matched, if it has groups and `accept` says so.

    The expression is compiled when a text first holds one of `signs` (words separated by blanks, ``␣`` for a blank in one).
    """

    def replaced(match: re.Match[str]) -> str:
        if accept is not None and not accept(match):
            return match.group()
        if not match.lastindex:
            return masked(name)
        begin, end = match.span(match.lastindex)
        text, start = match.group(), match.start()
        return text[: begin - start] + masked(name) + text[end - start :]

    def mask(text: str) -> str:
        result = _compiled(expression).sub(replaced, text)
        return text if result == text else result

    return Rule(name, tuple(sign.replace("␣", " ") for sign in signs.split()), mask, named)


_BORDER = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_BODY = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n\\"
"""Of a key in a text; the backslash is for line breaks that are written as escapes."""


def _private_keys(text: str) -> str:
    """PEM (RFC 7468, RFC 1421), OpenSSH and OpenPGP blocks. Without an END line, all that follows; without a BEGIN line, its lines."""
    parts: list[str] = []
    at = 0
    inside = False
    for border in _BORDER.finditer(text):
        if border[1] == "BEGIN" and not inside:
            parts += (text[at : border.start()], masked("private-key"))
            inside = True
        elif border[1] == "END":
            if not inside:
                parts += (text[at : border.start()].rstrip(_BODY), masked("private-key"))
            at, inside = border.end(), False
    if inside:
        at = len(text)
    return "".join([*parts, text[at:]]) if parts else text


PRIVATE_KEYS = Rule("private-key", ("PRIVATE KEY",), _private_keys)

_DOMAIN = re.compile(r"@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9_-])(?!\.[A-Za-z0-9])")
_LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
_NO_TLD_WORDS = """
service socket timer mount automount target slice scope path device swap png jpg jpeg gif svg webp ico css js mjs json
yaml yml toml txt md log lock conf cfg ini html xml py git local
"""
_NO_TLD = frozenset(_NO_TLD_WORDS.split())
"""Last labels of what looks like an address and is none: units of systemd (``getty@tty1.service``), files (``icon@2x.png``)."""


def _addresses(text: str) -> str:
    """``local@domain`` (RFC 5322, the dot-atom form; of quoted local parts, the part behind the last blank)."""
    parts: list[str] = []
    at = 0
    for match in _DOMAIN.finditer(text):
        before = text[max(at, match.start() - 64) : match.start()]
        local = before[len(before.rstrip(_LOCAL)) :].lstrip(".-%+")
        domain = match[1]
        if not local or local == "git" or domain.rpartition(".")[2].lower() in _NO_TLD:
            continue
        parts += (text[at : match.start() - len(local)], masked("email"))
        at = match.end()
    return "".join([*parts, text[at:]]) if parts else text


ADDRESSES = Rule("email", ("@",), _addresses, personal=True)


def exact(values: Iterable[str], name: str = "vault", *, classes: Iterable[str] = ()) -> Mask:
    """
    Masks `values` wherever they stand; the longest goes first.

    Args:
        values: What is masked.
        name: The class that masks name.
        classes: Further classes. A value may be a word that stands in masks: these are left alone, those of no class are no masks.

    """
    known = sorted(set(values), key=lambda value: (-len(value), value))
    names = "|".join(map(re.escape, sorted({name, *classes} | _OTHERS)))
    together = re.compile("|".join([rf"(?P<mask>\[redacted:(?:{names})\])", *map(re.escape, known)])) if known else None
    few = tuple(known) if len(known) <= _FEW else ()

    def replaced(match: re.Match[str]) -> str:
        found = match.group()
        return found if match.lastgroup else masked(name)

    def mask(text: str) -> str:
        if together is None:
            return text
        if few and not any(map(text.__contains__, few)):
            return text
        result = together.sub(replaced, text)
        return text if result == text else result

    return mask
