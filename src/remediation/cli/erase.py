"""``journal erase``: take the content of entries out of the journal, and say so in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home

if TYPE_CHECKING:
    from remediation.bootstrap.erasing import Erased
    from remediation.settings import Settings


def erase(
    seqs: Annotated[
        list[int] | None,
        typer.Argument(metavar="[SEQ]...", min=0, help="Positions of entries; `journal tail` shows them.", show_default=False),
    ] = None,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is journaled for good.")],
    incident: Annotated[
        str | None, typer.Option("--incident", metavar="ID", help="All entries of this incident instead.", show_default=False)
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Erase the content of entries: personal data, or a secret that got into a report.

    Gone for good from all files of the home: subject, summary, evidence, plans, outputs, reasons, and kept files that nothing else
    refers to. What remains: that there was an entry, its type, time and stream, and what limits and records count. The journal still
    verifies, and says who erased what, and why.

    Only of incidents that are settled, released, and a day old (a week, if a runbook failed in them). Needs the signing key; may run
    beside a host. Copies elsewhere (exports, archives, backups) are yours to deal with; those that are known are listed.

    \b
    Examples:
      remediation journal erase 4711 4712 --reason "name of a customer"
      remediation journal erase --incident 4f1c2a90 --reason "request of 3 May"
    """
    import asyncio

    from remediation.settings import Settings

    if bool(seqs) == bool(incident):
        output.fail("name either entries or one --incident", output.ExitCode.WRONG_USE)
    if not reason.strip():
        output.fail("--reason: say why, it is all that others will know of it", output.ExitCode.WRONG_USE)
    settings = Settings.of(existing_home(home))
    done, archives = asyncio.run(_erase(settings, seqs or [], incident, reason))
    _show(done, archives, json)


async def _erase(settings: Settings, seqs: list[int], incident: str | None, reason: str) -> tuple[Erased, list[str]]:
    from remediation.bootstrap import open_journal
    from remediation.bootstrap.erasing import Eraser
    from remediation.cli import reading
    from remediation.core.incident import id_of
    from remediation.core.standing import Standing
    from remediation.journal.lock import locked
    from remediation.model.base import milliseconds
    from remediation.model.entries import JournalArchived
    from remediation.model.text import SUMMARY_CAP, capped, wellformed
    from remediation.ports.clock import SystemClock

    meant = id_of((await reading.incident_records(settings.home, incident))[0].head.stream) if incident else None
    standing, clock = Standing(), SystemClock()
    # An archive under way has looked at what it takes.
    with locked(settings.home.root / "retention.lock"):
        journal = await open_journal(settings.home, clock, folds=[standing])
        try:
            cooldown = milliseconds(settings.limits.cooldown)
            eraser = Eraser(settings.home, journal, standing, clock, host=settings.host.id, cooldown_ms=cooldown)
            why = capped(wellformed(reason), SUMMARY_CAP)
            done = await (eraser.erase(seqs, reason=why) if meant is None else eraser.erase_incident(meant, reason=why))
            found = [record.entry async for record in journal.read(types=[JournalArchived.type])]
            return done, [entry.path for entry in found if isinstance(entry, JournalArchived)]
        finally:
            await journal.close()


_UNKNOWN = (
    "What this program can't know of: exports and backups of the home, logs of the host and of the service manager, messages that "
    "were sent to people, and what runbooks and sentinels keep of their own (sentinels/ in the home)."
)


def _show(done: Erased, archives: list[str], json: bool) -> None:
    if json:
        document: dict[str, Any] = {
            "erased": list(done.seqs),
            "erased_before": list(done.before),
            "nothing_to_erase": list(done.empty),
            "archives": archives,
        }
        output.say_json(document)
        return
    output.say(f"erased: {_listed(done.seqs)}")
    if done.before:
        output.say(f"erased before: {_listed(done.before)}")
    if done.empty:
        output.say(f"nothing in them to erase: {_listed(done.empty)}")
    for path in archives:
        output.say(f"an archive may hold copies of entries of that time: {path}")
    output.note(_UNKNOWN)


def _listed(seqs: tuple[int, ...]) -> str:
    return ", ".join(map(str, seqs)) if seqs else "nothing"
