"""
Shows a post-mortem to people: as text, or as Markdown.

Every text of the document may have been written by a stranger. In text, control characters and bidi marks are escaped. In Markdown,
what could be taken for markup, a link or a mention stands in a code span or a code block, where it is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediation.model.text import capped, printable

_BLOCK_CAP = 16 * 1024
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,.;:'()/%+=-]*")
_AUTOLINK = re.compile(r"://|www\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """One line: what it is about (our words), and what is said."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Several lines, to be shown as they are."""

    text: str
    language: str = "text"


Part = Heading | Item | Block


def as_text(document: dict[str, Any]) -> str:
    """The post-mortem as plain text, for terminals and pipes; no line of it can move the cursor."""
    lines: list[str] = []
    for part in _parts(document):
        match part:
            case Heading(level, text):
                shown = printable(text)
                lines += [shown, "=" * min(len(shown), 100)] if level == 1 else ["", shown]
            case Item(label, text):
                lines.append(f"  {label}: {printable(text)}" if label else f"  {printable(text)}")
            case Block(text):
                lines += [f"    {line}" for line in printable(text.rstrip("\n"), newlines=True).split("\n")]
    return "\n".join(lines) + "\n"


def as_markdown(document: dict[str, Any]) -> str:
    """The post-mortem as CommonMark; no text in it can become markup."""
    lines: list[str] = []
    for part in _parts(document):
        match part:
            case Heading(level, text):
                lines += ["", f"{'#' * level} {inline(text)}", ""]
            case Item(label, text):
                lines.append(f"- {label}: {inline(text)}" if label else f"- {inline(text)}")
            case Block(text, language):
                shown = printable(text.rstrip("\n"), newlines=True)
                fence = "`" * max(3, _longest_run(shown) + 1)
                lines += ["", f"{fence}{language}", shown, fence, ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def inline(text: str) -> str:
    """`text` on one line of Markdown: as it is if nothing in it can be markup, else as a code span (CommonMark 6.1)."""
    shown = printable(text)
    if not shown or (_PLAIN.fullmatch(shown) and not _AUTOLINK.search(shown)):
        return shown
    fence = "`" * (_longest_run(shown) + 1)
    # A space at both ends is stripped again; without it, a backtick or a space at the edge would be lost.
    edge = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{edge}{shown}{edge}{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)


def _parts(document: dict[str, Any]) -> Iterator[Part]:
    yield Heading(1, f"{document.get('code', 'incident')}: {document.get('subject', document['id'])}")
    yield from _summary(document)
    yield Heading(2, "Detected")
    yield from _detected(document)
    yield Heading(2, "Considered")
    yield from _considered(document["considered"])
    for attempt in document["attempts"]:
        yield Heading(2, f"Attempt {attempt['number']}: {attempt['runbook']}")
        yield from _attempt(attempt)
    yield Heading(2, "Outcome")
    yield Item("Status", _status(document))
    yield from _if(Item("Because", document["outcome"]["reason"]))
    if document["outcome"]["analysis"]:
        yield Block(capped(document["outcome"]["analysis"], _BLOCK_CAP))
    yield Heading(2, "Left to do")
    for todo in document["todo"]:
        yield Item("", todo)
    if not document["todo"]:
        yield Item("", "Nothing")
    yield Heading(2, "Timeline")
    for moment in document["timeline"]:
        yield Item(f"{moment['at']} (entry {moment['seq']})", moment["text"])


def _summary(document: dict[str, Any]) -> Iterator[Part]:
    yield Item("Incident", document["id"])
    yield Item("Status", _status(document))
    yield Item("Severity", document.get("severity", "unknown"))
    yield Item("Subsystem", document.get("subsystem", "unknown"))
    yield Item("Reports", str(document["reports"]))
    if document["opened_at"]:
        yield Item("Opened", document["opened_at"])
    if document["settled_at"]:
        yield Item("Settled", f"{document['settled_at']}{_took(document['opened_at'], document['settled_at'])}")


def _status(document: dict[str, Any]) -> str:
    said = [document["status"].replace("_", " ")]
    if document["held"]:
        said.append("held until a person releases it")
    if document["dirty"]:
        said.append("dirty: what was done could not all be taken back")
    return ", ".join(said)


def _took(begin: str | None, end: str) -> str:
    if begin is None:
        return ""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
    return f" (after {seconds:.3g} s)" if seconds < 60 else f" (after {seconds / 60:.1f} minutes)"


def _detected(document: dict[str, Any]) -> Iterator[Part]:
    detected = document["detected"]
    if not detected:
        yield Item("", "The report of this incident is not among its entries, or was erased")
        return
    yield from _if(Item("Summary", detected["summary"]))
    yield Item("Reported by", f"{detected['by']} ({detected['provenance']})")
    yield from _if(Item("Seen at", detected["observed_at"] or ""))
    yield from _if(Item("Not to be trusted (derived from text)", ", ".join(detected["tainted"])))
    if detected["evidence"]:
        yield Block(capped(json.dumps(detected["evidence"], indent=2, ensure_ascii=False), _BLOCK_CAP), "json")


def _considered(considered: dict[str, Any]) -> Iterator[Part]:
    yield Item("Runbooks that match", ", ".join(considered["ladder"]) or "none")
    for skipped in considered["skipped"]:
        yield Item("Not used", f"{skipped['runbook']}: {skipped['reason']}")
    yield from _if(Item("Earlier incidents of the same subject", ", ".join(considered["history"])))


def _attempt(attempt: dict[str, Any]) -> Iterator[Part]:
    asked: set[str] = set()
    for stage in attempt["stages"]:
        again = stage["plan"]["digest"] in asked
        if stage["gate"]["decision"] == "ask":
            asked.add(stage["plan"]["digest"])
        if len(attempt["stages"]) > 1:
            yield Heading(3, f"Stage {stage['stage']}{', the same plan judged again' if again else ''}")
        yield from gate_parts(stage["gate"]) if again else stage_parts(stage)
    for approval in attempt["approvals"]:
        by = f" by {approval['by']}" if approval["by"] else ""
        plan = f", plan {approval['plan_digest'][:16]}" if approval.get("plan_digest") else ""
        yield Item("Approval", f"{approval['decision']}{by}{plan}{': ' if approval['reason'] else ''}{approval['reason']}")
    for window in attempt["verification"]:
        anew = f", begun anew: {window['anew']}" if window["anew"] else ""
        length = f" for {window['sustain_ms'] / 1000:g} s" if window["sustain_ms"] else ""
        yield Item("Watched", f"from {window['at']}{length}, first look {window['verdict']['status']}{anew}")
    verdict = attempt["verdict"]
    if verdict is not None:
        yield Item("Verified", f"{verdict['status']}{': ' if verdict['reason'] else ''}{verdict['reason']}")
        for line in verdict["evidence"]:
            yield Item("Evidence", line)
    yield Item("Result", (attempt["outcome"] or "not finished") + (f": {attempt['reason']}" if attempt["reason"] else ""))
    yield Item("Code", f"{attempt['runbook']} {attempt['code_digest'][:16]}, host instance {attempt['instance']}")


def gate_parts(gate: dict[str, Any]) -> Iterator[Part]:
    """What the gate said, with all its reasons."""
    yield Item("Gate", gate["decision"])
    for why in gate["reasons"]:
        yield Item(f"Gate, {why['decision']}", f"{why['row']}: {why['reason']}")


def stage_parts(stage: dict[str, Any], *, rehearsed: bool = False) -> Iterator[Part]:
    """Finding, gate and plan of a stage, with diffs; unless it was only `rehearsed`, also what became of each effect."""
    finding, plan = stage["finding"], stage["plan"]
    reason = f": {finding['reason']}" if finding["reason"] else ""
    yield Item("Found", f"{'applies' if finding['applicable'] else 'declined'}, confidence {finding['confidence']}{reason}")
    for line in finding["evidence"]:
        yield Item("Evidence", line)
    yield from gate_parts(stage["gate"])
    yield from _if(Item("Plan", plan["summary"]))
    yield Item("Plan is", f"{plan['reversibility']}, radius {plan['radius']}{', more to come' if plan['more'] else ''}")
    yield from _if(Item("Loses for good", plan["loses"]))
    yield from _if(Item("Tags", ", ".join(plan["tags"])))
    for effect in plan["effects"]:
        yield Item("Effect", effect["line"])
        if effect["diff"]:
            yield Block(effect["diff"], "diff")
        if not rehearsed:
            yield Item("Then", _became(effect))


def _became(effect: dict[str, Any]) -> str:
    said = [effect["outcome"] or "not applied"]
    if effect["error"]:
        said.append(effect["error"])
    if effect["reverted"]:
        said.append(f"taken back{': ' if effect['revert_note'] else ''}{effect['revert_note']}")
    if effect["revert_error"]:
        said.append(f"could not be taken back: {effect['revert_error']}")
    if effect["output"] not in {"", "{}"}:
        said.append(capped(effect["output"], 300))
    return "; ".join(said)


def _if(item: Item) -> Iterator[Part]:
    if item.text:
        yield item
