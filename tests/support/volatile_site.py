"""A site whose job reads a template from a volatile folder, and the sentinel and attempt that meet its failure."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.git import Project
from tests.support.healing import Attempt
from tests.support.watching import RealWatch

from remediation.model.events import DegradationEvent, Provenance
from remediation.runbooks.volatile_path import VolatilePath
from remediation.sentinels._jobs.options import JobOptions
from remediation.sentinels.jobs import JobSentinel

SCRIPT = '''"""Builds the pages."""

import os
import sys

TEMPLATE = "{gone}/page.html"  # cleaned away one day


def main():
    with open(TEMPLATE, encoding="utf-8") as file:
        page = file.read()
    with open(os.path.join("{out}", "built"), "a") as out:
        out.write(page)


if __name__ == "__main__":
    main()
'''
PAGE = "<h1>ünïcode</h1>\n"


class Site:
    """`project` holds ``scripts/build.py``; `gone` is the volatile folder, `out` where the job writes."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.gone = base / "volatile" / "site"
        self.out = base / "out"
        self.out.mkdir()
        self.project = Project(base / "project")
        self.watch = RealWatch(base=self.project.top, state=base / "state")
        self.table: dict[str, Any] = {"name": "build-pages", "command": [sys.executable, "scripts/build.py"], "every": "10m"}
        self.options: dict[str, Any] = {"volatile": [str(base / "volatile")]}
        self.roots = [self.project.top]

    @property
    def missing(self) -> Path:
        return self.gone / "page.html"

    def script(self, text: str = SCRIPT) -> str:
        """`text` with the folders of this site."""
        return text.replace("{gone}", str(self.gone)).replace("{out}", str(self.out))

    def with_content_in_history(self, script: str = SCRIPT, page: str | bytes = PAGE) -> None:
        """Commit the script, and a template that is deleted in the next commit."""
        self.project.commit({"scripts/build.py": self.script(script), "site/page.html": page})
        (self.project.top / "site" / "page.html").unlink()
        self.project.commit_all("The template lives elsewhere now")

    @property
    def sentinel(self) -> JobSentinel:
        return JobSentinel(JobOptions(**self.table), self.project.top)

    async def fails(self) -> DegradationEvent:
        """The degradation of the job's next run."""
        count = len(self.watch.reports)
        self.watch.clock.advance(minutes=10, seconds=1)
        await self.sentinel.check(self.watch)
        assert len(self.watch.reports) > count
        return self.watch.reports[-1]

    async def runs(self) -> bool:
        """Whether the job's next run by schedule succeeds."""
        count = len(self.watch.reports)
        self.watch.clock.advance(minutes=10, seconds=1)
        await self.sentinel.check(self.watch)
        return len(self.watch.reports) == count

    def attempt(
        self, event: DegradationEvent, options: Mapping[str, Any] | None = None, provenance: Provenance = Provenance.SENTINEL
    ) -> Attempt:
        """An attempt of the runbook at `event`."""
        return Attempt(
            VolatilePath(),
            event,
            self.base / "home",
            self.roots,
            options=self.options | dict(options or {}),
            provenance=provenance,
            clock=self.watch.clock,
        )
