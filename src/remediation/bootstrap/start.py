"""
Starting a host, and stopping it.

Order of start: settings, plugins, home, journal (checked and folded), host lock, registrations, Remediator (takes over open
incidents), inbox, sentinels; then it is ready. Stop is the reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets as random
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from remediation import __version__
from remediation.bootstrap import outfitting
from remediation.bootstrap.anchors import anchors_of
from remediation.bootstrap.blocked import take_over
from remediation.bootstrap.host import Host
from remediation.bootstrap.keys import open_keys
from remediation.bootstrap.leftovers import clear_leftovers
from remediation.bootstrap.opening import initialise, initialised, open_journal
from remediation.bootstrap.pulse import Pulse
from remediation.bootstrap.rehearsing import open_stage
from remediation.bootstrap.stopping import bounded, cancelled
from remediation.bootstrap.strangers import warn_of_strangers
from remediation.bootstrap.vault import open_vault
from remediation.coordination.locks import HostLock, alive
from remediation.coordination.machine_lock import MachineLock
from remediation.core.state import HostState
from remediation.discovery import Plugins, discover
from remediation.effects import HostControls
from remediation.engine import audit
from remediation.engine.anchoring import Anchoring
from remediation.engine.approvals import Approvals
from remediation.engine.blocking import LoopWatch
from remediation.engine.channels import CommandChannel, LogChannel
from remediation.engine.conduct import Conduct, marking_tasks
from remediation.engine.lending import World
from remediation.engine.notices import Notices
from remediation.engine.registry import Registry
from remediation.engine.rehearsal import Rehearsal
from remediation.engine.remediator import Remediator
from remediation.engine.requests import Requests
from remediation.engine.signatures import Signatories
from remediation.engine.told import Told
from remediation.engine.trusting import Trust
from remediation.engine.watching import Sentinels
from remediation.errors import GrantRefused
from remediation.journal import IntentJournal
from remediation.journal.inbox import Inbox
from remediation.keys.credentials import Credentials
from remediation.model.base import epoch_ms
from remediation.model.entries import HostStarted
from remediation.model.entries import (
    HostStopped as StoppedEntry,
)
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.redaction import Redactor
from remediation.ports.channel import Channel
from remediation.ports.clock import Clock, SystemClock
from remediation.settings import Home, Settings
from remediation.stores.blobs import FileBlobStore


class RemediatorBootstrap:
    """
    Builds a host from settings and starts it.

    Args:
        settings: See `Settings.load`.
        plugins: Modules, their names, or objects with hooks, beside those that settings and entry points bring.
        clock: The host's time.
        secrets: Credentials that runbooks may declare, by name, beside those of the vault. A name that is in both is an error.
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
        if not isinstance(settings, Settings):
            raise TypeError(f"RemediatorBootstrap takes Settings, not {type(settings).__name__}: write Settings.load(path)")
        self.settings = settings
        self.controls = HostControls()
        self._given = Credentials(secrets)
        self.redactor = Redactor(values=self._given.to_mask())
        """Masks secrets in all that is journaled; once the host starts, also those that plugins describe. For the program's own log."""
        self._plugins = tuple(plugins)
        self._clock = clock or SystemClock()
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
        credentials = Credentials(self._given, open_vault(home) if initialised(home) else None)
        self.redactor = Redactor(rules=plugins.secret_rules())
        credentials.tell(self.redactor.learn)
        registry = outfitting.registry_of(settings, plugins, tuple(credentials))
        sentinels = plugins.sentinels(settings)
        anchors = anchors_of(settings, plugins.anchors())
        if not initialised(home):
            initialise(settings, keys=open_keys(home, plugins.key_providers()))
            credentials = Credentials(self._given, open_vault(home))
            credentials.tell(self.redactor.learn)
        home.make()
        state = HostState()
        async with contextlib.AsyncExitStack() as stack:
            keys = open_keys(home, plugins.key_providers())
            journal = await open_journal(home, clock, state=state, keys=keys)
            stack.push_async_callback(bounded(5, "the journal", journal.close))
            journal.redactor = self.redactor
            notices = Notices(state, self._all_channels(plugins), clock, journal, Told(home.told, journal.origin))
            anchoring = Anchoring(anchors, journal, clock, notices.tell, home.anchors)
            await anchoring.check()
            instance = random.token_hex(6)
            host_lock = HostLock(home.locks, instance)
            stack.callback(host_lock.release)
            locks = MachineLock(home.locks, clock)
            clear_leftovers(home, locks)
            scratch = home.scratch / instance
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            world = World(
                clock=clock,
                roots=outfitting.roots_of(settings, sentinels),
                blobs=FileBlobStore(home.blobs),
                disposable=outfitting.disposable_of(settings),
                controls=self.controls,
                kinds=plugins.kinds,
                scratch=scratch,
                secrets=credentials,
                host_descriptor=host_lock.descriptor,
                instance=instance,
                redactor=self.redactor,
                conduct=Conduct(scratch, home.blobs, strict=settings.host.strict_steps),
            )
            policy = outfitting.policy_of(settings, registry)
            await self._announce(journal, state, registry, instance, home)
            warn_of_strangers(settings, {*registry.runbooks, *state.runbooks})
            anchoring.begin()
            stack.push_async_callback(bounded(6, "the anchors and the notices", lambda: _last_heads(anchoring, notices)))
            remediator = Remediator(journal, state, registry, world, policy, locks, notices)
            approvals = Approvals(
                remediator.journal,
                state,
                clock,
                journal.origin,
                signers=settings.approvals.allowed_signers,
                allow_local=settings.approvals.allow_local,
            )
            who = settings.approvals
            people = Signatories(clock, signers=who.allowed_signers, allow_local=who.allow_local, refused=GrantRefused)
            trust = Trust(remediator.journal, state, clock, journal.origin, people, self.redactor)
            requests = Requests(Inbox(home.inbox), remediator, remediator.journal, state, registry, policy, approvals, trust, clock)
            watching = Sentinels(sentinels, remediator.report, remediator.intake.clear, clock, home.sentinels)
            pulse = Pulse(home.hosts, settings.host.ready_file, settings.host.id, instance, journal, lambda: remediator.halted)
            host = Host(instance, journal, state, remediator, watching, requests, approvals, trust, pulse)
            if settings.host.strict_steps:
                audit.install()
            stack.enter_context(marking_tasks())
            pulse.listen(world.conduct.look)
            loop_watch = LoopWatch(world.conduct, home.hosts / f"{instance}.blocked")
            stack.callback(loop_watch.end)
            loop_watch.begin()
            await remediator.start()
            stack.push_async_callback(bounded(3, "the last entry", lambda: self._farewell(journal, host, remediator)))
            stack.push_async_callback(bounded(10, "the heals under way", remediator.stop))
            if watch:
                inbox = asyncio.create_task(requests.poll_on(), name="inbox")
                stack.push_async_callback(bounded(2, "the inbox", lambda: cancelled(inbox)))
                watching.start()
                stack.push_async_callback(bounded(3, "the sentinels", watching.stop))
            # Last to come and first to go: who sees the file can report, and will be heard.
            stack.push_async_callback(pulse.end)
            pulse.begin()
            structlog.get_logger("remediation.host").info("ready", host=settings.host.id, instance=instance, entries=journal.size)
            yield host

    async def rehearse(self, event: DegradationEvent) -> Rehearsal:
        """
        What a host that starts now would do about `event`, without doing it: nothing is journaled, applied or locked.

        Works beside a running host. Non-guarantee: a runbook's own code runs, and is not kept from acting by itself.

        Raises:
            ConfigurationError, JournalError: a host could not be started either.

        """
        stage = open_stage(self.settings, plugins=self._plugins, controls=self.controls, given=self._given, clock=self._clock)
        async with stage as made:
            return await made.rehearse(event, Provenance.NATIVE)

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
        await take_over(home, journal)
        now = epoch_ms(self._clock.now())
        for id_, item in registry.runbooks.items():
            for entry in outfitting.standing_of(settings, item, state.runbooks.get(id_), now=now):
                await journal.append(f"runbook/{id_}", [entry])

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


async def _last_heads(anchoring: Anchoring, notices: Notices) -> None:
    """After the last entry; what there is to say about it can't be sent by those who have stopped already."""
    await anchoring.stop()
    await notices.drain()
