"""`PrimaryAggregatorLease`: one leader at a time among several hosts, for as long as it can show that it lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from remediation.errors import LeaseLost, LeaseUnavailable
from remediation.ports.clock import Clock
from remediation.ports.leasing import LeaseRecord, LeaseStore

Told = Callable[[str, int], None]


class PrimaryAggregatorLease:
    """
    The right to be the primary, from one host's point of view.

    Guarantees: of all that share a store, at most one has `held` at any moment: its own time is counted from *before* it asked the
    store, on the monotonic clock, and the store's from after, so it ends first. Jumps of the wall clock change nothing. What is not
    renewed in time is lost, and said so as ``lease.lost``.

    Non-guarantee: between a look at `held` and a write, any time may pass (a stopped process, a slow disk). So `token` goes with each
    write, and the receiver checks it (`FencedRegister`).

    Args:
        store: Where the lease is kept.
        clock: The host's time.
        holder: Names this host, for people.
        seconds: How long the lease lasts without being renewed. After a leader's death nobody leads for up to that long.
        told: Called with ``lease.taken``, ``lease.lost`` or ``lease.released``, and the token; also logged.

    """

    def __init__(self, store: LeaseStore, clock: Clock, holder: str, *, seconds: float = 15.0, told: Told | None = None) -> None:
        if seconds <= 0:
            raise ValueError(f"a lease of {seconds} s is over before it begins")
        self._store = store
        self._clock = clock
        self._holder = holder
        self._seconds = seconds
        self._told = told
        self._record: LeaseRecord | None = None
        self._until = 0.0
        self._log = structlog.get_logger("remediation.lease")

    @property
    def held(self) -> bool:
        """Whether this host leads at this moment, as far as it can know."""
        if self._record is not None and self._clock.monotonic() >= self._until:
            self._lose("it was not renewed in time")
        return self._record is not None

    @property
    def token(self) -> int:
        """
        The fencing token, to go with each write.

        Raises:
            LeaseLost: this host does not lead.

        """
        if not self.held or self._record is None:
            raise LeaseLost(f"{self._holder} does not lead (any more); stop what only the leader may do")
        return self._record.token

    async def try_acquire(self) -> bool:
        """
        Take the lease if it is free; whether this host leads now.

        Raises:
            LeaseUnavailable: the store can't tell.

        """
        if self.held:
            return True
        asked = self._clock.monotonic()
        record = await self._store.take(self._holder, self._seconds)
        if record is None:
            return False
        self._record, self._until = record, asked + self._seconds
        self._say("lease.taken", record.token)
        return self.held

    async def renew(self) -> bool:
        """
        Lead for `seconds` more; False when the lease is lost.

        Raises:
            LeaseUnavailable: the store can't tell; the lease runs on to its end.

        """
        if not self.held or self._record is None:
            return False
        record, asked = self._record, self._clock.monotonic()
        renewed = await self._store.renew(record, self._seconds)
        if self._record is not record:
            return False
        if not renewed:
            self._lose("somebody else has it")
            return False
        # If the answer came after the end, the time in between was nobody's: the store kept it for this host.
        self._until = asked + self._seconds
        return self.held

    async def release(self) -> None:
        """Stop leading; another one may begin at once. Raises LeaseUnavailable: then it may begin when the time is over."""
        record, self._record = self._record, None
        if record is not None:
            self._say("lease.released", record.token)
            await self._store.release(record)

    async def lead(self, work: Callable[[int], Awaitable[Any]]) -> None:
        """
        Wait for the lease, and run ``work(token)`` while this host leads; when the lease is lost, cancel it and wait for its end.

        Returns when `work` has ended by itself, or the lease was lost; call it again to stand again. What `work` raises passes
        through. The lease is renewed at a third of its time, and given back at the end.
        """
        third = self._seconds / 3
        while not await self._tried(self.try_acquire):
            await self._clock.sleep(third)
        working = asyncio.ensure_future(work(self.token))
        try:
            while self.held:
                nap = asyncio.ensure_future(self._clock.sleep(max(0.0, min(third, self._until - self._clock.monotonic()))))
                try:
                    await asyncio.wait({working, nap}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    nap.cancel()
                if working.done():
                    break
                await self._tried(self.renew)
        finally:
            lost = not working.done()
            working.cancel()
            await asyncio.wait({working})
            with contextlib.suppress(LeaseUnavailable):
                await self.release()
        if not lost:
            working.result()

    async def _tried(self, step: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await step()
        except LeaseUnavailable as error:
            self._log.warning("the lease can't be looked at; it is tried again", holder=self._holder, error=str(error))
            return False

    def _lose(self, why: str) -> None:
        record, self._record = self._record, None
        if record is not None:
            self._say("lease.lost", record.token, why)

    def _say(self, event: str, token: int, why: str = "") -> None:
        self._log.info(event, holder=self._holder, token=token, **({"why": why} if why else {}))
        if self._told is not None:
            self._told(event, token)
