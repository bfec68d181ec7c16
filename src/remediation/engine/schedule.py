"""The schedule of treatments: what is ready, what runs, what waits for its subject, and what waits for its time."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable

from remediation.core.incident import Incident
from remediation.model.base import epoch_ms
from remediation.ports.clock import Clock

LONGEST_NAP = 5.0
"""Seconds after which a timer looks at the wall clock again: it may have jumped."""


class Schedule:
    """
    Runs `work(id)` for incidents: at most `places` at a time, one at a time for a subject, at once or at a wall-clock time.

    Non-guarantee: order among different subjects. An id that becomes ready while it runs, runs again afterwards.
    """

    def __init__(self, work: Callable[[str], Awaitable[None]], places: int, clock: Clock) -> None:
        self._work = work
        self._places = places
        self._clock = clock
        self._ready: deque[tuple[str, str]] = deque()
        self._queued: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._subjects: dict[str, deque[str]] = {}
        self._occupied = 0
        self._returning: deque[asyncio.Future[None]] = deque()
        self._timers: list[tuple[int, str, str]] = []
        self._due: dict[str, int] = {}
        self._timer_moved = asyncio.Event()
        self._stopped = True
        self._timer: asyncio.Task[None] | None = None
        self.idle = asyncio.Event()
        self.idle.set()

    def start(self) -> None:
        """Begin to run what is ready."""
        self._stopped = False
        self._timer = asyncio.create_task(self._watch_timers(), name="treatment timers")
        self._pump()

    async def stop(self) -> None:
        """Cancel what runs, and wait until it has ended. What is ready stays so for the next `start`, which reads the journal anew."""
        self._stopped = True
        running = list(self._running.values())
        if self._timer is not None:
            running.append(self._timer)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._ready.clear()
        self._queued.clear()
        self._timers.clear()
        self._due.clear()
        self._again.clear()
        self._subjects.clear()

    def ready(self, incident: Incident) -> None:
        """Run the incident as soon as there is a place; an earlier timer for it is void."""
        self._due.pop(incident.id, None)
        if incident.id in self._running:
            self._again.add(incident.id)
            return
        if incident.id not in self._queued:
            self._queued.add(incident.id)
            self._ready.append((incident.id, incident.event.subject))
            self.idle.clear()
            self._pump()

    def at(self, incident: Incident, until: int) -> None:
        """Run the incident at `until`, milliseconds since 1970 UTC."""
        self._due[incident.id] = until
        heapq.heappush(self._timers, (until, incident.id, incident.event.subject))
        self._timer_moved.set()

    def holds(self, incident_id: str) -> bool:
        """Whether the incident runs, is ready or has a timer."""
        return incident_id in self._running or incident_id in self._queued or incident_id in self._due

    def running(self, incident_id: str) -> bool:
        """Whether the incident is being treated at this moment."""
        return incident_id in self._running

    def due(self) -> dict[str, int]:
        """When waiting incidents are looked at again."""
        return dict(self._due)

    async def doze(self, seconds: float) -> None:
        """Sleep inside a treatment without occupying a place."""
        self._leave()
        try:
            await self._clock.sleep(seconds)
        finally:
            if self._occupied >= self._places and not self._stopped:
                back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._returning.append(back)
                try:
                    await back
                except BaseException:
                    self._occupied += 1
                    raise
            else:
                self._occupied += 1

    def _leave(self) -> None:
        self._occupied -= 1
        while self._returning:
            back = self._returning.popleft()
            if not back.done():
                self._occupied += 1
                back.set_result(None)
                return
        self._pump()

    def _pump(self) -> None:
        if self._stopped:
            return
        while self._ready and self._occupied < self._places:
            id_, subject = self._ready.popleft()
            waiting = self._subjects.get(subject)
            if waiting is not None:
                waiting.append(id_)
                continue
            self._subjects[subject] = deque()
            self._occupied += 1
            self._queued.discard(id_)
            self._running[id_] = asyncio.create_task(self._run(id_, subject))

    async def _run(self, id_: str, subject: str) -> None:
        try:
            await self._work(id_)
        finally:
            self._running.pop(id_, None)
            waiting = self._subjects.pop(subject, None) or deque()
            if id_ in self._again:
                self._again.discard(id_)
                waiting.append(id_)
                self._queued.add(id_)
            self._ready.extendleft((other, subject) for other in reversed(waiting))
            self._leave()
            if not self._running and not self._ready:
                self.idle.set()

    async def _watch_timers(self) -> None:
        while True:
            now = epoch_ms(self._clock.now())
            while self._timers and self._timers[0][0] <= now:
                until, id_, subject = heapq.heappop(self._timers)
                if self._due.get(id_) != until:
                    continue
                del self._due[id_]
                if id_ not in self._queued and id_ not in self._running:
                    self._queued.add(id_)
                    self._ready.append((id_, subject))
                    self.idle.clear()
            self._pump()
            nap = LONGEST_NAP if not self._timers else min(LONGEST_NAP, (self._timers[0][0] - now) / 1000)
            self._timer_moved.clear()
            sleeping = asyncio.ensure_future(self._clock.sleep(max(0.01, nap)))
            moved = asyncio.ensure_future(self._timer_moved.wait())
            try:
                await asyncio.wait({sleeping, moved}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                moved.cancel()
