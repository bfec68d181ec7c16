"""The quick look that most texts end with: which rules could find something in a text at all."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence

from remediation.model.redaction.rules import Rule

_PIVOTS = "?&;-_:=@.~'%$AJSG/"
"""Characters of signs: those that are in few texts, or in many signs, first."""
_BEGINNING = 4
_Signs = tuple[tuple[str, int], ...]


class Screen:
    """
    The signs of all rules, sorted by a character that each of them holds, and below it by that and its neighbour.

    So a text is searched for a few characters, for some pairs if it has one of these, and for whole signs only if it has the pair.
    Signs in any case stand for themselves; those of names (`Rule.named`) are looked for only where something could be assigned.
    """

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        named: dict[tuple[str, ...], list[int]] = {}
        for number, rule in enumerate(rules):
            if rule.named:
                named.setdefault(rule.signs, []).append(number)
        self._named = tuple(named.items())
        self._names = _beginnings(sign for signs in named for sign in signs)
        table: dict[str, list[tuple[str, int]]] = {}
        for number, rule in enumerate(rules):
            for sign in () if rule.named else rule.signs:
                pivot = next((char for char in _PIVOTS if char in sign), "")
                table.setdefault(pivot, []).append((sign, number))
        grouped = [(pivot, _by_pairs(pivot, signs)) for pivot, signs in table.items()]
        self._table = tuple(
            (pivot, tuple(pairs), {pair: _split(items) for pair, items in pairs.items()}) for pivot, pairs in grouped
        )

    def suspects(self, text: str) -> Sequence[Rule]:
        """The rules of which `text` holds a sign, in their order."""
        found: set[int] = set()
        holds = text.__contains__
        for pivot, pairs, signs in self._table:
            if pivot in text:
                # Most of the time is spent here: `filter` and `map` save two thirds of a loop.
                for pair in filter(holds, pairs):
                    whole, numbered = signs[pair]
                    if any(map(holds, whole)):
                        found.update(number for sign, number in numbered if sign in text)
        if "=" in text or ":" in text or "--" in text or "</" in text:
            holds = text.lower().__contains__
            if any(map(holds, self._names)):
                for signs_of, numbers in self._named:
                    if any(map(holds, signs_of)):
                        found.update(numbers)
        return [self._rules[number] for number in sorted(found)] if found else ()


@functools.lru_cache(8)
def screen_of(rules: tuple[Rule, ...]) -> Screen:
    """The screen of `rules`: it takes longer to make than most texts to be searched, and most redactors have the same."""
    return Screen(rules)


def _beginnings(signs: Iterable[str]) -> tuple[str, ...]:
    """A few texts one of which is in each text that holds a sign: signs, and what several of them begin with."""
    known = tuple(dict.fromkeys(signs))
    counted = Counter(sign[:_BEGINNING] for sign in known)
    return tuple(dict.fromkeys(sign[:_BEGINNING] if counted[sign[:_BEGINNING]] > 1 else sign for sign in known))


def _by_pairs(pivot: str, signs: Sequence[tuple[str, int]]) -> dict[str, _Signs]:
    """`signs` by a part of each, so that there are few parts: the pivot and a character beside it, or the sign itself."""
    left = list(signs)
    result: dict[str, _Signs] = {}
    while left:
        counted = Counter(pair for sign, _ in left for pair in _pairs(pivot, sign))
        best = max(counted, key=lambda pair: (counted[pair], pair))
        these = tuple(item for item in left if best in _pairs(pivot, item[0]))
        result[these[0][0] if len({sign for sign, _ in these}) == 1 else best] = these
        left = [item for item in left if best not in _pairs(pivot, item[0])]
    return result


def _split(items: _Signs) -> tuple[tuple[str, ...], _Signs]:
    return tuple(sign for sign, _ in items), items


def _pairs(pivot: str, sign: str) -> frozenset[str]:
    if not pivot or len(sign) < 3:
        return frozenset((sign,))
    pairs = (sign[at : at + 2] for at in range(len(sign) - 1))
    return frozenset(pair for pair in pairs if pivot in pair)
