"""
Judgement: compares what was read of a log with what was signed.

The rules, for a log whose key was rotated by the entries r1 < r2 < …, from key 0 to key 1 to key 2 …:

1. A note over at most r1 entries is signed by key 0; over exactly r1 + 1 by both, key 0 first; over more by key 1; and so on. It bears
   no other signatures: those of witnesses are kept elsewhere.
2. Each rotation has its double-signed note, and its entry names both keys.
3. A verifier that was given keys believes the log if one of them is among key 0, key 1, …; without any, it believes key 0 and
   says so. Several are given in the order in which the log had them: one that begins with a later one of them is not believed.
4. The newest note is over all entries. Every other note at hand is over a prefix.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from remediation.proof.anchored import Anchored, Log, judge_anchor
from remediation.proof.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint
from remediation.proof.errors import NoteError
from remediation.proof.note import Note, VerifierKey
from remediation.proof.replay import Replay
from remediation.proof.verdict import AnchorFinding, ProblemCode, Problems, Verification


@dataclass(frozen=True, slots=True)
class Claims:
    """What came with the entries: the log's own word."""

    vkeys: tuple[str, ...]
    """The log's signing keys, in order; the first one is the one that signed when the first entry at hand was written."""
    note: str | None
    """The newest checkpoint, over all entries; None if there is none."""
    rotations: tuple[str, ...] = ()
    """The double-signed checkpoints, in order."""
    earlier: tuple[str, ...] = ()
    """Further checkpoints; `Replay` must have watched their sizes (see `claimed_size`)."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the verifier knows from elsewhere: the measure."""

    keys: tuple[VerifierKey, ...] = ()
    """Keys given out of band; empty: the log's own first key is believed."""
    key_source: str = "argument"
    """Where `keys` come from, see `Verification.key_source`."""
    head: str | None = None
    """A signed note of this log that was kept elsewhere; `Replay` must have watched its size."""
    min_size: int = 0
    """The number of entries that the log has at least."""
    anchors: tuple[Anchored, ...] = ()
    """What anchors keep; `Replay` must have watched the sizes of their heads."""
    predecessor: str | None = None
    """See `remediation.proof.anchored.Log`."""


def claimed_size(note: str) -> int:
    """
    The size that a checkpoint speaks of. Verifies nothing.

    Raises:
        NoteError: it is not a checkpoint.

    """
    return Checkpoint.parse(Note.parse(note).text).size


def judge(replay: Replay, claims: Claims, knowledge: Knowledge) -> Verification:
    """The verdict on a log whose entries were all fed to `replay`, which was closed."""
    return _Judge(replay, claims, knowledge).verdict()


class _Judge:
    def __init__(self, replay: Replay, claims: Claims, knowledge: Knowledge) -> None:
        self._replay = replay
        self._claims = claims
        self._knowledge = knowledge
        self._problems: Problems = replay.problems
        self._wrong_roots: list[tuple[int, str]] = []
        self._given = 0
        self._chain = self._keys()

    def verdict(self) -> Verification:
        replay = self._replay
        believed = self._believed()
        newest, good = None, []
        anchors: tuple[AnchorFinding, ...] = ()
        if replay.partial:
            self._problems.add(
                ProblemCode.PARTIAL,
                f"the entries begin at {replay.start}; without the earlier ones their tree can't be computed, so nothing is proven",
            )
        else:
            newest = self._newest()
            good = self._good_sizes(newest)
            self._locate(max(good, default=0))
            anchors = self._anchors()
        if replay.size < self._knowledge.min_size:
            self._problems.add(
                ProblemCode.BELOW_MINIMUM,
                f"the log has {replay.size} entries, at least {self._knowledge.min_size} are known to exist: its end is missing",
            )
        signed = proven = max(good, default=0) if believed else 0
        anchored, by = self._anchored(anchors) if believed else (0, None)
        if self._problems.first_seq is not None:
            proven = min(proven, self._problems.first_seq)
        root = replay.roots.get(replay.size)
        return Verification(
            size=replay.size,
            root=None if root is None else base64.b64encode(root).decode(),
            origin=replay.origin,
            key=str(self._chain[-1]) if believed and newest is not None else None,
            key_source=self._knowledge.key_source if self._knowledge.keys else "export",
            problems=tuple(self._problems.listed),
            unlisted=self._problems.unlisted,
            proven=proven,
            erased=replay.erased,
            archived=0 if replay.partial else replay.start,
            signed=signed,
            anchored=anchored,
            anchored_by=by,
            anchors=anchors,
            head_checked=self._knowledge.head is not None and bool(self._chain) and not replay.partial,
        )

    def _locate(self, good: int) -> None:
        """Report the roots that don't fit, each from the first entry on that no good note covers."""
        for size, message in self._wrong_roots:
            self._problems.add(ProblemCode.ROOT, message, good if good < size else None)

    def _known_keys(self) -> list[VerifierKey]:
        """The log's keys, and later ones that are known: a log that was rolled back to before a rotation does not tell of those."""
        known = [key for key in self._knowledge.keys if key.name == self._replay.origin]
        chain = self._chain
        return known if known[: len(chain)] == chain else chain

    def _anchors(self) -> tuple[AnchorFinding, ...]:
        if not self._chain:
            return ()
        replay = self._replay
        log = Log(replay.origin, replay.size, replay.roots, self._known_keys(), self._knowledge.predecessor)
        return tuple(judge_anchor(anchored, log, self._problems.add) for anchored in self._knowledge.anchors)

    def _anchored(self, anchors: Sequence[AnchorFinding]) -> tuple[int, str | None]:
        """How far the log is confirmed from elsewhere, and by what."""
        best = max(anchors, key=lambda anchor: anchor.confirmed, default=None)
        if best is not None and best.confirmed > self._given:
            return best.confirmed, best.name
        return self._given, "the head that was given" if self._given else None

    def _good_sizes(self, newest: OpenedCheckpoint | None) -> list[int]:
        """The sizes of all notes at hand that are what they must be."""
        good = self._good_rotations()
        if newest is not None:
            good.append(newest.checkpoint.size)
        good += [size for note in self._claims.earlier if (size := self._prefix(note)) is not None]
        head = self._head()
        return good if head is None else [*good, head]

    def _keys(self) -> list[VerifierKey]:
        """The log's keys in order; none if the log's own claims make no sense."""
        steps = [(rotation.old, rotation.new) for rotation in self._replay.rotations]
        named = self._claims.vkeys
        if not named or (list(pairwise(named)) != steps and not self._replay.partial):
            self._problems.add(
                ProblemCode.KEYS,
                f"the log names {len(named)} keys, which don't fit the {len(steps)} key rotations that its entries tell of",
            )
            return []
        try:
            chain = [VerifierKey.parse(vkey) for vkey in named]
        except NoteError as error:
            self._problems.add(ProblemCode.KEYS, f"a key that the log names is not one: {error}")
            return []
        if len(set(chain)) != len(chain) or {key.name for key in chain} != {self._replay.origin}:
            self._problems.add(ProblemCode.KEYS, f"a key is named twice, or belongs to another log than {self._replay.origin}")
            return []
        return chain

    def _believed(self) -> bool:
        known = self._knowledge.keys
        if not self._chain:
            return False
        if known and not set(known) & set(self._chain):
            self._problems.add(
                ProblemCode.KEYS,
                f"the log is signed by {self._chain[0]}; the key that was given is {known[0]}: "
                "it is another log, or somebody signed it anew",
            )
            return False
        ours = [key for key in known if key.name == self._replay.origin]
        if self._chain[0] in ours[1:]:
            self._problems.add(
                ProblemCode.KEYS,
                f"the log begins with {self._chain[0]}; the keys that were given have {ours[0]} before it: somebody began it anew with a "
                "later key, or the keys were not given in the order in which the log had them",
            )
            return False
        return True

    def _signers_at(self, size: int) -> Sequence[VerifierKey]:
        """The keys that must have signed a note over `size` entries (rule 1)."""
        epoch = sum(1 for rotation in self._replay.rotations if rotation.size < size)
        both = any(rotation.size == size for rotation in self._replay.rotations)
        return self._chain[epoch : epoch + 2] if both else self._chain[epoch : epoch + 1]

    def _open(self, note: str, what: str) -> OpenedCheckpoint | None:
        """A note of this log whose signatures and root are right; otherwise None, and it is reported why."""
        try:
            size = claimed_size(note)
            signers = self._signers_at(size)
            opened = open_checkpoint(note, signers, origin=self._replay.origin)
            lines = len(Note.parse(note).signatures)
        except NoteError as error:
            self._problems.add(ProblemCode.SIGNATURE, f"{what} is not what the log's key signed: {error}")
            return None
        if opened.keys != tuple(signers) or lines != len(signers):
            self._problems.add(
                ProblemCode.SIGNATURE,
                f"{what} over {size} entries bears other signatures than the {len(signers)} that the log's keys made at that size",
            )
            return None
        root = self._replay.roots.get(size)
        if root is not None and root != opened.checkpoint.root:
            message = f"the first {size} entries don't hash to the root that {what} signs: some were altered, removed or added"
            self._wrong_roots.append((size, message))
            return None
        return opened

    def _newest(self) -> OpenedCheckpoint | None:
        if self._claims.note is None:
            if not any(problem.code is ProblemCode.CUT_OFF for problem in self._problems.listed):
                self._problems.add(
                    ProblemCode.NO_CHECKPOINT, "no checkpoint is there: nothing that is signed speaks of these entries"
                )
            return None
        opened = self._open(self._claims.note, "the checkpoint") if self._chain else None
        if opened is None:
            return None
        if opened.checkpoint.size != self._replay.size:
            self._problems.add(
                ProblemCode.CHECKPOINT,
                f"the checkpoint is over {opened.checkpoint.size} entries, {self._replay.size} are there: some are gone or new",
            )
            return None
        return opened if self._replay.size in self._replay.roots else None

    def _prefix(self, note: str) -> int | None:
        """The size of an earlier note, if it is good."""
        opened = self._open(note, "an earlier checkpoint") if self._chain else None
        if opened is None:
            return None
        size = opened.checkpoint.size
        if size > self._replay.size:
            self._problems.add(
                ProblemCode.CHECKPOINT, f"an earlier checkpoint is over {size} entries, only {self._replay.size} are there"
            )
        return size if size in self._replay.roots else None

    def _good_rotations(self) -> list[int]:
        """The sizes of the double-signed notes; reports if they are not exactly those of the log's rotations (rule 2)."""
        wanted = [rotation.size for rotation in self._replay.rotations] if self._chain else []
        found = [self._prefix(note) for note in self._claims.rotations] if self._chain else []
        if found != wanted:
            self._problems.add(
                ProblemCode.KEYS,
                f"the log has {len(wanted)} key rotations, and {len(found)} notes said to be signed by both keys; they don't match",
            )
        return [size for size in found if size in wanted]

    def _head(self) -> int | None:
        """The size of the head that the verifier brought, if the log continues it."""
        note = self._knowledge.head
        if note is None or not self._chain:
            return None
        try:
            head = open_checkpoint(note, self._known_keys(), origin=self._replay.origin).checkpoint
        except NoteError as error:
            self._problems.add(ProblemCode.HEAD, f"the head that was given is not of this log: {error}")
            return None
        if head.size > self._replay.size:
            self._problems.add(
                ProblemCode.BEHIND_HEAD,
                f"the log has {self._replay.size} entries, but the head that was given is over {head.size}: its end is missing",
            )
            return None
        root = self._replay.roots.get(head.size)
        if root is None:
            self._problems.add(
                ProblemCode.PARTIAL,
                f"the root over the first {head.size} entries is not known here, so the head that was given tells nothing",
            )
            return None
        if root != head.root:
            self._problems.add(
                ProblemCode.HEAD, f"the first {head.size} entries are not those of the head that was given: the log was rewritten"
            )
            return None
        self._given = head.size
        return head.size
