"""The redactor: texts and foreign JSON with their secrets masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from remediation.model.redaction.assignments import in_code
from remediation.model.redaction.commands import arguments
from remediation.model.redaction.names import is_pair, is_secret_under, names_secret
from remediation.model.redaction.patterns import BUILTIN
from remediation.model.redaction.rules import MASKS, Rule, exact, masked
from remediation.model.redaction.screen import screen_of
from remediation.model.redaction.values import forms

_ROUNDS = 4
_REMEMBERED = 2048
"""Short texts without secrets that are known again: most texts come twice or more."""
_SHORT = 256
_DEPTH = 64
_CUT = re.compile(r"… \[[0-9]+ characters, cut\]")
_LEAST = 5
_NESTED = ("{", "[")
_PROSE = re.compile(r"\A(?!/).*\s", re.DOTALL)
_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")


class Redactor:
    """
    Masks secrets: those of the built-in classes, those that plugins describe, and values that are known.

    Guarantees: a masked text is masked no further (but by a redactor that knows more); the time is linear in the text; what holds no
    secret is returned as it is, the same object. Non-guarantees: a secret without a form, a telling name or a known value is not
    found, nor is one that is split, reversed or encoded otherwise than `values.forms` says; a known value of fewer than 7 characters
    is not looked for. Not safe to be changed (`learn`) in one thread while used in another.
    """

    def __init__(self, *, values: Iterable[str] = (), rules: Iterable[Rule] = ()) -> None:
        self._values: set[str] = set()
        self._rules: tuple[Rule, ...] = (BUILTIN[0], *rules, *BUILTIN[1:])
        self._clean: dict[str, None] = {}
        self._free: dict[str, None] = {}
        self._known = exact(())
        self._screen = screen_of(self._rules)
        self.learn(values)

    def learn(self, values: Iterable[str] = (), *, rules: Iterable[Rule] = ()) -> None:
        """From now on, `values` are secrets too, and what `rules` describe."""
        for value in values:
            self._values |= forms(value)
        more = tuple(rules)
        self._rules = (self._rules[0], *more, *self._rules[1:])
        self._known = exact(self._values, classes={rule.name for rule in self._rules})
        self._screen = screen_of(self._rules)
        self._clean.clear()
        self._free.clear()

    def text(self, text: str) -> str:
        """`text` with each secret as ``[redacted:<class>]``."""
        short = len(text) <= _SHORT
        if short and (text in self._clean or len(text) < _LEAST):
            return text
        result = self._through(text)
        if result is text:
            if short:
                _remember(self._clean, text)
            return text
        for _ in range(_ROUNDS):
            # What was masked may let another class be seen behind it.
            again = self._through(result)
            if again is result:
                break
            result = again
        return result

    def credentials(self, text: str) -> str:
        """Like `text`, but for personal data (e-mail addresses), which stays: for texts that identify something."""
        if text in self._free:
            return text
        result = text
        for _ in range(_ROUNDS):
            before = result
            result = self._known(result)
            for rule in self._screen.suspects(result):
                if not rule.personal:
                    result = rule.mask(result)
            if result is before:
                break
        if result is text and len(text) <= _SHORT:
            _remember(self._free, text)
        return result

    def json(self, value: Any, *, typed: bool = False) -> Any:
        """
        JSON values with their secrets masked: each text, and the whole of what stands under a name that says so (``password``,
        ``api_key``, ``cookie``; also as ``["password", "…"]`` and behind ``"--password"`` in a list). Names stay, unless they hold a
        secret themselves; booleans and null are no secrets.

        Args:
            typed: Somebody reads it back into a typed value and acts on it: what is no text keeps its type, and personal data stays in
                paths and single words.

        """
        return self._json(value, typed, _DEPTH)

    def fires(self, text: str) -> tuple[str, ...]:
        """The classes of the credentials in `text`, without those that only its names let guess if it is code of several lines."""
        if text in self._free or text in self._clean:
            return ()
        code = "\n" in text.strip("\n")
        found = ["vault"] if self._known(text) is not text else []
        for rule in self._screen.suspects(text):
            if rule.personal or rule.name in found:
                continue
            if code and rule.name in ("assignment", "element", "flag", "user", "command"):
                if rule.name == "assignment" and in_code(text):
                    found.append(rule.name)
            elif rule.mask(text) != text:
                found.append(rule.name)
        if not found and not code and len(text) <= _SHORT:
            _remember(self._free, text)
        return tuple(found)

    def _through(self, text: str) -> str:
        result = self._masked(text)
        if not text.isascii() and result is text and _INVISIBLE.search(text):
            # Marks that nobody sees split no secret: where there is one without them, they go.
            plain = _INVISIBLE.sub("", text)
            found = self._masked(plain)
            return text if found is plain else found
        return result

    def _masked(self, text: str) -> str:
        text = self._known(text)
        for rule in self._screen.suspects(text):
            text = rule.mask(text)
        if self._values and "cut]" in text:
            text = self._beginnings(text)
        return text

    def _beginnings(self, text: str) -> str:
        """`text` without what a cut left of a known value."""
        parts: list[str] = []
        at = 0
        for match in _CUT.finditer(text):
            kept = max((_overlap(text, at, match.start(), value) for value in self._values), default=0)
            if kept:
                parts += (text[at : match.start() - kept], masked("vault"))
                at = match.start()
        return "".join([*parts, text[at:]]) if parts else text

    def _json(self, value: Any, typed: bool, depth: int) -> Any:
        if isinstance(value, str):
            if value[:1] in _NESTED and depth:
                value = self._nested(value, typed, depth)
            return self.credentials(value) if typed and not _PROSE.search(value) else self.text(value)
        if depth == 0 and isinstance(value, dict | list | tuple):
            return masked("depth")
        if isinstance(value, dict):
            return self._mapping(value, typed, depth)
        if isinstance(value, list | tuple):
            return self._list(value, typed, depth)
        return value

    def _nested(self, text: str, typed: bool, depth: int) -> str:
        """JSON in a text, as the body of a request or the arguments of a control are."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        result = self._json(value, typed, depth - 1)
        return text if result == value else json.dumps(result, ensure_ascii=False)

    def _mapping(self, value: dict[Any, Any], typed: bool, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, item in value.items():
            name = self.text(key) if isinstance(key, str) else key
            while name in result:
                name = f"{name}'"
            secret = isinstance(key, str) and is_secret_under(key, item)
            result[name] = _hidden(item, typed, depth) if secret else self._json(item, typed, depth - 1)
        return result

    def _list(self, value: Sequence[Any], typed: bool, depth: int) -> list[Any]:
        if is_pair(value):
            return [value[0], _hidden(value[1], typed, depth)]
        result: list[Any] = []
        hide = False
        passwords = arguments(value)
        for number, item in enumerate(value):
            if number in passwords and not MASKS.fullmatch(item[passwords[number] :]):
                result.append(item[: passwords[number]] + masked("password"))
                hide = False
                continue
            flag = isinstance(item, str) and _FLAG.fullmatch(item) is not None
            result.append(_hidden(item, typed, depth) if hide and not flag else self._json(item, typed, depth - 1))
            hide = flag and item.startswith("--") and names_secret(item)
        return result


def _remember(known: dict[str, None], text: str) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[text] = None


def _hidden(value: Any, typed: bool, depth: int) -> Any:
    """`value`, which stands under the name of a secret, masked whole."""
    if value is None or isinstance(value, bool) or (isinstance(value, str | list | tuple | dict) and not value):
        return value
    if isinstance(value, str):
        return value if MASKS.fullmatch(value) else masked("secret")
    if not typed:
        return masked("secret")
    if isinstance(value, dict) and depth:
        return {key: _hidden(item, typed, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_hidden(item, typed, depth - 1) for item in value]
    return value


def _overlap(text: str, begin: int, end: int, value: str) -> int:
    """With how many characters of the beginning of `value` ends ``text[begin:end]``; 0 for fewer than tell anything."""
    for length in range(min(len(value) - 1, end - begin), _LEAST - 1, -1):
        if text.endswith(value[:length], begin, end):
            return length
    return 0
