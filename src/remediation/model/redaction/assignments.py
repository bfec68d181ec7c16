"""
Names that say that what follows is a secret: ``password: …``, ``API_KEY=…``, ``"token": "…"``, ``--secret …``.

A guess by its nature. In what is printed it errs to the safe side; in code that a plan writes, a name whose value is another name
is no secret (`in_code`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from remediation.model.redaction.rules import Rule, masked

_WORDS = (
    r"passw(?:or)?d|passphrase|passcode|(?<=_)pass|pwd|secret|token|authorization|(?<=_)auth"
    r"|(?:api|access|secret|private|account|encryption|signing|shared|shared[_-]?access|auth|master|license)[ _-]?key|apikey"
)
_VALUE = (
    r'(?:\\{1,3}["\'](?P<escaped>(?:[^"\'\\\r\n]|\\+[^"\'\\\r\n])*)'
    r'|"(?P<double>(?:[^"\\\r\n]|\\[^\r\n])*)'
    r"|'(?P<single>(?:[^'\\\r\n]|\\[^\r\n])*)"
    r'|(?P<bare>(?:\[redacted:[a-z0-9-]+\])*(?:[^\s"\'`,;&<>(){}\[\]|\\]|\\(?!["\']))(?:[^\s"\'`,;&<>|(){}\[\]\\]|\\(?!["\'])|\[redacted:[a-z0-9-]+\])*))'
)
_ASSIGNED = rf"(?i)(?P<word>{_WORDS})(?:_?\d{{1,3}})?\\{{0,3}}[\"']?(?P<sign>[ \t]{{0,8}}(?:=>|:=|={{1,2}}|:)[ \t]{{0,8}}){_VALUE}"
_FLAG = (
    r"(?i)(?<!-)--[a-z0-9-]{0,40}?(?P<word>passw(?:or)?d|passphrase|secret|token|(?:api|access|secret|private)-?key)"
    rf"(?P<sign>[ \t]{{1,4}})(?!-){_VALUE}"
)
_USER = r"(?<![\w-])(?:-u|--user)[ =]['\"]?[^\s:'\"/]{1,128}:(?P<bare>[^\s'\"]+)"
_HARMLESS_WORDS = """
true false null none nil undefined yes no on off required optional missing invalid expired incorrect wrong rejected
denied empty unset set unknown not is was must has may and or for the a an str string int bytes bool boolean any object
optional secretstr number text char varchar password token secret option flag argument authentication file prompt ring
bus expected unexpected redacted hidden masked revoked refreshed ok error failed changed
"""
_HARMLESS = frozenset(_HARMLESS_WORDS.split())
_NAMES = re.compile(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*")
_VARIABLE = re.compile(r"\$(?:[A-Z_][A-Z0-9_]*)?|%\(?[a-z]\w*\)?s?|%s|\{.*|\$\{.*|\$\(.*|<.*|@\w+@|:[a-z_]+|\?")
_MASKS = re.compile(r"(?:\[redacted:[a-z0-9-]+\])+")
_FILLER = re.compile(r"(.)\1*|[*x•.]+", re.DOTALL)
_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?[\w.-]*$")
_KINDS = ("escaped", "double", "single", "bare")


def _kind(match: re.Match[str]) -> str:
    return next(kind for kind in _KINDS if match.groupdict().get(kind) is not None)


def _is_secret(match: re.Match[str]) -> bool:
    kind = _kind(match)
    value, word = match[kind], match.groupdict().get("word") or "password"
    word = word.lower()
    if _MASKS.fullmatch(value) or value.lower().rstrip(".!?:") in _HARMLESS or not is_value(value):
        return False
    if word == "authorization" and masked("authorization") in value:
        return False
    before = match.string[max(0, match.start() - 12) : match.start()].lower()
    if word == "token" and (before.endswith(("unexpected ", "invalid ", "illegal ")) or (value.isdigit() and len(value) < 8)):
        return False
    if word == "pwd" and value.startswith(("/", "~", ".")):
        return False
    return kind != "bare" or _is_literal(match, word, value)


def _is_literal(match: re.Match[str], word: str, value: str) -> bool:
    """Whether a value without quotes is one, and no name, call, path or address."""
    sign, after = match.groupdict().get("sign") or " ", match.string[match.end() : match.end() + 1]
    if "==" in sign or value.lower() == word:
        return False
    if value.startswith(("http://", "https://")):
        return False
    if value.startswith(("/", "./", "../", "~/")) and (len(value) != 40 or not value.replace("/", "").replace("+", "").isalnum()):
        return False
    if _NAMES.fullmatch(value):
        if after and after in "([{":
            return False
        if ":" in sign and word in ("token", "secret", "authorization", "auth") and len(value) < 16:
            return False
        if "." in value or "_" in value:
            # `password = settings.password`, `connect(token=auth_token)`
            return not ("." in value or " " in sign or after in (",", ")"))
    return True


def _written_down(match: re.Match[str]) -> bool:
    """Whether a file that holds this assigns a value, and not another name."""
    if not _is_secret(match):
        return False
    if _kind(match) != "bare" or not _NAMES.fullmatch(match["bare"]):
        return True
    line = match.string.rfind("\n", 0, match.start()) + 1
    alone = _LINE.fullmatch(match.string[line : match.start()]) is not None
    ends = match.string[match.end() : match.end() + 1] in ("", "\n", "\r")
    sign = match["sign"]
    return alone and ends and (" " not in sign if "=" in sign else not sign.startswith((" ", "\t")))


def is_value(text: str) -> bool:
    """Whether a text under a secret's name is one: no flag, no reference to a variable, no filler."""
    return not (not text or text.lower() in _HARMLESS or _VARIABLE.fullmatch(text) or (len(text) > 1 and _FILLER.fullmatch(text)))


@functools.cache
def _expression(source: str) -> re.Pattern[str]:
    return re.compile(source)


def _masking(source: str, text: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        if not _is_secret(match):
            return match.group()
        begin, end = match.span(_kind(match))
        name = "password" if (match.groupdict().get("word") or "pass").lower().startswith(("pass", "pwd")) else "secret"
        return match.string[match.start() : begin] + masked(name) + match.string[end : match.end()]

    result = _expression(source).sub(replaced, text)
    return text if result == text else result


_WORD_SIGNS = ("passw", "passp", "passc", "_pass", "pwd", "secret", "token", "authorization", "_auth", "key")

ASSIGNMENTS = Rule("assignment", _WORD_SIGNS, functools.partial(_masking, _ASSIGNED), named=True)
FLAGS = Rule("flag", _WORD_SIGNS, functools.partial(_masking, _FLAG), named=True)


def _masking_users(text: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        value = match["bare"]
        if value.isdigit() or _MASKS.fullmatch(value) or _VARIABLE.fullmatch(value):
            return match.group()
        return (
            match.string[match.start() : match.start("bare")] + masked("password") + match.string[match.end("bare") : match.end()]
        )

    result = _expression(_USER).sub(replaced, text)
    return text if result == text else result


USERS = Rule("user", ("-u ", "-u=", "--user"), _masking_users)


def in_code(text: str) -> bool:
    """Whether a text of several lines (a file, a script) assigns a secret to a name."""
    return any(_written_down(match) for match in _expression(_ASSIGNED).finditer(text))


_PAIRED = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_NAMED_WORDS = """
password passwd passphrase passcode pwd secret secrets token authorization auth cookie cookies credential credentials
bearer otp apikey privatekey accesskey secretkey accountkey sessionkey
"""
_NAMED = frozenset(_NAMED_WORDS.split())
_KEYS_OF_WORDS = """
api access secret private account encryption signing shared auth session master license
"""
_KEYS_OF = frozenset(_KEYS_OF_WORDS.split())


@functools.lru_cache(2048)
def names_secret(name: str) -> bool:
    """Whether a field, variable or option of this name holds a secret: ``db_password``, ``X-Api-Key``, ``clientSecret``."""
    parts = [part.lower() for part in _PART.findall(name[-128:])]
    while parts and parts[-1].isdigit():
        parts.pop()
    if not parts:
        return False
    if parts[-1] == "key":
        return len(parts) > 1 and parts[-2] in _KEYS_OF
    return parts[-1] in _NAMED


def is_pair(value: Sequence[object]) -> bool:
    """Whether a list of two texts is a variable or header with its secret value: ``["DB_PASSWORD", "…"]``."""
    if len(value) != 2 or not isinstance(value[0], str) or not isinstance(value[1], str):
        return False
    return _PAIRED.fullmatch(value[0]) is not None and "\n" not in value[1] and names_secret(value[0])
