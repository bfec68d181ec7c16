"""``trust``: people's signed grants beyond the profile. Needs no key of the journal: the host takes them in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import moments, output, requests
from remediation.cli.options import HomeOption, JsonOption, existing_home

if TYPE_CHECKING:
    from remediation.cli.consenting import Signers
    from remediation.core.grants import Grant
    from remediation.settings.home import Home

_ELSEWHERE = ("trust grant … --as NAME --print > request", "trust grant --document request")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command("list")(list_)
    group.command("grant")(grant)
    group.command("revoke")(revoke)
    app.add_typer(group, name="trust")


def _group(context: typer.Context, home: HomeOption = None, json: JsonOption = False) -> None:
    """
    What people let runbooks do beyond the profile, for a scope and until a date.

    Lists the grants in force if no command is named.
    """
    if context.invoked_subcommand is None:
        list_(home=home, json=json)


def list_(
    *,
    every: Annotated[bool, typer.Option("--all", help="Also those that have expired.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List the grants of trust in force, the one that ends first before the others."""
    from remediation.cli import reading, runbook_story
    from remediation.engine.trusting import standing

    state = reading.run(reading.host_state(existing_home(home)))
    found = standing(state, 0 if every else round(time.time() * 1000))
    if json:
        output.say_json([runbook_story.grant_document(item) for item in found])
        return
    rows = [
        [
            item.grant_id[:12],
            item.runbook,
            item.subjects,
            item.radius,
            item.reversibility,
            item.by,
            runbook_story.moment(item.not_after),
            item.reason,
        ]
        for item in found
    ]
    columns = ["id", "runbook", "subjects", "radius", "reversibility", "by", "until", "reason"]
    output.say_table(columns, rows, nothing="nobody is trusted beyond the profile")


def grant(
    runbook: Annotated[str, typer.Argument(metavar="[RUNBOOK]", help="Who is trusted: the runbook's id.", show_default=False)] = "",
    *,
    until: Annotated[str, typer.Option("--until", metavar="WHEN", help='When it ends: a time, or "30d"; 90 days at most.')] = "",
    reason: requests.ReasonOption = "",
    subjects: Annotated[str, typer.Option("--subjects", metavar="GLOB", help="Subjects of incidents that it is for.")] = "*",
    radius: Annotated[str, typer.Option("--radius", metavar="RADIUS", help="The widest: process or machine.")] = "machine",
    reversibility: Annotated[
        str, typer.Option("--reversibility", metavar="CLASS", help="The worst: reversible or disposable.")
    ] = "reversible",
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Sign with this private key, or with that of this .pub file in your agent."),
    ] = None,
    agent: Annotated[bool, typer.Option("--agent", help="Sign with the key in your agent that may grant trust.")] = False,
    as_: Annotated[
        str,
        typer.Option("--as", metavar="PRINCIPAL", help="Who grants, as named in the allowed signers. Default: whose key it is."),
    ] = "",
    print_: Annotated[bool, typer.Option("--print", help="Only print the exact bytes to sign.")] = False,
    document: Annotated[Path | None, typer.Option("--document", metavar="FILE", help="What was signed elsewhere.")] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="Over that, by ssh-keygen -Y sign -n remediation-trust.")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Trust a runbook beyond the profile: with its present code, for some subjects, so far and no further, until a date.

    It lifts the profile alone. What reaches the fleet, what can't be taken back, high-risk tags and low confidence ask as before.

    \b
    Examples:
      remediation trust grant stale-lock-file --until 30d --reason "watched since May" --key ~/keys/trust
      remediation trust grant stale-lock-file --until 30d --reason "…" --as alice --print > request
      remediation trust grant --document request --signature request.sig
    """
    from remediation.cli import consenting
    from remediation.core import grants
    from remediation.settings import Settings

    handed_in = document is not None or signature is not None
    if (key is not None) + agent + print_ + handed_in != 1:
        output.fail(
            "say how it is signed, with one of --key FILE, --agent, --print, and --document with --signature",
            output.ExitCode.WRONG_USE,
        )
    place = existing_home(home)
    signers = consenting.Signers.of(place, Settings.of(place), namespace=grants.NAMESPACE, elsewhere=_ELSEWHERE)
    if handed_in:
        if document is None or signature is None or runbook or until or reason:
            output.fail("--document says all of it: give it and --signature, and nothing else", output.ExitCode.WRONG_USE)
        content = consenting.read(document, "document")
        armoured = consenting.read(signature, "signature").decode("ascii", "replace")
        _leave(place, signers, content, armoured, json)
        return
    if not runbook or not until or not reason.strip():
        output.fail("name the runbook, and say --until when and for what --reason", output.ExitCode.WRONG_USE)
    asked = grants.Grant("", runbook, "", subjects, radius, reversibility, moments.coming("--until", until), reason, "")
    if print_:
        if not as_ or json:
            output.fail("--print gives the bytes that somebody is to sign: say who, with --as NAME", output.ExitCode.WRONG_USE)
        output.say_bytes(_document(place, asked, signers.known(as_)))
        return
    _document(place, asked, as_ or "somebody")  # what can't be granted is said before anybody looks for a key
    content, armoured = _signed(place, signers, asked, key, as_)
    _leave(place, signers, content, armoured, json)


def revoke(
    grant_id: Annotated[str, typer.Argument(metavar="ID", help="The grant's id, or a beginning of it that no other has.")],
    *,
    reason: requests.ReasonOption = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    End a grant at once. Needs no signature: less trust is free.

    \b
    Example:
      remediation trust revoke 6f2c --reason "the migration begins"
    """
    from remediation.cli import reading
    from remediation.engine.trusting import find

    place = existing_home(home)
    found = find(reading.run(reading.host_state(place)), grant_id)
    id_, state, running = requests.leave(place, "revoke", {"grant_id": found.grant_id, "reason": reason})
    _became(id_, state, {"grant_id": found.grant_id, "runbook": found.runbook}, json)
    if state == "done" and not json:
        output.say(f"{found.runbook} is trusted by {found.by} no longer")
    elif state == "waiting" and not json:
        output.say("left in the inbox: " + ("the host has not taken it in yet" if running else "it ends when a host runs"))


def _document(home: Home, asked: Grant, approver: str) -> bytes:
    """What `approver` signs to grant what was `asked`, for the code that the runbook has now."""
    from dataclasses import replace

    from remediation.cli import approval_story, reading
    from remediation.core.grants import check
    from remediation.model.base import new_id

    state, origin = reading.run(approval_story.load(home))
    record = state.runbooks.get(asked.runbook)
    digest = record.code_digest if record is not None else ""
    made = replace(asked, grant_id=new_id(), code_digest=digest, approver=approver)
    check(made, record, now=round(time.time() * 1000))
    return made.document(origin)


def _signed(home: Home, signers: Signers, asked: Grant, key: Path | None, as_: str) -> tuple[bytes, str]:
    """The document and its signature, made here with the person's key."""
    from remediation.cli import consenting
    from remediation.core.grants import NAMESPACE
    from remediation.keys.ssh import sign_with_ssh_keygen

    with consenting.workplace() as folder:
        used = consenting.key_in(key) if key is not None else consenting.key_in_agent(signers, as_, Path(folder))
        if used.public is None:
            who = signers.known(as_) if as_ else ""
        else:
            who = signers.owner_of(used.public, as_)
            signers.refuse_in_reach(used.public, who, used.private)
        if not who:
            output.fail("whose key this is can't be read from it without its passphrase: say it with --as NAME")
        content = _document(home, asked, who)
        return content, sign_with_ssh_keygen(content, used.file, NAMESPACE)


def _leave(home: Home, signers: Signers, content: bytes, armoured: str, json: bool) -> None:
    """Hand a signed grant to the host, if it would take it, and say what became of it."""
    made = _checked(home, signers, content, armoured)
    id_, state, running = requests.leave(home, "grant", {"document": content.decode(), "signature": armoured})
    _became(id_, state, {"grant_id": made.grant_id, "runbook": made.runbook, "approver": made.approver}, json)
    if state == "done" and not json:
        output.say(f"{made.approver} trusts {made.runbook} with {made.scope} (grant {made.grant_id[:12]})")
    elif state == "waiting" and not json:
        waits = "the host has not taken it in yet" if running else "it counts when a host runs"
        output.say(f"signed by {made.approver}, and left in the inbox: {waits}")


def _checked(home: Home, signers: Signers, content: bytes, armoured: str) -> Grant:
    """The grant, as the host will judge it."""
    from datetime import UTC, datetime

    from remediation.cli import approval_story, reading
    from remediation.core import grants
    from remediation.errors import GrantRefused
    from remediation.keys.ssh import SignatureRefused, SshSignature, verify

    state, origin = reading.run(approval_story.load(home))
    made = grants.read(content, origin)
    grants.check(made, state.runbooks.get(made.runbook), now=round(time.time() * 1000))
    try:
        principal = verify(content, armoured, signers.listed, grants.NAMESPACE, datetime.now(UTC))
        public = SshSignature.parse(armoured).key
    except SignatureRefused as error:
        raise GrantRefused(f"the signature does not count: {error}") from error
    if principal != made.approver:
        raise GrantRefused(f"the document names {made.approver} as approver, but {principal} signed it")
    signers.refuse_in_reach(public, principal, None)
    return made


def _became(id_: str, state: str, known: dict[str, str], json: bool) -> None:
    if json:
        output.say_json({"id": id_, "state": state, **known})
    if state.startswith("refused"):
        output.fail(f"the host refused: {state.removeprefix('refused: ')}")
