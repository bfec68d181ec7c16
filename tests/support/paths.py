"""
The ways that a heal can take beside the straight one: asked about, watched for a while, held back, paused, folded into a storm, escalated.

Each `Detour` is a world of files to mend, and what people do while a host is up. Its clock runs fast, and goes on between hosts.
"""

import asyncio
import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.aftermath import folded, records_of
from tests.support.heals import SHELL, Receiver
from tests.support.hosts import runbook

from remediation import DegradationEvent
from remediation.authoring import CallHost, Finding, Plan, RemediationContext, RunCommand, Verdict, WriteFile
from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.core import consent
from remediation.core.incident import Incident, Status
from remediation.engine.approvals import pending
from remediation.journal.inbox import Inbox
from remediation.keys.ssh import sign
from remediation.model.base import epoch_ms
from remediation.ports.channel import Notice
from remediation.settings import Home
from remediation.testing import WORLD, plugin, settings_in

KINDS = ("asked", "asked-twice", "denied", "sustained", "held-back", "window", "storm", "panic", "unmatched")
ASKING = ("asked", "asked-twice", "denied")
SUBJECTS = {"held-back": 2, "window": 2, "storm": 4}
FACTOR = 40
PATIENCE = 30.0
WHO = "alice"


class Hasty:
    """Time that runs `FACTOR` times as fast as the machine's since `since`, for all processes alike."""

    def __init__(self, since: float) -> None:
        self._since = since

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._since + (time.time() - self._since) * FACTOR, UTC)

    def monotonic(self) -> float:
        return time.monotonic() * FACTOR

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / FACTOR)


class Ear:
    """A channel: what is heard is a line in a file, and stays heard."""

    name = "ear"

    def __init__(self, path: Path) -> None:
        self.path = path

    async def send(self, notice: Notice) -> None:
        line = json.dumps([notice.kind, notice.incident, list(notice.actions)]) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def heard(self) -> list[tuple[str, str, list[str]]]:
        """Kind, incident and actions of each notice."""
        return [tuple(json.loads(line)) for line in self.path.read_text().splitlines()] if self.path.exists() else []


class Detour:
    """One world below `base`."""

    def __init__(self, base: Path, kind: str) -> None:
        self.base = base
        self.kind = kind
        self.side = base / "side"
        self.receiver = Receiver(self.side)
        self.ear = Ear(self.side / "heard")
        self.home = Home(base / "home", base / "keys")

    @property
    def subjects(self) -> list[str]:
        """Names of what is broken."""
        return [f"thing{number}" for number in range(SUBJECTS.get(self.kind, 1))]

    def event(self, name: str) -> DegradationEvent:
        return DegradationEvent(code="BROKEN", subsystem="test", subject=str(self.base / WORLD / name))

    def make(self) -> None:
        """The world before."""
        (self.base / WORLD).mkdir(parents=True)
        self.side.mkdir()
        for name in self.subjects:
            (self.base / WORLD / name).write_text("broken\n")
        key = Ed25519PrivateKey.generate()
        (self.base / "person").write_bytes(key.private_bytes_raw())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        (self.base / "signers").write_text(f'{WHO} namespaces="{consent.NAMESPACE}" {public}\n')
        (self.base / "since").write_text(repr(time.time()))

    def boot(self) -> RemediatorBootstrap:
        """A host for this world."""
        spec: dict[str, Any] = {"sustain": "3s"} if self.kind == "sustained" else {}
        code = "OTHER" if self.kind == "unmatched" else "BROKEN"
        book = runbook(
            "mend",
            code=code,
            precondition=self.precondition,
            action=self.action,
            verify=self.verify,
            blast_radius="machine",
            **spec,
        )
        limits: dict[str, Any] = {"cooldown": 0, "changes_per_hour": 1000, "runbook_changes": 1000}
        limits |= {
            "held-back": {"concurrency_per_runbook": 1},
            "window": {"runbook_changes": 1, "runbook_window": "2s"},
            "storm": {"storm_subjects": 2, "storm_exit": "1s"},
        }.get(self.kind, {})
        settings = settings_in(
            self.base,
            live=["mend"],
            profile="supervised" if self.kind in ASKING else "autonomous",
            limits=limits,
            approvals={"allowed_signers": self.base / "signers", "allow_local": True},
        )
        clock = Hasty(float((self.base / "since").read_text()))
        boot = RemediatorBootstrap(settings, plugins=[plugin(book, channels=[self.ear])], clock=clock)
        boot.controls.register("ring", self._ring, idempotent=True, undo=self.receiver.unring)
        return boot

    def _ring(self, key: str, text: str) -> str:
        if self.kind == "panic" and not self.receiver.keys("rung"):
            # Somebody pulls the cord while the plan is being applied.
            self._ask("pause", {"reason": "stop", "panic": True})
        return self.receiver.ring(key, text)

    def _ask(self, kind: str, document: dict[str, Any]) -> None:
        Inbox(self.home.inbox).put(kind, document, at=int(time.time() * 1000))

    # -- the runbook -----------------------------------------------------------------------------------------------------------

    async def precondition(self, ctx: RemediationContext) -> Finding:
        if await ctx.read_text(ctx.subject_path()) == "mended\n":
            return Finding.declined("it is mended")
        return Finding.applies(confidence=100)

    async def action(self, ctx: RemediationContext) -> Plan:
        said = self.side / "said"
        # Of an attempt that is never planned nothing runs; its number is used again.
        name = f"{ctx.incident.id}/{len(ctx.attempts)}"
        command = RunCommand(argv=(SHELL, "-c", f"echo do $0 >> {said}", name), undo=(SHELL, "-c", f"echo undo $0 >> {said}", name))
        write = WriteFile(path=ctx.subject_path(), content="mended\n")
        ring = CallHost(control="ring", args={"text": "hello"})
        if self.kind not in ("asked-twice", "denied"):
            return Plan(ring, command, write)
        return Plan(command, more=True) if ctx.stage == 0 else Plan(ring, write)

    async def verify(self, ctx: RemediationContext) -> Verdict:
        return Verdict.healthy() if await ctx.read_text(ctx.subject_path()) == "mended\n" else Verdict.failed("still broken")

    # -- people ------------------------------------------------------------------------------------------------------------------

    def signed(self, origin: str, state: Any, id_: str, decision: consent.Decision) -> tuple[bytes, str]:
        """A person's answer to a request."""
        found = next(item for item in pending(state) if item.approval.id == id_)
        document = consent.document(origin, found.incident, found.approval, decision=decision, approver=WHO)
        key = Ed25519PrivateKey.from_private_bytes((self.base / "person").read_bytes())
        return document, sign(document, key, consent.NAMESPACE)

    def _decision(self, incident: Incident) -> consent.Decision:
        attempt = incident.current
        return "deny" if self.kind == "denied" and attempt is not None and attempt.receipts else "approve"

    def answer_while_it_is_down(self) -> int:
        """A person answers what is asked, while no host runs; returns how many requests there were."""
        records = records_of(self.home)
        state = folded(records)
        waiting = [(item.approval.id, self._decision(item.incident)) for item in pending(state)]
        origin = self.home.head_note.read_text().partition("\n")[0]
        for id_, decision in waiting:
            document, signature = self.signed(origin, state, id_, decision)
            self._ask("approve", {"document": document.decode(), "signature": signature})
        return len(waiting)

    async def live(self, host: Host, names: Sequence[str], told: Callable[[str, str], None], *, answers: bool) -> None:
        """Report `names`; do what people do, until everything is settled, or waits for an answer that nobody gives."""
        for name in names:
            told(name, (await host.report(self.event(name))).incident)
        end = time.monotonic() + PATIENCE
        while any(incident.open for incident in host.incidents()):
            if time.monotonic() > end:
                raise TimeoutError(f"open after {PATIENCE} s: {[incident for incident in host.incidents() if incident.open]}")
            await host.settle()
            asked = list(host.approvals.pending())
            if not answers and asked and len(asked) == sum(incident.open for incident in host.incidents()):
                return
            for item in asked if answers else ():
                document, signature = self.signed(host.journal.origin, host._state, item.approval.id, self._decision(item.incident))
                with contextlib.suppress(StopIteration):
                    await host.approvals.answer(document, signature)
            if host._state.paused(epoch_ms(datetime.now(UTC))):
                self._ask("resume", {})
            await asyncio.sleep(0.002)
        await host.settle()

    # -- what must be true afterwards --------------------------------------------------------------------------------------------

    def promises_were_kept(self, incidents: Sequence[Incident]) -> None:
        """Raise AssertionError unless each effect of each incident did at most what it may, and people heard of it."""
        said = (self.side / "said").read_text().splitlines() if (self.side / "said").exists() else []
        assert len(said) == len(set(said)), f"a command that must run once ran twice: {said}"
        rung, unrung = Counter(_attempts(self.receiver, "rung")), Counter(_attempts(self.receiver, "unrung"))
        assert not set(rung) & set(unrung), "the receiver did something again that was taken back"
        assert not list((self.base / WORLD).rglob("*.remediation"))
        heard = self.ear.heard()
        for incident in incidents:
            self._kept(incident, said, rung)
            assert incident.held or incident.status is Status.RESOLVED
            assert any(kind == incident.status.value and id_ == incident.id for kind, id_, _ in heard), (
                f"nobody heard that {incident.id} is {incident.status}: {heard}"
            )

    def _kept(self, incident: Incident, said: list[str], rung: Counter[str]) -> None:
        done = [attempt for attempt in incident.attempts if attempt.acted]
        commands = [line.split()[0] for line in said if line.split()[1].startswith(incident.id)]
        path = Path(incident.event.subject)
        if incident.status is Status.RESOLVED and done:
            assert path.read_text() == "mended\n"
            assert commands == ["do"]
            assert sum(rung[attempt.id] for attempt in done) == 1
        elif any(attempt.outcome == "inconclusive" and not attempt.uncertain for attempt in done):
            # Too much of the time for watching passed while no host ran. What nobody could judge is not taken back.
            assert self.kind == "sustained"
            assert commands == ["do"]
        elif not incident.dirty and not any(attempt.uncertain for attempt in incident.attempts):
            assert commands in ([], ["do", "undo"])
            assert not any(rung[attempt.id] for attempt in done)
        if self.kind == "denied":
            assert not any("done" in attempt.outcome for attempt in done)
            assert not path.is_file() or path.read_text() == "broken\n"


def _attempts(receiver: Receiver, name: str) -> list[str]:
    return [key.partition(":")[0] for key in receiver.keys(name)]


def ends(kind: str, incident: Incident) -> set[str]:
    """How an incident of this kind may end, whenever its host is killed."""
    if incident.dirty:
        return {"heal_failed"}  # killed while a command was undone: it is not undone twice
    if kind in ("denied", "unmatched"):
        return {"escalated"}
    # Killed in a command: nobody knows whether it ran. Reported again after it was mended: nothing applies.
    return {"resolved", "escalated"}
