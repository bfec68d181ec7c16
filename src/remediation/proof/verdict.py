"""What a verification found. Findings are values: an altered log is an answer, not an exception."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any


class ProblemKind(StrEnum):
    """What a problem means, the worst first."""

    TAMPERING = "tampering"
    """What is there can't be what was signed."""
    ROLLED_BACK = "rolled_back"
    """All is as it was signed once, but a later state is known to exist."""
    INCOMPLETE = "incomplete"
    """Something that the proof needs is not there; nothing that is there is wrong."""


class ProblemCode(Enum):
    """Every problem that a verification can report. The value is the code in JSON and the kind."""

    HEADER = ("header", ProblemKind.TAMPERING)
    """The first line of an export is not a header of this format."""
    LINE = ("line", ProblemKind.TAMPERING)
    """A line of an export is not of the one form that a line has."""
    TRAILING = ("trailing", ProblemKind.TAMPERING)
    """An export goes on after its last line."""
    LEAF = ("leaf", ProblemKind.TAMPERING)
    """A leaf is not a leaf of this log and format."""
    SEQUENCE = ("sequence", ProblemKind.TAMPERING)
    """An entry does not stand where its leaf says."""
    STREAM_SEQUENCE = ("stream-sequence", ProblemKind.TAMPERING)
    """A stream has a gap or a repetition."""
    DUPLICATE_ID = ("duplicate-id", ProblemKind.TAMPERING)
    """Two entries have one id."""
    COLUMNS = ("columns", ProblemKind.TAMPERING)
    """A database column differs from the leaf."""
    PAYLOAD = ("payload", ProblemKind.TAMPERING)
    """A body is not the one that its leaf commits to."""
    PAYLOAD_MISSING = ("payload-missing", ProblemKind.TAMPERING)
    """A body is gone, and no later entry says that it was erased."""
    CHECKPOINT = ("checkpoint", ProblemKind.TAMPERING)
    """A checkpoint is malformed, or of another log or size."""
    SIGNATURE = ("signature", ProblemKind.TAMPERING)
    """A checkpoint is not signed by the key that signs at its size."""
    ROOT = ("root", ProblemKind.TAMPERING)
    """The entries don't hash to the root that was signed."""
    TILE = ("tile", ProblemKind.TAMPERING)
    """A stored tile is not that of the entries."""
    STORAGE = ("storage", ProblemKind.TAMPERING)
    """The database is not as the journal's writer leaves it."""
    KEYS = ("keys", ProblemKind.TAMPERING)
    """The keys, or their rotations, don't fit the log or the keys that the verifier was given."""
    HEAD = ("head", ProblemKind.TAMPERING)
    """The log is not a continuation of the head that the verifier was given."""
    ANCHOR = ("anchor", ProblemKind.TAMPERING)
    """An anchor keeps a head of another history of this log, signed by one of its keys."""
    ANCHOR_KEY = ("anchor-key", ProblemKind.TAMPERING)
    """An anchor keeps a head of this log that none of its keys signed, or only heads of another log of this host."""
    BEHIND_HEAD = ("behind-head", ProblemKind.ROLLED_BACK)
    """The log is shorter than the head that the verifier was given."""
    BEHIND_ANCHOR = ("behind-anchor", ProblemKind.ROLLED_BACK)
    """The log is shorter than a head that an anchor keeps."""
    BELOW_MINIMUM = ("below-minimum", ProblemKind.ROLLED_BACK)
    """The log is shorter than the verifier demands."""
    CUT_OFF = ("cut-off", ProblemKind.INCOMPLETE)
    """An export ends before its last line."""
    NO_CHECKPOINT = ("no-checkpoint", ProblemKind.INCOMPLETE)
    """There is nothing signed to check the entries against."""
    PARTIAL = ("partial", ProblemKind.INCOMPLETE)
    """The entries don't begin at 0, so that their tree can't be computed."""
    FORMAT = ("format", ProblemKind.INCOMPLETE)
    """A newer release wrote it, which may have stored more than this one would check."""
    UNCHECKED = ("unchecked", ProblemKind.INCOMPLETE)
    """What would show that the log's end is missing was not looked at: the home's last known head, or what anchors keep."""

    @property
    def kind(self) -> ProblemKind:
        """What a problem of this code means."""
        return self.value[1]

    def __str__(self) -> str:
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    code: ProblemCode
    message: str
    """What is wrong, from which entry on; one sentence for people. May quote the log: clean it before a terminal sees it."""
    seq: int | None = None
    """The first entry that is concerned, if it is about entries."""

    @property
    def kind(self) -> ProblemKind:
        """What it means."""
        return self.code.kind

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"seq": self.seq, "kind": str(self.kind), "code": str(self.code), "message": self.message}


@dataclass(frozen=True, slots=True)
class AnchorFinding:
    """What one anchor has to say about a log."""

    name: str
    confirmed: int
    """The entries, from the first on, that a head which it keeps confirms."""
    newest: int | None
    """The size of the largest head of this log that it keeps, whatever that is worth; None if it keeps none."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "confirmed": self.confirmed, "newest": self.newest}


_OUTSIDE = frozenset(
    {
        ProblemCode.SIGNATURE,
        ProblemCode.KEYS,
        ProblemCode.HEAD,
        ProblemCode.ANCHOR,
        ProblemCode.ANCHOR_KEY,
        ProblemCode.BEHIND_HEAD,
        ProblemCode.BEHIND_ANCHOR,
        ProblemCode.BELOW_MINIMUM,
        ProblemCode.NO_CHECKPOINT,
        ProblemCode.UNCHECKED,
    }
)
"""Problems between the log and its signatures, or what is known elsewhere. All others are among the entries themselves."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of verifying a log."""

    size: int
    """The number of entries that were read."""
    root: str | None
    """The root over these entries in base64, as in the third line of a checkpoint; None if it can't be computed."""
    origin: str | None
    """The log that the entries say they are of; None if not even that could be read."""
    key: str | None
    """vkey of the key that signed the newest checkpoint; None if no believed key did."""
    key_source: str
    """Where that belief comes from: ``argument`` (given out of band), ``export`` (the file's own word) or ``home``."""
    problems: tuple[Problem, ...]
    """What is wrong, in the order it was found; at most `MAX_PROBLEMS`."""
    unlisted: int
    """How many more problems there are."""
    proven: int
    """How many entries, from the first on, are still proven: covered by a good checkpoint and before any problem of an entry."""
    erased: int
    """How many bodies were erased and said to be."""
    archived: int = 0
    """How many entries, from the first on, were archived and not read: they stand by their hashes alone."""
    signed: int = 0
    """How many entries, from the first on, a good checkpoint of a believed key covers, whatever else is wrong with one of them."""
    anchored: int = 0
    """How many entries, from the first on, a head that was kept elsewhere confirms: nobody can have rewritten these, not even with the
    signing key. `head.note` of the home is not elsewhere."""
    anchored_by: str | None = None
    """Which anchor says so, or the head that was given; None if there is none."""
    anchors: tuple[AnchorFinding, ...] = ()
    """What each anchor that could be read has to say."""
    head_checked: bool = False
    """Whether the log was compared with a head that is known beside it: the one that was given, or ``head.note`` of its home."""

    @property
    def consistent(self) -> bool:
        """Whether entries, tree and storage agree with each other, whoever signed them and whatever is known elsewhere."""
        return not self.unlisted and all(problem.code in _OUTSIDE for problem in self.problems)

    @property
    def unanchored(self) -> int:
        """How many entries at the end no head that was kept elsewhere confirms: whoever has the key could write these anew."""
        return max(0, self.size - self.anchored)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def worst(self) -> ProblemKind | None:
        """The worst kind of problem found, None if all is well."""
        found = {problem.kind for problem in self.problems}
        return next((kind for kind in ProblemKind if kind in found), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": self.ok,
            "size": self.size,
            "root": self.root,
            "origin": self.origin,
            "key": self.key,
            "key_source": self.key_source,
            "consistent": self.consistent,
            "signed": self.signed,
            "anchored": self.anchored,
            "anchored_by": self.anchored_by,
            "unanchored": self.unanchored,
            "head_checked": self.head_checked,
            "anchors": [anchor.as_dict() for anchor in self.anchors],
            "proven": self.proven,
            "erased": self.erased,
            "archived": self.archived,
            "problems": [problem.as_dict() for problem in self.problems],
            "unlisted_problems": self.unlisted,
        }


MAX_PROBLEMS = 50


class Problems:
    """A growing list of problems that stays small: a log of a million wrong entries is one finding, not a million."""

    __slots__ = ("first_seq", "listed", "unlisted")

    def __init__(self) -> None:
        self.listed: list[Problem] = []
        self.unlisted = 0
        self.first_seq: int | None = None

    def add(self, code: ProblemCode, message: str, seq: int | None = None) -> None:
        """Take in a problem."""
        if seq is not None and (self.first_seq is None or seq < self.first_seq):
            self.first_seq = seq
        if len(self.listed) < MAX_PROBLEMS:
            self.listed.append(Problem(code, message, seq))
        else:
            self.unlisted += 1
