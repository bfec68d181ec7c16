"""Whole hosts that race at one limit: what each limit's home looks like, and the degradations that press against it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.hosts import is_mended, runbook, write_mended

from remediation import DegradationEvent
from remediation.authoring import RemediationContext, Verdict
from remediation.bootstrap import RemediatorBootstrap
from remediation.testing import WORLD, plugin, settings_in

CODE = "RACED"
OTHER = "OTHER"
_LOOSE: dict[str, Any] = {
    "cooldown": 0,
    "changes_per_hour": 100_000,
    "runbook_changes": 100_000,
    "storm_subjects": 100_000,
    "concurrency_per_runbook": 1024,
    "concurrency_machine": 1024,
}


@dataclass(frozen=True)
class Race:
    """One limit, and what is reported."""

    limits: Mapping[str, Any]
    subjects: int = 16
    of_each: int = 1
    """Degradations of each subject."""
    codes: tuple[str, ...] = (CODE,)
    radius: str = "process"
    fails: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)
    native: bool = False
    """Whether each host reports all of it at once, instead of somebody through the inbox."""


RACES = {
    "changes_per_hour": Race({"changes_per_hour": 5}, subjects=24),
    "runbook_changes": Race({"runbook_changes": 4, "runbook_window": "2s"}, subjects=12),
    "concurrency_per_runbook": Race({"concurrency_per_runbook": 2}, codes=(CODE, OTHER)),
    "concurrency_machine": Race({"concurrency_machine": 2}, codes=(CODE, OTHER), radius="machine"),
    "attempts_per_incident": Race(
        {"attempts_per_incident": 2}, subjects=2, codes=(CODE, OTHER), fails=True, spec={"retries": 5, "backoff": ()}
    ),
    "cooldown": Race({"cooldown": "1s"}, subjects=2, of_each=4),
    "groups": Race({}, subjects=2),
    "storm_subjects": Race({"storm_subjects": 5, "storm_exit": "1s"}, subjects=40, native=True),
}


class Ring:
    """The home of a race below `base`."""

    def __init__(self, base: Path, name: str) -> None:
        self.base = base
        self.race = RACES[name]
        self.name = name
        self.stop = base / "stop"

    def subject(self, number: int) -> str:
        """One of the files."""
        return str(self.base / WORLD / f"file-{number}")

    def events(self) -> list[DegradationEvent]:
        """All that is reported."""
        race = self.race
        return [
            DegradationEvent(code=race.codes[number % len(race.codes)], subsystem=f"part-{turn}", subject=self.subject(number))
            for turn in range(race.of_each)
            for number in range(race.subjects)
        ]

    def break_all(self) -> None:
        """Make the files that are to be mended."""
        for number in range(self.race.subjects):
            Path(self.subject(number)).write_text("broken\n")

    def boot(self) -> RemediatorBootstrap:
        """A host."""

        async def slowly(ctx: RemediationContext) -> Verdict:
            await asyncio.sleep(0.02)
            return Verdict.failed("it always does") if self.race.fails else await is_mended(ctx)

        books = [
            runbook(code.lower(), code=code, action=write_mended, verify=slowly, blast_radius=self.race.radius, **self.race.spec)
            for code in (CODE, OTHER)
        ]
        limits = {**_LOOSE, **self.race.limits}
        if self.name == "groups":
            limits["groups"] = [{"name": "files", "subjects": [self.subject(number) for number in range(6)], "min_healthy": 4}]
        return RemediatorBootstrap(
            settings_in(self.base, live=[CODE.lower(), OTHER.lower()], limits=limits), plugins=[plugin(*books)]
        )


async def run(base: Path, name: str) -> None:
    """Be a host until the ring says stop."""
    ring = Ring(base, name)
    async with ring.boot().start() as host:
        if ring.race.native:
            await asyncio.gather(*(host.report(event) for event in ring.events()))
        while not ring.stop.exists():
            await asyncio.sleep(0.02)
