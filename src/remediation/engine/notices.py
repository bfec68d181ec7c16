"""Telling people: what is escalated goes to every channel, again while it is held, and never stops a heal."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

import structlog

from remediation.core.incident import Incident, Status, id_of
from remediation.core.state import HostState
from remediation.engine.steps import describe_error
from remediation.engine.told import Told
from remediation.errors import JournalError
from remediation.model.base import Severity, epoch_ms
from remediation.model.entries import IncidentSettled, IncidentWaiting, Record, RunbookQuarantined
from remediation.model.text import capped
from remediation.ports.channel import Channel, Notice
from remediation.ports.clock import Clock
from remediation.ports.journal import Journal

REMINDER_MS = 4 * 3_600_000
QUEUE = 1000
TRIES = 5
SEND_SECONDS = 30.0
DRAIN = 5.0
"""Seconds that a host which stops gives its last notices."""
KEEP = 1.0
"""Seconds between two records of how far people were told: what was told in the last one is told twice after a crash."""
ANALYSIS_CAP = 24 * 1024


class Notices:
    """
    Watches incidents settle and ask for consent, and tells the channels.

    Guarantee: what is journaled and was not told when the host ended, is told by the next one (`told` knows how far people were told),
    as it stands then. Non-guarantee: some of it is told twice. What can't be sent after several tries is logged; the reminder comes
    back to it.
    """

    def __init__(self, state: HostState, channels: Sequence[Channel], clock: Clock, journal: Journal, told: Told) -> None:
        self._state = state
        self._journal = journal
        self._channels = tuple(channels)
        self._clock = clock
        self._told = told
        self._queue: deque[tuple[Notice | None, int]] = deque()
        self._dropped = 0
        self._moved = asyncio.Event()
        self._reminded: dict[str, int] = {}
        self._since: int | None = None
        self._until = -1
        self._caught_up = not self._channels
        self._sent = self._kept = -1
        self._kept_at = 0.0
        self._failed = self._given_up = False
        """Whether, at the end, something could not be sent; whether sending took too long."""
        self._log = structlog.get_logger("remediation.notices")

    def begin(self) -> None:
        """From here on, changes are `noted`; what was journaled before is looked for once `send_on` runs."""
        self._since, self._until = self._told.read(), self._state.position
        if self._since is None and self._channels and not any(map(_standing, self._state.incidents.values())):
            # From its first incident on, also a power cut shall not make a home forget what is still to be told.
            self._since = self._until
            self._told.write(self._until, durably=True)

    def noted(self, incident: Incident, record: Record) -> None:
        """A listener of the state: take note of settlements."""
        if isinstance(record.entry, IncidentSettled) and not incident.open:
            if incident.held or incident.status is Status.RESOLVED:
                self._put(notice_of(incident), record.seq)
            self._reminded[incident.id] = incident.settled_at
        elif isinstance(record.entry, IncidentWaiting):
            self._waiting(incident, record.entry, record.seq)
        if not (incident.held or _asks(incident) or _held_back(incident)):
            self._reminded.pop(incident.id, None)

    def _waiting(self, incident: Incident, wait: IncidentWaiting, seq: int) -> None:
        if wait.why == "approval":
            self._put(request_of(incident), seq)
            self._reminded[incident.id] = incident.waiting_since
        elif wait.why == "limit" and not wait.until:
            self._put(held_back_of(incident, wait), seq)

    def tell(self, notice: Notice) -> None:
        """Send `notice` to every channel."""
        self._put(notice)

    def _put(self, notice: Notice, seq: int = -1) -> None:
        """Queue `notice`, to be sent once the entry `seq` that it tells of is durable."""
        if len(self._queue) >= QUEUE:
            self._dropped += 1
            return
        self._queue.append((notice, seq))
        self._moved.set()

    async def send_on(self) -> None:
        """Send what earlier hosts did not, then what is queued, for ever."""
        while True:
            try:
                await self._catch_up()
                break
            except JournalError as error:
                self._log.warning("what is still to be told can't be read; it is tried again", error=str(error))
                await self._clock.sleep(10.0)
        while True:
            while self._queue:
                await self._send_next(TRIES)
            if self._dropped:
                self._log.error("notices were not sent one by one: too many at once", number=self._dropped)
                self._dropped = 0
            if self._clock.monotonic() - self._kept_at >= KEEP:
                self._keep()
            self._moved.clear()
            await self._moved.wait()

    async def _catch_up(self) -> None:
        """Queue, before all else, what was journaled before this host began and not told."""
        if self._caught_up:
            return
        found: list[tuple[Notice | None, int]] = []
        if self._since is None:
            found = [(notice, -1) for incident in list(self._state.incidents.values()) if (notice := _standing(incident))]
        elif self._since < self._until:
            news: dict[str, int] = {}
            types = (IncidentSettled.type, IncidentWaiting.type, RunbookQuarantined.type)
            async for record in self._journal.read(after=self._since, types=types):
                if record.seq > self._until:
                    break
                if isinstance(record.entry, RunbookQuarantined):
                    found += [(quarantine_of(record.entry), record.seq)] if record.entry.by in ("engine", "record") else []
                else:
                    news.pop(id_of(record.head.stream), None)
                    news[id_of(record.head.stream)] = record.seq
            known = ((self._state.incidents.get(id_), seq) for id_, seq in news.items())
            found += [(notice, seq) for incident, seq in known if incident and (notice := _standing(incident, resolved=True))]
            found.sort(key=lambda item: item[1])
        self._dropped += max(0, len(found) - QUEUE)
        self._queue.extendleft(reversed([*found[-QUEUE:], (None, self._until)]))
        self._caught_up = True

    async def drain(self) -> None:
        """Send what is still to be told, for at most `DRAIN` of real time. The rest is left to the next host; so is all that comes then."""
        if self._given_up:
            return
        try:
            async with asyncio.timeout(DRAIN):
                with contextlib.suppress(JournalError):
                    await self._catch_up()
                while self._queue:
                    sent, seq = self._sent, self._queue[0][1]
                    self._failed |= not await self._send_next(1)
                    self._sent = sent if self._failed else max(sent, seq)
        except TimeoutError:
            self._given_up = True
        self._keep()

    def _keep(self) -> None:
        """Record how far people were told."""
        if self._caught_up and self._channels and self._sent > self._kept:
            self._told.write(self._sent)
            self._kept, self._kept_at = self._sent, self._clock.monotonic()

    async def _send_next(self, tries: int) -> bool:
        """Send the first notice of the queue, which is taken from there only then; whether every channel took it."""
        notice, seq = self._queue[0]
        delivered = True
        if notice is not None:
            try:
                await self._journal.durable(seq)
            except JournalError as error:
                # It did not happen after all: when it does, it is noted again.
                self._log.warning("a notice was not sent, as its entry is not durable", incident=notice.incident, error=str(error))
                self._queue.popleft()
                return True
            delivered = all(await asyncio.gather(*(self._send(channel, notice, tries) for channel in self._channels)))
        self._queue.popleft()
        self._sent = max(self._sent, seq)
        return delivered

    async def remind_on(self) -> None:
        """Remind of held incidents, of requests for consent and of what waits for others every four hours, for ever."""
        while True:
            await self._clock.sleep(60.0)
            self._keep()
            now = epoch_ms(self._clock.now())
            for incident in list(self._state.incidents.values()):
                since = incident.waiting_since if incident.open else incident.settled_at
                late = now - self._reminded.get(incident.id, since) >= REMINDER_MS
                if late and (notice := _standing(incident)) is not None:
                    self._reminded[incident.id] = now
                    self._put(notice.model_copy(update={"kind": "reminder"}))

    async def _send(self, channel: Channel, notice: Notice, tries: int) -> bool:
        for number in range(1, tries + 1):
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await channel.send(notice)
            except Exception as error:
                self._log.warning(
                    "a channel failed", channel=channel.name, incident=notice.incident, attempt=number, error=describe_error(error)
                )
                if number < tries:
                    await self._clock.sleep(min(60.0, 2.0**number))
            else:
                return True
        self._log.error("a notice could not be delivered", channel=channel.name, incident=notice.incident, title=notice.title)
        return False


def notice_of(incident: Incident) -> Notice:
    """What people are told of a settled incident."""
    return Notice(
        kind=incident.status.value,
        incident=incident.id,
        code=incident.event.code,
        subsystem=incident.event.subsystem,
        subject=incident.event.subject,
        severity=incident.severity,
        title=incident.reason,
        analysis=incident.analysis,
        actions=incident.actions,
    )


def request_of(incident: Incident) -> Notice:
    """What people are told of a plan that waits for their consent: what it would do, as a diff where there is one."""
    attempt, approval = incident.current, incident.approval
    if attempt is None or approval is None:
        return notice_of(incident)
    lines = [f"- {item.line}" + (f"\n\n```diff\n{item.diff}\n```" if item.diff else "") for item in attempt.plan.effects]
    loses = [f"Lost for good: {attempt.plan.loses}"] if attempt.plan.loses else []
    return notice_of(incident).model_copy(
        update={
            "kind": "approval_requested",
            "title": f"{attempt.runbook} asks: {incident.reason}",
            "analysis": capped("\n".join([attempt.plan.summary, *loses, *lines]).strip(), ANALYSIS_CAP),
            "actions": (f"remediation approve {approval.id}", f"remediation deny {approval.id}"),
        }
    )


def held_back_of(incident: Incident, wait: IncidentWaiting) -> Notice:
    """What people are told of an incident that waits for others."""
    return notice_of(incident).model_copy(update={"kind": "held_back", "title": wait.reason})


def quarantine_of(entry: RunbookQuarantined) -> Notice:
    """What people are told of a runbook that was quarantined before this host began."""
    return Notice(
        kind="runbook_quarantined",
        incident="",
        code="RUNBOOK",
        subsystem="remediation",
        subject=entry.runbook,
        severity=Severity.P1,
        title=f"{entry.runbook}: {entry.reason}",
        actions=(f"remediation runbooks show {entry.runbook}",),
    )


def _standing(incident: Incident, *, resolved: bool = False) -> Notice | None:
    """What there is to tell of `incident` as it stands, if anything; that it is `resolved` only if wanted."""
    if incident.held or (resolved and incident.status is Status.RESOLVED):
        return notice_of(incident)
    if _asks(incident):
        return request_of(incident)
    return held_back_of(incident, incident.wait) if _held_back(incident) and incident.wait is not None else None


def _held_back(incident: Incident) -> bool:
    wait = incident.wait
    return incident.open and wait is not None and wait.why == "limit" and not wait.until


def _asks(incident: Incident) -> bool:
    return incident.approval is not None and not incident.approval.answered and incident.open
