"""
The SQL that finds entries. Pure; each query goes through an index, and the index it goes through is chosen here.

SQLite's planner would have to guess: it has no statistics of a journal. A ``+`` before a column keeps it from using that column's index
(https://www.sqlite.org/optoverview.html#uplus). An index is a cache: what it leads to is checked against the leaf, and whether it
leads to everything is checked by ``journal verify``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from remediation.errors import JournalDamaged
from remediation.journal.selection import Selection
from remediation.journal.store import Row

COLUMNS = "e.seq, e.event_id, e.stream, e.stream_seq, e.type, e.time, e.leaf, p.salt, p.body"
FROM = "FROM entry e LEFT JOIN payload p ON p.seq = e.seq"
NEAR = 4096
"""Entries at the end of the log among which it is quicker to look at each than to go through an index."""

# In canonical JSON no string holds an unescaped quote, so these occur where the members are and nowhere else.
_MARK = "instr(leaf, x'2c22636f7272656c6174696f6e223a22')"  # ,"correlation":"
_END = "instr(leaf, x'222c226964223a22')"  # ","id":"
_CORRELATION = f"CAST(substr(leaf, {_MARK} + 16, {_END} - {_MARK} - 16) AS TEXT)"
_INDEXED = f"{_MARK} > 0 AND stream <> 'incident/' || replace({_CORRELATION}, '-', '/')"
BY_CORRELATION_INDEX = f"SELECT seq FROM entry INDEXED BY entry_correlation WHERE {_CORRELATION} = ? AND {_INDEXED} ORDER BY seq"  # noqa: S608 - constants
"""The entries that the index lists for a correlation as leaves spell it."""
CORRELATION_INDEX = f"CREATE INDEX entry_correlation ON entry ({_CORRELATION}) WHERE {_INDEXED};"
"""As it stands in ``schema.sql``: the correlation as the leaf spells it, unless the stream's name already tells it."""


class Query(NamedTuple):
    """SQL and its values."""

    sql: str
    values: tuple[Any, ...]


def page(after: int, limit: int, wanted: Selection) -> Query | None:
    """
    Whole rows with seq > `after`, in order; `None` if no index has them in order: then ask for `positions`.

    In order lie all entries, and those of one stream.
    """
    stream = wanted.stream
    if wanted.correlation is not None or stream is None or stream.endswith("/"):
        if wanted != Selection():
            return None
        return Query(f"SELECT {COLUMNS} {FROM} WHERE e.seq > ? ORDER BY e.seq LIMIT ?", (after, limit))
    terms, values = _terms(replace(wanted, stream=None), "e.", plus="+")
    # The pages of a long stream would each pass all the earlier ones by, if the place of the last entry in it were not known.
    begin = "coalesce((SELECT stream_seq FROM entry WHERE seq = ? AND stream = ?), -1)"
    sql = (
        f"SELECT {COLUMNS} {FROM} WHERE e.stream = ? AND e.stream_seq > {begin} AND e.seq > ?{terms} ORDER BY e.stream_seq LIMIT ?"
    )
    return Query(sql, (stream, after, stream, after, *values, limit))


def positions(after: int, limit: int, wanted: Selection, *, near: bool = False, newest: bool = False) -> Query:
    """
    Positions > `after` of what is wanted, in order; with `newest` the last ones, in reverse order.

    `near` says that `after` is so near to the end that each entry behind it can be looked at.
    """
    order = f"ORDER BY seq{' DESC' if newest else ''} LIMIT ?"
    if near or wanted == Selection():
        terms, values = _terms(wanted, plus="+")
        return Query(_positions(f"seq > ?{terms}", order), (after, *values, limit))
    if wanted.correlation is not None:
        return _correlated(after, limit, wanted, order)
    if wanted.stream is not None and not wanted.stream.endswith("/"):
        terms, values = _terms(replace(wanted, stream=None), plus="+")
        return Query(_positions(f"stream = ? AND +seq > ?{terms}", order), (wanted.stream, after, *values, limit))
    if wanted.types or wanted.since is not None or wanted.until is not None:
        terms, values = _terms(replace(wanted, stream=None))
        if not wanted.types:
            terms = f" AND type IN ({_TYPES}){terms}"
        more, streams = _terms(Selection(stream=wanted.stream), plus="+")
        return Query(_positions(f"+seq > ?{terms}{more}", order), (after, *values, *streams, limit))
    terms, values = _terms(wanted)
    return Query(_positions(f"+seq > ?{terms}", order), (after, *values, limit))


def at(count: int) -> str:
    """SQL for the rows at `count` positions, in order."""
    return f"SELECT {COLUMNS} {FROM} WHERE e.seq IN ({', '.join('?' * count)}) ORDER BY e.seq"


# One step into the index for each type that there is, instead of through all of it.
_TYPES = (
    "WITH RECURSIVE known(type) AS (SELECT min(type) FROM entry UNION ALL "
    "SELECT (SELECT min(type) FROM entry WHERE type > known.type) FROM known WHERE known.type IS NOT NULL) "
    "SELECT type FROM known WHERE type IS NOT NULL"
)


def _correlated(after: int, limit: int, wanted: Selection, order: str) -> Query:
    terms, values = _terms(replace(wanted, correlation=None), plus="+")
    spelt, stream = _spelt(wanted.correlation or ""), f"incident/{(wanted.correlation or '').replace('-', '/')}"
    others = _positions(f"{_INDEXED} AND {_CORRELATION} = ? AND +seq > ?{terms}", "UNION ALL")
    sql = f"{others} {_positions(f'stream = ? AND {_MARK} > 0 AND +{_CORRELATION} = ? AND +seq > ?{terms}', order)}"
    return Query(sql, (spelt, after, *values, stream, spelt, after, *values, limit))


def _positions(conditions: str, rest: str) -> str:
    return f"SELECT seq FROM entry WHERE {conditions} {rest}"  # noqa: S608 - made of constants and marks for values


def _terms(wanted: Selection, table: str = "", *, plus: str = "") -> tuple[str, Sequence[Any]]:
    """Conditions, each behind an AND, and their values."""
    terms: list[str] = []
    values: list[Any] = []
    stream = wanted.stream
    if stream is not None and stream.endswith("/"):
        terms += [f"{plus}{table}stream >= ?", f"{plus}{table}stream < ?"]
        values += [stream, stream[:-1] + "0"]  # "0" follows "/"
    elif stream is not None:
        terms.append(f"{plus}{table}stream = ?")
        values.append(stream)
    if wanted.types:
        terms.append(f"{plus}{table}type IN ({', '.join('?' * len(wanted.types))})")
        values += wanted.types
    for sign, moment in ((">=", wanted.since), ("<", wanted.until)):
        if moment is not None:
            terms.append(f"{plus}{table}time {sign} ?")
            values.append(moment)
    if wanted.correlation is not None:
        terms += [f"{_MARK} > 0", f"+{_CORRELATION} = ?"]
        values.append(_spelt(wanted.correlation))
    return "".join(f" AND {term}" for term in terms), values


def _spelt(text: str) -> str:
    """`text` as it stands between the quotes of canonical JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def row(*columns: Any) -> Row:
    """A row whose values are of the kinds that the tables promise: in a damaged file they may be of any."""
    stream_seq, leaf, salt, body = columns[3], *columns[6:9]
    if (
        type(leaf) is not bytes
        or type(stream_seq) is not int
        or not isinstance(salt, bytes | None)
        or not isinstance(body, bytes | None)
    ):
        raise JournalDamaged(f"entry {columns[0]} can't be read: the database is damaged; run `remediation journal verify`")
    return Row(*columns)
