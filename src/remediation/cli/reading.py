"""Reads a home's journal for commands: no key, no lock, no running host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

import psutil

from remediation.bootstrap.glancing import known_state
from remediation.coordination.locks import alive
from remediation.core.incident import Incident, id_of, stream_of
from remediation.core.state import HostState
from remediation.errors import RemediationError
from remediation.journal import JournalReader
from remediation.journal.inbox import Inbox, Message
from remediation.model.base import epoch_ms, from_epoch_ms, timestamp
from remediation.model.entries import HostStarted, HostStopped, Record
from remediation.settings.home import Home
from remediation.stores.sqlite import SqliteJournalStore

T = TypeVar("T")
_PORTION = 64
_MOST = 4096
"""Reports after which reading the whole journal is the quicker way to the incidents that are wanted."""


class NotFound(RemediationError):
    """What was asked for is not in the journal."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end."""
    return asyncio.run(work)


def open_journal(home: Home) -> JournalReader:
    """The journal of `home`, to be used as an async context manager."""
    return JournalReader(SqliteJournalStore(home.journal, readonly=True))


async def host_state(home: Home) -> HostState:
    """
    What the host of `home` knows: all that is open or held, runbooks, pauses, and the incidents that were settled last.

    For showing only; see `known_state`.
    """
    async with open_journal(home) as journal:
        return await known_state(home, journal)


async def incidents(home: Home) -> list[Incident]:
    """All incidents that the journal of `home` tells of, the newest first. Reads all of it."""
    state = HostState(keep_settled=None)
    async with open_journal(home) as journal:
        base = await journal.base()
        if base is not None:
            state.begin(base.state)
        async for record in journal.read(after=state.position):
            state.apply(record)
    return list(reversed(state.incidents.values()))


async def newest_incidents(home: Home, number: int, wanted: Callable[[Incident], bool], since: datetime | None) -> list[Incident]:
    """The `number` incidents opened last (after `since`) that are `wanted`, the newest first; reads little else of the journal."""
    found: list[Incident] = []
    seen: set[str] = set()
    portion = max(number, _PORTION)
    async with open_journal(home) as journal:
        while True:
            reports = await journal.newest(portion, stream="incident/", types=["degradation.reported"], since=since)
            for record in reversed(reports):
                # An incident begins with a report; later ones are of a higher severity, or counter-evidence.
                stream = record.head.stream
                if record.head.stream_seq or stream in seen:
                    continue
                seen.add(stream)
                state = HostState(keep_settled=None)
                async for each in journal.read(stream=stream):
                    state.apply(each)
                found += [incident for incident in state.incidents.values() if wanted(incident)]
                if len(found) >= number:
                    return found[:number]
            if len(reports) < portion:
                return found
            if portion > _MOST:
                break
            portion *= 4
    everything = await incidents(home)
    begin = epoch_ms(since) if since is not None else 0
    return [incident for incident in everything if incident.opened_at >= begin and wanted(incident)][:number]


async def running_host(home: Home) -> HostStarted | None:
    """The host instance that works on `home` now."""
    instances: dict[str, HostStarted] = {}
    async with open_journal(home) as journal:
        base = await journal.base()
        if base is not None:
            archived = HostState()
            archived.begin(base.state)
            instances = archived.instances
        async for record in journal.read(types=["host.started", "host.stopped"]):
            if isinstance(record.entry, HostStarted):
                instances[record.entry.instance] = record.entry
            elif isinstance(record.entry, HostStopped):
                instances.pop(record.entry.instance, None)
    return running(home, instances)


def running(home: Home, instances: dict[str, HostStarted]) -> HostStarted | None:
    """The one of `instances`, started and not stopped, that is there: its process, and its lock, which others can't have."""
    for instance in instances.values():
        # A child that outlived a killed host holds the lock too; then the process is another one, or none.
        if psutil.pid_exists(instance.pid) and alive(home.locks / f"host-{instance.instance}.lock"):
            return instance
    return None


async def incident_records(home: Home, id_: str) -> list[Record]:
    """
    All entries of one incident.

    Args:
        home: Whose journal.
        id_: The incident's id, or a beginning of it or of its last part that no other has, or the id of a report.

    Raises:
        NotFound: there is none, or more than one.

    """
    async with open_journal(home) as journal:
        records = [record async for record in journal.read(stream=stream_of(id_))] if "-" in id_ else []
        if not records:
            try:
                found = await _meant(journal, id_)
            except NotFound:
                await _refuse_untaken(home, id_)
                raise
            records = [record async for record in journal.read(stream=found)]
    return records


async def _meant(journal: JournalReader, id_: str) -> str:
    """The stream of the one incident that `id_` stands for."""
    fingerprint, dash, _ = id_.partition("-")
    where = f"incident/{fingerprint}/" if dash else "incident/"
    reported = [record async for record in journal.read(stream=where, types=["degradation.reported"])]
    # The id that `report` printed is that of the entry.
    if by_report := [record.head.stream for record in reported if record.head.id == id_]:
        return by_report[0]
    streams = sorted({record.head.stream for record in reported if id_ and _begins(id_of(record.head.stream), id_)})
    if not streams:
        raise NotFound(f"there is no incident {id_}; `remediation incidents` lists them")
    if len(streams) > 1:
        some = ", ".join(id_of(stream) for stream in streams[:4])
        raise NotFound(
            f"{len(streams)} incidents begin with {id_} ({some}{', …' if len(streams) > 4 else ''}); write more of the id"
        )
    return streams[0]


async def _refuse_untaken(home: Home, id_: str) -> None:
    """Say so, if `id_` is a report that lies in the inbox still."""
    if id_ and any(known.startswith(id_) for known in untaken(home)):
        if await running_host(home) is not None:
            raise NotFound(f"{id_} is reported, not yet taken in; the host that runs does that in a moment")
        raise NotFound(
            f"{id_} is reported, not yet taken in: no host runs; `remediation run` takes it in, or `remediation run --once`"
        )


def untaken(home: Home) -> list[str]:
    """The ids of the oldest reports that lie in the inbox, a thousand at most; none if this user may not look into it."""
    with contextlib.suppress(RemediationError):
        found = Inbox(home.inbox).messages(limit=1000)
        return [message.id for message in found if isinstance(message, Message) and message.kind == "report"]
    return []


def _begins(id_: str, beginning: str) -> bool:
    return id_.startswith(beginning) or id_.rpartition("-")[2].startswith(beginning)


def incident_document(incident: Incident) -> dict[str, Any]:
    """One incident of ``incidents --json``."""
    event, wait = incident.event, incident.wait if incident.open else None
    return {
        "id": incident.id,
        "code": event.code,
        "subsystem": event.subsystem,
        "subject": event.subject,
        "severity": str(incident.severity),
        "status": str(incident.status),
        "phase": str(incident.phase),
        "held": incident.held,
        "dirty": incident.dirty,
        "runbook": incident.runbook or None,
        "withheld": bool(incident.attempts) and incident.attempts[-1].outcome == "withheld",
        "attempts": len(incident.attempts),
        "reports": incident.reports,
        "opened_at": _moment(incident.opened_at),
        "settled_at": _moment(incident.settled_at) if incident.settled_at else None,
        "reason": incident.reason or (wait.reason if wait is not None else ""),
        "waits_for": wait.why if wait is not None else None,
        "waits_until": _moment(wait.until) if wait is not None and wait.until else None,
    }


def _moment(milliseconds: int) -> str:
    return timestamp(from_epoch_ms(milliseconds))
