"""Whole hosts in processes of their own, on one home, and a heal that tells when it is done twice or by two at once."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.hosts import runbook

from remediation import DegradationEvent
from remediation.authoring import Finding, Plan, RemediationContext, RunCommand, Verdict
from remediation.bootstrap import RemediatorBootstrap
from remediation.testing import WORLD, plugin, settings_in

CODE = "RACED"
_DO = 'mkdir "$1" || echo overlap >> "$2"; echo "$0" >> "$2"; rmdir "$1"'


class Track:
    """What the hosts below `base` share: one subject, and the record of what was done to it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.subject = base / WORLD / "subject"
        self.done = base / "done"
        self.stop = base / "stop"

    def event(self, number: int) -> DegradationEvent:
        """One of many degradations of the one subject."""
        return DegradationEvent(code=CODE, subsystem=f"part-{number}", subject=str(self.subject))

    def times_done(self) -> Counter[str]:
        """How often the command of each incident ran; ``overlap``: how often two ran at once."""
        return Counter(self.done.read_text().split() if self.done.exists() else [])

    def boot(self) -> RemediatorBootstrap:
        """A host."""

        async def applies(ctx: RemediationContext) -> Finding:
            return Finding.applies(confidence=100)

        async def act(ctx: RemediationContext) -> Plan:
            inside = str(self.base / "inside")
            return Plan(RunCommand(argv=("/bin/sh", "-c", _DO, ctx.incident.id, inside, str(self.done)), undo=("/bin/false",)))

        async def healthy(ctx: RemediationContext) -> Verdict:
            return Verdict.healthy()

        book = runbook("race", code=CODE, precondition=applies, action=act, verify=healthy, blast_radius="machine")
        limits: dict[str, Any] = {"cooldown": 0, "changes_per_hour": 100_000, "runbook_changes": 100_000, "storm_subjects": 100_000}
        return RemediatorBootstrap(settings_in(self.base, live=["race"], limits=limits), plugins=[plugin(book)])


async def run(base: Path) -> None:
    """Be a host until the track says stop."""
    track = Track(base)
    async with track.boot().start():
        while not track.stop.exists():
            await asyncio.sleep(0.02)
