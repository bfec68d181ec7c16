"""
Replay: takes in the entries of a log in order and checks everything that needs no signature.

Sequence and stream positions without gaps, the right log, unique ids, canonical leaves, bodies that match their leaves or were
erased with an entry that says so; meanwhile the tree grows. What was signed is compared afterwards, by `remediation.proof.judge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from remediation.errors import NotCanonical
from remediation.proof import jsontext
from remediation.proof.ids import Ids
from remediation.proof.leaf import MAX_BODY_BYTES, MAX_LEAF_BYTES, SALT_BYTES, Leaf, leaf_pattern, payload_digest
from remediation.proof.merkle import Frontier, leaf_hash
from remediation.proof.plain import PlainRows, Row
from remediation.proof.verdict import ProblemCode, Problems

_CHUNK = 1024
_Frame = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Rotation:
    """The log says that its signing key changed."""

    size: int
    """The size of the tree that ends with the entry that says so: signed by both keys."""
    old: str
    """vkey."""
    new: str
    """vkey."""


class Piece(NamedTuple):
    """
    What a replay of a part of a log tells, if nothing is wrong with that part. Builtin values only, to be handed to another process.

    Nothing of ids and streams: each is what its column says, and whoever joins the parts compares the columns with their indexes.
    """

    start: int
    size: int
    missing: list[int]
    """Entries whose bodies are gone."""
    erasures: list[int]
    """Entries before `start` whose bodies were erased, as entries here say."""
    erased: int
    rotations: list[tuple[int, str, str]]
    roots: dict[int, bytes]
    """See `Replay.roots`; here, what the tree that was given calls its root."""
    strays: list[tuple[int, str]]
    """Entries with a correlation that the stream's name does not tell, and the correlation."""


class Replay:
    """
    The entries of one log, read once, in order.

    Memory does not grow with the size of entries, but by 23 bytes an entry (its id and position) and about 200 bytes a stream.
    Mutable, not thread-safe.
    """

    def __init__(
        self,
        origin: str,
        *,
        start: int = 0,
        frontier: Frontier | None = None,
        watch: Iterable[int] = (),
        places: bool = True,
    ) -> None:
        """
        Begin to read.

        Args:
            origin: The log that every entry must be of.
            start: Position of the first entry; the ones before are not seen.
            frontier: The tree of the entries before `start`. It need not be trusted: if it is wrong, no signed root comes out.
            watch: Sizes at which the root is to be remembered, for other checkpoints than the last.
            places: Ids and positions in streams are looked at. Without, it is only good for a `piece` of rows with columns.

        """
        self.problems = Problems()
        self.origin = origin
        self.start = start
        self.size = start
        """Entries read, including those before `start`."""
        self.roots: dict[int, bytes] = {}
        """The root at each watched size, at each key rotation, and (after `close`) at the end."""
        self.rotations: list[Rotation] = []
        self.erased = 0
        self.archives: dict[int, tuple[int, str]] = {}
        """By the position before which entries were archived: the newest entry that says so, and the digest (hex) of what was kept."""
        self._tree = frontier.copy() if frontier is not None else Frontier() if start == 0 else None
        if self._tree is not None and self._tree.size != start:
            raise ValueError(f"the frontier is of size {self._tree.size}, the entries start at {start}")
        self._watch = sorted({size for size in watch if size >= start}, reverse=True)
        self._expected = start
        self._places = places
        self._plain = PlainRows(origin, whole=start == 0, places=places)
        self._ids = Ids()
        self._unread = 0
        self._missing: dict[int, None] = {}
        self._erasures: list[int] = []
        self._erased: set[int] = set()
        self._match = leaf_pattern(origin).fullmatch
        self._note_roots()

    @property
    def partial(self) -> bool:
        """Whether earlier entries are missing without whose tree that of these can't be computed: no root is known, nor any rotation."""
        return self._tree is None

    @property
    def streams(self) -> dict[str, int]:
        """How long each stream is that was seen."""
        return self._plain.streams

    @property
    def firsts(self) -> dict[str, int]:
        """Where the log is not read from its beginning: the first position that was seen of each stream, where it isn't 0."""
        return self._plain.firsts

    def feed(self, rows: Iterable[Row]) -> None:
        """Take in the next entries. May be called again and again; no entry raises, whatever it holds."""
        source = iter(rows)
        while self._take(islice(source, min(_CHUNK, self._watch[-1] - self.size) if self._watch else _CHUNK)):
            self._note_roots()

    def feed_many(self, rows: Sequence[Row], columns: Sequence[Sequence[Any]]) -> None:
        """Like `feed`, for some rows of nine columns, and quicker if none is out of the ordinary; `columns` are they, of all rows."""
        taken, hashes, ids = 0, list[bytes](), list[str]()
        if not self._watch or len(rows) <= self._watch[-1] - self.size:
            taken = self._plain.bulk(columns, self._expected, hashes, ids)
            self._took(ids)
            if self._tree is not None:
                self._tree.extend(hashes)
            self._note_roots()
        self.feed(rows[taken:])

    def close(self) -> None:
        """Everything was fed: report what only the whole log shows."""
        for seq in self._missing:
            self.problems.add(
                ProblemCode.PAYLOAD_MISSING, f"the body of entry {seq} is gone, and no later entry says that it was erased", seq
            )
        for first, second in self._ids.repeated():
            self.problems.add(ProblemCode.DUPLICATE_ID, f"entry {second} has the same id as entry {first}", second)
        if self._tree is not None and self.size not in self.roots:
            self.roots[self.size] = self._tree.root()

    def piece(self) -> Piece | None:
        """
        Everything was fed, and it is only a part of the log: what the whole has to know of it; `None` if anything is wrong.

        Instead of `close`. A log that has a part with something wrong is to be read as a whole, to say what.
        """
        if self.problems.listed or self._tree is None or self._expected != self.size or self._unread:
            return None
        self.roots[self.size] = self._tree.root()
        rotations = [(each.size, each.old, each.new) for each in self.rotations]
        missing, strays = list(self._missing), self._plain.strays
        return Piece(self.start, self.size, missing, self._erasures, self.erased, rotations, self.roots, strays)

    def absorb(self, piece: Piece, roots: dict[int, bytes]) -> bool:
        """
        Take in the next part as if its entries had been fed, `roots` being the true roots at its sizes; returns whether it fits.

        After a part that doesn't, this replay is of no use: read the log as a whole, to say what is wrong with it.
        """
        if piece.start != self.size:
            return False
        self._missing.update(dict.fromkeys(piece.missing))
        self.erased += piece.erased
        for erased in piece.erasures:
            if erased in self._missing:
                del self._missing[erased]
                self._erased.add(erased)
                self.erased += 1
            elif erased not in self._erased:
                return False
        self.rotations += [Rotation(*rotation) for rotation in piece.rotations]
        self.roots.update(roots)
        self.size = self._expected = piece.size
        return True

    def _note_roots(self) -> None:
        while self._watch and self._watch[-1] <= self.size:
            size = self._watch.pop()
            if self._tree is not None:
                self.roots[size] = self._tree.root()

    def _take(self, rows: Iterator[Row]) -> bool:
        """Check these rows and grow the tree by them; returns whether there were any."""
        hashes: list[bytes] = []
        before = self.size
        while True:
            ids: list[str] = []
            row = self._plain.take(rows, self._expected, hashes, ids)
            self._took(ids)
            if row is None:
                break
            self.size += 1
            hashes.append(leaf_hash(row[0] or b""))
            self._examine(row, hashes)
        if self._tree is not None:
            self._tree.extend(hashes)
        return self.size > before

    def _took(self, ids: list[str]) -> None:
        """These entries were taken in."""
        if self._places:
            self._ids.add(ids, self._expected)
        self._expected += len(ids)
        self.size += len(ids)

    def _examine(self, row: Row, hashes: list[bytes]) -> None:
        """Take in any entry, and report whatever is wrong with it. `hashes` are those that the tree still lacks, this one's too."""
        streams, problems = self._plain.streams, self.problems
        leaf, salt, body, *columns = row
        found = self._match(leaf) if leaf is not None else None
        if found is not None and leaf is not None and len(leaf) <= MAX_LEAF_BYTES and leaf.isascii():
            frame: _Frame | None = found.groups()  # type: ignore[assignment]  # the pattern has seven groups
        else:
            frame = self._parse(leaf)
        if frame is None:
            self._expected += 1
            return
        id_, payload, seq_text, stream_bytes, stream_text, _, type_ = frame
        seq, position, stream = int(seq_text), int(stream_text), stream_bytes.decode()
        if seq != self._expected:
            problems.add(ProblemCode.SEQUENCE, f"entry {self._expected} was expected here, entry {seq} was found", self._expected)
        self._expected = seq + 1
        expected = streams.get(stream, 0 if self.start == 0 and self._places else -1)
        if position != expected >= 0:
            problems.add(
                ProblemCode.STREAM_SEQUENCE,
                f"entry {seq} says it is number {position} of stream {stream!r}, where number {expected} was expected",
                seq,
            )
        if position > 0 > expected:
            self._plain.firsts[stream] = position
        streams[stream] = position + 1
        if self._places:
            self._ids.add([id_.decode()], seq)
        elif leaf is not None:
            self._plain.note(seq, stream, leaf)
        if body is None or salt is None:
            self._miss(seq, salt, body)
        elif payload_digest(salt, body) != payload.decode() or len(salt) != SALT_BYTES or len(body) > MAX_BODY_BYTES:
            problems.add(ProblemCode.PAYLOAD, f"the body of entry {seq} is not the one that its leaf commits to", seq)
        elif type_ == b"payload.erased":
            self._erase(seq, body)
        elif type_ == b"journal.archived":
            self._archive(seq, body)
        elif type_ == b"key.rotated":
            if self._tree is not None:
                self._tree.extend(hashes)
                hashes.clear()
            self._rotate(seq, body)
        if columns and columns != _columns(seq, position, frame):
            problems.add(ProblemCode.COLUMNS, f"the columns of entry {seq} differ from its leaf", seq)

    def _parse(self, leaf: bytes | None) -> _Frame | None:
        """The frame of a leaf that the pattern does not match, or None once it is reported why it is none."""
        if leaf is None:
            self._unread += 1
            return None  # whoever could not read it has said so
        try:
            parsed = Leaf.parse(leaf)
        except NotCanonical as error:
            self.problems.add(ProblemCode.LEAF, f"the leaf of entry {self._expected} is not valid: {error}", self._expected)
            return None
        if parsed.origin != self.origin:
            self.problems.add(
                ProblemCode.LEAF,
                f"entry {self._expected} is of the log {parsed.origin!r}, not of {self.origin!r}",
                self._expected,
            )
        values = (parsed.id, parsed.payload, parsed.seq, parsed.stream, parsed.stream_seq, parsed.time, parsed.type)
        id_, payload, seq, stream, stream_seq, time, type_ = (str(value).encode() for value in values)
        return id_, payload, seq, stream, stream_seq, time, type_

    def _miss(self, seq: int, salt: bytes | None, body: bytes | None) -> None:
        if salt is None and body is None:
            self._missing[seq] = None
        else:
            lacking = "salt" if salt is None else "body"
            self.problems.add(
                ProblemCode.PAYLOAD, f"entry {seq} lacks its {lacking} only; an erasure removes body and salt together", seq
            )

    def _erase(self, seq: int, body: bytes) -> None:
        erased = _members(body).get("seq")
        if not isinstance(erased, int) or isinstance(erased, bool) or not 0 <= erased < seq:
            self.problems.add(ProblemCode.PAYLOAD, f"entry {seq} says that a body was erased, but names no earlier entry", seq)
        elif erased in self._missing:
            del self._missing[erased]
            self._erased.add(erased)
            self.erased += 1
        elif erased < self.start:
            self._erasures.append(erased)
        elif erased not in self._erased:
            self.problems.add(
                ProblemCode.PAYLOAD, f"the body of entry {erased} is there, although entry {seq} says that it was erased", erased
            )

    def _archive(self, seq: int, body: bytes) -> None:
        members = _members(body)
        before, state = members.get("before"), members.get("snapshot_sha256")
        if isinstance(before, int) and isinstance(state, str):
            self.archives[before] = seq, state

    def _rotate(self, seq: int, body: bytes) -> None:
        members = _members(body)
        old, new = members.get("old"), members.get("new")
        if not isinstance(old, str) or not isinstance(new, str):
            self.problems.add(ProblemCode.KEYS, f"entry {seq} rotates the key, but does not name the old and the new one", seq)
        elif self._tree is not None:
            self.roots[self._tree.size] = self._tree.root()
            self.rotations.append(Rotation(self._tree.size, old, new))


def _members(body: bytes) -> dict[str, object]:
    try:
        return jsontext.decode_object(body)
    except NotCanonical:
        return {}


def _columns(seq: int, position: int, frame: _Frame) -> list[int | str]:
    id_, _, _, stream, _, time, type_ = frame
    return [seq, id_.decode(), stream.decode(), position, type_.decode(), time.decode()]
