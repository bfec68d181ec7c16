"""
The quick way through a log in a database: rows in which nothing is wrong and nothing special, as nearly all are.

Whether a row is one is found by writing the end of its leaf anew, from columns and body, and comparing: a third of the cost of reading
the leaf. It is one tight loop, because what a call costs is what a check costs. A row that does not pass is not wrong for that: one
with an escape in a name, or an erased body, is looked at with care by `remediation.proof.replay`, as is one with something wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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
_END = 10**15  # where numbers have 16 digits
_TEXT = r"[ !#-\[\]-~]+"
_BEGINNING = re.compile(
    rf'\{{"actor":"{_TEXT}","causation":(?:null|"{_TEXT}"),"correlation":(?:null|"{_TEXT}"),'.encode()
).fullmatch
_SPECIAL = frozenset(("payload.erased", "key.rotated", "journal.archived"))
"""What `Replay` has to read the bodies of."""


class PlainRows:
    """
    Takes plain rows in.

    Args:
        origin: The log.
        whole: The log is read from its beginning, so that a stream that was not seen yet begins.

    """

    def __init__(self, origin: str, *, whole: bool) -> None:
        self._middle = f'","origin":{json.dumps(origin, ensure_ascii=False)},"payload":"'
        self._unknown = 0 if whole else -1
        self._time = ""
        self._types: set[str] = set()
        self._beginnings: set[bytes] = set()
        self.streams: dict[str, int] = {}
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
                if number != seq or (position != expected >= 0):
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
                beginning = leaf[: -len(end)]
                if (
                    (beginning not in beginnings and not self._begins(beginning))
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

    def _known(self, type_: str, time: str) -> bool:
        """Whether type and time are of their forms, and the type is not a special one; remembered, because they repeat."""
        if type_ in _SPECIAL or not (FORMS["type"].fullmatch(type_) and FORMS["time"].fullmatch(time)):
            return False
        self._time = time
        if len(self._types) < _REMEMBERED:
            self._types.add(type_)
        return True

    def _begins(self, beginning: bytes) -> bool:
        """Whether this is actor, causation and correlation of a leaf; remembered, because they repeat."""
        if not _BEGINNING(beginning):
            return False
        if len(self._beginnings) == _REMEMBERED:
            self._beginnings.clear()
        self._beginnings.add(beginning)
        return True
