"""Verification: healthy must mean durable, not merely alive."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import broken, entries_of, is_mended, only, runbook, ticked, types_of

from remediation import DegradationEvent
from remediation.authoring import RemediationContext, Verdict, Wait
from remediation.bootstrap import Host
from remediation.model.base import epoch_ms
from remediation.model.entries import AttemptFinished, DegradationCoalesced, VerificationStarted
from remediation.testing import FakeClock, eventually, running_host


class Samples:
    """A verify that says what it is told, and notes when it was asked."""

    def __init__(self, clock: FakeClock, answer: Callable[[int], Verdict | Wait] | None = None) -> None:
        self.clock = clock
        self.answer = answer or (lambda number: Verdict.healthy())
        self.at: list[float] = []

    async def __call__(self, ctx: RemediationContext) -> Verdict | Wait:
        self.at.append(self.clock.monotonic())
        return self.answer(len(self.at))


async def sampled(
    host: Host, clock: FakeClock, samples: Samples, incident: str, *, step: float, until: Callable[[], Any], nap: float = 13
) -> None:
    """Let time pass by `step` after each sample that was taken, once the next one is `nap` seconds away."""
    while not until():
        await eventually(lambda: nap in clock.naps or until())
        seen = len(samples.at)
        clock.advance(step)
        await eventually(lambda seen=seen: len(samples.at) > seen or until())
    if not host.incident(incident).open:
        await host.wait_for(incident, timeout=10)  # what is told of it is durable, too


def closed(host: Host, incident: str) -> Callable[[], bool]:
    return lambda: not host.incident(incident).open


async def test_sustained_health_resolves_after_the_window_with_samples_at_a_fifth_of_it(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        assert host.incident(reported.incident).status == "resolved"
        assert [at - samples.at[0] for at in samples.at] == [0, 13, 26, 39, 52, 65]
        assert (await types_of(host, reported.incident))[2:] == [
            "attempt.planned",
            "verification.started",
            "attempt.finished",
            "incident.settled",
        ]


async def test_samples_are_never_more_often_than_once_a_second(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    async with running_host(tmp_path, runbook(verify=samples, sustain="2s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await ticked(clock, closed(host, reported.incident), 0.25)
        assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(samples.at))
        assert samples.at[-1] - samples.at[0] >= 2


async def test_one_failed_sample_fails_and_everything_is_taken_back(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock, lambda number: Verdict.failed("it died") if number == 4 else Verdict.healthy())
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        event = broken(tmp_path)
        reported = await host.report(event)
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        assert host.incident(reported.incident).status == "heal_failed"
        assert "it died" in host.incident(reported.incident).reason
        assert Path(event.subject).read_text() == "broken\n"
        assert len(samples.at) == 4


async def test_an_inconclusive_sample_starts_the_window_anew(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock, lambda number: Verdict.inconclusive("busy") if number == 4 else Verdict.healthy())
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        assert host.incident(reported.incident).status == "resolved"
        assert [at - samples.at[0] for at in samples.at] == [13 * number for number in range(10)]


async def test_without_a_result_in_three_times_the_window_it_is_inconclusive_and_nothing_is_taken_back(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock, lambda number: Verdict.inconclusive("busy") if number % 3 == 0 else Verdict.healthy())
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        event = broken(tmp_path)
        reported = await host.report(event)
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        incident = host.incident(reported.incident)
        assert incident.status == "escalated"
        assert incident.attempts[0].outcome == "inconclusive"
        assert samples.at[-1] - samples.at[0] == 195
        assert Path(event.subject).read_text() == "mended\n"
        assert host._state.runbooks["mend"].failed == 0


async def test_inconclusive_without_a_window_escalates_at_once(tmp_path: Path) -> None:
    async def unknown(ctx: RemediationContext) -> Verdict:
        return Verdict.inconclusive("who knows")

    async with running_host(tmp_path, runbook(verify=unknown)) as host:
        event = broken(tmp_path)
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "escalated"
        assert "who knows" in incident.reason
        assert Path(event.subject).read_text() == "mended\n"


@pytest.mark.parametrize(("gap", "anew"), [(26, False), (26.5, True), (3600, True)])
async def test_a_gap_of_more_than_two_intervals_is_never_credited(tmp_path: Path, gap: float, anew: bool) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await sampled(host, clock, samples, reported.incident, step=13, until=lambda: len(samples.at) == 3)
        await sampled(host, clock, samples, reported.incident, step=gap, until=lambda: len(samples.at) == 4)
        started = only(VerificationStarted, await entries_of(host, reported.incident))
        assert len(started) == (2 if anew else 1)
        if not anew:
            await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
            assert samples.at[-1] - samples.at[0] == 65
        else:
            assert "nobody watched" in started[1].anew
            await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
            assert samples.at[-1] - samples.at[3] == 65
            assert host.incident(reported.incident).status == "resolved"


async def test_a_restart_starts_the_window_anew_and_the_time_for_a_result_with_it(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    book = runbook(verify=samples, sustain="65s")
    async with running_host(tmp_path, book, clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await sampled(host, clock, samples, reported.incident, step=13, until=lambda: len(samples.at) == 5)
    async with running_host(tmp_path, book, clock=clock) as host:
        await eventually(lambda: len(samples.at) == 6)
        begin = samples.at[-1]
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        assert host.incident(reported.incident).status == "resolved"
        assert samples.at[-1] - begin == 65
        started = only(VerificationStarted, await entries_of(host, reported.incident))
        assert [entry.anew for entry in started] == ["", "the host was restarted"]
        assert started[1].deadline - round(1000 * begin) == started[0].deadline - round(1000 * samples.at[0])
        assert started[0].receipts
        assert not started[1].receipts


async def test_a_wall_clock_that_is_set_does_not_shorten_the_window(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await sampled(host, clock, samples, reported.incident, step=13, until=lambda: len(samples.at) == 2)
        clock.jump(100)
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        assert samples.at[-1] - samples.at[0] == 65


async def test_what_was_seen_after_the_last_effect_is_evidence_against_health(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        event = broken(tmp_path)
        reported = await host.report(event)
        await sampled(host, clock, samples, reported.incident, step=13, until=lambda: len(samples.at) == 3)
        again = await host.report(event.model_copy(update={"observed_at": None, "summary": "again"}))
        assert (again.incident, again.opened) == (reported.incident, False)
        await eventually(lambda: 13 in clock.naps)
        clock.advance(13)
        await host.wait_for(reported, timeout=10)
        incident = host.incident(reported.incident)
        assert incident.status == "heal_failed"
        assert "seen again" in incident.attempts[0].reason
        assert Path(event.subject).read_text() == "broken\n"
        coalesced = only(DegradationCoalesced, await entries_of(host, incident.id))
        assert [(entry.why, entry.summary) for entry in coalesced] == [("counter-evidence", "again")]


async def test_what_was_seen_before_the_last_effect_and_told_late_is_none(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        event = broken(tmp_path)
        reported = await host.report(event)
        await sampled(host, clock, samples, reported.incident, step=13, until=lambda: len(samples.at) == 3)
        await host.report(event.model_copy(update={"observed_at": epoch_ms(clock.now()) - 60_000}))
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        assert host.incident(reported.incident).status == "resolved"


async def test_a_report_during_a_verification_without_window_is_evidence_too(tmp_path: Path) -> None:
    """The degradation is seen again after the effect, while verify still looks: it must not be swallowed by 'resolved'."""

    async def told_meanwhile(ctx: RemediationContext) -> Verdict:
        await eventually(lambda: epoch_ms(ctx.now()) > ctx.last_effect_at)
        await host.report(DegradationEvent(code="BROKEN", subsystem="test", subject=ctx.event.subject))
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=told_meanwhile)) as host:
        event = broken(tmp_path)
        incident = await host.wait_for(await host.report(event), timeout=10)
        assert incident.status == "heal_failed"
        assert Path(event.subject).read_text() == "broken\n"


async def test_a_verify_that_waits_is_asked_again_later_and_by_the_word_of_the_reporter(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock, lambda number: Wait("10m", "until the next run") if number < 3 else Verdict.healthy())
    async with running_host(tmp_path, runbook(verify=samples), clock=clock) as host:
        event = broken(tmp_path)
        reported = await host.report(event)
        await eventually(lambda: host.incident(reported.incident).wait)
        assert (await types_of(host, reported.incident))[-2:] == ["verification.started", "incident.waiting"]
        await ticked(clock, lambda: len(samples.at) == 2, 30)
        assert samples.at[1] - samples.at[0] >= 600
        await eventually(lambda: len(host.incident(reported.incident).attempts[0].receipts) == 1)
        clock.advance(1)
        await host._remediator.intake.clear(event.code, event.subsystem, event.subject)
        incident = await host.wait_for(reported, timeout=10)
        assert incident.status == "resolved"
        assert samples.at[2] - samples.at[1] < 100


async def test_a_verify_that_waited_before_its_window_was_not_restarted(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock, lambda number: Wait("10s", "soon") if number == 1 else Verdict.healthy())
    async with running_host(tmp_path, runbook(verify=samples, sustain="65s"), clock=clock) as host:
        reported = await host.report(broken(tmp_path))
        await ticked(clock, lambda: len(samples.at) == 2, 1)
        await sampled(host, clock, samples, reported.incident, step=13, until=closed(host, reported.incident))
        assert host.incident(reported.incident).status == "resolved"
        assert [entry.anew for entry in only(VerificationStarted, await entries_of(host, reported.incident))] == ["", ""]


async def test_verify_knows_when_the_reporter_no_longer_sees_it(tmp_path: Path) -> None:
    clock = FakeClock()
    seen: list[bool] = []

    async def by_the_reporter(ctx: RemediationContext) -> Verdict | Wait:
        seen.append(ctx.cleared)
        return Verdict.healthy("the reporter says so") if ctx.cleared else Wait("1h", "for the reporter")

    async with running_host(tmp_path, runbook(verify=by_the_reporter), clock=clock) as host:
        event = broken(tmp_path)
        reported = await host.report(event)
        await eventually(lambda: host.incident(reported.incident).wait)
        clock.advance(1)
        await host._remediator.intake.clear(event.code, event.subsystem, event.subject)
        assert (await host.wait_for(reported, timeout=10)).status == "resolved"
        assert seen == [False, True]


async def test_the_verdict_of_the_last_sample_is_journaled(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(verify=is_mended)) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert only(AttemptFinished, await entries_of(host, incident.id))[0].verdict == Verdict.healthy()


async def test_while_it_is_watched_a_heal_does_not_occupy_a_place(tmp_path: Path) -> None:
    clock = FakeClock()
    samples = Samples(clock)
    books = (runbook("slow", code="SLOW", verify=samples, sustain="65s"), runbook("quick"))
    async with running_host(tmp_path, *books, clock=clock, limits={"concurrency": 2}) as host:
        slow = [await host.report(broken(tmp_path, f"slow{number}", code="SLOW")) for number in range(6)]
        await eventually(lambda: len(samples.at) == 6)
        assert (await host.wait_for(await host.report(broken(tmp_path, "quick")), timeout=10)).status == "resolved"
        assert all(host.incident(reported.incident).open for reported in slow)
