"""
A stage for rehearsals: everything that a host is made of, without its key, its locks and its blob store.

Works beside a running host and without one. What is kept for plans lies in a private folder that is removed at the end.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Never

import psutil

from remediation.bootstrap import outfitting
from remediation.bootstrap.glancing import known_state
from remediation.bootstrap.opening import initialised, open_reader
from remediation.bootstrap.vault import open_vault
from remediation.core.evolution import opened
from remediation.core.incident import Incident, id_of
from remediation.core.lifecycle import evolve_runbook
from remediation.core.limits import PastHeal
from remediation.core.state import HostState
from remediation.discovery import Plugins, discover
from remediation.effects import HostControls
from remediation.engine import audit
from remediation.engine.conduct import Conduct, marking_tasks
from remediation.engine.lending import World
from remediation.engine.registry import Registered, Registry
from remediation.engine.rehearsal import CredentialWithheld, Rehearsal, Rehearser, Rung
from remediation.engine.remembering import past_heals
from remediation.errors import RegistrationError, RemediationError
from remediation.journal import JournalReader
from remediation.keys.credentials import Credentials
from remediation.model.base import epoch_ms, parse_timestamp
from remediation.model.entries import DegradationReported, Record
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.redaction import Redactor
from remediation.ports.clock import Clock, SystemClock
from remediation.ports.effect import Control
from remediation.settings import Home, Settings
from remediation.stores.blobs import FileBlobStore

Past = Callable[[str], Awaitable[tuple[PastHeal, ...]]]
FOLDER = "remediation-dry-run-"
"""How the private folder's name begins; it lies in the system's folder for temporary files (``TMPDIR``)."""


class Withheld(Mapping[str, str]):
    """The names of credentials, and none of their values."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = sorted(names)

    def __getitem__(self, name: str) -> Never:
        if name not in self._names:
            raise KeyError(name)
        raise CredentialWithheld(
            f"a dry run reads no credential ({name}): each use has to be journaled, and a dry run journals nothing; "
            "see the plan with `remediation run --profile observe`"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a runbook would do now about a degradation that was recorded, beside what became of that."""

    incident: Incident
    """As it stands."""
    rung: Rung


@dataclass(slots=True)
class Selected:
    """Recorded degradations that one runbook matches."""

    looked_at: int = 0
    """Incidents opened in the time in question, with a code that the runbook handles."""
    erased: int = 0
    matching: int = 0
    newest: Sequence[Incident] = ()
    """The newest that match, as they were opened, oldest first."""


class Stage:
    """Made by `open_stage`, and valid within it."""

    def __init__(
        self, rehearser: Rehearser, registry: Registry, journal: JournalReader | None, past: Past, notes: list[str]
    ) -> None:
        self._rehearser = rehearser
        self._journal = journal
        self._past = past
        self.registry = registry
        self.notes = notes
        """What people should know of how this was found out."""

    @property
    def stuck(self) -> list[str]:
        """Runbooks of which something could not be stopped, and still runs in this process."""
        return self._rehearser.stuck

    @property
    def faulted(self) -> dict[str, str]:
        """Runbooks whose `matches` raised, and what."""
        return self._rehearser.faulted

    async def rehearse(self, event: DegradationEvent, provenance: Provenance = Provenance.EXPLICIT) -> Rehearsal:
        """See `Rehearser.rehearse`."""
        return await self._rehearser.rehearse(event, provenance)

    async def select(self, item: Registered, *, since: datetime, until: datetime | None, limit: int) -> Selected:
        """The degradations that opened incidents from `since` to `until` and that `item` matches, the newest `limit` of them."""
        selected = Selected()
        newest: deque[Incident] = deque(maxlen=limit)
        codes = {pattern.code for pattern in item.spec.handles}
        async for record in self._reported(since, until):
            entry = record.entry
            if not isinstance(entry, DegradationReported):
                selected.erased += 1
                continue
            if entry.event.code not in codes:
                continue
            selected.looked_at += 1
            at = epoch_ms(parse_timestamp(record.head.time))
            incident = opened(entry, stream=record.head.stream, seq=record.seq, at=at)
            if any(other.spec.id == item.spec.id for other in self._rehearser.matching(incident)):
                selected.matching += 1
                newest.append(incident)
        selected.newest = tuple(newest)
        return selected

    async def replay(self, item: Registered, incident: Incident) -> Replayed:
        """What `item` would do now about the degradation that opened `incident`, which is one of `select`."""
        before = tuple(heal for heal in await self._past(incident.fingerprint) if heal.settled_at <= incident.opened_at)
        rung = await self._rehearser.ask(item, incident, before)
        return Replayed(await self._became(incident), rung)

    async def _reported(self, since: datetime, until: datetime | None) -> AsyncIterator[Record]:
        if self._journal is None:
            return
        types = [DegradationReported.type]
        async for record in self._journal.read(stream="incident/", types=types, since=since, until=until):
            if record.head.stream_seq == 0:  # later ones say that it is worse
                yield record

    async def _became(self, incident: Incident) -> Incident:
        whole = HostState(keep_settled=None)
        if self._journal is not None:
            async for record in self._journal.read(stream=incident.stream):
                whole.apply(record)
        return whole.incidents.get(id_of(incident.stream), incident)


@contextlib.asynccontextmanager
async def open_stage(
    settings: Settings,
    *,
    plugins: Sequence[Any] = (),
    controls: Mapping[str, Control] | None = None,
    given: Credentials | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Stage]:
    """
    A stage on which a host with these `settings` is rehearsed.

    Args:
        plugins: As for `RemediatorBootstrap`.
        controls: Of the embedding program.
        given: Credentials of the embedding program.
        clock: The host's time.

    Raises:
        ConfigurationError: a host could not be made of them either.
        JournalError: the journal can't be read.

    """
    found, home, clock = discover(settings, plugins), settings.home, clock or SystemClock()
    notes: list[str] = []
    redactor = Redactor(rules=found.secret_rules())
    names = _names_of_credentials(home, found, given or Credentials(), redactor, notes)
    registry = outfitting.registry_of(settings, found, names)
    async with contextlib.AsyncExitStack() as stack:
        journal, state = None, HostState()
        if home.journal.exists():
            journal = await stack.enter_async_context(open_reader(home))
            state = await known_state(home, journal)
        else:
            notes.append("there is no journal yet: limits and records are as for a new host")
        _as_of_a_start(settings, registry, state, clock, notes)
        folder = Path(tempfile.mkdtemp(prefix=FOLDER))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        world = World(
            clock=clock,
            roots=outfitting.roots_of(settings, found.sentinels(settings)),
            blobs=FileBlobStore(folder / "blobs"),
            disposable=outfitting.disposable_of(settings),
            controls=controls if controls is not None else HostControls(),
            kinds=found.kinds,
            scratch=folder / "scratch",
            secrets=Withheld(names),
            host_descriptor=-1,
            instance="rehearsal",
            redactor=redactor,
            conduct=Conduct(folder / "scratch", folder / "blobs", strict=settings.host.strict_steps),
        )
        # What a step does beside its work counts against it here as it does in a host.
        if settings.host.strict_steps:
            audit.install()
        stack.enter_context(marking_tasks())

        async def past(fingerprint: str) -> tuple[PastHeal, ...]:
            return await past_heals(journal, state, fingerprint) if journal is not None else ()

        rehearser = Rehearser(state, registry, world, outfitting.policy_of(settings, registry), past)
        yield Stage(rehearser, registry, journal, past, notes)


def find(registry: Registry, runbook: str) -> Registered:
    """
    The installed runbook with this id.

    Raises:
        RegistrationError: there is none.

    """
    item = registry.runbooks.get(runbook)
    if item is None:
        known = ", ".join(sorted(registry.runbooks)) or "none"
        raise RegistrationError(f"no runbook {runbook} is installed; there are: {known}")
    return item


def _names_of_credentials(home: Home, plugins: Plugins, given: Credentials, redactor: Redactor, notes: list[str]) -> frozenset[str]:
    """The credentials that the host has; where its vault can't be read, those that runbooks declare."""
    try:
        credentials = Credentials({name: given[name] for name in given}, open_vault(home) if initialised(home) else None)
        credentials.tell(redactor.learn)
        return frozenset(credentials)
    except (RemediationError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        notes.append(
            f"the vault can't be read ({why}): credentials that runbooks declare are taken to be there, and its values are not masked"
        )
        specs = [getattr(kind, "spec", None) for kind, _ in plugins.runbooks()]
        return frozenset(given) | {name for spec in specs if spec is not None for name in spec.credentials}


def _as_of_a_start(settings: Settings, registry: Registry, state: HostState, clock: Clock, notes: list[str]) -> None:
    """Give `state` what a host that starts would journal about its runbooks."""
    now = epoch_ms(clock.now())
    changed = False
    for id_, item in registry.runbooks.items():
        for entry in outfitting.standing_of(settings, item, state.runbooks.get(id_), now=now):
            state.runbooks[id_] = evolve_runbook(state.runbooks.get(id_), entry, at=now)
            changed = True
    digest = settings.digest()
    running = [item for item in state.instances.values() if psutil.pid_exists(item.pid)]
    if any(item.configuration != digest for item in running) or (running and changed):
        notes.append(
            "the host that runs was started with other settings or runbooks; shown is what it would do once it is restarted"
        )
