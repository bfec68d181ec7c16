"""Telling people: what is escalated goes to every channel, again while it is held, and never stops a heal."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from remediation.core.incident import Incident, Status
from remediation.core.state import HostState
from remediation.engine.steps import describe_error
from remediation.errors import JournalError
from remediation.model.base import epoch_ms
from remediation.model.entries import IncidentSettled, IncidentWaiting, Record
from remediation.model.text import capped
from remediation.ports.channel import Channel, Notice
from remediation.ports.clock import Clock

REMINDER_MS = 4 * 3_600_000
QUEUE = 1000
TRIES = 5
SEND_SECONDS = 30.0
ANALYSIS_CAP = 24 * 1024


class Notices:
    """
    Watches incidents settle and ask for consent, and tells the channels.

    What can't be sent after several tries is logged; the reminder comes back to it.
    """

    def __init__(
        self, state: HostState, channels: Sequence[Channel], clock: Clock, durable: Callable[[int], Awaitable[None]]
    ) -> None:
        self._state = state
        self._durable = durable
        self._channels = tuple(channels)
        self._clock = clock
        self._queue: deque[tuple[Notice, int]] = deque()
        self._dropped = 0
        self._moved = asyncio.Event()
        self._reminded: dict[str, int] = {}
        self._log = structlog.get_logger("remediation.notices")

    def noted(self, incident: Incident, record: Record) -> None:
        """A listener of the state: take note of settlements."""
        if isinstance(record.entry, IncidentSettled) and not incident.open:
            if incident.held or incident.status is Status.RESOLVED:
                self._put(notice_of(incident), record.seq)
            self._reminded[incident.id] = incident.settled_at
        elif isinstance(record.entry, IncidentWaiting):
            self._waiting(incident, record.entry, record.seq)
        if not incident.held and not _asks(incident):
            self._reminded.pop(incident.id, None)

    def _waiting(self, incident: Incident, wait: IncidentWaiting, seq: int) -> None:
        if wait.why == "approval":
            self._put(request_of(incident), seq)
            self._reminded[incident.id] = incident.waiting_since
        elif wait.why == "limit" and not wait.until:
            self._put(notice_of(incident).model_copy(update={"kind": "held_back", "title": wait.reason}), seq)

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
        """Send what is queued, for ever."""
        while True:
            while self._queue:
                await self._send_next(TRIES)
            if self._dropped:
                self._log.error("notices were not sent one by one: too many at once", number=self._dropped)
                self._dropped = 0
            self._moved.clear()
            await self._moved.wait()

    async def drain(self, seconds: float) -> None:
        """Send what is still queued, for at most `seconds`."""
        end = self._clock.monotonic() + seconds
        while self._queue and self._clock.monotonic() < end:
            await self._send_next(1)

    async def _send_next(self, tries: int) -> None:
        notice, seq = self._queue.popleft()
        try:
            await self._durable(seq)
        except JournalError as error:
            # It did not happen after all: when it does, it is noted again.
            self._log.warning("a notice was not sent, as its entry is not durable", incident=notice.incident, error=str(error))
            return
        await asyncio.gather(*(self._send(channel, notice, tries) for channel in self._channels))

    async def remind_on(self) -> None:
        """Remind of held incidents and of requests for consent every four hours, for ever."""
        while True:
            await self._clock.sleep(60.0)
            now = epoch_ms(self._clock.now())
            for incident in list(self._state.incidents.values()):
                asks = _asks(incident)
                since = incident.waiting_since if asks else incident.settled_at
                if (incident.held or asks) and now - self._reminded.get(incident.id, since) >= REMINDER_MS:
                    self._reminded[incident.id] = now
                    notice = request_of(incident) if asks else notice_of(incident)
                    self._put(notice.model_copy(update={"kind": "reminder"}))

    async def _send(self, channel: Channel, notice: Notice, tries: int) -> None:
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
                return
        self._log.error("a notice could not be delivered", channel=channel.name, incident=notice.incident, title=notice.title)


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


def _asks(incident: Incident) -> bool:
    return incident.approval is not None and not incident.approval.answered and incident.open
