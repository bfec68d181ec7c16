"""Rehearsals as people and programs see them: what would be done, by which runbook, why, and what the gate says to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from remediation.bootstrap.rehearsing import Replayed, Selected
from remediation.cli.postmortem_text import Block, Heading, Item, Part, gate_parts, stage_parts
from remediation.cli.story import because, gate_of, moment, planned, stage_of
from remediation.core.gate import Profile
from remediation.engine.rehearsal import Rehearsal, Rung

_SAID = {
    "planned": "has a plan",
    "applies": "applies; it comes next, if the one before fails",
    "declined": "declines",
    "waits": "wants to wait",
    "unprepared": "has a plan that can't be carried out",
    "faulted": "failed by its own fault",
    "unknown": "can't be rehearsed",
}
WORLD_NOTE = "It looked at the world as it is now, not as it was then; what was mended since is declined."
COUNTS = ("planned", "declined", "waits", "unprepared", "faulted", "unknown")


def document(rehearsal: Rehearsal, profile: Profile, notes: Sequence[str]) -> dict[str, Any]:
    """``report --dry-run --json``; `profile` is the one in force."""
    event, chosen = rehearsal.event, rehearsal.chosen
    return {
        "dry_run": True,
        "code": event.code,
        "subsystem": event.subsystem,
        "subject": event.subject,
        "severity": str(event.severity),
        "fingerprint": rehearsal.fingerprint,
        "answer": rehearsal.answer,
        "acts": rehearsal.acts,
        "outcome": rehearsal.outcome,
        "joins": rehearsal.joins or None,
        "profile": profile,
        "runbook": chosen.runbook if chosen is not None else None,
        "ladder": [rung_document(rung) for rung in rehearsal.ladder],
        "notes": list(notes),
    }


def rung_document(rung: Rung) -> dict[str, Any]:
    """One runbook that was asked."""
    effects = [planned(effect) for effect in rung.planned.plan.effects] if rung.planned is not None else []
    return {
        "runbook": rung.runbook,
        "state": rung.state,
        "result": rung.result,
        "reason": rung.reason,
        "finding": rung.finding.model_dump(mode="json") if rung.finding is not None else None,
        "plan": stage_of(rung.planned, None, effects) if rung.planned is not None else None,
        "profiles": [{"profile": profile, **gate_of(record)} for profile, record in rung.profiles],
    }


def parts(told: dict[str, Any]) -> Iterator[Part]:
    """A `document` for people."""
    yield Heading(1, f"Dry run, nothing was done. {told['code']}: {told['subject']}")
    yield Item("A host would do", told["outcome"])
    yield Item("Acts without a person", "yes" if told["acts"] else "no")
    yield Heading(2, "Runbooks, in the order in which they are asked")
    if not told["ladder"]:
        yield Item("", "none matches")
    for number, rung in enumerate(told["ladder"], 1):
        yield Item(f"{number}. {rung['runbook']} ({rung['state']})", because(_SAID[rung["result"]], rung["reason"]))
        if rung["result"] != "planned" and rung["finding"] is not None:
            for line in rung["finding"]["evidence"]:
                yield Item("   Evidence", line)
    for rung in told["ladder"]:
        if rung["plan"] is not None:
            yield Heading(2, f"Plan of {rung['runbook']}")
            yield from stage_parts(rung["plan"], rehearsed=True)
            yield Heading(2, "The gate under each profile")
            for row in rung["profiles"]:
                here = ", in force" if row["profile"] == told["profile"] else ""
                yield Item(f"{row['profile']}{here}", because(row["decision"], _why(row)))
    if told["notes"]:
        yield Heading(2, "To be known")
        for note in told["notes"]:
            yield Item("", note)


def _why(gate: dict[str, Any]) -> str:
    return "; ".join(f"{reason['row']}: {reason['reason']}" for reason in gate["reasons"])


def replay_document(runbook: str, selected: Selected, replayed: Sequence[Replayed], notes: Sequence[str]) -> dict[str, Any]:
    """``runbooks replay --json``."""
    counts = {result: sum(item.rung.result == result for item in replayed) for result in COUNTS}
    return {
        "runbook": runbook,
        "of_its_codes": selected.looked_at,
        "matching": selected.matching,
        "replayed": len(replayed),
        "erased": selected.erased,
        "results": counts,
        "incidents": [_replayed_document(item) for item in replayed],
        "notes": [WORLD_NOTE, *notes],
    }


def _replayed_document(item: Replayed) -> dict[str, Any]:
    incident = item.incident
    last = incident.attempts[-1] if incident.attempts else None
    return {
        "incident": incident.id,
        "code": incident.event.code,
        "subject": incident.event.subject,
        "opened_at": moment(incident.opened_at),
        "happened": {
            "status": str(incident.status),
            "runbook": incident.runbook or None,
            "outcome": (last.outcome or None) if last is not None else None,
            "reason": incident.reason,
        },
        "would": rung_document(item.rung),
    }


def replay_parts(told: dict[str, Any]) -> Iterator[Part]:
    """A `replay_document` for people."""
    counts = told["results"]
    yield Heading(1, f"Replay of {told['runbook']}, nothing was done")
    yield Item("Incidents with its codes", str(told["of_its_codes"]))
    shown = "" if told["replayed"] == told["matching"] else f", of which the newest {told['replayed']} were replayed"
    yield Item("It matches", f"{told['matching']}{shown}")
    yield Item("Would plan", str(counts["planned"]))
    yield Item("Would decline", str(counts["declined"]))
    for label, result in (
        ("Would wait", "waits"),
        ("Plans that can't be carried out", "unprepared"),
        ("Faults", "faulted"),
        ("Not known, as it needs credentials", "unknown"),
    ):
        if counts[result] or result == "faulted":
            yield Item(label, str(counts[result]))
    if told["erased"]:
        yield Item("Not readable any more, erased", str(told["erased"]))
    for incident in told["incidents"]:
        yield from _replayed_parts(incident)
    yield Heading(2, "To be known")
    for note in told["notes"]:
        yield Item("", note)


def _replayed_parts(incident: dict[str, Any]) -> Iterator[Part]:
    happened, would = incident["happened"], incident["would"]
    yield Heading(2, f"{incident['incident']}, {incident['opened_at']}: {incident['subject']}")
    by = f" by {happened['runbook']}" if happened["runbook"] else ""
    attempt = f" (its last attempt: {happened['outcome']})" if happened["outcome"] else ""
    yield Item("Then", because(f"{happened['status'].replace('_', ' ')}{by}{attempt}", happened["reason"]))
    yield Item("Now", because(_SAID[would["result"]], would["reason"]))
    plan = would["plan"]
    if plan is not None:
        for effect in plan["plan"]["effects"]:
            yield Item("Effect", effect["line"])
            if effect["diff"]:
                yield Block(effect["diff"], "diff")
        yield from gate_parts(plan["gate"])
