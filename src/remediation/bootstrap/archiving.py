"""
Moving the oldest entries of a journal to a file that proves itself, and bringing them back.

Order, so that a crash loses nothing: the file and the blobs are written, durable and verified by reading them again; then one commit
records the archive and removes the entries; then blobs and space are given back. Whatever was done before a crash is done anew, or
found done, by the next run.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from remediation.bootstrap.erasing import digests
from remediation.core import ground
from remediation.core.residue import ARCHIVED, without_text
from remediation.core.standing import INCIDENTS, Need, Standing
from remediation.core.state import HostState
from remediation.errors import GuardRefused, JournalDamaged, JournalUnavailable, RemediationError
from remediation.journal import IntentJournal
from remediation.journal.encoding import record
from remediation.journal.store import Archiving
from remediation.model.base import epoch_ms, from_epoch_ms, timestamp
from remediation.model.entries import JournalArchived, Record
from remediation.ports.clock import Clock
from remediation.proof import Frontier, TileWriter, claimed_size, verify_export
from remediation.proof.tiles import WIDTH
from remediation.settings import Home
from remediation.stores.blobs import FileBlobStore
from remediation.stores.exporting.jsonl import export_journal
from remediation.stores.parts import Parts

DAY_MS = 86_400_000
_DAY = 86_400.0


class ArchiveRefused(RemediationError):
    """Nothing can be archived, or not there; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What an archive did."""

    path: Path
    first: int
    before: int
    """The entries from `first` to before this position were moved."""
    sha256: str
    blobs: int
    """Blobs copied beside the file."""
    held_back: Need | None
    """What kept it from taking more."""


@dataclass(frozen=True, slots=True)
class _Cut:
    first: int
    before: int
    note: str
    frontier: Frontier
    rotated: int
    """How often the key was rotated before the first of these entries."""
    held_back: Need | None


class Archiver:
    """
    Archives from one home.

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

    async def archive(self, until: int, folder: Path) -> Archived:
        """
        Move as many of the entries before `until` as nothing needs any more, in steps of 256, to a file in `folder`.

        Raises:
            ArchiveRefused: there is nothing that can be moved; the message says what is in the way, and until when.
            JournalError: nothing was removed.

        """
        published = claimed_size(await self._journal.publish())
        cut = await self._cut(until, published)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log_id = self._journal.origin.rpartition("/")[2]
        path = folder.absolute() / f"journal-{log_id}-{cut.first}-{cut.before}.jsonl"
        copies = path.parent / "blobs"
        earlier = _held(copies)

        def withdraw() -> None:
            # What is erased later must not lie in a file that nothing names.
            path.unlink(missing_ok=True)
            for name in _held(copies) - earlier:
                FileBlobStore(copies).discard(name, unused_since=math.inf)

        try:
            await asyncio.to_thread(self._write, path, cut)
            copied = await self._copy_blobs(copies, cut)
            digest = await self._verified(path, cut)
            state, streams = await self._ground(cut)
        except BaseException:
            withdraw()
            raise
        entry = JournalArchived(
            before=cut.before,
            export_sha256=digest,
            snapshot_sha256=hashlib.sha256(state).hexdigest(),
            first=cut.first,
            path=str(path).encode("utf-8", "backslashreplace").decode(),
        )

        def still() -> None:
            for _, need in self._in_the_way(cut.before):
                raise GuardRefused(f"incident {need.incident} is needed again: {need.reason}; nothing was archived")
            self._refuse_erased(cut)

        archives = Archiving(cut.before, state, streams, -1)
        try:
            await self._journal.append(f"host/{self._host}", [entry], guard=still, archives=archives)
        except GuardRefused:
            # After any other error the entries may be gone, and the file all that is left of them.
            withdraw()
            raise
        await self.tidy()
        return Archived(path, cut.first, cut.before, digest, copied, cut.held_back)

    async def _verified(self, path: Path, cut: _Cut) -> str:
        try:
            return await asyncio.to_thread(self._verify, path, cut)
        except JournalDamaged:
            await self._journal.refresh()
            self._refuse_erased(cut)
            raise

    def _refuse_erased(self, cut: _Cut) -> None:
        """Raise GuardRefused if the file, or what is kept of its entries, may hold a body that was erased while it was made."""
        seq = self._standing.erased(cut.before, since=claimed_size(cut.note))
        if seq is not None:
            raise GuardRefused(f"entry {seq} was erased meanwhile, and the file was removed; nothing was archived, try again")

    async def tidy(self) -> None:
        """Give back the space of what was removed, and delete blobs that no entry refers to. What can't be done now is logged."""
        log = structlog.get_logger("remediation.journal")
        blobs = FileBlobStore(self._home.blobs)
        try:
            async with self._journal.alone() as store:
                await store.compact()
                await store.flush()
                held = blobs.held()
                unused = held - await store.mentioned(held)
            for digest in sorted(unused):
                blobs.discard(digest, unused_since=self._clock.now().timestamp() - _DAY)
        except RemediationError as error:
            log.warning("space could not be given back; new entries will use it", error=str(error))

    def _in_the_way(self, before: int) -> list[tuple[int, Need]]:
        now = epoch_ms(self._clock.now())
        return list(self._standing.in_the_way(before, now=now, cooldown_ms=self._cooldown_ms))

    async def _cut(self, until: int, published: int) -> _Cut:
        base = await self._journal.base()
        first = base.size if base is not None else 0
        young = epoch_ms(self._clock.now()) - DAY_MS
        with Parts(self._home.journal) as log:
            # Of a message that is taken in twice after a crash, the journal must still know the id.
            bound = min(until, published, log.first_since(timestamp(from_epoch_ms(young)), published))
            needed = next(iter(self._in_the_way(bound)), None)
            bound = min(bound, needed[0]) if needed is not None else bound
            before = bound - bound % WIDTH
            if before <= first:
                raise ArchiveRefused(_refusal(first, bound, needed[1] if needed is not None else None))
            told = max([before, *(by + 1 for by in log.erasures(first, before))])
            notes = [(size, note) for size, note in log.checkpoints() if told <= size <= published]
            if not notes:
                raise JournalUnavailable(f"no signed head over {told} to {published} entries is stored; try again")
            frontier = TileWriter.restore(first, log.tile, []).frontier()
            rotated = len(log.rotations(first))
        return _Cut(first, before, notes[0][1], frontier, rotated, needed[1] if needed is not None else None)

    def _write(self, path: Path, cut: _Cut) -> None:
        vkeys = self._home.verifier_keys.read_text("utf-8").split()
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(unfinished, "wb", opener=_private) as file:
                export_journal(self._home.journal, cut.note, vkeys, file.write)
                file.flush()
                os.fsync(file.fileno())
            os.rename(unfinished, path)
            _sync(path.parent)
        except OSError as error:
            raise JournalUnavailable(f"the archive {path} can't be written: {error.strerror}; nothing was removed") from error
        finally:
            unfinished.unlink(missing_ok=True)

    def _verify(self, path: Path, cut: _Cut) -> str:
        # A part begins with the key that signed there, and keys before it are none of its.
        vkeys = self._home.verifier_keys.read_text("utf-8").split()[cut.rotated :]
        digest = hashlib.sha256()
        with path.open("rb") as file:

            def lines() -> list[bytes]:
                line = file.readline()
                digest.update(line)
                return [line] if line else []

            verdict = verify_export(
                (line for found in iter(lines, []) for line in found), vkeys=vkeys, origin=self._journal.origin, before=cut.frontier
            )
        if not verdict.ok or verdict.size != claimed_size(cut.note):
            raise JournalDamaged(
                f"the archive {path} does not verify ({verdict.problems[0].message if verdict.problems else 'it is too short'}); "
                "nothing was removed; run `remediation journal verify`"
            )
        return digest.hexdigest()

    async def _copy_blobs(self, folder: Path, cut: _Cut) -> int:
        """Copy what the archived entries refer to; it is verified, and durable."""
        blobs = FileBlobStore(self._home.blobs)
        held, wanted = blobs.held(), set[str]()
        async for row in self._journal.rows(after=cut.first - 1, until=cut.before):
            if row.body is not None:
                wanted |= digests(row.body) & held
        if wanted:
            copies = FileBlobStore(folder)
            for name in sorted(wanted):
                if (await copies.put_file(blobs.root / name[:2] / name[2:])).sha256 != name:
                    raise JournalDamaged(f"the blob {name} is damaged: its content has another digest; nothing was removed")
        return len(wanted)

    async def _ground(self, cut: _Cut) -> tuple[bytes, dict[str, int]]:
        state = HostState()
        base = await self._journal.base()
        streams = dict(base.streams) if base is not None else {}
        if base is not None:
            state.begin(base.state)
        async for row in self._journal.rows(after=cut.first - 1, until=cut.before):
            made = record(row)
            if not row.stream.startswith(INCIDENTS):
                streams[row.stream] = row.stream_seq + 1
            elif made.entry is not None:
                made = Record(made.head, without_text(made.entry, mark=ARCHIVED))
            state.apply(made)
        return ground.dump(cut.before, vars(state), streams), streams


def _refusal(first: int, bound: int, need: Need | None) -> str:
    if need is None:
        return (
            f"there is nothing to archive: entries leave in steps of {WIDTH}, when they are a day old, and only {max(bound - first, 0)} "
            f"of those asked for are old enough"
        )
    when = f"; it will not be from {timestamp(from_epoch_ms(need.until))} on" if need.until else ""
    return f"nothing can be archived: incident {need.incident} is still needed: {need.reason}{when}"


def _held(blobs: Path) -> set[str]:
    return FileBlobStore(blobs).held() if blobs.is_dir() else set()


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
