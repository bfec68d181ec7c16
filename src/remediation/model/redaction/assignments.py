"""
Names that say that what follows is a secret: ``password: …``, ``API_KEY=…``, ``"token": "…"``, ``--secret …``.

A guess by its nature. In what is printed it errs to the safe side; in code that a plan writes, a name whose value is another name
is no secret (`in_code`).
"""

from __future__ import annotations

import functools
import re
from itertools import groupby

from remediation.model.redaction.names import PASS_OF
from remediation.model.redaction.rules import MASK, MASKS, Rule, masked

_PASS_OF = "|".join(
    f"(?<={'|'.join(sorted(words))})" for _, words in groupby(sorted(PASS_OF, key=lambda word: (len(word), word)), key=len)
)
_WORDS = (
    rf"passw(?:or)?d|passphrase|passcode|(?:(?<![a-z])|(?-i:(?<=[a-z])(?=P))|{_PASS_OF})pass|pwd|(?<![a-z])psk|secret|token|credentials"
    r"|authorization|(?<=_)auth|client[_-]key[_-]data"
    r"|(?:api|access|secret|private|account|encryption|signing|(?:pre)?shared|shared[_-]?access|auth|master|license|subscription|consumer"
    r"|hmac|jwt|aes)[ _-]?key|apikey"
)
_VALUE = (
    r'(?:\\{1,3}["\'](?P<escaped>(?:[^"\'\\\r\n]|\\+[^"\'\\\r\n])*)'
    r'|"(?P<double>(?:[^"\\\r\n]|\\[^\r\n])*)'
    r"|'(?P<single>(?:[^'\\\r\n]|\\[^\r\n])*)"
    rf'|(?P<bare>(?:{MASK})*+(?:\[redacted:|[^\s"\'`,;&<>(){{}}\[\]|\\]|\\(?!["\']))'
    rf'(?:[^\s"\'`,;&<>|(){{}}\[\]\\]|\\(?!["\'])|{MASK})*))'
)
_BEGIN = "(?=[acehjlmpst][aceghilmnoprsuw])"
"""With what `_WORDS` begin: without it, each place of a text would be tried for each of them."""
_ASSIGNED = (
    rf"(?i){_BEGIN}(?P<word>{_WORDS})(?:_?\d{{1,3}})?\\{{0,3}}[\"']?"
    rf"(?P<sign>[ \t]{{0,8}}(?:=>|:=|={{1,2}}|::(?=[ \t])|:(?!:[ \t]))[ \t]{{0,8}}){_VALUE}"
)
_FLAG = (
    r"(?i)(?<!-)--[a-z0-9-]{0,40}?(?P<word>passw(?:or)?d|passphrase|pass|secret|token|(?:api|access|secret|private)-?key)"
    rf"(?P<sign>[ \t]{{1,4}}|\\?[\"'],[ \t]{{0,4}}(?=\\?[\"']))(?!-){_VALUE}"
)
_USER = r"(?<![\w-])(?:-u|--user)[ =]['\"]?[^\s:'\"/]{1,128}:(?P<bare>[^\s'\"]+)"
_HARMLESS_WORDS = """
true false null none nil undefined yes no on off required optional missing invalid expired incorrect wrong rejected
denied empty unset set unknown not is was must has may and or for the a an str string int bytes bool boolean any object
optional secretstr number text char varchar password token secret option flag argument authentication file prompt ring
bus expected unexpected redacted hidden masked revoked refreshed ok error failed changed pass passed fail skip skipped include omit
same-origin default
"""
_HARMLESS = frozenset(_HARMLESS_WORDS.split())
_NAMES = re.compile(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*")
_VARIABLE = re.compile(r"\$(?:[A-Z_][A-Z0-9_]*)?|%\(?[a-z]\w*\)?s?|%s|\{.*|\$\{.*|\$\(.*|<.*|@\w+@|:[a-z_]+|\?")
_COUNT = 6
"""From so many digits on, a number under ``pass`` is no count."""
_PLAIN = re.compile(r"[^\W\d]+(?:[./:-]+[^\W\d]+)*[.:!?]*")
_TESTED = re.compile(
    r"(?i)(?:^|[\W_])(?:tests?|specs?|checks?)(?:[\W_]|$)|(?-i:\b(?:Test|Spec)[A-Z]|[a-z](?:Test|Spec)\b)|::|/[\w.-]+\.[a-z]{1,5}$"
)
_FILLER = re.compile(r"(.)\1*|[*x•.]+", re.DOTALL)
_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?[\w.-]*$")
_KINDS = ("escaped", "double", "single", "bare")


def _kind(match: re.Match[str]) -> str:
    return next(kind for kind in _KINDS if match.groupdict().get(kind) is not None)


def _is_secret(match: re.Match[str]) -> bool:
    kind = _kind(match)
    value, word = match[kind], match.groupdict().get("word") or "password"
    word = word.lower()
    if MASKS.fullmatch(value) or value.lower().rstrip(".!?:") in _HARMLESS or not is_value(value):
        return False
    if word == "authorization" and masked("authorization") in value:
        return False
    before = match.string[max(0, match.start() - 12) : match.start()].lower()
    if word == "token" and (before.endswith(("unexpected ", "invalid ", "illegal ")) or (value.isdigit() and len(value) < 8)):
        return False
    if word == "pass" and not _is_password(match, value):
        return False
    if word == "credentials" and kind == "bare" and _NAMES.fullmatch(value):
        return False
    if word == "pwd" and value.startswith(("/", "~", ".")):
        return False
    return kind != "bare" or _is_literal(match, word, value)


def _is_password(match: re.Match[str], value: str) -> bool:
    """
    Whether what follows ``pass`` is a password, and neither a count (``pass=12 fail=0``), a verdict (``PASS: test_x``), nor prose.

    A verdict is written in capitals, with a blank behind its colon; what it is about has no digit, or looks like a test or a file. In
    prose a plain word is none, unless somebody is named before; a line that begins with ``pass:`` is no prose.
    """
    text, start = match.string, match.start("word")
    if start and (text[start - 1].isalnum() or text[start - 1] in "_-"):
        return True
    if value.isdigit() and len(value) < _COUNT:
        return False
    sign = match["sign"]
    if _kind(match) != "bare" or not (":" in sign and sign.endswith((" ", "\t"))):
        return True
    plain = _PLAIN.fullmatch(value) is not None
    if match["word"] == "PASS" and (plain or _TESTED.search(value)):
        return False
    before = text[max(0, text.rfind("\n", 0, start) + 1, start - 64) : start].lower()
    return not plain or not before.strip(" \t-\"'") or any(name in before for name in ("user", "login", "name", "host"))


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


WORD_SIGNS = (
    *(
        "passw",
        "passp",
        "passc",
        *(f"pass{after}" for after in ("=", ":", " =", " :", "  ", "\t", '"', "'", "\\", ">", "_", *"0123456789")),
    ),
    *("pwd", "psk", "secret", "token", "authorization", "_auth", "auth>", "key", "credential"),
)
"""Of all rules for names. Behind ``pass`` stands what begins an assignment, as ``passed`` is in many texts."""


def _masking_flags(text: str) -> str:
    return _masking(_FLAG, text) if "--" in text else text


ASSIGNMENTS = Rule("assignment", WORD_SIGNS, functools.partial(_masking, _ASSIGNED), named=True)
FLAGS = Rule("flag", WORD_SIGNS, _masking_flags, named=True)


def _masking_users(text: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        value = match["bare"]
        if value.isdigit() or MASKS.fullmatch(value) or _VARIABLE.fullmatch(value):
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
