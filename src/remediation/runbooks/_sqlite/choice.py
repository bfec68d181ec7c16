"""Pure: which copy of a database is taken, whether anything is lost by that, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from remediation.effects.sqlite.known import LastGood
from remediation.model.base import Frozen, from_epoch_ms

_MOST_LINES = 40


class Candidate(Frozen):
    """A healthy database in scratch that could take the damaged one's place."""

    kind: Literal["salvage", "backup"]
    file: str
    """Its name in scratch."""
    told: str
    """What it is, for people."""
    rows: dict[str, int] = Field(default_factory=dict)
    """Row counts of the ordinary tables."""
    whole: bool = False
    """Of a salvage: everything that was in the damaged database is in it, as far as SQLite's checks can tell."""
    schema_whole: bool = True
    """Of a salvage: no table is missing because its definition could not be read."""
    unattributed: int = 0
    """Rows that were found and belong to no table any more; they are left out."""
    notes: tuple[str, ...] = ()
    made_at: int = 0
    """Of a backup: when it was written, in milliseconds since 1970 UTC."""
    unchanged_since: bool = False
    """Of a backup: the header proves that no transaction was committed since it was made."""

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.rows.values())


class Difference(Frozen):
    """One table in the best salvage (left) and in the backup (right)."""

    name: str
    left: int
    right: int
    only_left: int | None
    only_right: int | None
    differ: int | None

    @property
    def told(self) -> bool:
        """Whether the rows could be compared."""
        return None not in (self.only_left, self.only_right, self.differ)


class Choice(Frozen):
    """What is taken, and what that costs."""

    chosen: Candidate
    lossless: bool
    """Nothing is lost, and that can be shown."""
    lost: int
    """Rows that are known to have been there and are not in it; a lower bound, and 0 does not mean lossless."""
    loses: str
    """One line for people; empty if lossless."""
    lines: tuple[str, ...]
    """The details, for people."""


def amount(candidate: Candidate) -> str:
    """How much is in it, for people."""
    tables = len(candidate.rows)
    return f"{candidate.total} rows in {tables} table{'s' if tables != 1 else ''}"


def better(salvages: Sequence[Candidate]) -> Candidate | None:
    """The salvage that keeps most: a whole one, else the one with the most rows, else the first."""
    return max(salvages, key=lambda item: (item.whole, item.total), default=None)


def choose(
    salvage: Candidate | None, backup: Candidate | None, differences: Sequence[Difference], before: LastGood
) -> Choice | None:
    """
    Take a whole salvage; else whichever has more rows, the salvage if they have equally many; but no salvage that lacks tables
    of the backup because the schema is damaged. `None`: there is nothing to take.

    Lossless is a salvage that is whole and has no fewer rows than there were at the last good check, or a backup of which the
    header proves that nothing was committed since, and that holds every salvaged row as it is.
    """
    salvage = salvage if salvage is not None and (salvage.whole or salvage.total) else None
    if salvage is not None and (backup is None or _goes_first(salvage, backup)):
        return _of_salvage(salvage, backup, differences, before)
    return _of_backup(backup, salvage, differences, before) if backup is not None else None


def _goes_first(salvage: Candidate, backup: Candidate) -> bool:
    if salvage.whole:
        return True
    lacks = not salvage.schema_whole and bool(set(backup.rows) - set(salvage.rows))
    return not lacks and salvage.total >= backup.total


def _of_salvage(salvage: Candidate, backup: Candidate | None, differences: Sequence[Difference], before: LastGood) -> Choice:
    short = _short(salvage.rows, before.rows)
    lost = sum(short.values())
    lines = [f"chosen: {salvage.told}, {amount(salvage)}", *salvage.notes]
    lines += [f"{name}: {salvage.rows.get(name, 0)} of the {before.rows[name]} rows at the last good check" for name in short]
    if backup is not None:
        lines.append(f"not chosen: {backup.told}, {backup.total} rows")
        for item in differences:
            if item.only_right or (item.only_right is None and item.right):
                count = item.only_right if item.only_right is not None else f"up to {item.right}"
                lines.append(f"{item.name}: the backup has {count} rows that the salvage lacks")
        if not before.rows:
            lost = sum(item.only_right or 0 for item in differences)
    if salvage.unattributed:
        lines.append(f"{salvage.unattributed} rows were found that belong to no table any more, and left out")
    lossless = salvage.whole and not short
    if lossless:
        return Choice(chosen=salvage, lossless=True, lost=0, loses="", lines=_bounded(lines))
    return Choice(chosen=salvage, lossless=False, lost=lost, loses=_loses(salvage, lost, short, before), lines=_bounded(lines))


def _of_backup(backup: Candidate, salvage: Candidate | None, differences: Sequence[Difference], before: LastGood) -> Choice:
    short = _short(backup.rows, before.rows)
    newer = {item.name: item.only_left for item in differences if item.only_left}
    differ = {item.name: item.differ for item in differences if item.differ}
    contained = salvage is not None and all(item.told for item in differences) and not newer and not differ
    lines = [f"chosen: {backup.told}, {amount(backup)}", *backup.notes]
    if salvage is None:
        lines.append("nothing could be salvaged from the damaged database")
    else:
        lines.append(f"not chosen: {salvage.told}, {salvage.total} rows")
    lines += [f"{name}: {count} rows of the damaged database are not in the backup" for name, count in newer.items()]
    lines += [f"{name}: {count} rows of the damaged database are different there" for name, count in differ.items()]
    lines += [f"{name}: {backup.rows.get(name, 0)} of the {before.rows[name]} rows at the last good check" for name in short]
    if backup.unchanged_since and contained and not short:
        lines.append("its change counter is that of the damaged database: nothing was committed since it was made")
        return Choice(chosen=backup, lossless=True, lost=0, loses="", lines=_bounded(lines))
    if not backup.unchanged_since:
        lines.append(
            "its change counter is not known to be that of the damaged database; a backup that SQLite made has one of its own"
        )
    lost = max(sum(newer.values()) + sum(differ.values()), sum(short.values()))
    at = f" {from_epoch_ms(backup.made_at).isoformat(timespec='seconds')}" if backup.made_at else ""
    since = f"what was changed since the backup of{at}, at least {lost} rows"
    if not lost:
        since = f"possibly what was changed since the backup of{at}: it can't be shown that nothing was changed since"
    return Choice(chosen=backup, lossless=False, lost=lost, loses=since, lines=_bounded(lines))


def _short(rows: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: count - rows.get(name, 0) for name, count in before.items() if count > rows.get(name, 0)}


def _loses(salvage: Candidate, lost: int, short: Mapping[str, int], before: LastGood) -> str:
    tables = ", ".join(f"{count} of {name}" for name, count in sorted(short.items(), key=lambda pair: -pair[1])[:8])
    if short:
        return f"rows of the damaged pages, {lost} by the counts of the last good check ({tables})"
    unattributed = f", {salvage.unattributed} of them found but belonging to no table" if salvage.unattributed else ""
    if before.rows:
        return f"possibly rows of the damaged pages: no fewer than at the last good check were salvaged{unattributed}"
    known = f"at least {lost} that the backup has" if lost else "how many is not known"
    return f"rows of the damaged pages; {known}{unattributed}"


def _bounded(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= _MOST_LINES:
        return tuple(lines)
    return (*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more lines")
