"""
Verification: healthy must mean durable, not merely alive.

With `sustain`, the first healthy verdict opens a window; samples follow every max(1 s, sustain/5). One failed sample fails. A restart, a
suspend, or a gap of more than two intervals opens the window anew: unwatched time is never credited, nor held against the heal, so
that the time for a result begins anew too, for a week after the fix. After 3 x sustain without a result it is inconclusive.
"""

from __future__ import annotations

from remediation.context import RemediationContext
from remediation.core import progress
from remediation.core.incident import Attempt
from remediation.engine.registry import Registered
from remediation.engine.session import Session
from remediation.engine.steps import StepDeclined, StepFault, call_step
from remediation.model.base import epoch_ms, milliseconds
from remediation.model.entries import IncidentWaiting, VerificationStarted
from remediation.model.plan import Receipt
from remediation.model.runbook import Verdict, Wait

MIN_INTERVAL = 1.0
RENEWED = 7 * 24 * 3_600_000
"""How long after the fix (milliseconds) a verification that was not watched gets its time anew: no incident stays open for ever."""
SEEN_AGAIN = Verdict.failed("the degradation was seen again after the fix")


class Verification:
    """One run of verification for an attempt whose stages are applied."""

    def __init__(
        self,
        session: Session,
        registered: Registered,
        ctx: RemediationContext,
        attempt: Attempt,
        receipts: tuple[Receipt, ...],
    ) -> None:
        self._session = session
        self._case = session.case
        self._registered = registered
        self._ctx = ctx
        self._attempt = attempt
        self._receipts = receipts
        self._clock = session.clock
        self._used = session.used
        self._doze = session.staff.doze
        self._sustain = registered.spec.sustain.total_seconds()
        self._interval = max(MIN_INTERVAL, self._sustain / 5)

    async def run(self) -> Verdict | None:
        """
        The verdict, or `None` when it is journaled that verification waits.

        Raises:
            StepFault: verify failed by its own fault.

        """
        first = await self._sample()
        if isinstance(first, Wait):
            if self._case.fresh().waits >= progress.WAITS_CAP:
                return Verdict.inconclusive(f"verify asked to wait {progress.WAITS_CAP} times, the last time {first.reason}")
            await self._wait(first)
            return None
        if first.status == "failed" or not self._sustain:
            return first
        return await self._watch(first)

    async def _watch(self, first: Verdict) -> Verdict:
        before = self._attempt.verification
        anew = "the host was restarted" if before is not None and before.deadline else ""
        end = self._end(before.deadline if before is not None else 0)
        await self._begin(first, end, anew)
        since = self._clock.monotonic() if first.status == "healthy" else None
        seen = self._clock.monotonic()
        newest = first
        while True:
            await self._doze(self._interval)
            moment = self._clock.monotonic()
            if moment - seen > 2 * self._interval:
                since = None
                end = self._end(end)
                await self._begin(newest, end, f"nobody watched for {moment - seen:.0f} s")
            sampled = await self._sample()
            seen = self._clock.monotonic()
            newest = sampled if isinstance(sampled, Verdict) else Verdict.inconclusive(sampled.reason)
            if newest.status == "failed":
                return newest
            if newest.status == "inconclusive":
                since = None
            elif since is None:
                since = seen
            elif seen - since >= self._sustain:
                return newest
            if self._now() >= end:
                return Verdict.inconclusive(
                    f"not healthy for {self._sustain:g} s on end within three times that: {newest.reason or newest.status}"
                )

    def _end(self, before: int) -> int:
        """When a result must be there; `before`, if it had been begun, is when it had to be until now (0: never)."""
        now = self._now()
        return before if before and now - self._attempt.last_effect_at > RENEWED else now + round(3000 * self._sustain)

    async def _sample(self) -> Verdict | Wait:
        fresh = self._case.fresh()
        self._ctx.advance(cleared_at=fresh.cleared_at)
        if self._session.contradicted(self._attempt):
            return SEEN_AGAIN
        try:
            result = await call_step(
                self._registered.runbook,
                "verify",
                self._ctx,
                seconds=self._registered.spec.timeouts.verify.total_seconds(),
            )
        except StepDeclined as error:
            raise StepFault(f"verify left the allowed roots: {error}") from error
        if not isinstance(result, Verdict | Wait):
            raise StepFault(f"verify returned {type(result).__name__}")
        return SEEN_AGAIN if self._session.contradicted(self._attempt) else result

    async def _begin(self, verdict: Verdict, end: int, anew: str) -> None:
        receipts, self._receipts = self._receipts, ()
        entry = VerificationStarted(
            attempt=self._attempt.id,
            receipts=receipts,
            verdict=verdict,
            sustain_ms=round(1000 * self._sustain),
            deadline=end,
            anew=anew,
        )
        await self._case.commit(entry, before=self._used())

    async def _wait(self, wait: Wait) -> None:
        if self._attempt.verification is None:
            receipts, self._receipts = self._receipts, ()
            self._case.note(
                VerificationStarted(
                    attempt=self._attempt.id,
                    receipts=receipts,
                    verdict=Verdict.inconclusive(wait.reason),
                    sustain_ms=milliseconds(self._registered.spec.sustain),
                    deadline=0,
                )
            )
        await self._case.commit(
            IncidentWaiting(
                until=self._now() + max(progress.SHORTEST_WAIT_MS, milliseconds(wait.delay)),
                why="verify",
                reason=wait.reason,
                runbook=self._attempt.runbook,
                attempt=self._attempt.id,
            ),
            before=self._used(),
        )

    def _now(self) -> int:
        return epoch_ms(self._clock.now())
