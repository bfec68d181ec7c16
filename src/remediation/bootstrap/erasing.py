"""
Erasing bodies for good: from the database, its write-ahead log, the snapshot and the blob store, with a signed entry that says so.

Order, so that a crash leaves either nothing done, or a record and a note of what is still to do: the note (`erasing.json`, digests of
blobs), the commit that records and removes, the files, the note again. Whoever opens the journal for writing next does the rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import structlog

from remediation.core.incident import id_of, stream_of
from remediation.core.residue import differs, erasable, residue
from remediation.core.standing import INCIDENTS, Need, Standing
from remediation.errors import EffectError, GuardRefused, JournalUnavailable, RemediationError
from remediation.journal import IntentJournal
from remediation.model.base import epoch_ms, from_epoch_ms, timestamp
from remediation.model.entries import PayloadErased, Record
from remediation.ports.clock import Clock
from remediation.settings import Home
from remediation.stores.blobs import FileBlobStore

FRESH = 3600.0
"""Seconds for which a blob that was stored, or stored again, is taken to be in use although nothing refers to it yet."""
PATIENCE = 30.0
"""Seconds to wait for readers of the journal."""
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class ErasureRefused(RemediationError):
    """What was asked for can't be erased, or not yet; nothing was."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did."""

    seqs: tuple[int, ...]
    """Entries whose bodies were erased now."""
    before: tuple[int, ...] = ()
    """Those that were erased earlier."""
    empty: tuple[int, ...] = ()
    """Those of an incident that hold nothing which could be erased."""


@dataclass(slots=True)
class _Chosen:
    records: dict[str, list[Record]] = field(default_factory=dict)
    """By incident."""
    before: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)


class Eraser:
    """
    Erases from one home.

    Args:
        home: Its home.
        journal: Open, with `standing` among its folds.
        standing: What still needs entries.
        clock: The time.
        host: The host's id.
        cooldown_ms: For how long a subject's last change is remembered.

    """

    def __init__(
        self, home: Home, journal: IntentJournal, standing: Standing, clock: Clock, *, host: str, cooldown_ms: int
    ) -> None:
        self._home = home
        self._journal = journal
        self._standing = standing
        self._clock = clock
        self._host = host
        self._cooldown_ms = cooldown_ms

    async def erase(self, seqs: Sequence[int], *, reason: str) -> Erased:
        """
        Erase the bodies of the entries `seqs`; all or none of each incident.

        When this returns, neither the database, nor its write-ahead log, nor the snapshot, nor the blob store of the home holds them.

        Raises:
            ErasureRefused: one of them can't be erased, or not yet; the message says which, why, and from when on.
            JournalUnavailable: readers keep the files from being cleaned; what was erased is recorded and unreachable, and the rest is
                done when the command is given again, or a host starts.
            JournalError: nothing more was erased.

        """
        chosen = _Chosen()
        for seq in dict.fromkeys(seqs):
            self._choose(await self._record(seq), chosen)
        return await self._erase(chosen, reason)

    async def erase_incident(self, incident: str, *, reason: str) -> Erased:
        """Erase whatever can be erased of the incident with this id; see `erase`."""
        chosen = _Chosen()
        async for record in self._journal.read(stream=stream_of(incident)):
            if erasable(record.head.type):
                self._choose(record, chosen)
            else:
                chosen.empty.append(record.seq)
        return await self._erase(chosen, reason)

    async def _record(self, seq: int) -> Record:
        async for record in self._journal.read(after=seq - 1, limit=1):
            if record.seq == seq:
                return record
        base = await self._journal.base()
        if base is not None and seq < base.size:
            raise ErasureRefused(
                f"entry {seq} was archived: it is in a file that `remediation journal tail` names with entry {base.by.seq}"
            )
        raise ErasureRefused(f"there is no entry {seq} in the journal; `remediation journal tail` shows the newest ones")

    def _choose(self, record: Record, chosen: _Chosen) -> None:
        type_, stream = record.head.type, record.head.stream
        if not stream.startswith(INCIDENTS) or not erasable(type_):
            raise ErasureRefused(
                f"entry {record.seq} is a {type_}, which can't be erased: the host's state, its keys or somebody's authority rest on it"
            )
        if record.erased:
            chosen.before.append(record.seq)
        elif record.entry is None or not differs(record.entry):
            chosen.empty.append(record.seq)
        else:
            chosen.records.setdefault(id_of(stream), []).append(record)

    async def _erase(self, chosen: _Chosen, reason: str) -> Erased:
        for incident in chosen.records:
            self._allow(incident)
        for incident, records in chosen.records.items():
            await self._commit(incident, records, reason)
        await finish(self._home, self._journal, self._clock)
        done = tuple(record.seq for records in chosen.records.values() for record in records)
        return Erased(done, tuple(chosen.before), tuple(chosen.empty))

    def _allow(self, incident: str) -> None:
        need = self._standing.need(incident, now=epoch_ms(self._clock.now()), cooldown_ms=self._cooldown_ms)
        if need is not None:
            raise ErasureRefused(_refusal(need))

    async def _commit(self, incident: str, records: Sequence[Record], reason: str) -> None:
        entries = [PayloadErased(seq=record.seq, reason=reason, kept=_kept(record)) for record in records]
        blobs: set[str] = set()
        async for row in self._journal.rows(after=records[0].seq - 1, until=records[-1].seq + 1):
            if row.body is not None and row.stream == stream_of(incident):
                blobs |= digests(row.body)
        # Of many digests only those of blobs are any use; their content is never in the note.
        note_unfinished(self._home, blobs & FileBlobStore(self._home.blobs).held())

        def still() -> None:
            try:
                self._allow(incident)
            except ErasureRefused as error:
                raise GuardRefused(str(error)) from error

        await self._journal.append(
            f"host/{self._host}", entries, guard=still, correlation=incident, erases=[record.seq for record in records]
        )


def digests(body: bytes) -> set[str]:
    """What may be the digests of blobs in a body."""
    return {name.decode() for name in _DIGEST.findall(body)}


def _kept(record: Record) -> str:
    return "" if record.entry is None else residue(record.entry).body().decode()


def _refusal(need: Need) -> str:
    when = f"; it is allowed from {timestamp(from_epoch_ms(need.until))} on" if need.until else ""
    return f"nothing of incident {need.incident} can be erased yet: {need.reason}{when}"


def note_unfinished(home: Home, blobs: Collection[str]) -> None:
    """
    Note durably that files have to be cleaned, and which blobs may go; adds to an earlier note.

    Raises:
        JournalUnavailable: it can't be written; nothing may be erased.

    """
    path = home.root / "erasing.json"
    unfinished = path.with_name(f".{path.name}.new")
    try:
        content = json.dumps({"blobs": sorted({*blobs, *(_noted(home) or ())})}).encode()
        with open(unfinished, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, path)
        _sync(home)
    except OSError as error:
        raise JournalUnavailable(f"{path} can't be written: {error.strerror}; nothing was erased") from error


def _noted(home: Home) -> list[str] | None:
    """The blobs that may go; `None` when nothing is unfinished."""
    try:
        return [str(name) for name in json.loads((home.root / "erasing.json").read_bytes())["blobs"]]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return []  # the note is written whole; somebody altered it, and only forgets blobs by that


async def finish(home: Home, journal: IntentJournal, clock: Clock, *, patience: float = PATIENCE) -> None:
    """
    Bring the home's files to what the journal says; does nothing when nothing is unfinished.

    Raises:
        JournalUnavailable: a reader of the journal, or a disk, is in the way; the note stays for the next time.

    """
    blobs = _noted(home)
    if blobs is None:
        return
    await _clean_files(home, journal, patience)
    async with journal.alone() as store:
        unused = set(blobs) - await store.mentioned(blobs)
    store_of_blobs = FileBlobStore(home.blobs)
    try:
        for digest in sorted(unused):
            store_of_blobs.discard(digest, unused_since=clock.now().timestamp() - FRESH)
        (home.root / "erasing.json").unlink(missing_ok=True)
        _sync(home)
    except (OSError, EffectError) as error:
        raise JournalUnavailable(
            f"what was erased is not gone from all files of {home.root}: {error}; mend that and try again"
        ) from error


async def finish_quietly(home: Home, journal: IntentJournal, clock: Clock) -> None:
    """`finish` for whoever has other things to do: what can't be done now is logged, and left for the next time."""
    try:
        await finish(home, journal, clock, patience=1.0)
    except JournalUnavailable as error:
        structlog.get_logger("remediation.journal").warning("an erasure is not finished", error=str(error))


async def _clean_files(home: Home, journal: IntentJournal, patience: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while True:
        async with journal.alone() as store:
            # Snapshots are saved under this lock only, and from now on of a state that holds nothing of it.
            for path in (home.root / "snapshot.bin", *home.root.glob(".snapshot.bin.*")):
                path.unlink(missing_ok=True)
            if await store.flush():
                return
        if loop.time() >= end:
            raise JournalUnavailable(
                "it is recorded and can't be read any more, but a program that reads the journal keeps its files from being cleaned: "
                "end it (an export, a verification, a backup, a database browser), and give the command again"
            )
        await asyncio.sleep(0.05)


def _sync(home: Home) -> None:
    descriptor = os.open(home.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
