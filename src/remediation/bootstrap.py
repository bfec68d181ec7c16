"""
The one place that wires everything: a home is initialised here, and a host is started, in the right order.

Order of start: settings, plugins, home, journal (checked and folded), host lock, registrations, Remediator (takes over open incidents),
inbox, sentinels; then it is ready. Stop is the reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import secrets as random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from remediation import __version__
from remediation.confinement import AllowedRoots
from remediation.coordination.locks import HostLock, SubjectLocks, alive
from remediation.core.incident import Incident
from remediation.core.state import HostState
from remediation.discovery import Plugins, discover
from remediation.effects import DeclaredDisposable, HostControls
from remediation.engine.channels import CommandChannel, LogChannel
from remediation.engine.intake import Reported
from remediation.engine.lending import World
from remediation.engine.notices import Notices
from remediation.engine.policy import Policy
from remediation.engine.registry import Registry
from remediation.engine.remediator import Remediator
from remediation.engine.requests import Requests
from remediation.engine.watching import Sentinels
from remediation.errors import HostStopped, JournalRolledBack
from remediation.journal import IntentJournal, JournalReader
from remediation.journal.folding import Folds
from remediation.journal.head import HeadNote
from remediation.journal.inbox import Inbox
from remediation.journal.lock import WriterLock
from remediation.journal.snapshot import SnapshotFile
from remediation.journal.tree import SignedTree
from remediation.keys import SigningKey
from remediation.model.base import epoch_ms, milliseconds
from remediation.model.entries import (
    HostStarted,
    RunbookPromoted,
    RunbookQuarantined,
    RunbookRegistered,
)
from remediation.model.entries import (
    HostStopped as StoppedEntry,
)
from remediation.model.events import DegradationEvent, Provenance
from remediation.ports.channel import Channel
from remediation.ports.clock import Clock, SystemClock
from remediation.proof.checkpoint import Checkpoint
from remediation.proof.merkle import root_of
from remediation.proof.note import Note
from remediation.settings import Home, Settings
from remediation.stores.blobs import FileBlobStore
from remediation.stores.sqlite import SqliteJournalStore, create

SETTLE_POLL = 0.05


def initialise(settings: Settings) -> str:
    """
    Make the home's folders, key, first head and empty journal; returns the journal's origin. Finishes what a crash left half done.

    Raises:
        ConfigurationError, JournalError: it can't be made here; what exists is never replaced.

    """
    home = settings.home
    home.make()
    key = SigningKey.load(home.signing_key) if home.signing_key.exists() else SigningKey.create(home.signing_key)
    head = HeadNote(home.head_note)
    if head.size() > 0 and not home.journal.exists():
        raise JournalRolledBack(
            f"{home.head_note} knows a journal of {head.size()} entries, but there is none at {home.journal}: "
            "restore it; it is never replaced"
        )
    if head.size() < 0:
        if home.journal.exists():
            head.read()  # raises: a journal whose head is missing may have been rolled back
        origin = f"{settings.host.id}/remediation/{random.token_hex(6)}"
        head.advance(Checkpoint(origin, 0, root_of([])).sign([key.signer(origin)]))
    note = head.read()
    origin = Checkpoint.parse(Note.parse(note).text).origin
    if not home.journal.exists():
        create(home.journal, note)
    public = home.keys / "signing.vkey"
    if not public.exists():
        public.write_text(f"{key.vkey(origin)}\n", "utf-8")
    return origin


def initialised(home: Home) -> bool:
    """Whether the home has its key, its head and its journal."""
    return home.signing_key.exists() and home.head_note.exists() and home.journal.exists()


def open_reader(home: Home) -> JournalReader:
    """A reader of the home's journal, an async context manager; needs no key, and may run beside hosts."""
    return JournalReader(SqliteJournalStore(home.journal, readonly=True))


async def open_journal(home: Home, clock: Clock, *, state: HostState | None = None) -> IntentJournal:
    """
    The home's journal, opened for writing with the home's key; `state` is folded from it, and kept current.

    Raises:
        ConfigurationError, JournalError: it can't be.

    """
    key = SigningKey.load(home.signing_key)
    head = HeadNote(home.head_note)
    origin = Checkpoint.parse(Note.parse(head.read()).text).origin
    signer = key.signer(origin)
    actor = f"key:{signer.key.key_id.hex()}"
    store = SqliteJournalStore(home.journal)
    snapshots = SnapshotFile(home.root / "snapshot.bin", key.derive("snapshot"), _schema())
    folds = Folds(() if state is None else (state,), state, snapshots)
    return await IntentJournal.open(store, SignedTree(signer), WriterLock(home.journal_lock), head, clock, actor=actor, folds=folds)


@functools.cache
def _schema() -> bytes:
    """Identifies the code that folds: a snapshot of other code is not believed."""
    digest = hashlib.sha256(__version__.encode())
    folder = Path(__file__).parent
    for file in sorted([*folder.glob("core/*.py"), *folder.glob("model/**/*.py")]):
        digest.update(file.read_bytes())
    return digest.digest()


class Reporter:
    """
    Reports degradations from any process and thread: needs no key and no running host.

    A report is durable in the home's inbox when `report` returns; a host takes it from there, also if it starts later.
    """

    def __init__(self, home: Home | str | os.PathLike[str]) -> None:
        self._home = home if isinstance(home, Home) else Home.locate(home)

    def report(self, event: DegradationEvent) -> str:
        """
        Leave a report; returns its id.

        Raises:
            JournalUnavailable: it is not durable; the message says why.

        """
        now = epoch_ms(SystemClock().now())
        if event.observed_at is None:
            event = event.model_copy(update={"observed_at": now})
        return Inbox(self._home.inbox).put("report", event.model_dump(mode="json"), at=now)


class Host:
    """A running host. Made by `RemediatorBootstrap.start`; belongs to its event loop."""

    def __init__(
        self,
        instance: str,
        journal: IntentJournal,
        state: HostState,
        remediator: Remediator,
        sentinels: Sentinels,
        requests: Requests,
    ) -> None:
        self.instance = instance
        self.journal = journal
        self._state = state
        self._remediator = remediator
        self._sentinels = sentinels
        self._requests = requests
        self._stopped = asyncio.Event()
        self.stopped_because = ""

    async def report(self, event: DegradationEvent) -> Reported:
        """
        Publish a degradation; returns when it is durable. Healing goes on beside the caller.

        Raises:
            HostStopped, JournalError: it is not durable; report it again.

        """
        return await self._remediator.report(event, Provenance.NATIVE)

    async def wait_for(self, reported: Reported | str, timeout: float | None = None) -> Incident:
        """
        Wait until the incident of a report (or with that id) is settled.

        Args:
            timeout: Seconds.

        Raises:
            TimeoutError: it is still open; healing goes on.
            HostStopped: the host stopped before.
            KeyError: no such incident.

        """
        id_ = reported.incident if isinstance(reported, Reported) else reported
        async with asyncio.timeout(timeout):
            return await self._remediator.settled(id_)

    def incidents(self) -> list[Incident]:
        """Incidents that are open, held, or settled not long ago, oldest first. All of history is in `journal`."""
        return list(self._state.incidents.values())

    def incident(self, id_: str) -> Incident:
        """
        One of `incidents`.

        Raises:
            KeyError: no such incident is known.

        """
        return self._state.incidents[id_]

    @property
    def halted(self) -> str:
        """Why nothing is applied at present (the journal can't be written); empty when all is well."""
        return self._remediator.halted

    async def settle(self) -> dict[str, int]:
        """
        Take in the inbox, have each sentinel look once, and treat what can be settled now.

        Returns:
            The incidents that wait, each with the time until when, in milliseconds since 1970 UTC.

        """
        await self._requests.take_in()
        await self._sentinels.check_once()
        await self._requests.take_in()
        return await self._remediator.quiet()

    def stop(self, reason: str = "asked to stop") -> None:
        """Ask the host to stop; leaving ``async with boot.start()`` does it."""
        self.stopped_because = self.stopped_because or reason
        self._stopped.set()

    async def stopped(self) -> None:
        """Return once somebody called `stop`."""
        await self._stopped.wait()


class RemediatorBootstrap:
    """
    Builds a host from settings and starts it.

    Args:
        settings: See `Settings.load`.
        plugins: Modules or objects with hooks, beside those that settings and entry points bring.
        clock: The host's time.
        secrets: Credentials that runbooks may declare, by name.
        channels: Ways to reach people, beside those that settings and plugins bring.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        plugins: Sequence[Any] = (),
        clock: Clock | None = None,
        secrets: Mapping[str, str] | None = None,
        channels: Sequence[Channel] = (),
    ) -> None:
        self.settings = settings
        self.controls = HostControls()
        self._plugins = tuple(plugins)
        self._clock = clock or SystemClock()
        self._secrets = dict(secrets or {})
        self._channels = tuple(channels)

    @contextlib.asynccontextmanager
    async def start(self, *, watch: bool = True) -> AsyncIterator[Host]:
        """
        Start the host; it is ready when the body is entered, and stopped when it is left.

        Args:
            watch: Whether sentinels and inbox are watched all the time; without, `Host.settle` looks once.

        Raises:
            ConfigurationError, JournalError: it can't be started; nothing was changed.

        """
        settings, home, clock = self.settings, self.settings.home, self._clock
        plugins = discover(settings, self._plugins)
        registry = self._registry(plugins)
        sentinels = plugins.sentinels(settings)
        if not initialised(home):
            initialise(settings)
        home.make()
        limits = settings.limits
        state = HostState()
        async with contextlib.AsyncExitStack() as stack:
            journal = await open_journal(home, clock, state=state)
            stack.push_async_callback(journal.close)
            instance = random.token_hex(6)
            host_lock = HostLock(home.locks, instance)
            stack.callback(host_lock.release)
            roots = settings.effects.roots
            if roots is None:
                roots = tuple(dict.fromkeys(root for sentinel in sentinels for root in sentinel.roots()))
            declared = settings.effects.disposable
            world = World(
                clock=clock,
                roots=AllowedRoots([Path(root) for root in roots], excluded=[home.root, home.keys]),
                blobs=FileBlobStore(home.blobs),
                disposable=DeclaredDisposable(
                    units=declared.units, argv_prefixes=declared.argv_prefixes, controls=declared.controls, globs=declared.globs
                ),
                controls=self.controls,
                kinds=plugins.kinds,
                scratch=home.scratch,
                secrets=self._secrets,
                host_descriptor=host_lock.descriptor,
                instance=instance,
            )
            policy = Policy(
                profile=settings.gate.profile,
                threshold=settings.gate.confidence_threshold,
                attempt_cap=limits.attempts_per_incident,
                cooldown_ms=milliseconds(limits.cooldown),
                changes_per_hour=limits.changes_per_hour,
                storm_subjects=limits.storm_subjects,
                concurrency=limits.concurrency,
            )
            await self._announce(journal, state, registry, instance, home)
            notices = Notices(state, self._all_channels(plugins), clock)
            remediator = Remediator(journal, state, registry, world, policy, SubjectLocks(home.locks, clock), notices)
            requests = Requests(Inbox(home.inbox), remediator, journal, state, registry, policy, clock)
            watching = Sentinels(sentinels, remediator.report, remediator.intake.clear, clock, home.sentinels)
            host = Host(instance, journal, state, remediator, watching, requests)
            await remediator.start()
            stack.push_async_callback(self._farewell, journal, host, remediator)
            stack.push_async_callback(remediator.stop)
            if watch:
                inbox = asyncio.create_task(requests.poll_on(), name="inbox")
                stack.push_async_callback(_cancelled, inbox)
                watching.start()
                stack.push_async_callback(watching.stop)
            structlog.get_logger("remediation.host").info("ready", host=settings.host.id, instance=instance, entries=journal.size)
            yield host

    def _registry(self, plugins: Plugins) -> Registry:
        settings = self.settings
        ordered = sorted((table.order, id_) for id_, table in settings.runbooks.items() if table.order is not None)
        registry = Registry(order=[*settings.ladder.order, *(id_ for _, id_ in ordered)], credentials=self._secrets)
        for kind, plugin in plugins.runbooks():
            spec = getattr(kind, "spec", None)
            options = settings.runbook(spec.id).options if spec is not None else {}
            registry.add(kind, options=options, plugin=plugin)
        return registry

    async def _announce(self, journal: IntentJournal, state: HostState, registry: Registry, instance: str, home: Home) -> None:
        """Journal the start, and which runbooks there are with which code and state."""
        settings = self.settings
        boot_id = Path("/proc/sys/kernel/random/boot_id")
        started = HostStarted(
            instance=instance,
            pid=os.getpid(),
            boot_id=boot_id.read_text("ascii").strip() if boot_id.exists() else "",
            version=__version__,
            profile=settings.gate.profile,
            configuration=settings.digest(),
        )
        await journal.append(f"host/{settings.host.id}", [started])
        for known in list(state.instances):
            if known != instance and not alive(home.locks / f"host-{known}.lock"):
                await journal.append(f"host/{settings.host.id}", [StoppedEntry(instance=known, reason="ended without a word")])
        for id_, item in registry.runbooks.items():
            record = state.runbooks.get(id_)
            if record is None or record.code_digest != item.code_digest:
                await journal.append(f"runbook/{id_}", [RunbookRegistered.of(item.spec, item.code_digest, item.plugin)])
            record = state.runbooks[id_]
            wanted = settings.runbook(id_).state
            if wanted == "live" and record.state == "registered":
                entry = RunbookPromoted(runbook=id_, code_digest=item.code_digest, by="configuration")
                await journal.append(f"runbook/{id_}", [entry])
            elif wanted == "quarantined" and record.state != "quarantined":
                await journal.append(
                    f"runbook/{id_}", [RunbookQuarantined(runbook=id_, by="configuration", reason="configured so")]
                )

    def _all_channels(self, plugins: Plugins) -> list[Channel]:
        table = self.settings.channels
        channels: list[Channel] = [*self._channels, *plugins.channels()]
        if table.log:
            channels.append(LogChannel())
        if table.command:
            channels.append(CommandChannel(table.command, self.settings.base))
        return channels

    async def _farewell(self, journal: IntentJournal, host: Host, remediator: Remediator) -> None:
        host.stop("left")
        if not remediator.halted:
            with contextlib.suppress(Exception):
                entry = StoppedEntry(instance=host.instance, reason=host.stopped_because)
                await journal.append(f"host/{self.settings.host.id}", [entry])


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


__all__ = [
    "Host",
    "HostStopped",
    "RemediatorBootstrap",
    "Reported",
    "Reporter",
    "initialise",
    "initialised",
    "open_journal",
    "open_reader",
]
