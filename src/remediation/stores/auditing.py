"""Verifies a journal as it lies in its database. Needs public keys only. To hand it to others: `remediation.stores.exporting`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as changed
from pathlib import Path

from remediation.proof import (
    Claims,
    Knowledge,
    Note,
    NoteError,
    ProblemCode,
    Replay,
    Verification,
    VerifierKey,
    claimed_size,
    judge,
)
from remediation.proof.anchored import Anchored, heads_of
from remediation.proof.verdict import Problems
from remediation.stores.archived import claims_since, kept_keys, replay_archived
from remediation.stores.replaying import replay
from remediation.stores.snapshot import Snapshot
from remediation.stores.stillness import while_still
from remediation.stores.workers import replay_beside


def verify_journal(
    path: Path,
    *,
    own: Sequence[str] = (),
    vkeys: Sequence[str] = (),
    origin: str | None = None,
    head: str | None = None,
    known_head: str | None = None,
    min_size: int = 0,
    anchors: Sequence[Anchored] = (),
    lock: Path | None = None,
    archives: Sequence[Path] = (),
) -> Verification:
    """
    Verify the journal in the database `path`: entries, columns, bodies, tree, tiles, every checkpoint, and the database itself.

    Nothing is changed, in the database or beside it; see `remediation.stores.stillness`. A host may write to it meanwhile.

    Args:
        path: ``journal.sqlite3``.
        own: The log's keys as its home names them, the first one first; believed when `vkeys` is empty.
        vkeys: Keys known out of band, in the order in which the log had them; one of them must be among the log's.
        origin: The log it must be of.
        head: A signed note of this log kept elsewhere: the log must continue it.
        known_head: The home's own ``head.note``: the same, but a malformed one is a finding and not an error of the caller.
        min_size: The number of entries it has at least.
        anchors: What anchors keep of this log.
        lock: Its writer lock, by default ``journal.lock`` beside it.
        archives: Files that entries were archived to, in order: these entries are verified too, and else stand by their hashes.

    Raises:
        NoteError: `own`, `vkeys` or `head` are malformed, or there is no key at all.
        JournalDamaged: the database can't be read to its end.
        JournalUnavailable: it can't be reached.
        JournalTooNew: it was written by a newer release, which may have stored more than this one would check.

    """
    given = [VerifierKey.parse(vkey) for vkey in vkeys]
    believed = given or [VerifierKey.parse(vkey) for vkey in own]
    if not believed:
        raise NoteError("no key is known to verify with: the home holds none, so give one")
    if head is not None:
        claimed_size(head)
    measure = Knowledge(tuple(believed), "argument" if given else "home", head, min_size, tuple(anchors))
    listed = [] if given else list(own)
    return while_still(
        path,
        lambda still, immutable: _judged(
            Snapshot(still, immutable=immutable, shown=path), measure, listed, origin, known_head, archives
        ),
        lock=lock,
    )


def _judged(
    snapshot: Snapshot,
    measure: Knowledge,
    own: list[str],
    origin: str | None,
    known_head: str | None,
    archives: Sequence[Path] = (),
) -> Verification:
    with snapshot as log:
        size, checkpoints = log.size(), log.checkpoints()
        notes = {**{f"checkpoint {at}": note for at, note in checkpoints}, "head.note": known_head, "head": measure.head}
        sizes = {name: found for name, note in notes.items() if note is not None and (found := _size(note)) is not None}
        watched = [*sizes.values(), *(head.size for anchor in measure.anchors for _, head in heads_of(anchor))]
        archive, name = log.archive(), origin or _name(checkpoints, measure.keys)
        if archive is None:
            replayed, faults = _read(log, size, name, watched)
        else:
            whole = replay_archived(log, size, name, watched, archive=archive, archives=archives)
            replayed, faults, own = whole.replay, log.faults(), list(whole.vkeys) or own
        problems = replayed.problems
        for fault in faults:
            problems.add(ProblemCode.STORAGE, f"the database is damaged: {fault}")
        for at, _ in checkpoints:
            if sizes.get(f"checkpoint {at}") != at:
                problems.add(ProblemCode.CHECKPOINT, f"the checkpoint stored for {at} entries is not one over as many")
        predecessor = _predecessor(log)
        since = None
        if archive is not None:
            since = claims_since(replayed, log, own or [_signer(checkpoints, measure.keys)], checkpoints)
            measure = _linked(measure, since.vkeys, kept_keys(log, replayed.start), problems)
    if known_head is not None and "head.note" not in sizes:
        problems.add(ProblemCode.HEAD, "the home's head.note is not a signed head")
    claims = since or _claims(replayed, own, measure.keys, checkpoints)
    if since is None and len(own) > len(claims.vkeys):
        problems.add(
            ProblemCode.BEHIND_HEAD,
            f"the home knows {len(own)} keys of this log, its entries tell of {len(claims.vkeys)}: the log's end is missing, rotations too",
        )
    if known_head is not None and sizes.get("head.note", size + 1) <= size:
        claims = Claims(claims.vkeys, claims.note, claims.rotations, (*claims.earlier, known_head))
    behind = max(measure.min_size, sizes.get("head.note", 0))
    verdict = judge(replayed, claims, changed(measure, min_size=behind, predecessor=predecessor))
    return changed(verdict, head_checked=verdict.head_checked or "head.note" in sizes)


def _linked(measure: Knowledge, chain: Sequence[str], archived: Sequence[str], problems: Problems) -> Knowledge:
    """`measure` without the keys that signed archived entries only. If it knows no other, something is missing, and nothing is wrong."""
    later = tuple(key for key in measure.keys if str(key) not in archived[:-1])
    if not later:
        problems.add(
            ProblemCode.PARTIAL,
            "the key that was given signed archived entries only: verify with these (--with-archive), or give a later key",
        )
        later = tuple(VerifierKey.parse(vkey) for vkey in chain)
    return changed(measure, keys=later)


def _predecessor(log: Snapshot) -> str | None:
    """The head of the log that this one says it goes on from, in its first entry."""
    for _, _, body, *_, type_, _ in log.rows(1):
        if type_ == "journal.recovered" and body is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return str(json.loads(body)["old_head"])
    return None


def _name(checkpoints: list[tuple[int, str]], believed: Sequence[VerifierKey]) -> str:
    """The log's name, as one of `believed` has it: that of the newest note, or the first one's."""
    stated = checkpoints[-1][1].partition("\n")[0] if checkpoints else ""
    return next((key.name for key in believed if key.name == stated), believed[0].name)


def _signer(checkpoints: list[tuple[int, str]], believed: Sequence[VerifierKey]) -> str:
    """The one of `believed` that signed the newest note; the first one, where none did."""
    with contextlib.suppress(NoteError, IndexError):
        return str(Note.parse(checkpoints[-1][1]).opened_by(believed)[0])
    return str(believed[0])


def _size(note: str) -> int | None:
    try:
        return claimed_size(note)
    except NoteError:
        return None


def _read(log: Snapshot, size: int, origin: str, watch: Sequence[int]) -> tuple[Replay, list[str]]:
    """The replay, and what is wrong with the database itself."""
    if (beside := replay_beside(log, size, origin, watch)) is not None:
        return beside, []
    # SQLite's own check runs beside ours: it lets go of the interpreter, and needs a processor of its own if there is one.
    with ThreadPoolExecutor(1) as pool:
        faults = pool.submit(_faults, log.again())
        return replay(log, size, origin, watch), faults.result()


def _faults(snapshot: Snapshot) -> list[str]:
    with snapshot as log:
        return log.faults()


def _claims(replay: Replay, own: Sequence[str], believed: Sequence[VerifierKey], checkpoints: list[tuple[int, str]]) -> Claims:
    """
    What came with the entries: keys, the newest note, and all others.

    The keys are those that the entries tell of; without a rotation, the one that signed. What a verifier was given is never taken for
    them. A home's own list must agree with them, but may lag behind: it gets longer after the entry of a rotation is committed. A log that
    was rolled back to before a rotation lags behind the list, and is what it was then.
    """
    vkeys = [rotation.new for rotation in replay.rotations]
    first = replay.rotations[0].old if replay.rotations else _signer(checkpoints, believed)
    vkeys.insert(0, first)
    if list(own)[: len(vkeys)] != vkeys[: len(own)]:
        vkeys = list(own)
    rotated = {rotation.size for rotation in replay.rotations}
    newest = checkpoints[-1][1] if checkpoints else None
    rotations = tuple(note for size, note in checkpoints if size in rotated)
    earlier = tuple(note for size, note in checkpoints[:-1] if size not in rotated and _size(note) == size)
    return Claims(tuple(vkeys), newest, rotations, earlier)
