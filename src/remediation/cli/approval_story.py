"""A request for consent as people and programs see it: what is asked, why, what would be done, and what that covers later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from remediation.cli import reading, showing
from remediation.cli.postmortem_text import Block, Heading, Item, Part
from remediation.core.state import HostState
from remediation.engine.approvals import Request
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.entries import AttemptPlanned, GateReason
from remediation.model.runbook import Bounds
from remediation.settings.home import Home

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what the gate said when it was made."""

    request: Request
    reasons: tuple[GateReason, ...]
    origin: str
    """The log's name."""

    @property
    def genuine(self) -> bool:
        """Whether the plan that is shown is the one that a signature would cover."""
        return self.request.plan.digest == self.request.approval.plan_digest


async def load(home: Home) -> tuple[HostState, str]:
    """What the host of `home` knows, and its log's name."""
    state = await reading.host_state(home)
    async with reading.open_journal(home) as journal:
        _, note = await journal.head()
    return state, note.partition("\n")[0]


async def asked(home: Home, request: Request, origin: str) -> Asked:
    """`request` with the gate's reasons, which stand in the incident's entries."""
    reasons: tuple[GateReason, ...] = ()
    async with reading.open_journal(home) as journal:
        async for record in journal.read(stream=request.incident.stream, types=[AttemptPlanned.type]):
            entry = record.entry
            if isinstance(entry, AttemptPlanned) and entry.plan_digest == request.approval.plan_digest:
                reasons = entry.gate.reasons
    return Asked(request, reasons, origin)


def document(request: Request) -> dict[str, Any]:
    """One request of ``approvals --json``."""
    incident, approval, plan, now = request.incident, request.approval, request.plan, _now()
    event = incident.event
    return {
        "id": approval.id,
        "incident": incident.id,
        "code": event.code,
        "subsystem": event.subsystem,
        "subject": event.subject,
        "severity": str(incident.severity),
        "runbook": approval.runbook,
        "asked_at": _moment(approval.requested_at),
        "expires_at": _moment(approval.not_after),
        "age_seconds": max(0, now - approval.requested_at) // 1000,
        "expired": now >= approval.not_after,
        "reversibility": str(plan.reversibility),
        "radius": str(plan.radius),
        "loses": plan.loses,
        "effects": [item.line for item in plan.effects],
    }


def whole(told: Asked) -> dict[str, Any]:
    """``approvals show --json``: all of `document`, and what a person needs to decide."""
    request, attempt, plan = told.request, told.request.attempt, told.request.plan
    return {
        **document(request),
        "origin": told.origin,
        "attempt": attempt.id,
        "stage": plan.stage,
        "code_digest": request.approval.code_digest,
        "finding": attempt.finding.model_dump(mode="json"),
        "reasons": [reason.model_dump(mode="json") for reason in told.reasons],
        "plan_digest": request.approval.plan_digest,
        "plan": plan.model_dump(mode="json"),
        "already_done": [receipt.model_dump(mode="json") for receipt in attempt.receipts],
    }


def say(told: Asked) -> None:
    """Show the request to people, with its diffs in colour where there are colours."""
    showing.say(_parts(told))


def _parts(told: Asked) -> Iterator[Part]:
    incident, approval, plan = told.request.incident, told.request.approval, told.request.plan
    event = incident.event
    yield Heading(1, f"Request {approval.id}")
    yield Item("Runbook", f"{approval.runbook}, code {approval.code_digest[:16]}")
    yield Item("Incident", f"{incident.id}, {incident.severity}")
    yield Item("Degradation", f"{event.code} in {event.subsystem}")
    yield Item("Subject", event.subject)
    if event.summary:
        yield Item("Reported", event.summary)
    yield Item("Asked", f"{_moment(approval.requested_at)} ({span(_now() - approval.requested_at)} ago)")
    yield Item("Expires", f"{_moment(approval.not_after)} ({until(approval.not_after)})")
    yield Heading(2, "Why it would act")
    finding = told.request.attempt.finding
    yield Item("Found", f"confidence {finding.confidence}" + (f": {finding.reason}" if finding.reason else ""))
    for line in finding.evidence:
        yield Item("Evidence", line)
    yield Heading(2, "Why a person is asked")
    for reason in told.reasons:
        yield Item(reason.row, reason.reason)
    if not told.reasons and incident.wait is not None:
        yield Item("", incident.wait.reason)
    if told.request.attempt.receipts:
        yield Heading(2, "Already done in earlier stages")
        lines = {item.key: item.line for earlier in told.request.attempt.plans for item in earlier.effects}
        for receipt in told.request.attempt.receipts:
            yield Item(receipt.outcome, lines.get(receipt.key, receipt.key))
    yield Heading(2, "Plan" + (f", stage {plan.stage}" if plan.stage or plan.more else ""))
    if plan.summary:
        yield Item("", plan.summary)
    yield Item("It is", f"{plan.reversibility}, and reaches the {plan.radius}")
    yield Item("Lost for good", plan.loses or "nothing that the runbook knows of")
    if plan.tags:
        yield Item("Tags", ", ".join(plan.tags))
    for number, item in enumerate(plan.effects, 1):
        yield Item(f"{number}", f"{item.line} ({item.reversibility})")
        if item.diff:
            yield Block(item.diff, "diff")
    if plan.more:
        yield Heading(2, "Later stages")
        yield from _bounds(plan.bounds)
    yield Heading(2, "What is signed")
    yield Item("Plan", approval.plan_digest)
    yield Item("Log", told.origin)


def _bounds(bounds: Bounds | None) -> Iterator[Part]:
    if bounds is None:
        yield Item("", "each asks again: the plan names no bounds")
        return
    yield Item("", "covered by this consent as far as they keep within:")
    yield Item("Effects", f"{', '.join(bounds.kinds) or 'of no kind'}; at most {bounds.max_effects} in all")
    yield Item("Stages", f"at most {bounds.max_stages}, this one included")
    for label, values in (
        ("Paths", bounds.paths),
        ("Commands", tuple(" ".join(prefix) + " …" for prefix in bounds.argv_prefixes)),
        ("Controls", bounds.controls),
    ):
        yield Item(label, ", ".join(values) or "none")


def span(milliseconds: int) -> str:
    """A length of time in its largest unit, such as ``5m``."""
    for size, unit in _UNITS:
        if milliseconds >= size:
            return f"{milliseconds // size}{unit}"
    return "0s"


def until(moment: int) -> str:
    """How long it is until `moment` (milliseconds since 1970 UTC), for people."""
    left = moment - _now()
    return f"in {span(left)}" if left > 0 else f"{span(-left)} ago"


def _now() -> int:
    return round(time.time() * 1000)


def _moment(milliseconds: int) -> str:
    return timestamp(from_epoch_ms(milliseconds))
