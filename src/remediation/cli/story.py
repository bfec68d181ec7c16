"""The document of a post-mortem while it is being put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remediation.core.incident import UNDO, id_of
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.entries import AttemptPlanned, EntryHead, GateRecord
from remediation.model.plan import PlannedEffect, Receipt

_NOT_YET: dict[str, Any] = {
    "outcome": None, "output": "", "error": "", "at": None, "reverted": False, "revert_note": "", "revert_error": "",
}  # fmt: skip


def moment(milliseconds: int) -> str:
    return timestamp(from_epoch_ms(milliseconds))


def because(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text


def planned(effect: PlannedEffect) -> dict[str, Any]:
    return {
        "key": effect.key,
        "kind": effect.effect.kind,
        "line": effect.line,
        "diff": effect.diff,
        "promise": str(effect.promise),
        "reversibility": str(effect.reversibility),
        "radius": str(effect.radius),
        **_NOT_YET,
    }


def stage_of(entry: AttemptPlanned, at: str | None, effects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A stage that was planned `at` a time: why, what the gate said, and the plan with its `effects`, which are those of `planned`."""
    plan, gate = entry.plan, entry.gate
    return {
        "stage": plan.stage,
        "at": at,
        "finding": entry.finding.model_dump(mode="json"),
        "gate": gate_of(gate),
        "plan": {
            "digest": entry.plan_digest,
            "summary": plan.summary,
            "loses": plan.loses,
            "tags": list(plan.tags),
            "reversibility": str(plan.reversibility),
            "radius": str(plan.radius),
            "more": plan.more,
            "bounds": plan.bounds.model_dump(mode="json") if plan.bounds else None,
            "effects": list(effects),
        },
    }


def gate_of(gate: GateRecord) -> dict[str, Any]:
    """What the gate said."""
    return {**gate.model_dump(mode="json"), "until": moment(gate.until) if gate.until else None}


class Story:
    """The document while its entries are taken in, one after the other."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {
            "id": "",
            "status": "open",
            "held": False,
            "dirty": False,
            "reports": 1,
            "reason": "",
            "opened_at": None,
            "settled_at": None,
        }
        self.detected: dict[str, Any] = {}
        self.considered: dict[str, Any] = {"ladder": [], "skipped": [], "history": []}
        self.attempts: dict[str, dict[str, Any]] = {}
        self.effects: dict[str, dict[str, Any]] = {}
        self.waiting: dict[str, Any] | None = None
        self.outcome: dict[str, Any] = {"status": "open", "reason": "", "analysis": "", "actions": []}
        self.timeline: list[dict[str, Any]] = []
        self._approvals: dict[str, dict[str, Any]] = {}

    def tell(self, head: EntryHead, texts: Sequence[str]) -> None:
        if not self.facts["id"]:
            self.facts["id"] = id_of(head.stream)
        self.timeline += [
            {"seq": head.seq, "at": head.time, "type": head.type, "actor": head.actor, "text": text} for text in texts
        ]

    def attempt(self, id_: str) -> dict[str, Any]:
        if id_ not in self.attempts:
            self.attempts[id_] = {
                "attempt": id_,
                "number": len(self.attempts) + 1,
                "runbook": "",
                "level": "",
                "code_digest": "",
                "instance": "",
                "started_at": None,
                "stages": [],
                "approvals": [],
                "verification": [],
                "outcome": None,
                "reason": "",
                "verdict": None,
                "finished_at": None,
                "duration_ms": 0,
            }
        return self.attempts[id_]

    def effect(self, key: str) -> dict[str, Any]:
        """The effect with this key; for the key of its undoing, too."""
        key = key.removesuffix(UNDO)
        return self.effects.setdefault(key, {"key": key, "kind": "", "line": key, "diff": "", **_NOT_YET})

    def receive(self, receipts: Sequence[Receipt]) -> None:
        for receipt in receipts:
            self.effect(receipt.key).update(
                outcome=receipt.outcome, output=receipt.output, error=receipt.error, at=moment(receipt.at) if receipt.at else None
            )

    def approval(self, id_: str) -> dict[str, Any]:
        return self._approvals.setdefault(
            id_, {"approval_id": id_, "decision": "waiting", "by": "", "reason": "", "at": None, "document": "", "signature": ""}
        )

    def finish(self) -> dict[str, Any]:
        return {
            **self.facts,
            "detected": self.detected,
            "considered": self.considered,
            "attempts": list(self.attempts.values()),
            "waiting": self.waiting if self.facts["status"] == "open" else None,
            "outcome": self.outcome,
            "todo": self._todo(),
            "timeline": self.timeline,
        }

    def _lets_it_go(self) -> list[str]:
        """Why the newest plan was not applied, and what lets it be: before any advice of its runbook, which can't know that."""
        attempt = next(reversed(self.attempts.values()), None)
        if attempt is None or not attempt["stages"]:
            return []
        waiting = self.waiting if self.facts["status"] == "open" else None
        if waiting is not None and waiting["why"] == "approval" and attempt["approvals"]:
            id_ = attempt["approvals"][-1]["approval_id"]
            until = f" until {waiting['until']}" if waiting["until"] else ""
            how = f"`remediation approvals show {id_}`, then `remediation approve {id_}` or `remediation deny {id_}`"
            return [f"Its plan waits for a person's consent{until}: look at it with {how}"]
        if not self.facts["held"] or attempt["outcome"] != "withheld":
            return []
        gate = attempt["stages"][-1]["gate"]
        rows = {(reason["row"], reason["decision"]) for reason in gate["reasons"]}
        said = [f"Its plan was not applied: {attempt['reason']}"]
        if ("profile", "observe") in rows:
            said.append('to let the host act, set [gate] profile = "supervised" or a wider one')
        if gate["decision"] == "observe" and any(decision == "ask" for _, decision in rows):
            said.append("it then asks for a person's consent: [approvals] allowed_signers names those who may give it")
        if gate["decision"] == "ask" and not attempt["approvals"]:
            said.append("then restart the host, and reopen the incident")
        return ["; ".join(said)]

    def _todo(self) -> list[str]:
        id_ = self.facts["id"]
        first = self._lets_it_go()
        todo = [*first, *self.outcome["actions"]]
        for effect in self.effects.values():
            if effect["outcome"] == "uncertain":
                todo.append(f"Find out whether this happened, nobody else can: {effect['line']}")
            if effect["revert_error"]:
                todo.append(f"Take this back by hand, the host could not ({effect['revert_error']}): {effect['line']}")
        if self.facts["held"]:
            todo.append(
                f"Nothing acts on it until a person says so: `remediation incident close {id_}` once it is mended, "
                f"`remediation incident reopen {id_}` to let the runbooks try again"
            )
        elif self.facts["status"] == "open" and self.waiting is not None and not first:
            until = f" (until {self.waiting['until']})" if self.waiting["until"] else ""
            todo.append(f"It waits{until}: {self.waiting['reason']}")
        return todo
