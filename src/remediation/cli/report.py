"""``report``: publish a degradation. Writes one file; needs no key and no running host, and starts fast."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home
from remediation.model.base import Severity


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    *,
    code: Annotated[str, typer.Option("--code", metavar="C", help="The class of degradation, e.g. QUEUE_STUCK.")],
    subsystem: Annotated[str, typer.Option("--subsystem", metavar="S", help="The part of the host it belongs to, e.g. mail.")],
    subject: Annotated[str, typer.Option("--subject", metavar="X", help="The one thing that is affected: a path, a queue, a job.")],
    severity: Annotated[
        Severity, typer.Option("--severity", case_sensitive=False, help="How bad: P0 everything stops, P3 can wait.")
    ] = Severity.P2,
    summary: Annotated[str, typer.Option("--summary", metavar="TEXT", help="One line for people.")] = "",
    evidence: Annotated[
        str, typer.Option("--evidence", metavar="JSON", help="What was seen, as JSON; - reads it from standard input.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Publish nothing; show what a host would do about it now, with the plan as a diff.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Publish a degradation, and print its id.

    It is durable when the command ends with 0. The host takes it in at once, or when it runs next; equal code, subsystem and
    subject are one incident. Keys, tokens and passwords in what you write are masked first.

    With --dry-run nothing is published, journaled or changed, and no key or running host is needed: the runbooks are asked here, and
    the plan, the gate's decision with every reason, and its decision under each other profile are shown. Ends with 0 if a host would
    act on it without a person, else with 1. A runbook's own code runs, with the rights of whoever asks.

    \b
    Examples:
      remediation report --code QUEUE_STUCK --subsystem mail --subject outbox
      remediation report --code SQLITE_CORRUPT --subsystem storage --subject /srv/app/app.db \\
        --severity P1 --summary "integrity check fails" --evidence '{"page": 7}'
      systemctl status app --output=json | remediation report --code UNIT_FAILED \\
        --subsystem app --subject app.service --evidence -
      remediation report --code QUEUE_STUCK --subsystem mail --subject outbox --dry-run
    """
    from pydantic import ValidationError

    from remediation.journal.inbox import Inbox
    from remediation.model.events import DegradationEvent
    from remediation.model.redaction import Redactor
    from remediation.model.redaction.journaled import redacted_event

    now = round(time.time() * 1000)
    fields: dict[str, Any] = {"code": code, "subsystem": subsystem, "subject": subject, "severity": severity, "summary": summary}
    fields["observed_at"] = now
    if evidence:
        fields["evidence"] = sys.stdin.read() if evidence == "-" else evidence
    try:
        event = DegradationEvent(**fields)
    except ValidationError as error:
        wrong = "; ".join(f"--{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}" for problem in error.errors())
        output.fail(wrong, output.ExitCode.WRONG_USE)
    if evidence and event.evidence.keys() == {"text"}:
        output.note("the evidence is not JSON; it is kept as text")
    if dry_run:
        from remediation.cli import rehearsing

        rehearsing.dry_run(existing_home(home), event, json=json)
    event = redacted_event(Redactor(), event)
    id_ = Inbox(existing_home(home).inbox).put("report", event.model_dump(mode="json"), at=now)
    if json:
        output.say_json({"id": id_, "fingerprint": event.fingerprint})
    else:
        output.say(id_)
