"""How thorough the walks of crashes are: a sample by default, everything when ``REMEDIATION_CRASH_ROUNDS`` names a number of rounds."""

import os
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
SEED = os.environ.get("REMEDIATION_CRASH_SEED", "20300101")
ROUNDS = int(os.environ.get("REMEDIATION_CRASH_ROUNDS", "0"))
"""Of random rounds; 0 if nobody named a number."""
WORKERS = 2
SHARE = 2
"""A default run takes one in so many of what a walk asks for: the whole suite must stay under twenty minutes."""


def sample(items: Sequence[T], number: int, name: str) -> list[T]:
    """A share of `number` of `items`, other ones for each name and seed; all when everything is to be walked."""
    number = -(-number // SHARE)
    if ROUNDS or number >= len(items):
        return list(items)
    return sorted(random.Random(f"{SEED}/{name}").sample(list(items), number))


def rounds(number: int) -> int:
    """How many random rounds to go; a share of `number` by default."""
    return ROUNDS or -(-number // SHARE)
