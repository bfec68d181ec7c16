"""
Two weeks of a host's life, from `observe` to `autonomous`: a real host and journal on a clock that the test moves.

The table below was written by hand: what happens, when, and what the host has to decide. Every decision of the fortnight is compared
with it, and at the end the journal is folded anew and verified.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.hosts import asked, broken, is_mended, records_of, runbook, ticked, write_mended

from remediation import DegradationEvent
from remediation.authoring import Finding, Plan, RemediationContext, RunCommand, Verdict, WriteFile
from remediation.bootstrap import Host
from remediation.core.incident import Incident
from remediation.core.state import HostState
from remediation.keys.ssh import sign
from remediation.model.entries import AttemptPlanned, RunbookReleased
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.testing import FakeClock, eventually, running_host

BEGIN = datetime(2030, 3, 4, tzinfo=UTC)
LIMITS = {"changes_per_hour": 6, "runbook_changes": 4, "storm_subjects": 20, "cooldown": "5m"}

# -- the table --------------------------------------------------------------------------------------------------------------
# day, time   what (code, subject, and what people do)              how it ends        the gate's last word, and its rows

TABLE = """
 0  09:00   BROKEN  a                                               escalated          observe   profile
 0  09:05   NOBODY  b                                               escalated          -         -
 0  09:10   LOSSY   c                                               escalated          observe   profile lasting-loss high-risk

 1  09:00   BROKEN  d          alice approves                       resolved           proceed   profile
 1  10:00   BROKEN  e          alice denies                         escalated          ask       profile
 1  11:00   BROKEN  f          it goes away                         resolved           ask       profile
 1  12:00   BROKEN  g          nobody answers                       escalated          ask       profile

 3  09:00   BROKEN  h                                               resolved           proceed   allowed
 3  09:10   BROKEN  unsure-i   alice approves                       resolved           proceed   confidence
 3  09:20   WIDE    wide-j     alice denies                         escalated          ask       profile
 3  10:00   WIDE    near-1     alice approves                       resolved           proceed   profile
 3  10:10   WIDE    near-2     alice approves                       resolved           proceed   profile
 3  10:20   WIDE    near-3     alice approves                       resolved           proceed   profile
 3  10:30   WIDE    wide-k                                          resolved           proceed   profile
 3  11:00   LOSSY   l          alice denies                         escalated          ask       lasting-loss high-risk

 5  09:00   WIDE    wide-m                                          resolved           proceed   allowed
 5  09:10   LOSSY   n          alice approves                       resolved           proceed   lasting-loss high-risk
 5  09:20   LOGINS  o          alice denies                         escalated          ask       high-risk
 5  10:00   BROKEN  back                                            resolved           proceed   allowed
 5  10:01   BROKEN  back       after the cooldown                   resolved           proceed   allowed
 5  11:00   BROKEN  back                                            resolved           proceed   allowed
 5  12:00   BROKEN  back                                            escalated          -         -
 5  13:00   SPRING  p                                               resolved           proceed   allowed
 5  13:20   SPRING  p                                               escalated          -         -

 6  09:00   FLAKY   q                                               heal_failed        proceed   allowed
 7  09:00   FLAKY   r                                               heal_failed        proceed   allowed
 8  09:00   FLAKY   s                                               escalated          observe   lifecycle
 9  09:00   FLAKY   t          after its release                    heal_failed        proceed   allowed

10  09:00   BROKEN  1                                               resolved           proceed   allowed
10  09:01   BROKEN  2                                               resolved           proceed   allowed
10  09:02   BROKEN  3                                               resolved           proceed   allowed
10  09:03   BROKEN  4                                               resolved           proceed   allowed
10  09:04   BROKEN  5          after the window                     resolved           proceed   allowed
10  11:30   WIDE    near-4                                          resolved           proceed   allowed
10  11:31   WIDE    near-5                                          resolved           proceed   allowed
10  11:32   WIDE    near-6                                          resolved           proceed   allowed
10  11:33   BROKEN  6                                               resolved           proceed   allowed
10  11:34   BROKEN  7                                               resolved           proceed   allowed
10  11:35   BROKEN  8                                               resolved           proceed   allowed
10  11:36   BROKEN  9                                               escalated          -         -
10  11:37   WIDE    near-7     after the pause                      resolved           proceed   allowed

12  09:00   BROKEN  x          in a panic                           resolved           proceed   allowed
12  10:00   BROKEN  y          alice pauses and resumes             resolved           proceed   allowed
13  09:00   BROKEN  e          it was closed by a person            resolved           proceed   allowed
"""

PROFILES = {0: "observe", 1: "supervised", 3: "collaborative", 5: "autonomous"}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    at: datetime
    code: str
    subject: str
    people: str
    status: str
    decision: str
    rows: frozenset[str]
    line: str = field(compare=False)

    @classmethod
    def of(cls, line: str) -> "Row":
        day, time, code, subject = line[:32].split()[:4]
        hour, minute = map(int, time.split(":"))
        people = line[29:66].strip()
        status, decision, *rows = line[66:].split()
        at = BEGIN + timedelta(days=int(day), hours=hour, minutes=minute)
        return cls(at, code, subject, people, status, decision, frozenset(rows) - {"-"}, line)


ROWS = [Row.of(line) for line in TABLE.splitlines() if line.strip()]

# -- the runbooks -----------------------------------------------------------------------------------------------------------


async def sure(ctx: RemediationContext) -> Finding:
    if await ctx.read_text(ctx.event.subject) == "mended\n":
        return Finding.declined("it is mended")
    return Finding.applies(confidence=40 if "unsure" in ctx.event.subject else 90)


async def near_or_wide(ctx: RemediationContext) -> Plan:
    write = WriteFile(path=ctx.subject_path(), content="mended\n")
    if "wide" in ctx.event.subject:
        return Plan(write, RunCommand(argv=("true",), undo=("true",), reach="machine"))
    return Plan(write)


async def lossy(ctx: RemediationContext) -> Plan:
    return Plan(WriteFile(path=ctx.subject_path(), content="mended\n"), loses="what was written since noon")


async def never(ctx: RemediationContext) -> Verdict:
    return Verdict.failed("it is still broken")


RUNBOOKS = (
    runbook("mend", precondition=sure, action=write_mended, verify=is_mended),
    runbook("reach", code="WIDE", precondition=sure, action=near_or_wide, blast_radius="machine"),
    runbook("lossy", code="LOSSY", precondition=sure, action=lossy, reversibility="partial"),
    runbook("logins", code="LOGINS", precondition=sure, tags=("auth",)),
    runbook("spring", code="SPRING", precondition=sure, level="patch"),
    runbook("flaky", code="FLAKY", precondition=sure, verify=never),
)


# -- the fortnight ----------------------------------------------------------------------------------------------------------


class Alice:
    """Who may consent."""

    key = Ed25519PrivateKey.generate()

    @classmethod
    def line(cls) -> str:
        public = cls.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return f'alice namespaces="remediation-approval" {public}\n'

    @classmethod
    async def answers(cls, host: Host, decision: Any) -> None:
        (request,) = host.approvals.pending()
        document = host.approvals.document(request.approval.id, decision=decision, approver="alice")
        await host.approvals.answer(document, sign(document, cls.key, "remediation-approval"))


class Fortnight:
    """A host that is started anew with each profile, and the clock that all its lives share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(BEGIN)
        self.host: Host
        (folder / "allowed_signers").write_text(Alice.line())

    @contextlib.asynccontextmanager
    async def living(self, profile: str) -> AsyncIterator[None]:
        settings: dict[str, Any] = {
            "profile": profile,
            "limits": LIMITS,
            "trust": {"earn_after": 3},
            "approvals": {"allowed_signers": self.folder / "allowed_signers", "expires": "24h", "recheck": "30m"},
        }
        async with running_host(self.folder, *RUNBOOKS, clock=self.clock, **settings) as host:
            self.host = host
            yield

    async def until(self, at: datetime) -> None:
        """Let time pass, in steps that leave the host no chance to be busy meanwhile."""
        while self.clock.now() < at:
            left = (at - self.clock.now()).total_seconds()
            self.clock.advance(min(left, 1800.0))
            await self.host.journal.refresh()

    async def happens(self, row: Row) -> Incident:
        event = broken(self.folder, row.subject, code=row.code)
        before = self.settle_of(event)
        if row.people == "in a panic":
            asked(self.folder, "pause", {"reason": "smoke", "panic": True})
            await eventually(lambda: self.host._state.pauses)
        if row.people == "it was closed by a person":
            asked(self.folder, "close", {"incident": before, "reason": "done by hand"})
            await eventually(lambda: not self.host.incident(before).held)
        if row.people == "after its release":
            await self.host.journal.append("runbook/flaky", [RunbookReleased(runbook="flaky", by="bob", reason="mended")])
            await self.restarted()
        if row.people == "alice pauses and resumes":
            asked(self.folder, "pause", {"reason": "migration"})
            await eventually(lambda: self.host._state.pauses)
        reported = await self.host.report(event)
        await PEOPLE.get(row.people, nothing)(self, event, reported.incident)
        await eventually(lambda: not self.host.incident(reported.incident).open, within=20)
        return self.host.incident(reported.incident)

    def settle_of(self, event: DegradationEvent) -> str:
        known = self.host._state.open_or_held(event.fingerprint)
        return known.id if known is not None else ""

    async def restarted(self) -> None:
        await self.stack.aclose()
        await self.start("autonomous")

    async def start(self, profile: str) -> None:
        self.stack = contextlib.AsyncExitStack()
        await self.stack.enter_async_context(self.living(profile))

    async def passes(self, incident: str, seconds: float, most: float) -> None:
        """Time passes until the incident is settled; at most `most` seconds of it."""
        begin = self.clock.monotonic()
        await ticked(self.clock, lambda: not self.host.incident(incident).open, seconds, within=60)
        # On a busy machine a few steps go by before the host has taken notice of the last one that it needed.
        assert self.clock.monotonic() - begin <= most + 10 * seconds


async def nothing(life: Fortnight, event: DegradationEvent, incident: str) -> None:
    """Nobody does anything."""


async def approves(life: Fortnight, event: DegradationEvent, incident: str) -> None:
    await eventually(lambda: life.host._state.approvals)
    await Alice.answers(life.host, "approve")


async def denies(life: Fortnight, event: DegradationEvent, incident: str) -> None:
    await eventually(lambda: life.host._state.approvals)
    await Alice.answers(life.host, "deny")


async def goes_away(life: Fortnight, event: DegradationEvent, incident: str) -> None:
    await eventually(lambda: life.host._state.approvals)
    Path(event.subject).write_text("mended\n")
    await life.passes(incident, 20, 1900)


async def no_answer(life: Fortnight, event: DegradationEvent, incident: str) -> None:
    await eventually(lambda: life.host._state.approvals)
    await life.passes(incident, 600, 24 * 3600 + 700)


def waits(seconds: float, most: float, why: str) -> Callable[[Fortnight, DegradationEvent, str], Awaitable[None]]:
    async def waiting(life: Fortnight, event: DegradationEvent, incident: str) -> None:
        await eventually(lambda: (wait := life.host.incident(incident).wait) is not None and why in wait.reason)
        await life.passes(incident, seconds, most)

    return waiting


async def resumed(life: Fortnight, event: DegradationEvent, incident: str) -> None:
    await eventually(lambda: (wait := life.host.incident(incident).wait) is not None and wait.why == "pause")
    assert Path(event.subject).read_text() == "broken\n"
    asked(life.folder, "resume", {})
    await ticked(life.clock, lambda: not life.host.incident(incident).open, 1)


PEOPLE: dict[str, Callable[[Fortnight, DegradationEvent, str], Awaitable[None]]] = {
    "alice approves": approves,
    "alice denies": denies,
    "it goes away": goes_away,
    "nobody answers": no_answer,
    "after the cooldown": waits(10, 300, "short while"),
    "after the window": waits(20, 3600, "runbook_changes"),
    "after the pause": waits(20, 3700, "changes_per_hour"),
    "in a panic": resumed,
    "alice pauses and resumes": resumed,
}


async def last_word(host: Host, incident: Incident) -> tuple[str, frozenset[str]]:
    """The gate's last decision about an incident, and the rows that it names."""
    planned = [record.entry for record in await records_of(host, incident.id) if isinstance(record.entry, AttemptPlanned)]
    if not planned:
        return "-", frozenset()
    return planned[-1].gate.decision, frozenset(reason.row for reason in planned[-1].gate.reasons)


async def test_every_decision_of_a_fortnight_is_the_one_in_the_table(tmp_path: Path) -> None:
    life = Fortnight(tmp_path)
    await life.start("observe")
    try:
        profile = "observe"
        for row in ROWS:
            wanted = PROFILES.get((row.at - BEGIN).days, profile)
            await life.until(row.at)
            if wanted != profile:
                profile = wanted
                await life.stack.aclose()
                await life.start(profile)
            incident = await life.happens(row)
            decision, rows = await last_word(life.host, incident)
            found = (incident.status.value, decision, rows)
            assert found == (row.status, row.decision, row.rows), f"{row.line.strip()}\n{incident.reason}"
            healed = Path(incident.event.subject).read_text() == "mended\n"
            assert healed == (row.status == "resolved"), row.line
    finally:
        await life.stack.aclose()
    await _proven_and_folded(tmp_path)


async def _proven_and_folded(folder: Path) -> None:
    home = Home(folder / "home", folder / "keys")
    verdict = verify_journal(home.journal, own=home.verifier_keys.read_text().split())
    assert verdict.ok
    first, second = HostState(keep_settled=None), HostState(keep_settled=None)
    for record in await records_of(home):
        first.apply(record)
        second.apply(record)
    assert first.incidents == second.incidents
    assert not list(first.open_incidents())
