"""What must hold at every point of a life (`tests.support.walking`), and on the way from any of them to the end."""

import itertools
import random
from typing import Any

from tests.support.aftermath import consent_was_used_once_and_for_its_plan
from tests.support.walking import CAP, SPECS, Life

from remediation.core import progress
from remediation.core.incident import Phase, Status
from remediation.core.state import HostState
from remediation.model import entries


class Walk(Life):
    """A life that is looked at after each transition."""

    def __init__(self, draw: Any) -> None:
        super().__init__(draw)
        self.marks: list[tuple[int, str, int, bool, bool, Any]] = []
        """After each transition: position, incident, time, paused, held back, and the next step."""

    def check(self) -> None:
        incident, step = self.incident, self.step()
        context = (incident.status, incident.phase, step, self.trail[-12:])
        assert incident.open == (incident.phase is not Phase.SETTLED), context
        assert isinstance(step, progress.Done) == (not incident.open), context
        if isinstance(step, progress.Sleep):
            paused = bool(self.ledger.state.paused(self.now))
            kept = (paused and incident.wait.why == "pause") or (self.others and incident.wait.why == "limit")
            assert step.until > self.now or kept, context
        if isinstance(step, progress.RetryLater):
            assert step.until > self.now, context
        if isinstance(step, progress.Decide):
            assert step.candidates
            assert all(item in SPECS for item in step.candidates)
            assert (step.stage == 0) == (step.attempt is None), context
        if isinstance(step, progress.Apply):
            assert step.attempt.acted, context
            assert self.decisions[step.attempt.id] == "proceed", context
        if isinstance(step, progress.AwaitConsent | progress.Consented):
            assert incident.approval is not None, context
            assert incident.approval.plan_digest == step.attempt.plan.digest, context
            assert self.now < incident.approval.not_after, context
        pending = incident.approval if incident.approval is not None and not incident.approval.answered else None
        assert self.ledger.state.approvals == ({pending.id: incident.id} if pending is not None else {}), context
        held = bool(self.ledger.state.paused(self.now))
        self.marks.append((len(self.ledger.records), incident.id, self.now, held, self.others, self.step_of(incident)))
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
        """With nobody disturbing it, an open incident is settled after a bounded number of steps, whether people answer or not."""
        self.ledger.add("host/pauses", entries.PauseEnded(by="p"))
        self.others = False
        for _ in range(400):
            self.others = self.others and self.choose(True, False)
            step = self.step()
            if isinstance(step, progress.Done):
                return
            if isinstance(step, progress.AwaitConsent) and self.choose(True, False):
                self.answer()
                self.check()
                continue
            if isinstance(step, progress.Sleep | progress.AwaitConsent):
                self.pass_time(max(1, step.until - self.now))
            self.engine()
            self.check()
        raise AssertionError(("it never ends", self.trail[-40:]))

    def every_beginning_goes_on_alike(self, *, kept_at: int = -1) -> None:
        """
        Raise AssertionError unless a host that starts after any transition takes the same next step as the one that made it.

        Args:
            kept_at: The position after which a snapshot is taken and the fold goes on from that.

        """
        state, marks = HostState(), iter(self.marks)
        mark = next(marks, None)
        for number, record in enumerate(self.ledger.records, 1):
            state.apply(record)
            if number == kept_at:
                content, state = state.dump(), HostState()
                state.restore(content)
            while mark is not None and mark[0] == number:
                _, id_, now, paused, others, step = mark
                again = progress.next_step(state.incidents[id_], SPECS, now=now, attempt_cap=CAP, paused=paused, held_back=others)
                assert again == step, (number, self.trail[-12:])
                mark = next(marks, None)
        assert mark is None
        consent_was_used_once_and_for_its_plan(self.ledger.records, always_asked=False)


class Steady:
    """Draws without hypothesis, for walks that are longer than it likes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, strategy: Any) -> Any:
        return self._random.choice(strategy.elements)
