"""What an incident needs next, from its recorded state alone: the same answer before and after a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remediation.core.incident import Approval, Attempt, Incident, Phase, Status
from remediation.model.entries import IncidentSettled
from remediation.model.runbook import Reversibility, RunbookSpec
from remediation.model.text import SUMMARY_CAP, capped

WAITS_CAP = 5000
"""Waits that a runbook may ask for until it does something: one that only waits would keep its incident open for ever."""
SHORTEST_WAIT_MS = 100


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Match it to runbooks, and look at its history."""


@dataclass(frozen=True, slots=True)
class Decide:
    """Find a runbook among `candidates` and let it make the plan of `stage`; later stages belong to `attempt`."""

    candidates: tuple[str, ...]
    stage: int = 0
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply the newest plan of `attempt`."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AwaitConsent:
    """A person was asked about the newest plan of `attempt`. Until `until` (milliseconds), look now and then whether it is still needed."""

    attempt: Attempt
    until: int


@dataclass(frozen=True, slots=True)
class Consented:
    """A person consented to the newest plan of `attempt`: judge it again, if the world is still as they saw it."""

    attempt: Attempt
    approval: Approval


@dataclass(frozen=True, slots=True)
class NoConsent:
    """The newest plan of `attempt` will not run, for `reason`; `denied` when a person said so."""

    attempt: Attempt
    reason: str
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Verify:
    """Verify what `attempt` did."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Revert:
    """Undo the effects `attempt.revert`, in order."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing to do until `until` (milliseconds since 1970 UTC; 0: until something else changes)."""

    until: int


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try `runbook` again, but not before `until`."""

    runbook: str
    until: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Settle without success."""

    status: Status
    reason: str
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class Resolve:
    """Settle as resolved without (further) action."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """It is settled."""


Step = (
    TakeIn | Decide | Apply | AwaitConsent | Consented | NoConsent | Verify | Revert | Sleep | RetryLater | GiveUp | Resolve | Done
)


def next_step(
    incident: Incident,
    specs: Mapping[str, RunbookSpec],
    *,
    now: int,
    attempt_cap: int,
    paused: bool = False,
    held_back: bool = False,
    take_back: bool = False,
) -> Step:
    """
    The next step of `incident` at time `now` (milliseconds).

    Args:
        specs: Of the registered runbooks; runbooks that are not there can't go on.
        attempt_cap: Attempts that may act on one incident.
        paused: Whether a pause is in force; when none is, what waited for its end goes on.
        held_back: Whether it still has to wait for others; when not, what waited for them goes on.
        take_back: Whether the pause in force says that attempts which it stopped are to be taken back.

    """
    if not incident.open:
        return Done()
    wait = incident.wait
    if wait is not None and incident.phase is Phase.WAITING:
        if incident.current is None and incident.cleared_at > incident.observed_at:
            return Resolve("the reporter no longer sees it")
        if (
            wait.why != "approval"
            and (wait.until == 0 or wait.until > now)
            and not woken(incident, paused=paused, held_back=held_back, take_back=take_back)
        ):
            return _asleep(incident, wait.until, now)
    attempt = incident.current
    if attempt is not None and attempt.asked and not attempt.revert:
        return _consent(incident, attempt, now)
    if attempt is not None:
        return _within(attempt)
    return _between(incident, specs, now=now, attempt_cap=attempt_cap)


def _asleep(incident: Incident, until: int, now: int) -> Step:
    """Consent that waits for something else all the same runs out in time."""
    attempt, approval = incident.current, incident.approval
    if attempt is None or approval is None or not attempt.asked:
        return Sleep(until)
    if now >= approval.not_after:
        return _consent(incident, attempt, now)
    return Sleep(min(until or approval.not_after, approval.not_after))


def woken(incident: Incident, *, paused: bool, held_back: bool, take_back: bool = False) -> bool:
    """Whether something came that ends the wait of `incident` before its time; the arguments are those of `next_step`."""
    wait = incident.wait
    if wait is not None and wait.why == "pause":
        return not paused or (take_back and incident.current is not None and incident.current.acted)
    if wait is not None and wait.why == "limit" and wait.until == 0:
        return not held_back
    if wait is None or wait.why != "verify":
        return False
    return incident.heard


def _consent(incident: Incident, attempt: Attempt, now: int) -> Step:
    approval = incident.approval
    if approval is None:
        return NoConsent(attempt, "the request for consent is void")
    if approval.denied_by:
        said = f": {approval.reason}" if approval.reason else ""
        return NoConsent(attempt, f"denied by {approval.denied_by}{said}", denied=True)
    if incident.cleared_at > incident.observed_at and not attempt.receipts:
        return NoConsent(attempt, "the reporter no longer sees it")
    if now >= approval.not_after:
        late = f"the consent of {approval.granted_by} ran out before it could be used" if approval.granted_by else ""
        return NoConsent(attempt, late or "nobody consented in time")
    return Consented(attempt, approval) if approval.granted_by else AwaitConsent(attempt, approval.not_after)


def _within(attempt: Attempt) -> Step:
    if attempt.revert:
        return Revert(attempt)
    if attempt.verification is not None or attempt.uncertain:
        return Verify(attempt)
    if attempt.applied_stages < len(attempt.plans):
        return Apply(attempt) if attempt.acted else GiveUp(Status.ESCALATED, "the plan was not allowed")
    if attempt.plan.more:
        return Decide((attempt.runbook,), stage=len(attempt.plans), attempt=attempt)
    return Verify(attempt)


def _between(incident: Incident, specs: Mapping[str, RunbookSpec], *, now: int, attempt_cap: int) -> Step:
    if not incident.taken_in:
        return TakeIn()
    attempts = incident.attempts[incident.fresh_from :]
    last = attempts[-1] if attempts else None
    if any(attempt.revert_failed for attempt in attempts):
        return GiveUp(Status.HEAL_FAILED, "what was changed could not be taken back; the subject is fenced", dirty=True)
    if incident.cleared_at > incident.observed_at and (last is None or (last.outcome == "withheld" and not last.receipts)):
        return Resolve("the reporter no longer sees it")
    if last is not None:
        if last.outcome == "withheld":
            return GiveUp(Status.ESCALATED, last.reason or incident.reason or "the plan was not allowed to run")
        if last.uncertain:
            return GiveUp(Status.ESCALATED, "whether an effect happened can't be known")
        if last.outcome == "inconclusive":
            return GiveUp(Status.ESCALATED, f"verification was inconclusive: {last.reason}")
    failed = [attempt for attempt in attempts if attempt.outcome == "failed"]
    if incident.acted >= attempt_cap:
        status = Status.HEAL_FAILED if failed else Status.ESCALATED
        made = "1 attempt was" if incident.acted == 1 else f"{incident.acted} attempts were"
        ended = f"; the last one ended with: {last.reason}" if last is not None and last.reason else ""
        return GiveUp(status, f"{made} made, the most that one incident may have{ended}")
    candidates = _candidates(incident, failed, specs)
    if not candidates:
        return _exhausted(incident, failed)
    retried = [attempt for attempt in failed if attempt.runbook == candidates[0]]
    if retried and (pause := _backoff(specs[candidates[0]], len(retried))) and retried[-1].finished_at + pause > now:
        return RetryLater(candidates[0], retried[-1].finished_at + pause)
    return Decide(candidates)


def _candidates(incident: Incident, failed: Sequence[Attempt], specs: Mapping[str, RunbookSpec]) -> tuple[str, ...]:
    skipped = dict(incident.skipped)
    result = []
    for runbook in incident.ladder:
        spec = specs.get(runbook)
        if spec is None or runbook in skipped:
            continue
        if sum(attempt.runbook == runbook for attempt in failed) <= spec.retries:
            result.append(runbook)
    # A failed runbook with retries left goes before the rest of the ladder.
    return tuple(result)


def _exhausted(incident: Incident, failed: Sequence[Attempt]) -> GiveUp:
    if failed:
        return GiveUp(Status.HEAL_FAILED, f"{failed[-1].runbook} failed ({failed[-1].reason}), and no other runbook applies")
    if not incident.ladder:
        return GiveUp(Status.ESCALATED, f"no runbook handles {incident.event.code}")
    reasons = "; ".join(f"{runbook}: {reason}" for runbook, reason in incident.skipped)
    return GiveUp(Status.ESCALATED, f"no runbook applies ({reasons or 'none of them is registered any more'})")


def _backoff(spec: RunbookSpec, tries: int) -> int:
    if not spec.backoff:
        return 0
    pause = spec.backoff[min(tries, len(spec.backoff)) - 1]
    return round(pause.total_seconds() * 1000)


def settlement(
    incident: Incident, status: Status, reason: str, *, dirty: bool = False, analysis: str = "", actions: tuple[str, ...] = ()
) -> IncidentSettled:
    """The entry that settles `incident`; everything but `resolved` holds the fingerprint."""
    return IncidentSettled(
        status=status.value,
        reason=capped(reason, SUMMARY_CAP),
        runbook=incident.runbook,
        attempts=incident.acted,
        reports=incident.reports,
        held=status is not Status.RESOLVED,
        dirty=dirty or incident.dirty,
        analysis=analysis,
        actions=actions,
    )


def to_revert(attempt: Attempt, doubtful: Sequence[str] = ()) -> tuple[str, ...]:
    """Keys of the effects that were applied (or may have been: `doubtful`), newest first; disposable ones need no undo."""
    done = [receipt.key for receipt in attempt.receipts if receipt.outcome in ("applied", "found-applied")]
    ordered = [item.key for plan in attempt.plans for item in plan.effects if item.reversibility is not Reversibility.DISPOSABLE]
    wanted = set(done) | set(doubtful)
    return tuple(key for key in reversed(ordered) if key in wanted)


__all__ = [
    "SHORTEST_WAIT_MS",
    "WAITS_CAP",
    "Apply",
    "AwaitConsent",
    "Consented",
    "Decide",
    "Done",
    "GiveUp",
    "NoConsent",
    "Resolve",
    "RetryLater",
    "Revert",
    "Sleep",
    "Step",
    "TakeIn",
    "Verify",
    "next_step",
    "settlement",
    "to_revert",
    "woken",
]
