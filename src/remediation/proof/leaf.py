"""
Leaves: the signed frame of one entry, and how it commits to the entry's body.

A leaf is canonical JSON with exactly the members actor, causation, correlation, id, origin, payload, seq, stream, stream_seq, time,
type and v. `payload` is the HMAC-SHA-256 of the body under a random salt: it fixes the body, and tells nothing about it once both
are erased. Format: ``docs/specs/journal-format-v1.md``, section "Leaf".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from remediation.errors import NotCanonical
from remediation.proof import jsontext

VERSION = 1
MAX_LEAF_BYTES = 65_535
MAX_BODY_BYTES = 256 * 1024
SALT_BYTES = 32

_MEMBERS = frozenset(
    ("actor", "causation", "correlation", "id", "origin", "payload", "seq", "stream", "stream_seq", "time", "type", "v")
)
_TEXTS = ("actor", "id", "origin", "stream")
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
FORMS = {"payload": re.compile(r"[0-9a-f]{64}"), "time": re.compile(_TIME), "type": re.compile(r"[a-z0-9_.-]{1,64}")}

INNER = bytes(byte ^ 0x36 for byte in range(256))
OUTER = bytes(byte ^ 0x5C for byte in range(256))
INNER_REST = b"\x36" * (64 - SALT_BYTES)
OUTER_REST = b"\x5c" * (64 - SALT_BYTES)


def payload_digest(salt: bytes, body: bytes) -> str:
    """
    HMAC-SHA-256 of `body` under the 32-byte `salt`, in hex: a leaf's `payload`.

    RFC 2104 written out for a key shorter than the block: the library's one-shot function costs half as much again on short bodies,
    and a verifier calls this once for each entry.
    """
    inner = sha256(salt.translate(INNER) + INNER_REST + body).digest()
    return sha256(salt.translate(OUTER) + OUTER_REST + inner).hexdigest()


@dataclass(frozen=True, slots=True)
class Leaf:
    """The frame of an entry. Its bytes are `encode`."""

    origin: str
    """The log: ``<host-id>/remediation/<log-id>``."""
    seq: int
    """Position in the log, from 0."""
    id: str
    """Unique in the log."""
    stream: str
    stream_seq: int
    """Position in the stream, from 0."""
    type: str
    time: str
    """UTC, ``YYYY-MM-DDTHH:MM:SS.mmmZ``. Orders nothing."""
    actor: str
    """A key or channel id."""
    causation: str | None
    correlation: str | None
    payload: str
    """`payload_digest` of salt and body."""

    def encode(self) -> bytes:
        """The canonical JSON that is stored and hashed. Values are taken to lie inside the format; see `parse`."""
        return encoded(
            self.origin,
            self.seq,
            self.id,
            self.stream,
            self.stream_seq,
            self.type,
            self.time,
            self.actor,
            self.causation,
            self.correlation,
            self.payload,
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """
        The leaf that `data` is.

        Raises:
            NotCanonical: it is none; the message says which rule it breaks.

        """
        if len(data) > MAX_LEAF_BYTES:
            raise NotCanonical(f"a leaf has at most {MAX_LEAF_BYTES} bytes, this one {len(data)}")
        members = jsontext.decode_object(data, _MEMBERS)
        version = members.pop("v")
        if type(version) is not int or version != VERSION:
            raise NotCanonical(f"the leaf is not of version {VERSION}")
        _check_members(members)
        return cls(**members)


def encoded(
    origin: str,
    seq: int,
    id_: str,
    stream: str,
    stream_seq: int,
    type_: str,
    time: str,
    actor: str,
    causation: str | None,
    correlation: str | None,
    payload: str,
) -> bytes:
    """`Leaf.encode` of a leaf with these fields, at half the cost of making one: a writer and a reader do this for each entry."""
    return (
        f'{{"actor":{_text(actor)},"causation":{_text_or_null(causation)},"correlation":{_text_or_null(correlation)},"id":{_text(id_)},'
        f'"origin":{_text(origin)},"payload":"{payload}","seq":{seq},"stream":{_text(stream)},'
        f'"stream_seq":{stream_seq},"time":"{time}","type":"{type_}","v":{VERSION}}}'
    ).encode()


def leaf_pattern(origin: str) -> re.Pattern[bytes]:
    """
    A pattern that matches whole leaves of the log `origin`, those without any escape in a string or a number beyond 15 digits.

    Such a leaf is one if and only if the pattern matches and it is UTF-8; `Leaf.parse` decides about all others, ten times slower.
    Groups: id, payload, seq, stream, stream_seq, time, type.
    """
    text = r'[^"\\\x00-\x1f]'
    number = r"0|[1-9][0-9]{0,14}"
    return re.compile(
        (
            rf'\{{"actor":"{text}+","causation":(?:null|"{text}+"),"correlation":(?:null|"{text}+"),"id":"({text}+)",'
            rf'"origin":{re.escape(_text(origin))},"payload":"([0-9a-f]{{64}})","seq":({number}),"stream":"({text}+)",'
            rf'"stream_seq":({number}),"time":"({_TIME})","type":"([a-z0-9_.-]{{1,64}})","v":{VERSION}\}}'
        ).encode()
    )


def _check_members(members: dict[str, Any]) -> None:
    for name in ("seq", "stream_seq"):
        if type(members[name]) is not int or members[name] < 0:
            raise NotCanonical(f"the leaf's {name} is not a position")
    for name in _TEXTS:
        if not isinstance(members[name], str) or not members[name]:
            raise NotCanonical(f"the leaf's {name} is not a text")
    for name in ("causation", "correlation"):
        if members[name] is not None and (not isinstance(members[name], str) or not members[name]):
            raise NotCanonical(f"the leaf's {name} is neither null nor a text")
    for name, form in FORMS.items():
        if not isinstance(members[name], str) or not form.fullmatch(members[name]):
            raise NotCanonical(f"the leaf's {name} is not of the form {form.pattern}")


_text = json.encoder.encode_basestring


def _text_or_null(value: str | None) -> str:
    return "null" if value is None else _text(value)
