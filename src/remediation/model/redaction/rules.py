"""
What a rule of redaction is, and those that no regular expression can say in linear time: private keys, tokens that are told by what
they end with, values.

Every rule takes time linear in the text, whatever the text is: a match begins at a literal, what may be repeated without a bound is
never followed by something that can fail, and what stands before a literal is looked for backwards from it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Mask = Callable[[str], str]
_CLASS_WORDS = """
api-key authorization aws-key aws-signature azure-key azure-secret azure-signature basic-credentials bearer-token cookie custom depth
discord-webhook email github-token gitlab-token google-key jwt npm-token password password-hash private-key pypi-token secret sendgrid-key
service-token slack-token slack-webhook stripe-key telegram-token url-parameter url-password vault vault-token
"""
CLASSES = frozenset(_CLASS_WORDS.split())
"""All that may stand in a mask: what names another class is none, and may be a secret that only begins like one."""
MASK = rf"\[redacted:(?:{'|'.join(sorted(CLASSES))})\]"
MASKS = re.compile(rf"(?:{MASK})+")
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


_BORDER = re.compile(
    r"----[- ](BEGIN|END)(?:[ +]|%20)(?:[A-Z0-9 +]|%20){0,40}PRIVATE(?:[ +]|%20)KEY(?:(?:[ +]|%20)BLOCK)?[- ]----"
    r"|(?P<putty>Private-Lines):[ \t]{0,4}[0-9]{1,4}(?![^\s\\])|Private-(?:MAC|Hash):[ \t]{0,4}[0-9a-f]{40,64}"
)
_BODY = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n\\"
"""Of a key in a text; the backslash is for line breaks that are written as escapes."""


def _private_keys(text: str) -> str:
    """
    PEM (RFC 7468, RFC 1421), OpenSSH, OpenPGP and SSH.COM blocks, and the private lines of PuTTY's files.

    Without an END line (of PuTTY's: a MAC), all that follows; without a BEGIN line, its lines.
    """
    parts: list[str] = []
    at = 0
    inside = False
    for border in _BORDER.finditer(text):
        if border[1] == "BEGIN" or border["putty"]:
            if not inside:
                parts += (text[at : border.start()], masked("private-key"))
                inside = True
        else:
            if not inside:
                parts += (text[at : border.start()].rstrip(_BODY), masked("private-key"))
            at, inside = border.end(), False
    if inside:
        at = len(text)
    return "".join([*parts, text[at:]]) if parts else text


PRIVATE_KEYS = Rule(
    "private-key", ("KEY-----", "BLOCK-----", "KEY ----", "Private-Lines:", "Private-MAC:", "Private-Hash:"), _private_keys
)


def ending(name: str, signs: str, expression: str, *, alphabet: str, least: int, most: int) -> Rule:
    """
    A rule for tokens without a beginning: what `expression` matches and, before it, `least` to `most` characters of `alphabet`.

    Fewer are no token; of more, the last `most` are masked, as nobody knows where it begins.
    """

    def mask(text: str) -> str:
        parts: list[str] = []
        at = 0
        for match in _compiled(expression).finditer(text):
            before = text[max(at, match.start() - most) : match.start()]
            length = len(before) - len(before.rstrip(alphabet))
            if length >= least:
                parts += (text[at : match.start() - length], masked(name))
                at = match.end()
        return "".join([*parts, text[at:]]) if parts else text

    return Rule(name, tuple(signs.split()), mask)


def exact(values: Iterable[str], name: str = "vault", *, classes: Iterable[str] = ()) -> Mask:
    """
    Masks `values` wherever they stand; the longest goes first.

    Args:
        values: What is masked.
        name: The class that masks name.
        classes: Further classes. A value may be a word that stands in masks: these are left alone, those of no class are no masks.

    """
    known = sorted(set(values), key=lambda value: (-len(value), value))
    names = "|".join(map(re.escape, sorted({name, *classes} | CLASSES)))
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
