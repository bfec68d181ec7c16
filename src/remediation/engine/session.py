"""What the parts of a treatment share: the case file, the loan, the context, and how an attempt is finished."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from remediation.context import RemediationContext
from remediation.core import progress
from remediation.core.incident import Attempt, Incident, Status
from remediation.core.limits import PastHeal
from remediation.core.state import HostState
from remediation.engine import proposing
from remediation.engine.casefile import CaseFile
from remediation.engine.guarding import Health
from remediation.engine.intake import Intake
from remediation.engine.lending import Loan, World
from remediation.engine.policy import Policy
from remediation.engine.registry import Registered, Registry
from remediation.engine.steps import StepFault
from remediation.model.base import epoch_ms
from remediation.model.entries import AttemptFinished, Entry, RunbookDegraded, RunbookFaulted, RunbookQuarantined
from remediation.model.plan import Receipt
from remediation.model.runbook import Finding
from remediation.model.text import printable
from remediation.ports.channel import Notice
from remediation.ports.journal import Journal
from remediation.ports.locking import HeldLock


@dataclass(frozen=True, slots=True)
class Staff:
    """What every treatment of a host shares."""

    journal: Journal
    state: HostState
    registry: Registry
    world: World
    policy: Policy
    past: Callable[[str], Awaitable[tuple[PastHeal, ...]]]
    """Past heals of a fingerprint, also those that the state has forgotten."""
    keep: Callable[[HeldLock, asyncio.Task[Any]], None]
    """Keeps a lock until a task that could not be stopped has ended."""
    intake: Intake
    """Knows of reports that are not journaled yet."""
    doze: Callable[[float], Awaitable[None]]
    """Sleeps for seconds without occupying one of the places for concurrent heals."""
    health: Health
    tell: Callable[[Notice], None]
    """Sends a notice to every channel."""

    def held_back(self, incident: Incident) -> bool:
        """Whether what `incident` waits for, if it waits for others, still keeps it."""
        wait = incident.wait
        if wait is None or wait.why != "limit" or wait.until:
            return False
        spec = self.registry.specs.get(wait.runbook)
        return spec is not None and bool(self.policy.held_back(self.state, incident, spec))

    def now(self) -> int:
        """The wall clock in milliseconds since 1970 UTC."""
        return epoch_ms(self.world.clock.now())


class Session:
    """One treatment's working state. Its attempt's loan and context live here, and end with it."""

    def __init__(self, staff: Staff, incident: Incident, lock: HeldLock) -> None:
        self.staff = staff
        self.lock = lock
        self.clock = staff.world.clock
        self.case = CaseFile(staff.journal, staff.state, self.clock, incident)
        self.fresh = False
        """Whether the newest plan was committed by this very session: nothing of it can have been started before."""
        self.began = 0.0
        self.considered = ""
        self.stuck: set[str] = set()
        """Runbooks of which something could not be stopped; they are not called again."""
        self.declined: dict[str, Finding] = {}
        """Findings of runbooks that declined: what they saw is part of an escalation's analysis."""
        self._loan: Loan | None = None
        self._ctx: RemediationContext | None = None
        self._spent: list[Entry] = []
        """Credentials that were read under loans which have ended, and that no commit has told of yet."""

    @property
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """A logger that carries the incident."""
        incident = self.case.incident
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("remediation.engine")
        return logger.bind(incident=incident.id, code=incident.event.code)

    @property
    def attempt_id(self) -> str:
        """The id of the attempt that the loan is for."""
        return self._loan.attempt if self._loan is not None else secrets.token_hex(8)

    def lend(self, runbook: str, attempt: str) -> Loan:
        """The loan of `attempt`; another attempt's loan ends."""
        if self._loan is None or self._loan.attempt != attempt:
            self.end_loan("another attempt began")
            self._loan = Loan(self.staff.world, self.staff.registry.specs.get(runbook), attempt, self.lock)
            self.lock.tell(attempt)
        return self._loan

    def context(self, registered: Registered, attempt: Attempt | None) -> RemediationContext:
        """The context for the next step of `registered`, with the facts of `attempt`."""
        spec = registered.spec
        wanted = attempt.id if attempt is not None else self._unplanned(spec.id)
        known = self._loan is not None and self._loan.runbook == spec.id and self._loan.attempt == wanted
        if self._ctx is None or not known:
            loan = self.lend(spec.id, wanted)
            incident = self.case.incident
            past = self.staff.state.past.get(incident.fingerprint, ())
            self._ctx = proposing.context_of(incident, registered, loan, past)
        if attempt is not None:
            self._ctx.advance(
                finding=attempt.finding,
                plan=attempt.plan,
                receipts=attempt.receipts,
                verdicts=(attempt.verdict,) if attempt.verdict else (),
                last_effect_at=attempt.last_effect_at,
                cleared_at=self.case.fresh().cleared_at,
            )
        return self._ctx

    def _unplanned(self, runbook: str) -> str:
        """The id of an attempt of `runbook` that has no plan yet: never one that has been used, as receivers deduplicate by it."""
        loan = self._loan
        if loan is None or loan.runbook != runbook or any(attempt.id == loan.attempt for attempt in self.case.incident.attempts):
            return secrets.token_hex(8)
        return loan.attempt

    def used(self) -> list[Entry]:
        """What happened since the last commit and goes with the next one: credentials read, reports counted."""
        counted = self.staff.intake.take(self.case.fresh())
        used: list[Entry] = [*([] if counted is None else [counted]), *self._spent]
        self._spent = []
        if self._loan is not None and self._loan.used:
            used += self._loan.used
            self._loan.used = []
        return used

    def contradicted(self, attempt: Attempt) -> bool:
        """Whether the degradation was seen after the last effect of `attempt`."""
        fresh = self.case.fresh()
        seen = max(fresh.counter_evidence_at, self.staff.intake.observed(fresh.id))
        return attempt.last_effect_at > 0 and seen > attempt.last_effect_at

    def end_loan(self, why: str) -> None:
        """Seal the context and take back what was lent."""
        if self._ctx is not None:
            self._ctx.seal(why)
            self._ctx = None
        if self._loan is not None:
            self._spent += self._loan.used
            self._loan.close()
            self._loan = None

    async def finish(
        self,
        attempt: Attempt,
        outcome: Any,
        reason: str,
        *,
        receipts: tuple[Receipt, ...] = (),
        revert: tuple[str, ...] = (),
        verdict: Any = None,
    ) -> None:
        """Journal the attempt's result: with `healed` the incident is resolved in the same commit."""
        took = round((self.clock.monotonic() - self.began) * 1000) if self.began else 0
        finished = AttemptFinished(
            attempt=attempt.id,
            runbook=attempt.runbook,
            outcome=outcome,
            receipts=receipts,
            verdict=verdict,
            reason=reason,
            revert=revert,
            duration_ms=took,
        )
        if outcome == "healed":
            lost = "; ".join(plan.loses for plan in attempt.plans if plan.loses)
            text = (reason or f"{attempt.runbook} healed it") + (f" (lost: {lost})" if lost and lost not in reason else "")
            self.case.note(finished)
            await self.case.commit(progress.settlement(self.case.incident, Status.RESOLVED, text), before=self.used())
        else:
            await self.case.commit(finished, before=self.used())
            if outcome == "failed":
                await self._blame(attempt.runbook, reason)
        self.began = 0.0

    async def record_fault(self, runbook: str, error: StepFault, step: str) -> None:
        """Journal that a runbook failed by its own fault; one that can't be stopped is quarantined, and its subject stays locked."""
        # An embedding program's log need not mask what it is given: what a runbook raised may show a secret that it read.
        why = self.staff.world.redactor.text(printable(str(error)))
        self.log.error("a runbook failed by its own fault", runbook=runbook, error=why)
        entries: list[Entry] = [RunbookFaulted(runbook=runbook, step=step, error=why, incident=self.case.incident.id)]
        if error.running is not None:
            self.stuck.add(runbook)
            self.end_loan("it could not be stopped")
            self.staff.keep(self.lock, error.running)
            entries.append(RunbookQuarantined(runbook=runbook, by="engine", reason="a step could not be stopped"))
            self._tell(runbook, "runbook_quarantined", f"{step}: {why}")
        elif self._is_live(runbook):
            entries.append(RunbookDegraded(runbook=runbook, reason=f"{step}: {why}"))
        await self.staff.journal.append(f"runbook/{runbook}", entries)

    async def _blame(self, runbook: str, reason: str) -> None:
        """A verdict failed: the runbook is degraded, or quarantined if that is not the first time of late."""
        spec = self.staff.registry.specs.get(runbook)
        essential = spec is not None and spec.essential
        too_often = self.staff.policy.quarantine_reason(self.staff.state, runbook, essential=essential, now=self.staff.now())
        if too_often:
            self.log.warning("a runbook was quarantined by its record", runbook=runbook, reason=too_often)
            entry: Entry = RunbookQuarantined(runbook=runbook, by="record", reason=too_often)
            self._tell(runbook, "runbook_quarantined", too_often)
        else:
            if essential:
                self._tell(runbook, "runbook_failed", f"an essential runbook failed: {reason}")
            if not self._is_live(runbook):
                return
            entry = RunbookDegraded(runbook=runbook, reason=f"a failed verdict in incident {self.case.incident.id}: {reason}")
        await self.staff.journal.append(f"runbook/{runbook}", [entry])

    def _is_live(self, runbook: str) -> bool:
        record = self.staff.state.runbooks.get(runbook)
        return record is not None and record.state == "live"

    def _tell(self, runbook: str, kind: str, title: str) -> None:
        incident = self.case.incident
        self.staff.tell(
            Notice(
                kind=kind,
                incident=incident.id,
                code=incident.event.code,
                subsystem=incident.event.subsystem,
                subject=incident.event.subject,
                severity=incident.severity,
                title=f"{runbook}: {title}",
                actions=(f"remediation runbooks show {runbook}", f"remediation incident show {incident.id}"),
            )
        )
