"""Regular expressions of plugins: taken only if they can't slow the host down, whatever text comes."""

from __future__ import annotations

import importlib
import math
import re
import warnings
from typing import Any

from remediation.model.redaction.patterns import BUILTIN
from remediation.model.redaction.rules import Rule, masked

NAME = "custom"
CHOICES = 1024
"""In how many ways an expression may go on from one place of a text."""
_LONGEST = 2000
_HUGE = 100.0

# The standard library's own parser of expressions; its module is private, but has been the same under this name since Python 3.11.
_parser: Any = importlib.import_module("re._parser")
_ONE = frozenset(("LITERAL", "NOT_LITERAL", "IN", "ANY", "RANGE", "CATEGORY"))
_REPEATS = frozenset(("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"))


def rule_of(expression: str) -> Rule:
    """
    The rule of a plugin's expression: what it matches is masked, or its last group, if it has groups.

    Raises:
        ValueError: it is none, matches the empty string or what masks are made of, or could take more than linear time; why, and
            what to write instead.

    """
    if not isinstance(expression, str):
        raise ValueError("must be text")  # noqa: TRY004 - one error for all that is wrong with an expression
    if len(expression) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how a later Python may read it
            parsed = _parser.parse(expression)
            compiled = re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if parsed.getwidth()[0] == 0:
        raise ValueError("matches the empty string, which is everywhere; say what a secret consists of at least")
    choices = _choices(parsed, last=True)
    if choices > CHOICES:
        raise ValueError(
            f"could go on in {choices:.0f} ways from one place of a text, and at most {CHOICES} are allowed: a long text would stop "
            "the host; make its repeats shorter or fewer"
        )
    if any(compiled.search(masked(name)) for name in (NAME, *(rule.name for rule in BUILTIN))):
        raise ValueError(f"matches masks themselves ({masked(NAME)}); say more exactly what a secret looks like")

    def mask(text: str) -> str:
        result = compiled.sub(_replaced, text)
        return text if result == text else result

    sign = "" if parsed.state.flags & re.IGNORECASE else _literal(parsed)
    return Rule(NAME, (sign,), mask)


def _replaced(match: re.Match[str]) -> str:
    if not match.lastindex:
        return masked(NAME)
    begin, end = match.span(match.lastindex)
    text, start = match.group(), match.start()
    return text[: begin - start] + masked(NAME) + text[end - start :]


def _choices(sequence: Any, *, last: bool) -> float:
    """In how many ways `sequence` can match from one place. `last`: nothing follows that could fail."""
    total = 1.0
    items = list(sequence)
    for number, (operation, argument) in enumerate(items):
        total *= _choices_of(str(operation), argument, last=last and number == len(items) - 1)
    return total


def _choices_of(operation: str, argument: Any, *, last: bool) -> float:
    if operation in _ONE or operation == "AT":
        return 1.0
    if operation == "BRANCH":
        return sum(_choices(branch, last=last) for branch in argument[1])
    if operation == "SUBPATTERN":
        return _choices(argument[3], last=last)
    if operation == "ATOMIC_GROUP":
        return _choices(argument, last=last)
    if operation in ("ASSERT", "ASSERT_NOT"):
        return _choices(argument[1], last=False)
    if operation not in _REPEATS:
        raise ValueError("refers back to what it matched, or depends on it: that can't be done in linear time")
    least, most, repeated = argument
    simple = len(repeated) == 1 and str(repeated[0][0]) in _ONE
    if most == _parser.MAXREPEAT:
        if not (simple and last):
            raise ValueError(
                "repeats something without an upper bound, and goes on behind it: text that almost fits would take forever; "
                "write {1,64} instead of + or *"
            )
        return float(least + 1)
    if simple:
        return float(most - least + 1) if most <= CHOICES else math.inf
    inner = _choices(repeated, last=False)
    many = most * math.log(inner) if inner > 0 else 0.0
    return float(most - least + 1) * (math.exp(many) if many < _HUGE else math.inf)


def _literal(sequence: Any) -> str:
    """The longest text that each match holds, as far as it stands at the top level."""
    best = run = ""
    for operation, argument in sequence:
        run = run + chr(argument) if str(operation) == "LITERAL" else ""
        best = max(best, run, key=len)
    return best
