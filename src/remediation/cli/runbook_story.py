"""A runbook as people and programs see it: its state and why, its record, what it declares, what it still needs, who trusts it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from remediation.cli import output
from remediation.core import promotion
from remediation.core.lifecycle import ACTIVE, RunbookRecord
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.entries import TrustGranted
from remediation.settings import Settings

_DECLARED = ("blast_radius", "reversibility", "level", "tier", "credentials", "sustain", "retries", "essential", "tags")
_UNSAID: tuple[Any, ...] = (None, "", [], 0, False, "none", "PT0S")
"""What goes without saying."""


@dataclass(frozen=True, slots=True)
class Told:
    """One runbook, what is configured for it, and the grants of trust in it that are in force."""

    record: RunbookRecord
    settings: Settings
    grants: tuple[TrustGranted, ...]

    @property
    def spec(self) -> dict[str, Any] | None:
        """What it declares; `None` if no host has registered it, or this release can't read it."""
        try:
            found = json.loads(self.record.spec)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    @property
    def configured(self) -> str | None:
        """The state that the configuration sets."""
        table = self.settings.runbook(self.record.id)
        return table.state if "state" in table.model_fields_set else None

    @property
    def essential(self) -> bool:
        """Whether it is quarantined later than others, and released by two channels only."""
        return bool((self.spec or {}).get("essential"))

    @property
    def to_act(self) -> str:
        """What has to happen before it acts; empty if it may."""
        return promotion.needs(self.record, self.configured, essential=self.essential)

    @property
    def to_earn(self) -> str:
        """What is missing until the record lets it reach the machine; empty if nothing is, or nothing can be earned."""
        after, profile = self.settings.trust.earn_after, self.settings.gate.profile
        if not after or profile != "collaborative":
            return ""
        left = after - self.record.clean
        return f"{left} more verified heals within the process, without a failure" if left > 0 else ""


def document(record: RunbookRecord) -> dict[str, Any]:
    """One runbook of ``runbooks --json``."""
    return {
        "id": record.id,
        "state": record.state,
        "why": record.why,
        "since": moment(record.changed_at),
        "since_seq": record.changed_seq if record.changed_seq >= 0 else None,
        "promoted_by": record.promoted_by or None,
        "plugin": record.plugin,
        "code_digest": record.code_digest,
        "attempts": record.attempts,
        "healed": record.healed,
        "failed": record.failed,
        "inconclusive": record.inconclusive,
        "withheld": record.withheld,
        "observed": record.observed,
        "would_act": record.would_act,
        "clean": record.clean,
        "median_ms": record.median_ms,
        "faults": record.faults,
        "last_fault": record.last_fault,
        "spec": json.loads(record.spec) if record.spec else None,
    }


def whole(told: Told) -> dict[str, Any]:
    """``runbooks show --json``."""
    failures = [{"at": moment(at), "incident": incident} for at, incident in told.record.failures]
    return {
        **document(told.record),
        "failures": failures,
        "configured": told.configured,
        "may_act": told.record.state in ACTIVE,
        "to_act": told.to_act or None,
        "to_earn": told.to_earn or None,
        "grants": [grant_document(grant) for grant in told.grants],
    }


def grant_document(grant: TrustGranted) -> dict[str, Any]:
    """One grant of ``trust list --json``."""
    return {
        "grant_id": grant.grant_id,
        "runbook": grant.runbook,
        "code_digest": grant.code_digest,
        "subjects": grant.subjects,
        "radius": str(grant.radius),
        "reversibility": str(grant.reversibility),
        "by": grant.by,
        "until": moment(grant.not_after),
        "reason": grant.reason,
    }


def say(told: Told) -> None:
    """Show it to people."""
    record = told.record
    output.say_facts({name: value for name, value in _facts(told) if value})
    spec = told.spec
    if spec is not None:
        output.say("\nIt declares:")
        declared = {name: _shown(spec[name]) for name in _DECLARED if spec.get(name) not in _UNSAID}
        codes = ", ".join(str(item.get("code")) for item in spec.get("handles", []))
        output.say_facts({f"  {name}": value for name, value in ({"handles": codes} | declared).items()})
    if record.failures:
        output.say("\nFailed verdicts of the last 7 days:")
        for at, incident in record.failures:
            output.say(f"  {moment(at)}  incident {incident}")
    if told.grants:
        output.say("\nTrusted beyond the profile:")
        for grant in told.grants:
            output.say(f"  {grant.grant_id[:12]}  {grant.scope}, by {grant.by} until {moment(grant.not_after)}: {grant.reason}")
    if told.to_act:
        output.say(f"\nBefore it acts: {told.to_act}")
    if told.to_earn:
        output.say(f"\nBefore it may reach the machine by itself: {told.to_earn}")


def _facts(told: Told) -> Iterator[tuple[str, Any]]:
    record = told.record
    yield "runbook", record.id
    yield "state", record.state
    yield "why", record.why
    yield (
        "since",
        f"{moment(record.changed_at)} (entry {record.changed_seq})" if record.changed_seq >= 0 else moment(record.changed_at),
    )
    yield "configured", told.configured
    yield "plugin", record.plugin
    yield "code", record.code_digest
    yield (
        "attempts",
        f"{record.attempts}: {record.healed} healed, {record.failed} failed, {record.inconclusive} inconclusive"
        if record.attempts
        else "none",
    )
    if record.median_ms is not None:
        yield "median", f"{duration(record.median_ms)} to heal (of the newest {len(record.durations)})"
    if record.withheld:
        yield "withheld", f"{record.withheld} {'plan was' if record.withheld == 1 else 'plans were'} not applied"
    yield "evidence", promotion.evidence(record, record.code_digest) if record.observed else ""
    yield "clean heals", f"{record.clean} within the process since the last failure" if record.clean else ""
    yield "faults", f"{record.faults}; the last one: {record.last_fault}" if record.faults else ""


def duration(milliseconds: int) -> str:
    """Milliseconds for people."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def moment(at: int) -> str | None:
    """A moment in milliseconds since 1970 UTC, as the journal writes it; `None` for 0."""
    return timestamp(from_epoch_ms(at)) if at else None


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)
