"""
Rehearsal: what a host would do about a degradation now, found out without doing it.

The steps are the host's own (`deciding`, `proposing`, `judging`), on the state that the journal has and in the world as it is. Nothing
is journaled, applied or locked; before-images go to a store of the rehearsal's own. Non-guarantees: a runbook's steps are code of this
process, and what they do beside returning values is done here too; a host that decides a moment later may find another world.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from remediation.context import RemediationContext
from remediation.core import gate as gating
from remediation.core.evolution import opened
from remediation.core.gate import Decision, Profile
from remediation.core.incident import Incident, stream_of
from remediation.core.intake import Coalesce, decide_report
from remediation.core.lifecycle import State
from remediation.core.limits import PastHeal, recurrence
from remediation.core.state import HostState
from remediation.engine import deciding, judging, proposing
from remediation.engine.lending import Loan, World
from remediation.engine.policy import Policy
from remediation.engine.registry import Registered, Registry
from remediation.engine.steps import CONDUCT, StepDeclined, StepFault, describe_error
from remediation.errors import CredentialRefused, NotCanonical
from remediation.model.base import epoch_ms
from remediation.model.entries import AttemptPlanned, DegradationReported, GateRecord
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import PlanRecord
from remediation.model.redaction.journaled import redacted, redacted_event
from remediation.model.redaction.plans import secrets_of, without_secrets
from remediation.model.runbook import Finding, Wait
from remediation.proof.leaf import MAX_BODY_BYTES

PROFILES: tuple[Profile, ...] = get_args(Profile)
Result = Literal["planned", "applies", "declined", "waits", "unprepared", "faulted", "unknown"]
"""
What came of asking one runbook. ``applies``: it was asked for its finding only, as one before it has a plan. ``unprepared``: it has a
plan that can't be prepared. ``unknown``: it needs a credential, and a rehearsal lends none.
"""
PASSED_OVER: tuple[Result, ...] = ("declined", "unprepared", "faulted")
"""After these the host goes on to the next runbook."""
Answer = Decision | Literal["none", "joins", "unknown"]


class CredentialWithheld(CredentialRefused):
    """A rehearsal was asked for a credential. Each use of one is journaled, and a rehearsal journals nothing."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One runbook of the ladder, and what it said."""

    runbook: str
    state: State
    result: Result
    reason: str = ""
    finding: Finding | None = None
    admitted: GateRecord | None = None
    """What the gate says before the runbook is asked; `None` where it was not asked in its turn."""
    planned: AttemptPlanned | None = None
    """The entry that a host would journal, finding, gate and plan, masked as it would be."""
    profiles: tuple[tuple[Profile, GateRecord], ...] = ()
    """What the gate would say to the plan under each profile."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a host would do about `event`."""

    event: DegradationEvent
    """As it would be taken in: masked, and in a storm another one."""
    fingerprint: str
    answer: Answer
    """The gate's decision; ``none``: no runbook has a plan; ``joins``: it is counted with an incident that is there."""
    outcome: str
    """The same for people, in one line."""
    ladder: tuple[Rung, ...] = ()
    joins: str = ""
    """Id of the open or held incident that the report would be counted with."""

    @property
    def acts(self) -> bool:
        """Whether something would be applied without a person."""
        return self.answer == "proceed"

    @property
    def chosen(self) -> Rung | None:
        """The runbook whose word the host would go by."""
        return next((rung for rung in self.ladder if rung.result not in PASSED_OVER), None)


class Unlocked:
    """Stands where an attempt holds its subject's lock: a rehearsal takes none. See `remediation.ports.locking.HeldLock`."""

    number = 0
    descriptors: tuple[int, ...] = ()

    def tell(self, attempt: str) -> None:
        """Nobody waits for it."""

    def expect_child(self, deadline: float) -> dict[str, str]:
        """Nothing marks its children; see `record_child`."""
        return {}

    def record_child(self, pid: int, deadline: float) -> None:
        """Nobody takes over from a rehearsal: its children end at their deadline or with it."""

    def join(self, other: object) -> None:
        """There is nothing to hold."""

    def release(self) -> None:
        """There is nothing to give back."""


class Rehearser:
    """
    Asks runbooks as a host would.

    Args:
        world: With folders of its own for scratch and blobs, and without secrets: see `CredentialWithheld`.
        past: Past heals of a fingerprint.

    """

    def __init__(
        self,
        state: HostState,
        registry: Registry,
        world: World,
        policy: Policy,
        past: Callable[[str], Awaitable[tuple[PastHeal, ...]]],
    ) -> None:
        self._state = state
        self._registry = registry
        self._world = world
        self._policy = policy
        self._past = past
        self.stuck: list[str] = []
        """Runbooks of which something could not be stopped, and still runs. They are not asked again."""
        self.faulted: dict[str, str] = {}
        """Runbooks whose `matches` raised, and what."""

    def taken_in(self, event: DegradationEvent, provenance: Provenance) -> tuple[Incident, Coalesce | None]:
        """The incident that `event` would open, and the one that it would be counted with instead, if there is such."""
        now = self._now()
        event = redacted_event(self._world.redactor, event)
        if event.observed_at is None or not 0 <= event.observed_at <= now:
            event = event.model_copy(update={"observed_at": now})
        policy = self._policy
        decision = decide_report(
            self._state,
            event,
            storm_subjects=policy.storm_subjects,
            storm_exit_ms=policy.storm_exit_ms,
            now=now,
            apart=policy.grouped,
        )
        joined = decision if isinstance(decision, Coalesce) else None
        taken = event if isinstance(decision, Coalesce) else decision.event
        stream = stream_of(f"{taken.fingerprint}-{secrets.token_hex(6)}")
        return opened(DegradationReported(event=taken, provenance=provenance), stream=stream, seq=-1, at=now), joined

    def matching(self, incident: Incident) -> list[Registered]:
        """The ladder of `incident`."""
        matched = self._registry.match(incident.event, incident.provenance, faulted=self._match_faulted)
        return deciding.by_standing(self._policy, self._state, matched)

    async def rehearse(self, event: DegradationEvent, provenance: Provenance = Provenance.EXPLICIT) -> Rehearsal:
        """What a host would do about `event`, reported now through a channel of this `provenance`."""
        incident, joined = self.taken_in(event, provenance)
        matched = self.matching(incident)
        past = await self._past(incident.fingerprint)
        rungs: list[Rung] = []
        chosen = False
        for item in matched:
            rung = await self.ask(item, incident, past, whole=not chosen)
            chosen = chosen or rung.result not in PASSED_OVER
            rungs.append(rung)
        answer, outcome = self._answer(incident, matched, rungs, past)
        joins = ""
        if joined is not None:
            joins = joined.incident.id
            how = "is open" if joined.incident.open else "is held until a person releases it"
            answer, outcome = "joins", f"counted with incident {joins}, which {how}; nothing new is begun"
        return Rehearsal(incident.event, incident.fingerprint, answer, outcome, tuple(rungs), joins)

    async def ask(self, item: Registered, incident: Incident, past: Sequence[PastHeal], *, whole: bool = True) -> Rung:
        """
        What the runbook `item` says to `incident` now.

        Args:
            whole: Whether it is asked for its plan too, once it applies.

        """
        spec = item.spec
        state = self._policy.runbook_state(self._state, spec.id, item.code_digest)
        if spec.id in self.stuck:
            return Rung(spec.id, state, "faulted", "something of it still runs and can't be stopped; it is not asked again")
        admitted = None
        if whole:
            situation = self._policy.situation(self._state, incident, spec, item.code_digest, now=self._now(), first=True)
            admitted = gating.admit(situation, now=self._now())
        rung = Rung(spec.id, state, "applies", admitted=admitted)
        CONDUCT.set(self._world.conduct)
        loan = Loan(self._world, spec, secrets.token_hex(8), Unlocked())
        ctx = proposing.context_of(incident, item, loan, past)
        try:
            return await self._asked(rung, item, incident, ctx, loan, whole=whole)
        except StepDeclined as error:
            return replace(rung, result="declined", reason=self._masked(str(error)))
        except StepFault as error:
            if error.running is not None:
                self.stuck.append(spec.id)
            withheld = isinstance(error.__cause__, CredentialWithheld)
            return replace(rung, result="unknown" if withheld else "faulted", reason=self._masked(str(error)))
        except proposing.Unprepared as error:
            withheld = isinstance(error.__cause__, CredentialWithheld)
            return replace(rung, result="unknown" if withheld else "unprepared", reason=self._masked(str(error)))
        except NotCanonical as error:
            return replace(rung, result="unprepared", reason=deciding.TOO_LARGE.format(error))
        finally:
            ctx.seal("the rehearsal ended")
            loan.close()

    async def _asked(
        self, rung: Rung, item: Registered, incident: Incident, ctx: RemediationContext, loan: Loan, *, whole: bool
    ) -> Rung:
        finding = await proposing.find(item, ctx)
        shown = finding.model_copy(
            update={"reason": self._masked(finding.reason), "evidence": tuple(self._masked(line) for line in finding.evidence)}
        )
        rung = replace(rung, finding=shown)
        if not finding.applicable:
            return replace(rung, result="declined", reason=shown.reason)
        if not whole:
            return rung
        ctx.advance(stage=0)
        proposed = await proposing.propose(item, ctx, loan, stage=0)
        if isinstance(proposed, Wait):
            return replace(rung, result="waits", reason=self._masked(f"{proposed.delay}: {proposed.reason}"))
        held = secrets_of(self._world.redactor, proposed)
        plan = without_secrets(self._world.redactor, proposed) if held else proposed
        judged = {profile: self._judged(profile, incident, item, finding, plan, held) for profile in PROFILES}
        planned = judging.planned_of(
            item,
            finding,
            plan,
            judged[self._policy.profile],
            attempt=loan.attempt,
            number=1,
            instance=self._world.instance,
            skipped=(),
        )
        planned = redacted(self._world.redactor, planned)
        size = len(planned.body())
        if size > MAX_BODY_BYTES:
            raise NotCanonical(f"{size} bytes, {MAX_BODY_BYTES} are the limit")
        return replace(rung, result="planned", planned=planned, profiles=tuple(judged.items()))

    def _judged(
        self, profile: Profile, incident: Incident, item: Registered, finding: Finding, plan: PlanRecord, held: str
    ) -> GateRecord:
        policy = replace(self._policy, profile=profile)
        record, _ = judging.verdict_of(policy, self._state, incident, item, finding, plan, now=self._now(), held=held)
        return record

    def _answer(
        self, incident: Incident, matched: Sequence[Registered], rungs: Sequence[Rung], past: Sequence[PastHeal]
    ) -> tuple[Answer, str]:
        if not matched:
            why = "; ".join(f"{name}: {error}" for name, error in self.faulted.items())
            return "none", f"escalated: no runbook handles {incident.event.code}{f' ({why})' if why else ''}"
        back = recurrence(tuple(past), now=self._now(), cooldown_ms=self._policy.cooldown_ms)
        if back.wait_until:
            return "wait", "waits: it was healed a short while ago; it may still be settling"
        if back.escalate:
            return "refuse", f"escalated: {back.escalate}"
        for rung in rungs:
            if rung.admitted is not None and rung.admitted.decision in ("wait", "refuse"):
                return rung.admitted.decision, self._told(rung.runbook, rung.admitted)
            if rung.planned is not None:
                return rung.planned.gate.decision, self._told(rung.runbook, rung.planned.gate)
            if rung.result == "waits":
                return "wait", f"waits: {rung.runbook} wants to wait {rung.reason}"
            if rung.result == "unknown":
                return "unknown", f"{rung.runbook} can't be rehearsed: {rung.reason}"
            if rung.runbook in self.stuck:
                return "refuse", f"escalated: {rung.runbook}: {rung.reason}"
        return "none", "escalated: no runbook has a plan"

    def _told(self, runbook: str, record: GateRecord) -> str:
        why = judging.reasons(record)
        match record.decision:
            case "proceed":
                return f"{runbook} would apply its plan, and verify it"
            case "ask" if self._policy.approvers:
                return f"{runbook} would ask a person: {why}"
            case "ask":
                return f"escalated: {why}; {judging.NOBODY}"
            case "observe":
                return f"the plan of {runbook} would be recorded, and the incident escalated: {why}"
            case "wait":
                return f"waits: {why}"
        return f"escalated: {why}"

    def _match_faulted(self, runbook: str, error: BaseException) -> None:
        self.faulted[runbook] = self._masked(f"matches raised {describe_error(error)}")

    def _masked(self, text: str) -> str:
        return self._world.redactor.text(text)

    def _now(self) -> int:
        return epoch_ms(self._world.clock.now())
