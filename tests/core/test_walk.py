"""
Walks through every legal life of an incident: whatever the world, the runbooks, people and crashes do, what must hold, holds.

The walk takes the step that the core asks for, lets it end in any way that the engine knows, and journals what the engine would.
"""

import itertools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.folding import NOW, Ledger, effect, event, finished, plan, planned, receipt, spec

from remediation.core import progress
from remediation.core.incident import Attempt, Incident, Phase, Status, changed
from remediation.core.intake import Coalesce, decide_report
from remediation.core.limits import recurrence
from remediation.model import entries
from remediation.model.base import Severity

SPECS = {
    "a": spec("a", level="recovery", retries=1, backoff=("30s",)),
    "b": spec("b", level="patch"),
    "c": spec("c", level="heal", retries=2, backoff=()),
}
CAP = 3
COOLDOWN = 300_000
DAY = 24 * 3_600_000


class Walk:
    """One fingerprint, its incidents one after the other, and everybody who has a say."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.ledger = Ledger()
        self.numbers = itertools.count(1)
        self.incident = self.ledger.report(event(observed_at=self.ledger.now))
        self.skipped: dict[str, str] = {}
        self.trail: list[str] = []

    # -- what may happen ----------------------------------------------------------------------------------------------------

    def choose(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    @property
    def now(self) -> int:
        return self.ledger.now

    def pass_time(self, milliseconds: int) -> None:
        self.ledger.now += milliseconds

    def tell(self, *added: Any) -> None:
        self.trail += [entry.type for entry in added]
        self.incident = self.ledger.tell(self.incident, *added)

    def seen(self) -> Incident:
        """As the engine sees it: with what it decided and did not journal yet."""
        return changed(self.incident, skipped=tuple((dict(self.incident.skipped) | self.skipped).items()))

    def step(self) -> Any:
        paused = bool(self.ledger.state.paused(self.now))
        return progress.next_step(self.seen(), SPECS, now=self.now, attempt_cap=CAP, paused=paused)

    def crash(self) -> None:
        self.skipped.clear()

    def report(self) -> None:
        severity = self.choose(*Severity)
        at = self.now - self.choose(0, 5_000)
        found = decide_report(self.ledger.state, event(observed_at=at, severity=severity), storm_subjects=10**6)
        if isinstance(found, Coalesce):
            assert found.incident.id == self.incident.id
            count = self.incident.reports + 1
            self.tell(entries.DegradationCoalesced(count=count, severity=found.severity, observed_at=at, why=found.why))
        else:
            self.incident = self.ledger.report(found.event)
            self.skipped.clear()

    def person(self) -> None:
        incident = self.incident
        if not incident.open and self.choose(True, False):
            if self.ledger.state.open_or_held(incident.fingerprint) in (None, incident):
                self.tell(entries.IncidentReopened(reason="again", ladder=self.choose((), ("a",), ("b", "a"))))
        elif incident.held or (incident.open and incident.current is None and incident.phase is not Phase.ACTING):
            status = "escalated" if incident.open else incident.status.value
            self.tell(entries.IncidentSettled(status=status, reason="closed", reports=incident.reports))

    def world(self) -> None:
        match self.choose("time", "time", "report", "report", "clear", "pause", "resume", "person", "crash", "release"):
            case "time":
                self.pass_time(self.choose(1, 1_000, 31_000, COOLDOWN, DAY))
            case "report":
                self.report()
            case "clear" if self.incident.open or self.incident.held:
                self.tell(entries.DegradationCleared(observed_at=self.now))
            case "pause":
                until = self.choose(0, self.now + 10_000)
                self.ledger.add("host/pauses", entries.PauseStarted(reason="why", by="p", until=until))
            case "resume":
                self.ledger.add("host/pauses", entries.PauseEnded(by="p"))
            case "person":
                self.person()
            case "crash":
                self.crash()
            case "release" if (
                self.incident.held and not self.incident.dirty and self.incident.cleared_at > self.incident.observed_at
            ):
                made = progress.settlement(self.incident, self.incident.status, "released")
                self.tell(made.model_copy(update={"held": False}))

    # -- what the engine does --------------------------------------------------------------------------------------------------

    def engine(self) -> None:
        match self.step():
            case progress.Done() | progress.Sleep():
                pass
            case progress.TakeIn():
                self.take_in()
            case progress.Decide() as step:
                self.decide(step)
            case progress.Apply(attempt):
                self.apply(attempt)
            case progress.Verify(attempt):
                self.verify(attempt, ())
            case progress.Revert(attempt):
                kind = self.choose(entries.EffectReverted, entries.EffectReverted, entries.EffectRevertFailed)
                more = {"error": "no"} if kind is entries.EffectRevertFailed else {}
                self.tell(kind(attempt=attempt.id, key=attempt.revert[0], **more))
            case progress.RetryLater(runbook, until):
                self.tell(entries.IncidentWaiting(until=until, why="retry", reason="r", runbook=runbook))
            case progress.Resolve(reason):
                self.settle(Status.RESOLVED, reason)
            case progress.GiveUp(status, reason, dirty):
                self.settle(status, reason, dirty=dirty)
            case other:
                raise AssertionError(other)

    def settle(self, status: Status, reason: str, *, dirty: bool = False) -> None:
        self.tell(progress.settlement(self.seen(), status, reason, dirty=dirty))
        self.skipped.clear()

    def take_in(self) -> None:
        ladder = self.choose((), ("a",), ("a", "b"), ("c", "b", "a"))
        back = recurrence(self.ledger.state.past.get(self.incident.fingerprint, ()), now=self.now, cooldown_ms=COOLDOWN)
        if ladder and back.wait_until:
            self.tell(entries.IncidentWaiting(until=back.wait_until, why="cooldown", reason="r"))
            return
        self.tell(
            entries.IncidentOpened(fingerprint=self.incident.fingerprint, severity=Severity.P2, ladder=ladder, history=back.history)
        )
        if ladder and back.escalate:
            self.settle(Status.ESCALATED, back.escalate)

    def decide(self, step: progress.Decide) -> None:
        runbook, attempt = step.candidates[0], step.attempt
        paused = self.ledger.state.paused(self.now)
        if paused:
            self.tell(entries.IncidentWaiting(until=0, why="pause", reason=paused, runbook=runbook))
            return
        match self.choose("plan", "plan", "plan", "more", "withheld", "wait", "decline"):
            case "wait":
                self.tell(entries.IncidentWaiting(until=self.now + 1_000, why="stage", reason="r", runbook=runbook))
            case "decline" if attempt is None:
                self.skipped[runbook] = "declined"
            case "decline":
                self.tell(finished_of(attempt, "failed", revert=progress.to_revert(attempt)))
            case kind:
                number = attempt.number if attempt else len(self.incident.attempts) + 1
                id_ = attempt.id if attempt else f"x{next(self.numbers)}"
                made = planned(
                    id_,
                    runbook=runbook,
                    number=number,
                    level=SPECS[runbook].level,
                    decision="ask" if kind == "withheld" else "proceed",
                    skipped=tuple(self.skipped.items()),
                    plan=plan(
                        *(effect(f"{id_}:{step.stage}:{n}") for n in range(2)),
                        stage=step.stage,
                        more=kind == "more" and step.stage < 3,
                    ),
                )
                if kind == "withheld":
                    self.tell(made, finished(made, "withheld", revert=progress.to_revert(attempt) if attempt else ()))
                else:
                    self.tell(made)
                self.skipped.clear()

    def apply(self, attempt: Attempt) -> None:
        keys = [item.key for item in attempt.plan.effects]
        done = tuple(receipt(key, at=self.now) for key in keys)
        match self.choose("done", "done", "done", "failed", "conflict", "uncertain", "started", "panic"):
            case "done" if attempt.plan.more:
                self.tell(entries.StageApplied(attempt=attempt.id, stage=attempt.plan.stage, receipts=done))
            case "done":
                self.verify(attempt, done)
            case "failed" | "conflict" as outcome:
                half = (*done[:1], receipt(keys[1], "failed", at=self.now))
                undo = (*((keys[1],) if outcome == "failed" else ()), keys[0], *progress.to_revert(attempt))
                self.tell(finished_of(attempt, outcome, receipts=half, revert=undo))
            case "uncertain":
                self.tell(entries.EffectUncertain(attempt=attempt.id, key=keys[0], reason="r"))
            case "started":
                self.tell(entries.EffectStarted(attempt=attempt.id, key=keys[0]))
                self.crash()
            case "panic":
                self.tell(entries.IncidentWaiting(until=0, why="pause", reason="panic", attempt=attempt.id))

    def verify(self, attempt: Attempt, receipts: tuple[Any, ...]) -> None:
        outcome = self.choose("healthy", "failed", "inconclusive", "window", "wait")
        if outcome in ("window", "wait"):
            started = entries.VerificationStarted(
                attempt=attempt.id, receipts=receipts, verdict={"status": "healthy"}, sustain_ms=60_000, deadline=self.now + 180_000
            )
            self.tell(started)
            if outcome == "wait":
                self.tell(entries.IncidentWaiting(until=self.now + 1_000, why="verify", reason="r", attempt=attempt.id))
            return
        known = changed(attempt, receipts=(*attempt.receipts, *receipts))
        if outcome == "healthy" and not attempt.uncertain:
            done = finished_of(attempt, "healed", receipts=receipts)
            self.tell(done, progress.settlement(self.seen(), Status.RESOLVED, "healed"))
        else:
            outcome = "inconclusive" if outcome == "healthy" else outcome
            undo = progress.to_revert(known) if outcome == "failed" else ()
            self.tell(finished_of(attempt, outcome, receipts=receipts, revert=undo))

    # -- what must hold -----------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        incident, step = self.incident, self.step()
        context = (incident.status, incident.phase, step, self.trail[-12:])
        assert incident.open == (incident.phase is not Phase.SETTLED), context
        assert isinstance(step, progress.Done) == (not incident.open), context
        if isinstance(step, progress.Sleep):
            paused = bool(self.ledger.state.paused(self.now))
            assert step.until > self.now or (paused and incident.wait.why == "pause"), context
        if isinstance(step, progress.RetryLater):
            assert step.until > self.now, context
        if isinstance(step, progress.Decide):
            assert step.candidates
            assert all(item in SPECS for item in step.candidates)
            assert (step.stage == 0) == (step.attempt is None), context
        if isinstance(step, progress.Apply):
            assert step.attempt.acted, context
        fresh = incident.attempts[incident.fresh_from :]
        assert incident.acted <= CAP, context
        for name, declared in SPECS.items():
            assert sum(item.runbook == name and item.outcome == "failed" for item in fresh) <= declared.retries + 1, context
        tried = [item.runbook for item in fresh if item.outcome != "conflict"]
        assert [name for name, _ in itertools.groupby(tried)] == [name for name in incident.ladder if name in tried], context
        numbers = [item.number for item in incident.attempts]
        assert numbers == list(range(1, len(numbers) + 1)), context
        assert len({item.id for item in incident.attempts}) == len(incident.attempts), context
        for item in incident.attempts:
            assert not set(item.reverted) & set(item.revert), context
            # Nothing is left changed by an attempt that failed, unless the subject is fenced for it.
            if item.outcome in ("failed", "conflict", "withheld") and not item.revert and not item.uncertain:
                left = set(progress.to_revert(item)) - set(item.reverted)
                assert left <= set(item.revert_failed), context
        if incident.status is Status.RESOLVED:
            assert not incident.held
            assert not incident.dirty
        if any(item.revert_failed for item in fresh):
            assert incident.dirty or not incident.held, context
        held = self.ledger.state.open_or_held(incident.fingerprint)
        assert (held is not None) == (incident.open or incident.held), context

    def drive_to_the_end(self) -> None:
        """With nobody disturbing it, an open incident is settled after a bounded number of steps."""
        self.ledger.add("host/pauses", entries.PauseEnded(by="p"))
        for _ in range(400):
            step = self.step()
            if isinstance(step, progress.Done):
                return
            if isinstance(step, progress.Sleep):
                self.pass_time(max(1, step.until - self.now))
            self.engine()
            self.check()
        raise AssertionError(("it never ends", self.trail[-40:]))


def finished_of(attempt: Attempt, outcome: str, **more: Any) -> entries.AttemptFinished:
    return entries.AttemptFinished(attempt=attempt.id, runbook=attempt.runbook, outcome=outcome, reason=outcome, **more)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_whatever_happens_the_rules_hold_and_the_incident_can_be_settled(data: st.DataObject) -> None:
    walk = Walk(data.draw)
    for _ in range(data.draw(st.integers(0, 60))):
        if data.draw(st.integers(0, 9)) < 7:
            walk.engine()
        else:
            walk.world()
        walk.check()
    again = walk.ledger.replayed()
    assert again.incidents == walk.ledger.state.incidents
    assert again.by_fingerprint == walk.ledger.state.by_fingerprint


class Steady:
    """Draws without hypothesis, for walks that are longer than it likes."""

    def __init__(self, seed: int) -> None:
        import random

        self._random = random.Random(seed)

    def __call__(self, strategy: Any) -> Any:
        return self._random.choice(strategy.elements)


def test_left_alone_every_incident_comes_to_an_end() -> None:
    import random

    ends: set[str] = set()
    for seed in range(400):
        walk = Walk(Steady(seed))
        disturb = random.Random(seed)
        for _ in range(disturb.randrange(40)):
            (walk.engine if disturb.random() < 0.7 else walk.world)()
            walk.check()
        walk.drive_to_the_end()
        ends.add(walk.incident.status.value)
    assert ends == {"resolved", "escalated", "heal_failed"}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_settled_is_final_but_for_a_release_and_a_reopening(data: st.DataObject) -> None:
    ledger = Ledger(now=NOW)
    made = planned("x", runbook="a")
    incident = ledger.tell(ledger.take_in(ledger.report(), "a"), made)
    status = data.draw(st.sampled_from(["resolved", "escalated", "heal_failed"]))
    incident = ledger.settle(incident, status)
    late: list[Any] = [
        entries.DegradationCoalesced(count=9, severity="P0", observed_at=NOW, why="count"),
        entries.DegradationCleared(observed_at=NOW),
        entries.IncidentOpened(fingerprint=incident.fingerprint, severity="P2", ladder=("b",)),
        entries.IncidentWaiting(until=NOW + 5, why="stage", reason="r"),
        entries.StageApplied(attempt="x", stage=0, receipts=()),
        entries.EffectStarted(attempt="x", key="x:0:0"),
        entries.EffectApplied(attempt="x", receipt=receipt("x:0:0")),
        entries.EffectReverted(attempt="x", key="x:0:0"),
        entries.VerificationStarted(attempt="x", verdict={"status": "healthy"}, sustain_ms=0, deadline=0),
        finished(made, "failed", revert=("x:0:0",)),
        entries.CredentialUsed(name="n", runbook="a", attempt="x"),
    ]
    for entry in data.draw(st.lists(st.sampled_from(late), max_size=6)):
        incident = ledger.tell(incident, entry)
        assert incident.status == status
        assert not incident.open
        assert isinstance(progress.next_step(incident, SPECS, now=NOW, attempt_cap=CAP), progress.Done)
    assert ledger.tell(incident, entries.IncidentReopened(reason="r")).open
