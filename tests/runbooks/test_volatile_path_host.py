"""The incident in a running host: configured by a file, run by its schedule, healed, verified by the next run."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.git import git
from tests.support.volatile_site import PAGE, SCRIPT, Site

from remediation.bootstrap import RemediatorBootstrap, initialise
from remediation.core.incident import Incident
from remediation.settings import Settings


@asynccontextmanager
async def host(site: Site, every: str = "1s") -> AsyncIterator[Callable[[], list[Incident]]]:
    """A host that runs the site's job; gives its incidents."""
    file = site.base / "remediation.toml"
    file.write_text(
        f'[host]\nid = "test"\n[gate]\nprofile = "collaborative"\n[effects]\nroots = {json.dumps([str(site.project.top)])}\n'
        f"[keys]\ndir = {json.dumps(str(site.base / 'keys'))}\n"
        f'[runbooks."volatile-path"]\nstate = "live"\n[runbooks."volatile-path".options]\nvolatile = {json.dumps(site.options["volatile"])}\n'
        f'[[jobs]]\nname = "build-pages"\ncommand = {json.dumps([sys.executable, "scripts/build.py"])}\n'
        f'cwd = {json.dumps(str(site.project.top))}\nevery = "{every}"\n'
    )
    settings = Settings.load(file, home=site.base / "home")
    initialise(settings)
    async with RemediatorBootstrap(settings).start() as running:
        yield lambda: list(running.incidents())


async def settled(incidents: Callable[[], list[Incident]]) -> Incident:
    """The first incident, once it is settled."""
    deadline = time.monotonic() + 60
    while not (found := [incident for incident in incidents() if incident.status.value != "open"]):
        assert time.monotonic() < deadline, [incident.status for incident in incidents()]
        await asyncio.sleep(0.05)
    return found[0]


async def built(site: Site, times: int) -> None:
    """Wait until the job has run so often."""
    deadline = time.monotonic() + 30
    while not (site.out / "built").exists() or (site.out / "built").read_text().count(PAGE) < times:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_running_host_heals_a_job_whose_template_was_cleaned_away(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.with_content_in_history()
    site.gone.mkdir(parents=True)
    site.missing.write_text(PAGE)
    async with host(site) as incidents:
        await built(site, 1)
        shutil.rmtree(site.gone)
        incident = await settled(incidents)
        assert (incident.event.code, incident.status.value) == ("JOB_FILE_MISSING", "resolved")
        assert len(incident.attempts) == 1
        await built(site, (site.out / "built").read_text().count(PAGE) + 2)
    assert len(incidents()) == 1
    assert site.project.status() == ""
    assert git(site.project.top, "log", "-1", "--format=%s").startswith("Find page.html in the repository")


async def test_a_heal_that_does_not_help_is_taken_back_and_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    # Succeeds wherever nothing but committed files is; in the work tree there is a file that makes it fail afterwards.
    site.with_content_in_history(SCRIPT.replace("page = file.read()", "page = file.read(); assert not os.path.exists('local')"))
    site.project.commit({".gitignore": "local\n"})
    site.project.write("local", "")
    async with host(site, every="1h") as incidents:
        incident = await settled(incidents)
    assert incident.status.value in ("heal_failed", "escalated")
    assert not incident.dirty
    assert {attempt.outcome for attempt in incident.attempts} == {"failed"}
    assert (site.project.top / "scripts" / "build.py").read_text() == site.script(
        SCRIPT.replace("page = file.read()", "page = file.read(); assert not os.path.exists('local')")
    )
    assert not (site.project.top / "scripts" / "resources").exists()
    assert site.project.status() == ""


async def test_what_can_not_be_healed_is_escalated_with_the_reason(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.project.commit({"scripts/build.py": site.script()})
    async with host(site, every="1h") as incidents:
        incident = await settled(incidents)
    assert incident.status.value == "escalated"
    assert not incident.attempts
    assert "volatile-path: declined: no content for" in incident.reason
    assert "looked for its name in the work tree" in incident.reason
