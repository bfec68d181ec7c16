"""From typed entries to stored rows and back."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from remediation.errors import JournalDamaged, NotCanonical
from remediation.journal.store import Row
from remediation.model.entries import Entry, EntryHead, PayloadErased, Record, decode
from remediation.model.redaction import Redactor
from remediation.model.redaction.journaled import redacted
from remediation.proof.leaf import MAX_BODY_BYTES, MAX_LEAF_BYTES, SALT_BYTES, encoded, payload_digest

STREAM_CAP = 512
_BUILTIN = Redactor()
_decode = json.JSONDecoder().raw_decode
"""Reads what is no stranger's: `json.loads` guesses at an encoding and looks for white space, which takes longer than a leaf itself."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that is ready but for its place."""

    entry: Entry
    body: bytes
    salt: bytes
    payload: str


def draft(entry: Entry, redactor: Redactor = _BUILTIN) -> Draft:
    """
    Mask the secrets of `entry`, encode its body and commit to it.

    Raises:
        NotCanonical: outside the JSON domain, or larger than 256 KiB.

    """
    entry = redacted(redactor, entry)
    body = entry.body()
    if len(body) > MAX_BODY_BYTES:
        raise NotCanonical(
            f"a {entry.type} of {len(body)} bytes is larger than the {MAX_BODY_BYTES} that an entry may have; keep large content as a blob"
        )
    salt = os.urandom(SALT_BYTES)
    return Draft(entry, body, salt, payload_digest(salt, body))


def place(
    prepared: Draft,
    *,
    origin: str,
    seq: int,
    event_id: str,
    stream: str,
    stream_seq: int,
    time: str,
    frame: tuple[str, str | None, str | None],
) -> tuple[Row, Record]:
    """
    The row and the record of a draft at its place; `frame` is actor, causation, correlation.

    Raises:
        NotCanonical: the leaf is larger than 65,535 bytes.

    """
    actor, causation, correlation = frame
    type_ = prepared.entry.type
    leaf = encoded(origin, seq, event_id, stream, stream_seq, type_, time, actor, causation, correlation, prepared.payload)
    if len(leaf) > MAX_LEAF_BYTES:
        raise NotCanonical(f"the frame of a {type_} has {len(leaf)} bytes; {MAX_LEAF_BYTES} is the limit")
    row = Row(seq, event_id, stream, stream_seq, type_, time, leaf, prepared.salt, prepared.body)
    head = EntryHead(seq, event_id, stream, stream_seq, type_, time, actor, causation, correlation)
    return row, Record(head, prepared.entry)


def record(row: Row) -> Record:
    """
    The typed record of a stored row. Checks the body against the leaf.

    Raises:
        JournalDamaged: columns, leaf and body do not belong together.
        JournalTooNew: of a type or version that this release doesn't know.

    """
    try:
        members, _ = _decode(row.leaf.decode())  # nothing can be behind it: see below
        actor, causation, correlation = members["actor"], members["causation"], members["correlation"]
        payload = members["payload"]
        # Writing the leaf anew from the columns is a third of the cost of parsing it strictly, and as strict.
        leaf = encoded(
            members["origin"],
            row.seq,
            row.event_id,
            row.stream,
            row.stream_seq,
            row.type,
            row.time,
            actor,
            causation,
            correlation,
            payload,
        )
        same = leaf == row.leaf
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JournalDamaged(f"entry {row.seq}: its leaf can't be read ({type(error).__name__})") from error
    if not same:
        raise JournalDamaged(f"entry {row.seq}: its columns contradict its leaf, or its leaf is not canonical")
    head = EntryHead(row.seq, row.event_id, row.stream, row.stream_seq, row.type, row.time, actor, causation, correlation)
    if row.body is None or row.salt is None:
        return Record(head, _kept(row), erased=True)
    if payload_digest(row.salt, row.body) != payload:
        raise JournalDamaged(f"entry {row.seq}: its body is not the one that was signed; run `remediation journal verify`")
    return Record(head, decode(row.type, row.body))


def _kept(row: Row) -> Entry | None:
    """What the erasure of `row`'s body left of it, by the signed entry that tells of it."""
    if row.erasure is None:
        # State without it would be another one: a quarantine, a pause or a refusal could be made to be forgotten.
        raise JournalDamaged(
            f"entry {row.seq}: its body is gone, and nothing says that it was erased; run `remediation journal verify`"
        )
    erasure = record(row.erasure).entry
    if not isinstance(erasure, PayloadErased) or erasure.seq != row.seq:
        raise JournalDamaged(
            f"entry {row.erasure.seq} does not say that the body of entry {row.seq} was erased; run `remediation journal verify`"
        )
    return decode(row.type, erasure.kept.encode()) if erasure.kept else None


def check_texts(*texts: str | None) -> None:
    """
    Refuse what can't stand in a leaf.

    Raises:
        NotCanonical: an empty text, or one with lone surrogates.

    """
    for text in texts:
        if text is None or (text and text.isascii()):
            continue
        try:
            if not text.encode():
                raise NotCanonical("an empty text can't stand in the frame of an entry; leave it out")
        except UnicodeEncodeError as error:
            raise NotCanonical("a text in the frame of an entry holds a lone surrogate") from error


def derived_id(event_id: str, index: int) -> str:
    """The id of the entry number `index` of an append with `event_id`."""
    return event_id if index == 0 else hashlib.sha256(f"{event_id}:{index}".encode()).hexdigest()[:32]


def plain(entry: Entry) -> dict[str, Any]:
    """The fields of an entry as JSON values, defaults included, for people and programs."""
    return entry.model_dump(mode="json")
