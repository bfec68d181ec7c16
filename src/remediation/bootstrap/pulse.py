"""
The pulse: a host beats as long as it can do its work, and not merely as long as its process exists.

Each beat needs the event loop, which carries it out, and the journal: its writer lock is taken and its database asked, without an entry.
So a loop that is blocked, a lock that another process keeps, a disk that hangs and a journal that can't be written all end the beats;
having nothing to do doesn't.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from remediation.coordination.beats import PACE, BeatFile
from remediation.errors import JournalError
from remediation.journal import IntentJournal

_SLOW = 10.0
"""Seconds after which the log tells that the journal doesn't answer."""


class Pulse:
    """One host's."""

    def __init__(
        self, folder: Path, ready_file: Path | None, host: str, instance: str, journal: IntentJournal, halted: Callable[[], str]
    ) -> None:
        self._pace = PACE
        self._listeners: list[Callable[[], None]] = []
        self._sooner = asyncio.Event()
        self._journal = journal
        self._halted = halted
        self._beats = BeatFile(folder / f"{instance}.json", host, instance, pace=PACE)
        self._ready = BeatFile(ready_file, host, instance, pace=PACE) if ready_file is not None else None
        self._task: asyncio.Task[None] | None = None
        self._failed = ""
        self._ended = False
        self._log = structlog.get_logger("remediation.host")

    def listen(self, listener: Callable[[], None], every: float = PACE) -> None:
        """Have `listener` called at each beat, beginning now, and beat at least `every` so many seconds."""
        self._pace = min(self._pace, every)
        self._listeners.append(listener)
        self._sooner.set()

    def begin(self) -> None:
        """
        The host is ready: say so, and beat from now on.

        Raises:
            OSError: it can't be said.

        """
        self._beats.write(self._pace)
        if self._ready is not None:
            self._ready.path.parent.mkdir(parents=True, exist_ok=True)
            self._ready.write(self._pace)
        self._task = asyncio.create_task(self._beat_on(), name="pulse")

    async def end(self) -> None:
        """Beat no more: the host is not ready any longer."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()
            # What it waits for may hang: the last who may keep a host from stopping is its own pulse.
            await asyncio.wait({self._task}, timeout=1.0)
        for file in (self._beats, self._ready):
            if file is not None:
                file.remove()

    async def _beat_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it forgets a cancellation that comes together with what it waits for.
                async with asyncio.timeout(self._pace):
                    await self._sooner.wait()
            self._sooner.clear()
            slow = asyncio.get_running_loop().call_later(
                _SLOW, self._complain, "the journal does not answer; the host does not beat until it does"
            )
            try:
                await self._ask()
                if self._ended:
                    return
                self._beats.write(self._pace)
            except (JournalError, OSError) as error:
                self._complain(f"the host does not beat: {error}")
                continue
            finally:
                slow.cancel()
            if self._failed:
                self._log.warning("the host beats again")
                self._failed = ""
            for listener in self._listeners:
                with contextlib.suppress(Exception):
                    listener()

    async def _ask(self) -> None:
        async with self._journal.alone() as store:
            await store.head()
        if why := self._halted():
            raise JournalError(why)

    def _complain(self, why: str) -> None:
        if why != self._failed:
            self._log.error(why)
        self._failed = why
