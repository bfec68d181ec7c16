"""
Every legal life of an incident: whatever the world, the runbooks, people and crashes do.

The walk takes the step that the core asks for, lets it end in any way that the engine knows, and journals what the engine would.
"""

import itertools
from typing import Any

from hypothesis import strategies as st
from tests.support.folding import Ledger, effect, event, finished, plan, planned, receipt, spec

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


class Life:
    """One fingerprint, its incidents one after the other, and everybody who has a say."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.ledger = Ledger()
        self.numbers = itertools.count(1)
        self.incident = self.ledger.report(event(observed_at=self.ledger.now))
        self.skipped: dict[str, str] = {}
        self.trail: list[str] = []
        self.others = False
        """Whether others hold back what may only begin after them."""
        self.quarantined: set[str] = set()
        self.decisions: dict[str, str] = {}
        """By attempt: what the gate said to its newest plan."""

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
        return self.step_of(self.seen())

    def step_of(self, incident: Incident) -> Any:
        paused = bool(self.ledger.state.paused(self.now))
        return progress.next_step(incident, SPECS, now=self.now, attempt_cap=CAP, paused=paused, held_back=self.others)

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
        elif incident.open and incident.current is not None and incident.current.asked and not incident.current.receipts:
            self.tell(
                *self.void("closed"),
                finished_of(incident.current, "withheld"),
                entries.IncidentSettled(status="escalated", reason="closed", reports=incident.reports),
            )
        elif incident.held or (incident.open and incident.current is None and incident.phase is not Phase.ACTING):
            status = "escalated" if incident.open else incident.status.value
            self.tell(entries.IncidentSettled(status=status, reason="closed", reports=incident.reports))

    def answer(self) -> None:
        """A person answers what is asked; one who comes late, or a second time, is turned away by the engine."""
        approval = self.incident.approval
        if approval is None or approval.answered or self.now >= approval.not_after:
            return
        if self.choose("grant", "grant", "deny") == "grant":
            self.tell(entries.ApprovalGranted(approval_id=approval.id, approver="p", document="{}", signature="s"))
        else:
            self.tell(entries.ApprovalDenied(approval_id=approval.id, approver="p", reason="no"))

    def lifecycle(self) -> None:
        """A runbook is degraded, or may no longer act, or may again."""
        name = self.choose(*SPECS)
        match self.choose("degraded", "quarantined", "released"):
            case "degraded":
                self.ledger.add(f"runbook/{name}", entries.RunbookDegraded(runbook=name, reason="r"))
            case "quarantined":
                self.ledger.add(f"runbook/{name}", entries.RunbookQuarantined(runbook=name, by="p", reason="r"))
                self.quarantined.add(name)
            case "released":
                self.quarantined.discard(name)

    def world(self) -> None:
        match self.choose(
            "time", "time", "report", "report", "clear", "pause", "resume", "person", "crash", "release",
            "answer", "answer", "answer", "others", "alone", "lifecycle",
        ):  # fmt: skip
            case "answer":
                self.answer()
            case "others":
                self.others = True
            case "alone":
                self.others = False
            case "lifecycle":
                self.lifecycle()
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
            case progress.AwaitConsent(attempt):
                self.look_again(attempt)
            case progress.Consented(attempt, approval):
                self.judge_again(attempt, approval)
            case progress.NoConsent(attempt, reason, denied):
                void = () if denied else self.void(reason)
                self.tell(*void, finished_of(attempt, "withheld", revert=progress.to_revert(attempt)))
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
        may = (
            ("withheld",) if runbook in self.quarantined else ("plan", "plan", "plan", "more", "ask", "ask", "ask-more", "trusted")
        )
        match self.choose(*may, "withheld", "wait", "decline", "window", "held"):
            case "window":
                self.tell(entries.IncidentWaiting(until=self.now + 2_000, why="limit", reason="r", runbook=runbook))
            case "held" if attempt is None:
                self.others = True
                self.tell(entries.IncidentWaiting(until=0, why="limit", reason="r", runbook=runbook))
            case "held":
                pass
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
                    decision="ask" if kind in ("withheld", "ask", "ask-more") else "proceed",
                    skipped=tuple(self.skipped.items()),
                    plan=plan(
                        *(effect(f"{id_}:{step.stage}:{n}") for n in range(2)),
                        stage=step.stage,
                        more=kind in ("more", "ask-more") and step.stage < 3,
                        nonce=f"n{next(self.numbers)}",
                    ),
                )
                if kind == "withheld":
                    self.tell(made, finished(made, "withheld", revert=progress.to_revert(attempt) if attempt else ()))
                elif kind in ("ask", "ask-more"):
                    self.tell(made, *self.request(made))
                elif kind == "trusted":
                    asked = entries.TrustRequested(runbook=runbook, attempt=id_, scope="s")
                    given = entries.TrustGranted(grant_id=id_, runbook=runbook, scope="s", by="record", not_after=0, reason="r")
                    self.tell(asked, given, made)
                else:
                    self.tell(made)
                self.decisions[id_] = made.gate.decision
                self.skipped.clear()

    def request(self, made: entries.AttemptPlanned) -> tuple[Any, ...]:
        until = self.now + self.choose(1_000, 60_000, DAY)
        id_ = f"r{next(self.numbers)}"
        requested = entries.ApprovalRequested(
            approval_id=id_,
            attempt=made.attempt,
            runbook=made.runbook,
            code_digest=made.code_digest,
            plan_digest=made.plan_digest,
            not_after=until,
        )
        wait = entries.IncidentWaiting(until=until, why="approval", reason="r", runbook=made.runbook, attempt=made.attempt)
        return requested, wait

    def void(self, reason: str) -> tuple[Any, ...]:
        approval = self.incident.approval
        return (entries.ApprovalExpired(approval_id=approval.id if approval is not None else "", reason=reason),)

    def look_again(self, attempt: Attempt) -> None:
        """While it waits for consent, the finding is looked at again; between two stages only the reporter is heard."""
        match self.choose("needed", "needed", "gone", "declined") if not attempt.receipts else "needed":
            case "gone":
                self.tell(*self.void("gone"), finished_of(attempt, "withheld"))
                self.settle(Status.RESOLVED, "gone")
            case "declined":
                self.tell(*self.void("declined"), finished_of(attempt, "conflict"))

    def judge_again(self, attempt: Attempt, approval: Any) -> None:
        """The approved plan is judged a second time; if the world is no longer as it was shown, it is asked anew."""
        match self.choose("proceed", "proceed", "proceed", "differs", "limit", "refuse"):
            case "differs":
                self.tell(*self.void("differs"), finished_of(attempt, "conflict", revert=progress.to_revert(attempt)))
            case "limit":
                self.tell(entries.IncidentWaiting(until=self.now + 5_000, why="limit", reason="r", runbook=attempt.runbook))
            case decision:
                decision = "refuse" if attempt.runbook in self.quarantined else decision
                made = planned(
                    attempt.id,
                    runbook=attempt.runbook,
                    number=attempt.number,
                    level=attempt.level,
                    decision=decision,
                    plan=attempt.plan,
                )
                assert made.plan_digest == approval.plan_digest
                withheld = finished(made, "withheld", revert=progress.to_revert(attempt))
                self.tell(made, *(() if decision == "proceed" else (withheld,)))
                self.decisions[attempt.id] = decision

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


def finished_of(attempt: Attempt, outcome: str, **more: Any) -> entries.AttemptFinished:
    return entries.AttemptFinished(attempt=attempt.id, runbook=attempt.runbook, outcome=outcome, reason=outcome, **more)
