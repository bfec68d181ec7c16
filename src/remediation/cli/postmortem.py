"""
The post-mortem of one incident, from its entries alone: what was seen, considered, decided, done, verified, and is left to do.

A pure function from entries to a document of plain JSON values; `postmortem_text` shows it to people. Every text in the document is
as it was recorded: whoever shows it cleans it first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from remediation.cli.story import Story, because, moment, planned, stage_of
from remediation.core.incident import UNDO
from remediation.core.trust import RECORD
from remediation.model import entries
from remediation.model.entries import Entry, Record
from remediation.model.plan import Receipt


def post_mortem(records: Sequence[Record]) -> dict[str, Any]:
    """
    The document of an incident.

    Args:
        records: All entries of the incident's stream, in order. Entries whose body was erased are named and otherwise left out.

    """
    telling = _Telling()
    for record in records:
        telling.at, telling.actor = record.head.time, record.head.actor
        lines = ["the content of this entry was erased"] if record.erased else []
        lines += telling.take(record.entry) if record.entry is not None else []
        telling.story.tell(record.head, lines)
    return telling.story.finish()


class _Telling:
    """How each type of entry adds to the story; `take` returns the lines of the timeline that an entry is worth."""

    def __init__(self) -> None:
        self.story = Story()
        self.at = ""
        self.actor = ""
        self._told: set[tuple[str, str]] = set()

    @functools.singledispatchmethod
    def take(self, entry: Entry) -> list[str]:
        """Entries that say nothing about the incident beyond their type."""
        return [entry.type]

    @take.register
    def _(self, entry: entries.DegradationReported) -> list[str]:
        event = entry.event
        self.story.facts.update(
            code=event.code,
            subsystem=event.subsystem,
            subject=event.subject,
            severity=str(event.severity),
            fingerprint=event.fingerprint,
            opened_at=self.at,
        )
        self.story.detected = {
            "provenance": str(entry.provenance),
            "by": self.actor,
            "summary": event.summary,
            "evidence": event.evidence,
            "tainted": list(event.tainted),
            "observed_at": moment(event.observed_at) if event.observed_at is not None else None,
        }
        return [
            because(
                f"reported ({entry.provenance}): {event.code} of {event.subject} in {event.subsystem}, {event.severity}",
                event.summary,
            )
        ]

    @take.register
    def _(self, entry: entries.DegradationCoalesced) -> list[str]:
        self.story.facts.update(reports=entry.count, severity=str(entry.severity))
        said = {
            "count": "reported again",
            "severity": f"reported again, now {entry.severity}",
            "counter-evidence": "still seen after it was acted on",
        }
        return [because(f"{said[entry.why]}, {entry.count} reports by now", entry.summary)]

    @take.register
    def _(self, entry: entries.DegradationCleared) -> list[str]:
        return [because("the reporter no longer sees it", entry.summary)]

    @take.register
    def _(self, entry: entries.IncidentOpened) -> list[str]:
        self.story.considered.update(ladder=list(entry.ladder), history=list(entry.history))
        self.story.facts.update(severity=str(entry.severity), fingerprint=entry.fingerprint)
        matched = f"runbooks that match: {', '.join(entry.ladder)}" if entry.ladder else "no runbook matches"
        before = f"; seen before in {', '.join(entry.history)}" if entry.history else ""
        return [matched + before]

    @take.register
    def _(self, entry: entries.IncidentWaiting) -> list[str]:
        until = moment(entry.until) if entry.until else None
        self.story.waiting = {
            "why": entry.why,
            "reason": entry.reason,
            "until": until,
            "runbook": entry.runbook,
            "attempt": entry.attempt,
        }
        return [because(f"waits until {until}" if until else "waits", entry.reason)]

    @take.register
    def _(self, entry: entries.AttemptPlanned) -> list[str]:
        attempt = self.story.attempt(entry.attempt)
        attempt.update(
            number=entry.number,
            runbook=entry.runbook,
            level=str(entry.level),
            code_digest=entry.code_digest,
            instance=entry.instance,
        )
        attempt["started_at"] = attempt["started_at"] or self.at
        self.story.waiting = None
        skipped = [{"runbook": runbook, "reason": reason} for runbook, reason in entry.skipped]
        self.story.considered["skipped"] += [item for item in skipped if item not in self.story.considered["skipped"]]
        plan = entry.plan
        # A stage that is planned again after a wait replaces what was planned under the same keys.
        # One that is judged again, after a person consented to it, is the same plan.
        again = any(
            (stage["plan"]["digest"], stage["gate"]["decision"]) == (entry.plan_digest, "ask") for stage in attempt["stages"]
        )
        made = {effect.key: self.story.effects[effect.key] if again else planned(effect) for effect in plan.effects}
        self.story.effects |= made
        attempt["stages"].append(stage_of(entry, self.at, list(made.values())))
        reasons = "; ".join(reason.reason for reason in entry.gate.reasons)
        stage = f", stage {plan.stage}" if plan.stage or plan.more else ""
        lines = [f"not used: {because(item['runbook'], item['reason'])}" for item in skipped]
        lines.append(
            f"{entry.runbook} (attempt {entry.number}{stage}, confidence {entry.finding.confidence}) "
            f"plans {len(plan.effects)} effect{'' if len(plan.effects) == 1 else 's'}"
        )
        lines.append(because(f"the gate says {entry.gate.decision}", reasons))
        return lines

    @take.register
    def _(self, entry: entries.StageApplied) -> list[str]:
        return [f"stage {entry.stage} done; the next is decided from what it found", *self._receive(entry.receipts)]

    @take.register
    def _(self, entry: entries.EffectStarted) -> list[str]:
        effect = self.story.effect(entry.key)
        if entry.key.endswith(UNDO):
            return [f"begins to take back: {effect['line']}"]
        effect.update(outcome="started", at=self.at)
        return [f"begins: {effect['line']}"]

    @take.register(entries.EffectApplied)
    @take.register(entries.EffectFailed)
    def _(self, entry: entries.EffectApplied | entries.EffectFailed) -> list[str]:
        return self._receive([entry.receipt])

    @take.register
    def _(self, entry: entries.EffectReverted) -> list[str]:
        self.story.effect(entry.key).update(reverted=True, revert_note=entry.note)
        return [because(f"taken back: {self.story.effect(entry.key)['line']}", entry.note)]

    @take.register
    def _(self, entry: entries.EffectRevertFailed) -> list[str]:
        self.story.effect(entry.key).update(revert_error=entry.error)
        self.story.facts["dirty"] = True
        return [because(f"could NOT be taken back: {self.story.effect(entry.key)['line']}", entry.error)]

    @take.register
    def _(self, entry: entries.EffectUncertain) -> list[str]:
        effect = self.story.effect(entry.key)
        if entry.key.endswith(UNDO):
            effect.update(revert_error=entry.reason)
        else:
            effect.update(outcome="uncertain", error=entry.reason)
        what = "it was taken back" if entry.key.endswith(UNDO) else "it happened"
        return [because(f"can't be known whether {what}: {effect['line']}", entry.reason)]

    @take.register
    def _(self, entry: entries.VerificationStarted) -> list[str]:
        lines = self._receive(entry.receipts)
        self.story.attempt(entry.attempt)["verification"].append(
            {
                "at": self.at,
                "verdict": entry.verdict.model_dump(mode="json"),
                "sustain_ms": entry.sustain_ms,
                "deadline": moment(entry.deadline),
                "anew": entry.anew,
            }
        )
        window = f"watched for {entry.sustain_ms / 1000:g} s, " if entry.sustain_ms else ""
        look = f"{window}first look {entry.verdict.status}"
        return [*lines, because(f"begins anew ({entry.anew}), {look}" if entry.anew else look, entry.verdict.reason)]

    @take.register
    def _(self, entry: entries.AttemptFinished) -> list[str]:
        lines = self._receive(entry.receipts)
        verdict = entry.verdict
        self.story.attempt(entry.attempt).update(
            runbook=entry.runbook,
            outcome=entry.outcome,
            reason=entry.reason,
            verdict=verdict.model_dump(mode="json") if verdict else None,
            finished_at=self.at,
            duration_ms=entry.duration_ms,
        )
        if verdict is not None:
            lines.append(because(f"verified: {verdict.status}", verdict.reason))
        lines.append(because(f"{entry.runbook}: {entry.outcome}", entry.reason))
        if entry.revert:
            lines.append(f"to be taken back, newest first: {len(entry.revert)}")
        return lines

    def _receive(self, receipts: Sequence[Receipt]) -> list[str]:
        self.story.receive(receipts)
        # Effects of class *once* have an entry of their own, at once; in that of their stage they stand again, with those that don't.
        told = [(receipt.key, receipt.outcome) in self._told for receipt in receipts]
        self._told |= {(receipt.key, receipt.outcome) for receipt in receipts}
        lines = []
        for number, receipt in enumerate(receipts):
            if told[number]:
                continue
            line = f"{receipt.outcome}: {self.story.effect(receipt.key)['line']}"
            if any(told[number:]):
                at = f"at {moment(receipt.at)}, " if receipt.at else ""
                line += f" (done {at}before what the plan has after it; journaled with its stage)"
            lines.append(because(line, receipt.error))
        return lines

    @take.register
    def _(self, entry: entries.ApprovalRequested) -> list[str]:
        approval = self.story.approval(entry.approval_id)
        approval.update(plan_digest=entry.plan_digest, not_after=moment(entry.not_after), at=self.at)
        self.story.attempt(entry.attempt)["approvals"].append(approval)
        return [f"asks a person for consent to the plan {entry.plan_digest[:16]}, until {moment(entry.not_after)}"]

    @take.register
    def _(self, entry: entries.ApprovalGranted) -> list[str]:
        approval = self.story.approval(entry.approval_id)
        approval.update(decision="granted", by=entry.approver, at=self.at, document=entry.document, signature=entry.signature)
        return [f"{entry.approver} consents to the plan {approval.get('plan_digest', '')[:16]}"]

    @take.register
    def _(self, entry: entries.ApprovalDenied) -> list[str]:
        self.story.approval(entry.approval_id).update(decision="denied", by=entry.approver, reason=entry.reason, at=self.at)
        return [because(f"{entry.approver} refuses", entry.reason)]

    @take.register
    def _(self, entry: entries.ApprovalExpired) -> list[str]:
        approval = self.story.approval(entry.approval_id)
        # Consent that could not be used stays visible: somebody gave it.
        unused = f"unused consent of {approval['by']}: " if approval["by"] else ""
        approval.update(decision="void", reason=f"{unused}{entry.reason}", at=self.at)
        return [because("the request for consent is void", entry.reason)]

    @take.register
    def _(self, entry: entries.TrustRequested) -> list[str]:
        return [f"{entry.runbook} asks to be trusted beyond the profile, with {entry.scope}"]

    @take.register
    def _(self, entry: entries.TrustGranted) -> list[str]:
        return [because(f"trusted by {'its record' if entry.by == RECORD else entry.by}", entry.reason)]

    @take.register
    def _(self, entry: entries.TrustRefused) -> list[str]:
        return [because("not trusted", entry.reason)]

    @take.register
    def _(self, entry: entries.CredentialUsed) -> list[str]:
        return [f"{entry.runbook} read the credential {entry.name}"]

    @take.register
    def _(self, entry: entries.RunbookFaulted) -> list[str]:
        return [because(f"{entry.runbook} failed in {entry.step}", entry.error)]

    @take.register
    def _(self, entry: entries.IncidentSettled) -> list[str]:
        self.story.facts.update(
            status=entry.status,
            held=entry.held,
            dirty=entry.dirty,
            reports=max(entry.reports, self.story.facts["reports"]),
            reason=entry.reason,
            settled_at=self.story.facts["settled_at"] or self.at,
        )
        self.story.waiting = None
        earlier = self.story.outcome
        self.story.outcome = {
            "status": entry.status,
            "reason": entry.reason,
            # A release of a held incident has no analysis of its own; the one that people were given stays.
            "analysis": entry.analysis or earlier["analysis"],
            "actions": list(entry.actions),
        }
        held = ", held until a person releases it" if entry.held else ""
        return [because(f"{entry.status}{held}{', DIRTY' if entry.dirty else ''}", entry.reason)]

    @take.register
    def _(self, entry: entries.IncidentReopened) -> list[str]:
        self.story.facts.update(status="open", held=False, settled_at=None, reason="")
        self.story.outcome = {"status": "open", "reason": "", "analysis": "", "actions": []}
        self.story.considered["ladder"] = list(entry.ladder)
        again = f"runbooks: {', '.join(entry.ladder)}" if entry.ladder else "no runbook matches"
        return [because("opened again by a person", entry.reason), again]
