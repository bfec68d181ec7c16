"""The Remediator: consumes the stream of degradations and has every incident treated, until it is settled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import structlog

from remediation.core import progress
from remediation.core.incident import Incident, stream_of
from remediation.core.limits import PastHeal
from remediation.core.state import HostState
from remediation.engine.guarding import GuardedJournal, Health
from remediation.engine.holding import HeldBack
from remediation.engine.intake import Intake, Reported
from remediation.engine.lending import World
from remediation.engine.notices import Notices
from remediation.engine.policy import Policy
from remediation.engine.registry import Registry
from remediation.engine.remembering import past_heals
from remediation.engine.schedule import Schedule
from remediation.engine.session import Staff
from remediation.engine.steps import StillRunning, describe_error
from remediation.engine.treatment import treat
from remediation.errors import ExpectationFailed, HostStopped, JournalError, JournalUnavailable
from remediation.model.base import epoch_ms
from remediation.model.entries import IncidentWaiting, Record, RunbookFaulted
from remediation.model.events import DegradationEvent, Provenance
from remediation.ports.journal import Journal
from remediation.ports.locking import Claim, HeldLock, Locks

SWEEP = 2.0
"""Seconds between two looks for incidents that nobody treats: those of hosts that died, or were paused."""
NEWS = 1.0
"""Seconds between two looks at an incident that somebody waits for."""
RELOADED = 0.1
BUSY_MS = 200
"""Milliseconds until a subject that somebody else holds is looked at again."""


class Remediator:
    """
    Matches degradations to runbooks and drives each incident to its end.

    Made and started by the bootstrap. When the journal fails it stops acting at once (`halted` says why), says so on every channel, and
    tries to come back.
    """

    def __init__(
        self,
        journal: Journal,
        state: HostState,
        registry: Registry,
        world: World,
        policy: Policy,
        locks: Locks,
        notices: Notices,
    ) -> None:
        self._health = Health(notices, world.instance)
        self.journal: Journal = GuardedJournal(journal, self._health)
        self._state = state
        self._registry = registry
        self._world = world
        self._policy = policy
        self._locks = locks
        self._notices = notices
        self._schedule = Schedule(self._treat, policy.concurrency, world.clock)
        self.intake = Intake(self.journal, state, policy, world.clock, self._handled, world.redactor)
        self._staff = Staff(
            self.journal,
            state,
            registry,
            world,
            policy,
            self._past,
            self._keep,
            self.intake,
            self._schedule.doze,
            self._health,
            notices.tell,
        )
        self._kept: set[asyncio.Task[None]] = set()
        self._kept_locks: set[HeldLock] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._waiters: dict[str, asyncio.Event] = {}
        self._held_back = HeldBack(self._staff, self._schedule)
        self._log = structlog.get_logger("remediation.engine")

    @property
    def halted(self) -> str:
        """Why nothing is applied at present; empty when all is well."""
        return self._health.halted

    async def start(self) -> None:
        """Take over every open incident and begin to heal."""
        self._notices.begin()
        self._state.listeners.append(self._notice_change)
        self._state.listeners.append(self._notices.noted)
        self._schedule.start()
        self.sweep()
        self._tasks = [
            asyncio.create_task(work(), name=name)
            for name, work in (
                ("counts", self.intake.flush_on),
                ("sweep", self._sweep_on),
                ("notices", self._notices.send_on),
                ("reminders", self._notices.remind_on),
            )
        ]

    async def stop(self) -> None:
        """Stop treating: what is under way is left as journaled, and goes on with the next start."""
        self._stopping = True
        for waiter in self._waiters.values():
            waiter.set()
        await self._schedule.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._policy.background, return_exceptions=True)
        if not self.halted:
            try:
                await self.intake.flush()
            except JournalError as error:
                self._log.error("counts of repeated reports could not be journaled", error=str(error))
        await self._notices.drain()
        self._state.listeners.clear()

    async def report(
        self, event: DegradationEvent, provenance: Provenance, *, actor: str = "", report_id: str | None = None
    ) -> Reported:
        """
        Make a degradation durable, and have it handled.

        Raises:
            HostStopped, JournalError: it is not durable; report it again.

        """
        if self._stopping:
            raise HostStopped("the host is stopping; leave the report in its inbox (Reporter) for the next start")
        reported = await self.intake.report(event, provenance, actor=actor, report_id=report_id)
        if reported.opened:
            incident = self._state.incidents.get(reported.incident)
            if incident is not None and incident.open:
                self._schedule.ready(incident)
        return reported

    def wake(self, incident_id: str) -> None:
        """Look at an incident at once: something about it changed."""
        incident = self._state.incidents.get(incident_id)
        if incident is not None and incident.open:
            self._schedule.ready(incident)

    def resume(self) -> None:
        """A pause ended, or began that takes back: look at every open incident at once."""
        for incident in list(self._state.open_incidents()):
            if not self._schedule.running(incident.id):
                self._schedule.ready(incident)

    def sweep(self) -> None:
        """Schedule every open incident that is not scheduled: this host's after a restart, and those of hosts that died."""
        now = epoch_ms(self._world.clock.now())
        pause = self._state.pause(now)
        for incident in self._state.open_incidents():
            wait = incident.wait
            if wait is not None and wait.why == "pause" and not self._schedule.running(incident.id):
                # It may have ended, or been shortened, while nobody was there to hear of it.
                taken_back = pause is not None and pause.revert
                if progress.woken(incident, paused=pause is not None, held_back=False, take_back=taken_back):
                    self._schedule.ready(incident)
                    continue
            if self._schedule.holds(incident.id):
                continue
            if wait is not None and wait.until > now and not _to_be_looked_at(incident, wait):
                self._schedule.at(incident, wait.until)
            elif wait is None or wait.until or incident.approval or not (pause or self._staff.held_back(incident)):
                self._schedule.ready(incident)

    async def settled(self, incident_id: str) -> Incident:
        """
        Wait until an incident is settled.

        Raises:
            KeyError: no such incident is known.
            HostStopped: the host stopped before.

        """
        while True:
            incident = self._state.incidents.get(incident_id) or await self._remembered(incident_id)
            try:
                if not incident.open:
                    await self.journal.durable(self._state.position)
                    return incident
                news: Coroutine[Any, Any, Any] = self._waiters.setdefault(incident_id, asyncio.Event()).wait()
            except JournalUnavailable:
                # What was seen of it may be lost. It is looked at again once the journal was read anew.
                news = asyncio.sleep(RELOADED)
            if self._stopping:
                news.close()
                raise HostStopped(f"the host stopped while incident {incident_id} was open; it goes on with the next start")
            # A journal that is read anew after a failure brings news without a single entry to tell it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NEWS):
                    await news

    async def quiet(self) -> dict[str, int]:
        """Wait until nothing is ready or running; returns which incidents wait, and until when (milliseconds)."""
        while True:
            await self._schedule.idle.wait()
            due = self._schedule.due()
            soon = epoch_ms(self._world.clock.now()) + 1000
            if self._schedule.idle.is_set() and not any(until <= soon for until in due.values()):
                return due
            await self._world.clock.sleep(0.02)

    # -- treating ------------------------------------------------------------------------------------------------------

    async def _treat(self, incident_id: str) -> None:
        incident = self._state.incidents.get(incident_id)
        if incident is None or not incident.open or not self._health.may_treat(incident_id):
            return
        lock: HeldLock | None = None
        try:
            lock = self._locks.try_acquire(incident.event.subject, Claim(self._world.instance, incident.id))
            if lock is None:
                # Another host works on it, or what a dead one left behind; it must not occupy a place here meanwhile.
                self._locks.end_orphans(incident.event.subject)
                self._schedule.at(incident, epoch_ms(self._world.clock.now()) + BUSY_MS)
                return
            # Another host may have treated it while somebody held the lock.
            await self.journal.refresh()
            incident = self._state.incidents.get(incident_id)
            if incident is None or not incident.open:
                return
            until = await treat(self._staff, incident, lock)
            if until:
                self._schedule.at(incident, until)
        except JournalError as error:
            self._health.failed(error)
        except StillRunning as error:
            if lock is not None:
                self._keep(lock, error.running)
            raise
        except Exception:
            # A defect of the engine must not take the host down, nor be silent: the incident stays open and is tried again.
            self._log.exception("an incident could not be treated; it is tried again", incident=incident_id)
            if incident is not None:
                self._schedule.at(incident, epoch_ms(self._world.clock.now()) + 30_000)
        finally:
            if lock is not None and lock not in self._kept_locks:
                lock.release()

    async def _remembered(self, incident_id: str) -> Incident:
        """An incident that the state has forgotten, read back from its stream."""
        whole = HostState(keep_settled=None)
        async for record in self.journal.read(stream=stream_of(incident_id)):
            whole.apply(record)
        return whole.incidents[incident_id]

    def _keep(self, lock: HeldLock, task: asyncio.Task[Any]) -> None:
        async def keep() -> None:
            await asyncio.wait({task})
            self._kept_locks.discard(lock)
            lock.release()

        self._kept_locks.add(lock)
        kept = asyncio.create_task(keep())
        self._kept.add(kept)
        kept.add_done_callback(self._kept.discard)

    def _handled(self, event: DegradationEvent, provenance: Provenance) -> bool:
        return bool(self._registry.match(event, provenance, faulted=self._match_faulted))

    def _match_faulted(self, runbook: str, error: BaseException) -> None:
        self._log.error(
            "a runbook's matches raised; it is disabled until the host restarts", runbook=runbook, error=describe_error(error)
        )
        entry = RunbookFaulted(runbook=runbook, step="matches", error=describe_error(error))
        self._policy.later(self.journal.append(f"runbook/{runbook}", [entry]))

    async def _past(self, fingerprint: str) -> tuple[PastHeal, ...]:
        return await past_heals(self.journal, self._state, fingerprint)

    # -- staying alive -------------------------------------------------------------------------------------------------

    def _notice_change(self, incident: Incident, record: Record) -> None:
        if not incident.open and incident.id in self._waiters:
            self._waiters.pop(incident.id).set()
        wait = incident.wait
        self._held_back.note(incident)
        if wait is not None and wait.why in ("verify", "approval") and not isinstance(record.entry, IncidentWaiting):
            self._schedule.ready(incident)

    async def _sweep_on(self) -> None:
        while True:
            await self._world.clock.sleep(SWEEP)
            try:
                await self.journal.refresh()
            except JournalError as error:
                self._health.failed(error)
                continue
            if self.halted and self._try_one():
                continue
            self.sweep()
            await self._release_cleared()

    def _try_one(self) -> bool:
        """Whether some incident can be treated now, to find out whether the journal can be written; if none, nothing is at stake."""
        now = epoch_ms(self._world.clock.now())
        due = (item for item in self._state.open_incidents() if item.wait is None or 0 < item.wait.until <= now)
        incident = next(due, None)
        if incident is None:
            self._health.works()
            return False
        self._health.trial = incident.id
        self._schedule.ready(incident)
        return True

    async def _release_cleared(self) -> None:
        """A held incident whose reporter has seen nothing of it for a while lets go of its fingerprint."""
        now = epoch_ms(self._world.clock.now())
        for incident in [self._state.incidents[id_] for id_ in list(self._state.by_fingerprint.values())]:
            quiet = incident.held and not incident.dirty and incident.cleared_at > incident.observed_at
            if quiet and now - incident.cleared_at >= self._policy.cooldown_ms:
                entry = progress.settlement(
                    incident, incident.status, f"{incident.reason}; released: its reporter no longer sees it"
                )
                try:
                    await self.journal.append(
                        incident.stream,
                        [entry.model_copy(update={"held": False})],
                        expected=incident.version,
                        correlation=incident.id,
                    )
                except ExpectationFailed:
                    continue
                except JournalError as error:
                    self._health.failed(error)
                    return


def _to_be_looked_at(incident: Incident, wait: IncidentWaiting) -> bool:
    """Whether something may have come that ends the wait before its time, and that nobody who died acted on; or is looked for."""
    return wait.why in ("approval", "verify") or incident.approval is not None or incident.cleared_at > incident.observed_at
