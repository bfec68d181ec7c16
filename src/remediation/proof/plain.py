"""
The quick way through a log in a database: rows in which nothing is wrong and nothing special, as nearly all are.

Whether a row is one is found by writing the end of its leaf anew, from columns and body, and comparing: a third of the cost of reading
the leaf. It is one tight loop, because what a call costs is what a check costs; of many rows at once, what can be is checked of all
together. A row that does not pass is not wrong for that: one with an escape in a name, or an erased body, is looked at with care by
`remediation.proof.replay`, as is one with something wrong.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from remediation.proof.leaf import (
    FORMS,
    INNER,
    INNER_REST,
    MAX_BODY_BYTES,
    MAX_LEAF_BYTES,
    OUTER,
    OUTER_REST,
    SALT_BYTES,
    VERSION,
)

Row = (
    tuple[bytes | None, bytes | None, bytes | None] | tuple[bytes | None, bytes | None, bytes | None, int, str, str, int, str, str]
)
"""An entry as stored: leaf, salt, body; from a database also the columns seq, id, stream, stream_seq, type, time.

The leaf is None where an entry stands that can't be read; salt and body are None where they were erased.
"""

_REMEMBERED = 1024
_INCIDENT = "incident/"
_END = 10**15  # where numbers have 16 digits
_TEXT = r"[ !#-\[\]-~]+"
_HEAD = re.compile(rf'\{{"actor":"{_TEXT}","causation":(?:null|"{_TEXT}"),'.encode()).fullmatch
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_BEGINNING = re.compile(
    rf'\{{"actor":"{_TEXT}","causation":(?:null|"{_TEXT}"),"correlation":(?:null|"({_TEXT})"),'.encode()
).fullmatch
_PAD = bytes(64 - SALT_BYTES)
_KEYS = struct.Struct("64s").iter_unpack
_SPECIAL = frozenset(("payload.erased", "key.rotated", "journal.archived"))
"""What `Replay` has to read the bodies of."""


class PlainRows:
    """
    Takes plain rows in.

    Args:
        origin: The log.
        whole: The log is read from its beginning, so that a stream that was not seen yet begins.
        places: Positions in streams must fit; else nothing is known of streams, and whoever reads compares columns with indexes.

    """

    def __init__(self, origin: str, *, whole: bool, places: bool = True) -> None:
        self._middle = f'","origin":{json.dumps(origin, ensure_ascii=False)},"payload":"'
        self._unknown = 0 if whole and places else -1
        self._places = places
        self._time = ""
        self._types: set[str] = set()
        self._beginnings: dict[bytes, str] = {}
        """By the beginning of a leaf, the stream that its correlation names; "" where it has none."""
        self._heads: set[bytes] = set()
        """Beginnings without the correlation."""
        self.strays: list[tuple[int, str]] = []
        """Entries with a correlation that the stream's name does not tell, and the correlation."""
        self.streams: dict[str, int] = {} if places else _Forgetful()
        """The length of each stream."""
        self.firsts: dict[str, int] = {}
        """The first position that was seen of each stream, where it isn't 0."""

    def take(self, rows: Iterator[Row], seq: int, hashes: list[bytes], ids: list[str]) -> Row | None:
        """
        Take rows in while they are plain; returns the first one that is not, or `None` at the end.

        Args:
            rows: Where they come from.
            seq: The position that comes next.
            hashes: Gets the hash of each leaf.
            ids: Gets the id of each entry.

        """
        streams, types, beginnings, middle, unknown = self.streams, self._types, self._beginnings, self._middle, self._unknown
        length, push_hash, push_id = streams.get, hashes.append, ids.append
        # Whatever is in a row, the first thing that does not fit ends up in the `except`: checking each type first would cost a tenth.
        row: Any = None
        for row in rows:
            try:
                leaf, salt, body, number, id_, stream, position, type_, time = row
                expected = length(stream, unknown)
                if number != seq or (position != expected >= 0) or type(position) is not int or type(number) is not int:
                    break
                if (time != self._time or type_ not in types) and not self._known(type_, time):
                    break
                # RFC 2104, as in `payload_digest`.
                inner = sha256(salt.translate(INNER) + INNER_REST + body).digest()
                digest = sha256(salt.translate(OUTER) + OUTER_REST + inner).hexdigest()
                end = (
                    f'"id":"{id_}{middle}{digest}","seq":{number},"stream":"{stream}",'
                    f'"stream_seq":{position},"time":"{time}","type":"{type_}","v":{VERSION}}}'
                ).encode()
                if not leaf.endswith(end):
                    break
                named = beginnings.get(beginning := leaf[: -len(end)])
                if (
                    (named is None and (named := self._begins(beginning)) is None)
                    or not (id_.isalnum() and id_.isascii() and stream and stream.isprintable())
                    or '"' in stream
                    or "\\" in stream
                    or len(salt) != SALT_BYTES
                    or len(body) > MAX_BODY_BYTES
                    or len(leaf) > MAX_LEAF_BYTES
                    or not 0 <= position < _END > seq
                ):
                    break
            except (TypeError, ValueError, AttributeError):
                break  # without columns, without a body, or with a column of another type than its table's
            if named and named != stream:
                self.strays.append((seq, _correlation(leaf)))
            push_hash(sha256(b"\x00" + leaf).digest())
            push_id(id_)
            if position > 0 > expected:
                self.firsts[stream] = position
            streams[stream] = position + 1
            seq += 1
        else:
            return None
        found: Row = row
        return found

    def bulk(self, columns: Sequence[Sequence[Any]], seq: int, hashes: list[bytes], ids: list[str]) -> int:
        """
        Take in those of some rows that come before the first with an unexpected place in its stream, if otherwise all are plain.

        Returns how many: 0 says that nothing is known of them, and that `take` has to look at each.

        Args:
            columns: The nine columns of the rows.
            seq: See `take`, also for `hashes` and `ids`.
            hashes: The same.
            ids: The same.

        """
        middle, beginnings, heads, strays, found = self._middle, self._beginnings, self._heads, [], []
        number = seq
        try:
            leaves, salts, bodies, numbers, names, streams, positions, types, times = columns
            if numbers != tuple(range(seq, seq + len(leaves))) or seq + len(leaves) > _END or not self._all_known(types, times):
                return 0
            if (
                {*map(len, salts)} != {SALT_BYTES}
                or max(map(len, bodies)) > MAX_BODY_BYTES
                or max(map(len, leaves)) > MAX_LEAF_BYTES
            ):
                return 0
            if {*map(type, (*numbers, *positions))} != {int} or min(positions) < 0 or max(positions) >= _END:
                return 0
            if not _all_plain(names, streams):
                return 0
            # RFC 2104, as in `payload_digest`.
            keys = _PAD.join((*salts, b""))
            inners, outers = _KEYS(keys.translate(INNER)), _KEYS(keys.translate(OUTER))
            for leaf, body, (inner,), (outer,), id_, stream, told, position, type_, time in zip(
                leaves, bodies, inners, outers, names, streams, _told(streams), positions, types, times, strict=True
            ):
                digest = sha256(outer + sha256(inner + body).digest()).hexdigest()
                end = (
                    f'"id":"{id_}{middle}{digest}","seq":{number},"stream":"{stream}",'
                    f'"stream_seq":{position},"time":"{time}","type":"{type_}","v":{VERSION}}}'
                )
                # Most entries are of an incident, and correlated with it: then all but actor and causation is told already.
                if (
                    told is not None
                    and leaf.endswith(ending := f'"correlation":"{told}",{end}'.encode())
                    and ((head := leaf[: -len(ending)]) in heads or self._starts(head))
                ):
                    found.append(sha256(b"\x00" + leaf).digest())
                    number += 1
                    continue
                if not leaf.endswith(ending := end.encode()):
                    return 0
                named = beginnings.get(beginning := leaf[: -len(ending)])
                if named is None and (named := self._begins(beginning)) is None:
                    return 0
                if named and named != stream:
                    strays.append((number, _correlation(leaf)))
                found.append(sha256(b"\x00" + leaf).digest())
                number += 1
        except (TypeError, ValueError, AttributeError):
            return 0  # see `take`
        fitting = self._fitting(streams, positions) if self._places else len(found)
        hashes += found[:fitting]
        ids += names[:fitting]
        self.strays += strays if fitting == len(found) else [each for each in strays if each[0] < seq + fitting]
        return fitting

    def note(self, seq: int, stream: str, leaf: bytes) -> None:
        """Note a row that is not plain among the `strays`, if it is one."""
        correlation = _correlation(leaf)
        if correlation and home_of(correlation) != stream:
            self.strays.append((seq, correlation))

    def _fitting(self, streams: Sequence[str], positions: Sequence[int]) -> int:
        """How many of these are where they must be in their streams; the streams are as long then."""
        lengths, unknown, fitting = self.streams, self._unknown, 0
        for stream, position in zip(streams, positions, strict=True):
            expected = lengths.get(stream, unknown)
            if position != expected >= 0:
                break
            if position > 0 > expected:
                self.firsts[stream] = position
            lengths[stream] = position + 1
            fitting += 1
        return fitting

    def _all_known(self, types: Sequence[str], times: Sequence[str]) -> bool:
        """`_known` of many."""
        return all(self._known(type_, times[0]) for type_ in {*types} - self._types) and all(map(FORMS["time"].fullmatch, {*times}))

    def _known(self, type_: str, time: str) -> bool:
        """Whether type and time are of their forms, and the type is not a special one; remembered, because they repeat."""
        if type_ in _SPECIAL or not (FORMS["type"].fullmatch(type_) and FORMS["time"].fullmatch(time)):
            return False
        self._time = time
        if len(self._types) < _REMEMBERED:
            self._types.add(type_)
        return True

    def _starts(self, head: bytes) -> bool:
        """Whether this is actor and causation of a leaf; remembered, because they repeat."""
        if not _HEAD(head):
            return False
        if len(self._heads) == _REMEMBERED:
            self._heads.clear()
        self._heads.add(head)
        return True

    def _begins(self, beginning: bytes) -> str | None:
        """The stream that actor, causation and correlation of a leaf name, if this is that; remembered, because they repeat."""
        begins = _BEGINNING(beginning)
        if begins is None:
            return None
        if len(self._beginnings) == _REMEMBERED:
            self._beginnings.clear()
        correlation = begins[1]
        named = home_of(correlation.decode()) if correlation is not None else ""
        self._beginnings[beginning] = named
        return named


def home_of(correlation: str) -> str:
    """The stream whose entries have this correlation, as everybody knows."""
    return _INCIDENT + correlation.replace("-", "/")


def _correlation(leaf: bytes) -> str:
    """The correlation as a leaf spells it; "" where it has none. In canonical JSON no text holds a bare quote."""
    _, mark, rest = leaf.partition(b',"correlation":"')
    return rest[: rest.index(b'","id":"')].decode() if mark else ""


def _told(streams: Sequence[str]) -> list[str | None]:
    """For each stream the one correlation of which it is `home_of`; `None` where there is none, or more than one, or an empty one."""
    cut = len(_INCIDENT)
    return [
        stream[cut:].replace("/", "-") or None if stream.startswith(_INCIDENT) and "-" not in stream else None for stream in streams
    ]


def _all_plain(names: Sequence[str], streams: Sequence[str]) -> bool:
    """Whether ids and streams are spelt in a leaf as they are, and none is empty."""
    if not all(names) or not all(streams):
        return False
    texts = "".join((*names, *streams))
    if texts.isascii():
        return not texts.encode().translate(None, _PLAIN)
    return texts.isprintable() and '"' not in texts and "\\" not in texts


class _Forgetful(dict[str, int]):
    """Stays empty."""

    def __setitem__(self, _: str, __: int) -> None:
        return
