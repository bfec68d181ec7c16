"""
Exported logs: one JSON Lines file that holds all that a stranger needs to verify it, but the key.

First line: ``{"format", "from", "origin", "vkeys"}``. One line for each entry: ``{"body", "leaf", "salt"}``. Last line:
``{"checkpoint", "rotations"}``. Each line is canonical JSON and ends in a newline, so that a log has exactly one export and no
byte of it can change unseen. Format: ``docs/specs/journal-format-v1.md``, section "Export file".
"""

from __future__ import annotations

import json
import re
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from os import PathLike
from typing import IO, Any

from remediation.errors import NotCanonical
from remediation.proof import jsontext
from remediation.proof.checkpoint import MAX_SIZE
from remediation.proof.errors import NoteError
from remediation.proof.judge import Claims, Knowledge, claimed_size, judge
from remediation.proof.leaf import SALT_BYTES
from remediation.proof.merkle import Frontier
from remediation.proof.note import VerifierKey, check_name
from remediation.proof.plain import Row
from remediation.proof.replay import Replay
from remediation.proof.verdict import ProblemCode, Problems, Verification

FORMAT = "remediation-journal/1"
MAX_LINE_BYTES = 1 << 20
"""No line is longer: a leaf and a body of full size, each byte escaped, stay below it."""

_HEADER = frozenset(("format", "from", "origin", "vkeys"))
_LAST = frozenset(("checkpoint", "rotations"))
_ENTRY = frozenset(("body", "leaf", "salt"))
_SALT = re.compile(r"[0-9a-f]{64}")
_quote = json.encoder.encode_basestring


def header_line(origin: str, vkeys: Sequence[str], *, start: int = 0) -> bytes:
    """The first line of an export. `vkeys`: all keys that the log had, the first one first."""
    return jsontext.encode({"format": FORMAT, "origin": origin, "vkeys": list(vkeys), "from": start}) + b"\n"


def entry_line(leaf: bytes, salt: bytes | None, body: bytes | None) -> bytes:
    """The line of one entry; `salt` and `body` are None if they were erased."""
    payload = "null" if body is None else _quote(body.decode())
    key = "null" if salt is None else f'"{salt.hex()}"'
    return f'{{"body":{payload},"leaf":{_quote(leaf.decode())},"salt":{key}}}\n'.encode()


def last_line(checkpoint: str, rotations: Sequence[str] = ()) -> bytes:
    """The last line: the signed note over all entries, and the double-signed one of each key rotation, in order."""
    return jsontext.encode({"checkpoint": checkpoint, "rotations": list(rotations)}) + b"\n"


def verify_export(
    lines: Iterable[bytes],
    *,
    vkeys: Iterable[str | VerifierKey] = (),
    origin: str | None = None,
    head: str | None = None,
    min_size: int = 0,
    before: Frontier | None = None,
) -> Verification:
    """
    Verify an exported log, reading each line once.

    Guarantees: whatever the lines hold, the answer is a `Verification`; `ok` means that exactly these bytes are a log that the key
    signed, as a whole. Non-guarantees: without `vkeys` the file is only consistent with itself (``key_source`` is ``"export"``),
    and without `head` or `min_size` an older genuine export can't be told from the newest.

    Args:
        lines: The lines with their newlines, as iterating over a binary file gives them. Bound their length if you don't trust the
            file, as `verify_export_file` does.
        vkeys: Keys known out of band; one of them must be among the log's.
        origin: The log it must be of.
        head: A signed note of this log kept elsewhere: the log must continue it.
        min_size: The number of entries it has at least.
        before: For an export of a part: the tree of the entries before it. See also `remediation.proof.chain`.

    Raises:
        NoteError: `vkeys` or `head` are malformed. Never because of `lines`.

    """
    keys = tuple(key if isinstance(key, VerifierKey) else VerifierKey.parse(key) for key in vkeys)
    knowledge = Knowledge(keys, "argument", head, min_size)
    watch = () if head is None else (claimed_size(head),)
    source = iter(lines)
    header = read_header(next(source, b""), origin)
    if isinstance(header, Problems):
        return _unreadable(header, knowledge)
    log, vkeys_named, start = header
    fits = before is not None and before.size == start
    replay = Replay(log, start=start, frontier=before if fits else None, watch=watch)
    reader = ExportReader(source, replay.problems, start)
    replay.feed(reader.rows())
    replay.close()
    note, rotations = reader.finish()
    return judge(replay, Claims(vkeys_named, note, rotations), knowledge)


def verify_export_file(
    file: str | PathLike[str] | IO[bytes],
    *,
    vkeys: Iterable[str | VerifierKey] = (),
    origin: str | None = None,
    head: str | None = None,
    min_size: int = 0,
) -> Verification:
    """
    Like `verify_export`, for a path or an open binary file; no line is read beyond `MAX_LINE_BYTES`.

    Raises:
        NoteError: `vkeys` or `head` are malformed.
        OSError: the file can't be read.

    """
    with ExitStack() as stack:
        stream = stack.enter_context(open(file, "rb", buffering=1 << 20)) if isinstance(file, (str, PathLike)) else file
        lines = iter(lambda: stream.readline(MAX_LINE_BYTES), b"")
        return verify_export(lines, vkeys=vkeys, origin=origin, head=head, min_size=min_size)


def read_header(line: bytes, origin: str | None) -> tuple[str, tuple[str, ...], int] | Problems:
    """Origin, vkeys and first position that the first line of an export names, or what is wrong with it."""
    problems = Problems()
    if not line.endswith(b"\n"):
        problems.add(ProblemCode.CUT_OFF, "the file ends before its first line does: it is empty or cut off")
        return problems
    members = _members(line, _HEADER, lambda found: _header_fault(found, origin))
    if isinstance(members, str):
        problems.add(ProblemCode.HEADER, f"the first line is not the header of this log's export: {members}")
        return problems
    return members["origin"], tuple(members["vkeys"]), members["from"]


def _header_fault(members: dict[str, Any], origin: str | None) -> str:
    named, start = members["origin"], members["from"]
    if members["format"] != FORMAT:
        return f"the format is {members['format']!r}, not {FORMAT!r}"
    if not isinstance(named, str) or not _texts(members["vkeys"]) or type(start) is not int or not 0 <= start <= MAX_SIZE:
        return "origin must be a text, vkeys a list of texts, from a position"
    if origin is not None and named != origin:
        return f"the log is {named!r}, not {origin!r}"
    try:
        check_name(named)
    except NoteError as error:
        return str(error)
    return ""


def _unreadable(problems: Problems, knowledge: Knowledge) -> Verification:
    return Verification(
        size=0,
        root=None,
        origin=None,
        key=None,
        key_source=knowledge.key_source if knowledge.keys else "export",
        problems=tuple(problems.listed),
        unlisted=0,
        proven=0,
        erased=0,
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class ExportReader:
    """Takes the lines after the header apart: entries first, then the last line, then nothing."""

    def __init__(self, lines: Iterator[bytes], problems: Problems, start: int) -> None:
        self._lines = lines
        self._problems = problems
        self._start = start
        self._last: bytes | None = None

    def rows(self) -> Iterator[Row]:
        """The entries. Stops at the last line, or where the file ends."""
        for number, line in enumerate(self._lines, self._start):
            row = _plain_entry(line)
            if row is None:
                if line.startswith(b'{"checkpoint":') or not line.endswith(b"\n"):
                    self._last = line
                    return
                row = self._entry(line, number)
            yield row

    def finish(self) -> tuple[str | None, tuple[str, ...]]:
        """The checkpoint and the rotation notes of the last line."""
        line = self._last
        if line is None or not line.endswith(b"\n"):
            if line is not None and len(line) >= MAX_LINE_BYTES:
                self._problems.add(ProblemCode.LINE, f"a line is longer than {MAX_LINE_BYTES} bytes, which none of this format is")
            else:
                self._problems.add(ProblemCode.CUT_OFF, "the file ends before the line with the checkpoint: it is cut off")
            return None, ()
        if next(self._lines, None) is not None:
            self._problems.add(ProblemCode.TRAILING, "the file goes on after the line with the checkpoint, which is its last")
        members = _members(line, _LAST, _last_fault)
        if isinstance(members, str):
            self._problems.add(ProblemCode.LINE, f"the last line is not of the form that it must have: {members}")
            return None, ()
        return members["checkpoint"], tuple(members["rotations"])

    def _entry(self, line: bytes, seq: int) -> Row:
        """An entry with escapes that are rare, or none at all, which is reported."""
        members = _members(line, _ENTRY, _entry_fault)
        if isinstance(members, str):
            what = "is empty" if line == b"\n" else f"is not of the form that a line of an entry has: {members}"
            self._problems.add(ProblemCode.LINE, f"the line of entry {seq} {what}", seq)
            return None, None, None
        leaf, salt, body = members["leaf"], members["salt"], members["body"]
        return leaf.encode(), None if salt is None else bytes.fromhex(salt), None if body is None else body.encode()


def _members(line: bytes, keys: frozenset[str], fault: Callable[[dict[str, Any]], str]) -> dict[str, Any] | str:
    """The members of a line's object, or what is wrong with it."""
    try:
        members = jsontext.decode_object(line.removesuffix(b"\n"), keys)
    except NotCanonical as error:
        return str(error)
    return fault(members) or members


def _last_fault(members: dict[str, Any]) -> str:
    if isinstance(members["checkpoint"], str) and _texts(members["rotations"]):
        return ""
    return "checkpoint must be a text, rotations a list of texts"


def _entry_fault(members: dict[str, Any]) -> str:
    salt = members["salt"]
    if not isinstance(members["leaf"], str) or not isinstance(members["body"], str | None):
        return "leaf must be a text, body a text or null"
    if salt is not None and (not isinstance(salt, str) or not _SALT.fullmatch(salt)):
        return "salt must be 64 hexadecimal digits or null"
    return ""


_OPEN, _MIDDLE, _SALT_AT, _CLOSE = b'{"body":"', b'","leaf":"', b'","salt":"', b'"}\n'
_TAIL = len(_SALT_AT) + 2 * SALT_BYTES + len(_CLOSE)
_MARK = b"\x01"
_UNMARK = bytes.maketrans(_MARK, b"\\")
_NEVER_PLAIN = bytes(byte for byte in range(32) if byte != _MARK[0]) + b"\\"


def _plain_entry(line: bytes) -> Row | None:
    r"""
    The entry of a line in its most common form, or None, which says nothing.

    Exact, not a guess: canonical texts hold no control characters, so a canonical line escapes quotes and backslashes, each with
    one backslash, and nothing else. Three times as fast as parsing the line and writing it again.
    """
    if _MARK in line:
        return None
    marked = line.replace(b"\\\\", _MARK)
    front, middle, rest = marked.partition(_MIDDLE)
    tail = rest[-_TAIL:]
    if not (middle and front.startswith(_OPEN) and tail.startswith(_SALT_AT) and tail.endswith(_CLOSE)):
        return None
    salt = tail[len(_SALT_AT) : -len(_CLOSE)]
    body = _unescaped(front[len(_OPEN) :])
    leaf = _unescaped(rest[:-_TAIL])
    if (
        body is None
        or leaf is None
        or len(salt) != 2 * SALT_BYTES
        or salt.translate(None, b"0123456789abcdef")
        or not (line.isascii() or _is_utf8(line))
    ):
        return None
    return leaf, unhexlify(salt), body


def _unescaped(text: bytes) -> bytes | None:
    r"""`text` without the escapes ``\"``, its marks made backslashes; None if it holds another quote, backslash or control."""
    escapes = text.count(b'\\"')
    plain = text.translate(_UNMARK, _NEVER_PLAIN)
    return plain if text.count(b'"') == escapes == len(text) - len(plain) else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
