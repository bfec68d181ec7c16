"""``runbooks promote|quarantine|release``: people's hand on the lifecycle. Journaled with the key, also beside a running host."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home
from remediation.cli.passphrases import ask_at_the_terminal

if TYPE_CHECKING:
    from remediation.bootstrap.governing import Governing, Installed, Rules
    from remediation.core.lifecycle import RunbookRecord
    from remediation.settings import Settings

T = TypeVar("T")
RunbookId = Annotated[str, typer.Argument(metavar="ID", help="The runbook's id; `remediation runbooks` lists them.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is journaled.")]
_NO_REASON = "no reason given"
_SEEN = "A host that runs goes by it from its next entry on."


def promote(
    runbook: RunbookId,
    *,
    reason: ReasonOption = _NO_REASON,
    without_evidence: Annotated[
        bool, typer.Option("--without-evidence", help="Even if no plan of this code was observed yet; that is journaled.")
    ] = False,
    code_digest: Annotated[
        str,
        typer.Option("--code-digest", metavar="HEX", help="The code that you mean, if a program that embeds the host brings it."),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Let a runbook act, with exactly the code that is installed now.

    Shows what it would have done while it observed, and asks. As far as it may act then is for the gate to say. Changed code has to be
    promoted again. Needs the signing key; may run beside a host.

    \b
    Examples:
      remediation runbooks promote stale-lock-file --reason "watched it for a week"
      remediation runbooks promote stale-lock-file --reason "as on the other hosts" --without-evidence --yes
    """
    from remediation.core import promotion
    from remediation.settings import Settings

    _say_why(reason)
    settings = Settings.of(existing_home(home))
    found = _installed(settings, runbook)
    record, digest = _rules(settings).promotable(runbook, found, code_digest)
    if not yes and (json or not sys.stdin.isatty()):
        output.fail("nobody can be asked here: read `remediation runbooks show`, then give --yes", output.ExitCode.WRONG_USE)
    if not json:
        _show_evidence(record, digest)
    if not without_evidence and not promotion.evidence(record, digest):
        output.fail(promotion.without_evidence(runbook))
    if not yes and not typer.confirm(f"Promote {runbook} with this code?", err=True):
        output.fail("nothing was changed")

    async def work(governing: Governing) -> int:
        return await governing.promote(runbook, found, by=_who(), reason=reason, digest=code_digest, blindly=without_evidence)

    seq = _governed(settings, work)
    if json:
        output.say_json({"runbook": runbook, "state": "live", "code_digest": digest, "seq": seq})
    else:
        output.say(f"{runbook} is live (entry {seq}). {_SEEN}")


def quarantine(runbook: RunbookId, *, reason: ReasonOption = _NO_REASON, home: HomeOption = None, json: JsonOption = False) -> None:
    """
    Keep a runbook from acting, at once: it only observes until it is released and promoted again.

    No further plan of it is applied, in no host of the home. An attempt that is applying its plan goes on to its end: `remediation panic`
    stops that too. Grants of trust in it end. Needs the signing key; may run beside a host.

    \b
    Example:
      remediation runbooks quarantine stale-lock-file --reason "removed a lock that was in use"
    """
    from remediation.settings import Settings

    _say_why(reason)

    async def work(governing: Governing) -> int:
        return await governing.quarantine(runbook, by=_who(), reason=reason)

    seq = _governed(Settings.of(existing_home(home)), work)
    if json:
        output.say_json({"runbook": runbook, "state": "quarantined", "seq": seq})
    else:
        output.say(f"{runbook} is quarantined (entry {seq}). {_SEEN}")


def release(
    runbook: RunbookId,
    *,
    reason: ReasonOption = _NO_REASON,
    document: Annotated[
        Path | None, typer.Option("--document", metavar="FILE", help="For an essential runbook: what a person signed.")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="Over that, by ssh-keygen -Y sign -n remediation-approval.")
    ] = None,
    consent_of: Annotated[
        str, typer.Option("--consent-of", metavar="NAME", help="Only print the exact bytes that NAME has to sign.")
    ] = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    End a quarantine: the runbook is registered again, and observes until it is promoted.

    For an essential runbook this command is not enough: a person named in [approvals] allowed_signers has to sign, elsewhere, too.

    \b
    Examples:
      remediation runbooks release stale-lock-file --reason "the pid is compared with its start time now"
      remediation runbooks release heart --consent-of alice > consent
      remediation runbooks release heart --reason "mended" --document consent --signature consent.sig
    """
    from remediation.settings import Settings

    settings = Settings.of(existing_home(home))
    if consent_of:
        if document is not None or signature is not None or json:
            output.fail("--consent-of prints what is to be signed, and does nothing else", output.ExitCode.WRONG_USE)
        output.say_bytes(_to_sign(settings, runbook, consent_of))
        return
    _say_why(reason)
    if (document is None) != (signature is None):
        output.fail("--document is what --signature was made over: give both", output.ExitCode.WRONG_USE)
    content, armoured = b"", ""
    if document is not None and signature is not None:
        from remediation.cli import consenting

        content = consenting.read(document, "document")
        armoured = consenting.read(signature, "signature").decode("ascii", "replace")

    async def work(governing: Governing) -> tuple[int, str, str | None]:
        seq = await governing.release(runbook, by=_who(), reason=reason, document=content, signature=armoured)
        return seq, governing.record(runbook).state, governing.configured(runbook)

    seq, state, configured = _governed(settings, work)
    if json:
        output.say_json({"runbook": runbook, "state": state, "seq": seq})
        return
    output.say(f"{runbook} is {state} (entry {seq}): it observes until it is promoted. {_SEEN}")
    if configured == "live":
        output.note(f'[runbooks."{runbook}"] state = "live" in remediation.toml promotes it with the next start of a host.')


def _governed(settings: Settings, work: Callable[[Governing], Awaitable[T]]) -> T:
    """What `work` returns, done with the journal open for writing."""
    import asyncio

    ask_at_the_terminal()

    async def governed() -> T:
        from remediation.bootstrap import open_journal
        from remediation.bootstrap.governing import Governing
        from remediation.core.state import HostState
        from remediation.ports.clock import SystemClock

        state, clock = HostState(), SystemClock()
        journal = await open_journal(settings.home, clock, state=state)
        try:
            return await work(Governing(settings, state, journal.origin, clock, journal))
        finally:
            await journal.close()

    return asyncio.run(governed())


def _rules(settings: Settings) -> Rules:
    """What may be done, as far as can be seen without the key: what is done is checked again."""
    from remediation.bootstrap.governing import Rules
    from remediation.cli import approval_story, reading
    from remediation.ports.clock import SystemClock

    state, origin = reading.run(approval_story.load(settings.home))
    return Rules(settings, state, origin, SystemClock())


def _to_sign(settings: Settings, runbook: str, approver: str) -> bytes:
    """What `approver` signs to consent to the release; needs no key."""
    from remediation.cli import consenting

    return _rules(settings).consent(runbook, consenting.Signers.of(settings.home, settings).known(approver))


def _installed(settings: Settings, runbook: str) -> Installed | None:
    from remediation.bootstrap.governing import installed
    from remediation.discovery import discover

    return installed(discover(settings), runbook)


def _show_evidence(record: RunbookRecord, digest: str) -> None:
    from remediation.core import promotion

    output.say(f"{record.id}, code {digest}")
    told = promotion.evidence(record, digest)
    if told:
        output.say(f"With this code, {told}.")
    elif record.code_digest and record.code_digest != digest:
        output.say("This code is new: no host has started with it.")


def _say_why(reason: str) -> None:
    if not reason.strip():
        output.fail("--reason: say why, it is journaled; or leave the option out", output.ExitCode.WRONG_USE)


def _who() -> str:
    """Who gives the command, as the kernel knows it: the same name that requests through the inbox have."""
    return f"uid:{os.getuid()}"
