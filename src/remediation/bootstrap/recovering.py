"""
``journal recover``: a new log for a home whose journal can't be continued.

Nothing is deleted: the old files are moved into a folder of the home. The steps are written down first, in ``recovery.json``; while
that file exists nothing else opens the journal, and whoever recovers again goes on where it stopped. Specification:
``docs/specs/journal-recovery.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets as random
from dataclasses import dataclass, replace
from pathlib import Path

from remediation.bootstrap import belonging, carrying
from remediation.bootstrap.keys import open_keys
from remediation.bootstrap.leftovers import RECOVERY, UNFINISHED
from remediation.bootstrap.recovery_plan import Plan, read_plan, sync_folder, write_durably, write_plan
from remediation.coordination.locks import alive
from remediation.core.state import HostState
from remediation.errors import ConfigurationError, JournalDamaged, JournalUnavailable, RemediationError
from remediation.journal import IntentJournal, encoding
from remediation.journal.head import HeadNote
from remediation.journal.lock import WriterLock, locked
from remediation.journal.store import Row
from remediation.journal.tree import SignedTree, holding
from remediation.model.entries import JournalArchived, JournalRecovered, Record
from remediation.model.text import capped, wellformed
from remediation.ports.clock import SystemClock
from remediation.proof import Checkpoint, Note, NoteError, NoteSigner, VerifierKey, claimed_size
from remediation.proof.merkle import root_of
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.stores.salvaging import Salvage, newest_signed, provable
from remediation.stores.snapshot import StoredRow
from remediation.stores.sqlite import SqliteJournalStore, create

KEPT = "lost"
"""Folder of the home under which the files of lost journals are kept, each in a folder of its log-id."""
_DATABASE = ("journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm")
_NEXT = "head.note.next"
_BATCH = 256
_REASON_CAP = 4000


class RecoveryRefused(RemediationError):
    """There is nothing to recover from, or somebody is at work here; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of a recovery."""

    origin: str
    """The new log."""
    vkey: str
    """The key that verifies it."""
    old_head: str
    """The newest signed note known of the old log; empty if there is none."""
    reason: str
    proven: int
    """Entries of the old log that could still be proven."""
    open_again: int
    """Incidents that were carried over and are open."""
    held: int
    """Incidents that were carried over for people to look at."""
    kept: Path
    """Where the old files are."""


def why_lost(home: Home) -> str:
    """
    Why the journal of `home` can't be continued; empty when nothing is wrong with it. Changes nothing.

    Raises:
        RecoveryRefused: there never was a journal.
        ConfigurationError: it is of another host than the settings.
        JournalUnavailable: it can't be reached now, which is no reason to give it up.
        JournalTooNew: a newer release wrote it.

    """
    belonging.refuse_journal_of_another_host(home)
    head = HeadNote(home.head_note)
    try:
        note = head.read()
    except JournalDamaged as error:
        if not home.journal.exists() and not open_keys(home).exists():
            raise RecoveryRefused(f"there is no journal in {home.root}, and nothing of one; `remediation init` makes it") from error
        return str(error)
    if not home.journal.exists():
        return f"there is no database at {home.journal}, though its head is known"
    try:
        verdict = verify_journal(home.journal, own=_own_keys(home), known_head=note, min_size=head.acknowledged(head.origin()))
    except (JournalDamaged, NoteError) as error:
        return str(error)
    if not verdict.ok:
        return "; ".join(problem.message for problem in verdict.problems[:3])
    return _why_key_fits_not(home, head.origin(), verdict.key)


def recover(home: Home, host: str, *, reason: str = "", new_key: bool = False) -> Recovered:
    """
    Start a new log in `home`, whose first entry names the head of the old one; or finish what an interrupted recovery began.

    Args:
        home: Whose journal can't be continued.
        host: The host's id.
        reason: For the record; by default what is wrong.
        new_key: Make a new signing key: the old one is lost.

    Raises:
        RecoveryRefused: the journal is healthy, a host or one of its commands runs, or the key can't be used (see `new_key`).
        JournalError, OSError: it could not be finished; what is done stays done, and doing it again goes on from there.

    """
    with locked(home.journal_lock):
        running = [path.stem for path in home.locks.glob("host-*.lock") if alive(path)]
        if running:
            raise RecoveryRefused(f"a host, or a command that it started, runs on {home.root} ({running[0]}): stop it first")
        plan = read_plan(home) or _begin(home, host, reason, new_key=new_key)
        if not plan.placing:
            plan = _build(home, plan, _moved(home, plan))
        return _place(home, plan)


def unfinished(home: Home) -> bool:
    """Whether a recovery was begun and not finished."""
    return (home.root / RECOVERY).exists()


# -- deciding ----------------------------------------------------------------------------------------------------------------------


def _begin(home: Home, host: str, reason: str, *, new_key: bool) -> Plan:
    found = why_lost(home)
    if not found:
        raise RecoveryRefused("the journal is healthy: it is verified, and continues its known head; nothing was changed")
    if not new_key:
        try:
            open_keys(home).load()
        except ConfigurationError as error:
            raise RecoveryRefused(
                f"{error}. If the key is lost for good, --new-key makes another one; nothing was changed"
            ) from error
    vkeys = tuple(_own_keys(home))
    old_origin = VerifierKey.parse(vkeys[0]).name if vkeys else ""
    name = old_origin.rpartition("/")[2] or "unknown"
    kept = f"{KEPT}/{name}"
    if (home.root / kept).exists():
        kept = f"{KEPT}/{name}-{random.token_hex(3)}"
    plan = Plan(
        origin=f"{host}/remediation/{random.token_hex(6)}",
        kept=kept,
        reason=capped(wellformed(reason or found), _REASON_CAP),
        old_origin=old_origin,
        vkeys=vkeys,
        new_key=new_key,
        old_key=new_key and os.path.lexists(home.signing_key),
        encrypted=new_key and _encrypted(home),
    )
    write_plan(home, plan)
    return plan


def _encrypted(home: Home) -> bool:
    """Whether the key that is lost was protected by more than its file's mode; so will the next one be."""
    with contextlib.suppress(ConfigurationError):
        return open_keys(home).state().encrypted
    return False


def _own_keys(home: Home) -> list[str]:
    """The old log's vkeys; the home's key under the name of the log, where ``signing.vkey`` is lost."""
    with contextlib.suppress(OSError, UnicodeDecodeError, NoteError):
        found = home.verifier_keys.read_text("utf-8").split()
        for vkey in found:
            VerifierKey.parse(vkey)
        if found:
            return found
    with contextlib.suppress(RemediationError, OSError), Salvage(home.journal) as log:
        notes = [note for _, note in log.checkpoints()]
        with contextlib.suppress(RemediationError):
            notes.append(HeadNote(home.head_note).read())
        key = open_keys(home).load()
        for note in reversed(notes):
            with contextlib.suppress(NoteError):
                return [str(VerifierKey(Checkpoint.parse(Note.parse(note).text).origin, key.public))]
    return []


def _why_key_fits_not(home: Home, origin: str, newest: str | None) -> str:
    try:
        key = open_keys(home).load()
    except ConfigurationError as error:
        return str(error)
    if newest != str(VerifierKey(origin, key.public)):
        return f"the key that is kept in {home.keys} is not the key that signed its newest head"
    return ""


# -- the steps ---------------------------------------------------------------------------------------------------------------------


def _moved(home: Home, plan: Plan) -> Path:
    """Put the old files aside, each unless that is done already; returns their folder."""
    kept = home.root / plan.kept
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    sync_folder(kept.parent)
    sync_folder(home.root)
    for name in _DATABASE:
        if (home.root / name).exists():
            os.rename(home.root / name, kept / name)
    sync_folder(kept)
    sync_folder(home.root)
    for path in (home.head_note, home.verifier_keys):
        # Copies: the keys' folder may lie on another disk, and keeps what it has until there is something newer.
        if path.exists() and not (kept / path.name).exists():
            write_durably(kept / path.name, path.read_bytes())
    if plan.new_key:
        aside = home.keys / f"signing.key.{Path(plan.kept).name}"
        if plan.old_key and not os.path.lexists(aside):
            os.rename(home.signing_key, aside)
        keys = open_keys(home)
        if not keys.exists():
            keys.create(encrypt=plan.encrypted)
    return kept


def _build(home: Home, plan: Plan, kept: Path) -> Plan:
    """Make the new journal beside its place, whole."""
    for path in (*home.root.glob(f"{UNFINISHED}*"), *home.keys.glob(f"{_NEXT}*")):
        path.unlink()
    key = open_keys(home).load()
    signer = NoteSigner(VerifierKey(plan.origin, key.public), key.sign)
    with Salvage(kept / _DATABASE[0]) as log:
        known = kept / home.head_note.name
        notes = [note for _, note in log.checkpoints()]
        head = newest_signed([*notes, known.read_text("utf-8", "replace")] if known.exists() else notes, plan.vkeys)
        size = log.size(at_least=_size_of(head))
        proven = _proven(log, kept / _DATABASE[0], size, plan.vkeys, head)
        believed, readable = _folded(log, proven), _folded(log, size)
    parts = [carrying.pause_after(believed, readable, plan.kept), *carrying.quarantines(believed, readable)]
    incidents = carrying.incidents(believed, readable)
    recovered = JournalRecovered(old_head=head, reason=plan.reason, proven=proven, kept=plan.kept)
    first = carrying.Carried(f"host/{plan.origin.partition('/')[0]}", (recovered,))

    new, next_head = home.root / UNFINISHED, HeadNote(home.keys / _NEXT)
    empty = Checkpoint(plan.origin, 0, root_of([])).sign([signer])
    next_head.advance(empty)
    create(new, empty)

    async def fill() -> int:
        lock = WriterLock(home.root / f"{UNFINISHED}.lock")
        tree = SignedTree(plan.origin, holding(key))
        journal = await IntentJournal.open(SqliteJournalStore(new), tree, lock, next_head, SystemClock())
        try:
            await journal.append(first.stream, first.entries)
            todo = [*parts, *incidents]
            for start in range(0, len(todo), _BATCH):
                some = todo[start : start + _BATCH]
                await asyncio.gather(*(journal.append(part.stream, part.entries) for part in some))
            await journal.publish()
            return journal.size
        finally:
            await journal.close()

    written = asyncio.run(fill())
    if next_head.size() != written:
        raise JournalUnavailable(f"the head of the new journal can't be written in {home.keys}; make room, and do it again")
    held = sum(part.entries[-1].type == "incident.settled" for part in incidents)
    plan = replace(plan, placing=True, proven=proven, old_head=head, open_again=len(incidents) - held, held=held)
    write_plan(home, plan)
    return plan


def _place(home: Home, plan: Plan) -> Recovered:
    """Give the new journal, its head and its public key their names."""
    vkey = str(VerifierKey(plan.origin, open_keys(home).load().public))
    if (home.keys / _NEXT).exists():
        os.rename(home.keys / _NEXT, home.head_note)
    write_durably(home.verifier_keys, f"{vkey}\n".encode())
    if (home.root / UNFINISHED).exists():
        os.rename(home.root / UNFINISHED, home.journal)
    for path in (*home.root.glob(f"{UNFINISHED}*"), *home.keys.glob(f"{_NEXT}*")):
        path.unlink()
    # The old size would tell a writer that nobody wrote meanwhile.
    os.truncate(home.journal_lock, 0)
    sync_folder(home.root)
    (home.root / RECOVERY).unlink()
    sync_folder(home.root)
    return Recovered(
        origin=plan.origin,
        vkey=vkey,
        old_head=plan.old_head,
        reason=plan.reason,
        proven=plan.proven,
        open_again=plan.open_again,
        held=plan.held,
        kept=home.root / plan.kept,
    )


def _proven(log: Salvage, path: Path, size: int, vkeys: tuple[str, ...], head: str) -> int:
    if log.archived() is None:
        return provable(log, size, vkeys, head)
    # Without its oldest entries a log is proven by hashes that are kept of them: as a whole, or not at all.
    with contextlib.suppress(RemediationError, NoteError):
        return verify_journal(path, own=vkeys, known_head=head or None).proven
    return 0


def _folded(log: Salvage, until: int) -> HostState:
    """The state after the entries before `until`, as far as they can be read and understood."""
    state = HostState(keep_settled=None)
    # What is not proven may be anything; it must not keep us from what is.
    with contextlib.suppress(Exception):
        _begin_archived(state, log, until)
    for row in log.rows(until):
        with contextlib.suppress(Exception):
            state.apply(_record(row))
    return state


def _begin_archived(state: HostState, log: Salvage, until: int) -> None:
    """Let `state` begin with what was folded from archived entries, if an entry before `until` vouches for that."""
    archived = log.archived()
    told = log.row(archived[1]) if archived is not None and archived[1] < until else None
    if archived is None or told is None:
        return
    entry = _record(told).entry
    if isinstance(entry, JournalArchived) and entry.snapshot_sha256 == hashlib.sha256(archived[2]).hexdigest():
        state.begin(archived[2])


def _record(row: StoredRow) -> Record:
    leaf, salt, body, seq, id_, stream, stream_seq, type_, time = row
    if leaf is None:
        raise JournalDamaged(f"entry {seq} has no leaf")
    return encoding.record(Row(seq, id_, stream, stream_seq, type_, time, leaf, salt, body))


def _size_of(note: str) -> int:
    try:
        return claimed_size(note)
    except NoteError:
        return 0
