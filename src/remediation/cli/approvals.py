"""``approvals``, ``approve``, ``deny``: what waits for a person's consent, and the answers. Needs no key of the journal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import output, requests
from remediation.cli.options import HomeOption, JsonOption, existing_home

if TYPE_CHECKING:
    from remediation.cli.approval_story import Asked
    from remediation.cli.consenting import Signers
    from remediation.settings.home import Home

_PATIENCE = 3.0
"""Seconds that `approve` waits to see what becomes of the plan."""

RequestId = Annotated[
    str, typer.Argument(metavar="ID", help="The request's id or its incident's, or a beginning of it that no other has.")
]
AsOption = Annotated[
    str,
    typer.Option("--as", metavar="PRINCIPAL", help="Who consents, as named in the allowed signers. Default: whose key it is."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command("list")(list_)
    group.command("show")(show)
    app.add_typer(group, name="approvals")
    app.command("approve")(approve)
    app.command("deny")(deny)


def _group(context: typer.Context, home: HomeOption = None, json: JsonOption = False) -> None:
    """
    Plans that wait for a person's consent.

    Lists them if no command is named.
    """
    if context.invoked_subcommand is None:
        list_(home, json)


def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """
    List the plans that wait for a person's consent, the oldest first.

    Works without key and without a running host.
    """
    from remediation.cli import approval_story, reading
    from remediation.engine.approvals import pending

    state, _ = reading.run(approval_story.load(existing_home(home)))
    found = list(pending(state))
    if json:
        output.say_json([approval_story.document(request) for request in found])
        return
    rows: list[list[str]] = []
    for request in found:
        incident, approval = request.incident, request.approval
        age = approval_story.span(round(time.time() * 1000) - approval.requested_at)
        first = [approval.id, age, approval_story.until(approval.not_after), approval.runbook, incident.id, str(incident.severity)]
        lines = [item.line for item in request.plan.effects] or ["nothing"]
        rows.append([*first, incident.event.subject, lines[0]])
        rows += [[""] * 7 + [line] for line in lines[1:]]
    columns = ["id", "age", "expires", "runbook", "incident", "severity", "subject", "would"]
    output.say_table(columns, rows, nothing="nothing waits for consent")


def show(
    approval: RequestId,
    *,
    document: Annotated[bool, typer.Option("--document", help="Print the exact bytes to sign, and nothing else.")] = False,
    as_: AsOption = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Show a plan that waits for consent: what was found, why a person is asked, each effect with its diff, and what is lost.

    \b
    Examples:
      remediation approvals show 6f2c
      remediation approvals show 6f2c --document --as alice > request
    """
    from remediation.cli import approval_story, consenting
    from remediation.core import consent
    from remediation.settings import Settings

    if document and json:
        output.fail("choose one of --document and --json", output.ExitCode.WRONG_USE)
    if as_ and not document:
        output.fail("--as says who will sign: it goes with --document", output.ExitCode.WRONG_USE)
    place = existing_home(home)
    told = _asked(place, approval)
    if document:
        if not as_:
            output.fail("say who will sign: --as NAME, as in the allowed signers", output.ExitCode.WRONG_USE)
        consenting.refuse_altered(told.genuine, told.request.approval.id)
        approver = consenting.Signers.of(place, Settings.of(place)).known(as_)
        request = told.request
        output.say_bytes(consent.document(told.origin, request.incident, request.approval, decision="approve", approver=approver))
    elif json:
        output.say_json(approval_story.whole(told))
    else:
        approval_story.say(told)
        id_ = told.request.approval.id
        output.say(f"\nremediation approve {id_} --key FILE   or   remediation deny {id_} --reason TEXT")
        consenting.refuse_altered(told.genuine, id_)


def approve(
    approval: RequestId,
    *,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Sign with this private key, or with that of this .pub file in your agent."),
    ] = None,
    agent: Annotated[bool, typer.Option("--agent", help="Sign with the key in your agent that may consent.")] = False,
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="What was signed elsewhere with ssh-keygen -Y sign.")
    ] = None,
    document: Annotated[
        Path | None, typer.Option("--document", metavar="FILE", help="The bytes that were signed. Default: made again.")
    ] = None,
    as_: AsOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask: you have read the plan.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Consent to one plan: exactly this one, once, until the request expires.

    Shows the plan, asks, signs, and hands the signed consent to the host.

    \b
    Examples:
      remediation approve 6f2c --key ~/keys/consent
      remediation approve 6f2c --agent --as alice
      remediation approve 6f2c --document request --signature request.sig
    """
    from remediation.cli import approval_story, consenting
    from remediation.settings import Settings

    if (key is not None) + agent + (signature is not None) != 1:
        output.fail("say how it is signed, with one of --key FILE, --agent and --signature FILE", output.ExitCode.WRONG_USE)
    if document is not None and signature is None:
        output.fail("--document is what --signature was made over: give both", output.ExitCode.WRONG_USE)
    if not yes and (json or not sys.stdin.isatty()):
        output.fail(
            "nobody can be asked here: read the plan (`remediation approvals show`), then give --yes", output.ExitCode.WRONG_USE
        )
    place = existing_home(home)
    signers = consenting.Signers.of(place, Settings.of(place))
    told = _asked(place, approval)
    request = told.request
    consenting.refuse_altered(told.genuine, request.approval.id)
    with consenting.workplace() as folder:
        if signature is not None:
            content, armoured = _handed_in(told, signers, signature, document, as_)
            approver = consenting.check(request, told.origin, content, armoured, signers)
            if as_ and as_ != approver:
                output.fail(f"{approver} signed it, not {as_}")
            _confirm(told, approver, yes=yes, quiet=json)
        else:
            used = consenting.key_in(key) if key is not None else consenting.key_in_agent(signers, as_, Path(folder))
            if used.public is None:
                approver = signers.known(as_) if as_ else ""
            else:
                approver = signers.owner_of(used.public, as_)
                signers.refuse_in_reach(used.public, approver, used.private)
            if not approver:
                output.fail("whose key this is can't be read from it without its passphrase: say it with --as NAME")
            _confirm(told, approver, yes=yes, quiet=json)
            content, armoured = consenting.signed(request, told.origin, used, approver)
            consenting.check(request, told.origin, content, armoured, signers)
    id_, state, running = requests.leave(place, "approve", {"document": content.decode(), "signature": armoured})
    if json:
        known = {"approval": request.approval.id, "incident": request.incident.id, "approver": approver}
        output.say_json({"id": id_, "state": state, **known})
    elif state == "done":
        output.say(f"{approver} has consented to request {request.approval.id}")
        output.say(_became(place, request.incident.id, request.approval.id))
    elif state == "waiting":
        waits = "the host has not taken it in yet" if running else "no host runs"
        until = approval_story.until(request.approval.not_after)
        output.say(
            f"signed by {approver}, and left in the inbox: {waits}. It counts if a host takes it in before it expires, {until}"
        )
    _refused(state)


def deny(approval: RequestId, *, reason: requests.ReasonOption = "", home: HomeOption = None, json: JsonOption = False) -> None:
    """
    Refuse a plan: it will not run, and its incident goes to people.

    Needs no signature, as it only keeps the host from acting.

    \b
    Example:
      remediation deny 6f2c --reason "not during the migration"
    """
    place = existing_home(home)
    request = _asked(place, approval).request
    known = {"approval": request.approval.id, "incident": request.incident.id}
    id_, state, running = requests.leave(place, "deny", {"approval_id": request.approval.id, "reason": reason})
    if json:
        output.say_json({"id": id_, "state": state, **known})
    elif state == "done":
        output.say(f"denied; incident {request.incident.id} goes to people")
    elif state == "waiting":
        output.say("left in the inbox; " + ("the host has not taken it in yet" if running else "it is denied when a host runs"))
    _refused(state)


def _asked(home: Home, wanted: str) -> Asked:
    from remediation.cli import approval_story, reading
    from remediation.engine.approvals import find
    from remediation.errors import ApprovalRefused

    state, origin = reading.run(approval_story.load(home))
    try:
        request = find(state, wanted)
    except ApprovalRefused as error:
        output.fail(f"{error}; `remediation approvals` lists what waits")
    return reading.run(approval_story.asked(home, request, origin))


def _handed_in(told: Asked, signers: Signers, signature: Path, document: Path | None, as_: str) -> tuple[bytes, str]:
    """A signature that was made elsewhere, and what it is over."""
    from remediation.cli import consenting
    from remediation.core import consent
    from remediation.errors import ApprovalRefused
    from remediation.keys.ssh import SignatureRefused, SshSignature

    armoured = consenting.read(signature, "signature").decode("ascii", "replace")
    if document is not None:
        return consenting.read(document, "document"), armoured
    try:
        approver = signers.owner_of(SshSignature.parse(armoured).key, as_)
    except SignatureRefused as error:
        raise ApprovalRefused(f"the signature does not count: {error}") from error
    request = told.request
    return consent.document(told.origin, request.incident, request.approval, decision="approve", approver=approver), armoured


def _confirm(told: Asked, approver: str, *, yes: bool, quiet: bool) -> None:
    from remediation.cli import approval_story

    if not quiet:
        approval_story.say(told)
    if yes:
        return
    output.say()
    output.flush()
    if not typer.confirm(f"Consent to exactly this plan, as {approver}?", err=True):
        output.fail("nothing was signed; the request stands")


def _refused(state: str) -> None:
    if state.startswith("refused"):
        output.fail(f"the host refused: {state.removeprefix('refused: ')}")


def _became(home: Home, incident_id: str, approval_id: str) -> str:
    """What became of a plan that was consented to, as far as can be seen in a moment."""
    from remediation.cli import reading
    from remediation.core.state import HostState

    deadline = time.monotonic() + _PATIENCE
    while True:
        state = HostState(keep_settled=None)
        for record in reading.run(reading.incident_records(home, incident_id)):
            state.apply(record)
        incident = state.incidents.get(incident_id)
        if incident is not None and not incident.open:
            return f"incident {incident_id} is {str(incident.status).replace('_', ' ')}: {incident.reason}"
        approval = incident.approval if incident is not None else None
        if approval is not None and approval.id != approval_id:
            return f"nothing was applied: what the plan was made for has changed, or a later stage asks. Request {approval.id} asks now"
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    waits = incident.wait.reason if incident is not None and incident.wait is not None else ""
    return (
        f"incident {incident_id} is still open{f': {waits}' if waits else ''}; `remediation incident show {incident_id}` tells more"
    )
