"""The whole incident, for real: the job fails, is healed, committed, rerun, and goes on to succeed by schedule."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.git import git
from tests.support.volatile_site import PAGE, SCRIPT, Site

from remediation.effects import BUILTIN_KINDS
from remediation.effects.rerun_job import RerunOutput
from remediation.errors import EffectConflict
from remediation.model.runbook import Verdict, Wait
from remediation.ports.effect import EffectKinds


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def kinds() -> EffectKinds:
    return EffectKinds(BUILTIN_KINDS)


async def test_a_job_that_lost_its_template_is_healed_for_good(site: Site, kinds: EffectKinds) -> None:
    site.with_content_in_history()
    site.gone.mkdir(parents=True)
    site.missing.write_text(PAGE)
    assert await site.runs()
    shutil.rmtree(site.gone)
    attempt = site.attempt(await site.fails())
    assert (await attempt.precondition()).applicable
    before = site.project.head()
    receipts = await attempt.apply(await attempt.action(), kinds)

    assert git(site.project.top, "rev-parse", "HEAD^").strip() == before
    assert site.project.status() == ""
    assert (site.project.top / "scripts" / "resources" / "page.html").read_text() == PAGE
    assert (
        git(site.project.top, "log", "-1", "--format=%s").strip() == "Find page.html in the repository, not among temporary files"
    )
    assert RerunOutput.model_validate_json(receipts[1].output).exit_code == 0
    assert not site.missing.exists()

    assert isinstance(await attempt.verify(), Wait)
    assert await site.runs()
    assert "JOB_FILE_MISSING" in site.watch.cleared
    attempt.cleared()
    verdict = await attempt.verify()
    assert isinstance(verdict, Verdict)
    assert verdict.status == "healthy"
    # Before the cleaning, in the trial (which is no sandbox), in the rerun, and by schedule.
    assert (site.out / "built").read_text() == PAGE * 4
    # From whatever folder it is started.
    subprocess.run([sys.executable, str(site.project.top / "scripts" / "build.py")], cwd="/", check=True)


async def test_a_heal_that_was_wrong_is_taken_back_exactly(site: Site, kinds: EffectKinds) -> None:
    site.with_content_in_history()
    attempt = site.attempt(await site.fails())
    await attempt.precondition()
    script = (site.project.top / "scripts" / "build.py").read_bytes()
    await attempt.apply(await attempt.action(), kinds)
    await attempt.revert()
    assert (site.project.top / "scripts" / "build.py").read_bytes() == script
    assert not (site.project.top / "scripts" / "resources" / "page.html").exists()
    assert site.project.status() == ""


async def test_a_person_can_revert_the_commit(site: Site, kinds: EffectKinds) -> None:
    site.with_content_in_history()
    attempt = site.attempt(await site.fails())
    await attempt.precondition()
    await attempt.apply(await attempt.action(), kinds)
    git(site.project.top, "revert", "--no-edit", "HEAD")
    assert (site.project.top / "scripts" / "build.py").read_text() == site.script()


async def test_uncommitted_work_elsewhere_is_left_as_it_is(site: Site, kinds: EffectKinds) -> None:
    site.with_content_in_history()
    site.project.commit({"notes.txt": "one\n"})
    site.project.write("notes.txt", "two\n")
    site.project.write("new.txt", "new\n")
    site.project.write("staged.txt", "staged\n")
    git(site.project.top, "add", "staged.txt")
    before = site.project.status()
    attempt = site.attempt(await site.fails())
    assert (await attempt.precondition()).applicable
    await attempt.apply(await attempt.action(), kinds)
    assert site.project.status() == before
    assert git(site.project.top, "show", "--stat", "--format=", "HEAD").count("|") == 2


async def test_a_commit_of_somebody_else_between_plan_and_apply_is_a_conflict(site: Site, kinds: EffectKinds) -> None:
    site.with_content_in_history()
    attempt = site.attempt(await site.fails())
    await attempt.precondition()
    plan = await attempt.action()
    site.project.write("scripts/build.py", site.script() + "# mine\n")
    with pytest.raises(EffectConflict):
        await attempt.apply(plan, kinds)
    assert (site.project.top / "scripts" / "build.py").read_text() == site.script() + "# mine\n"


async def test_a_script_with_windows_line_ends_and_an_odd_encoding_is_committed_byte_for_byte(
    site: Site, kinds: EffectKinds
) -> None:
    script = site.script("# -*- coding: latin-1 -*-\n" + SCRIPT.replace("Builds", "Bäut")).replace("\n", "\r\n").encode("latin-1")
    site.project.commit({"scripts/build.py": script, "old/page.html": PAGE})
    shutil.rmtree(site.project.top / "old")
    site.project.commit_all()
    attempt = site.attempt(await site.fails())
    assert (await attempt.precondition()).applicable
    await attempt.apply(await attempt.action(), kinds)
    changed = (site.project.top / "scripts" / "build.py").read_bytes()
    assert b"B\xe4ut" in changed
    assert changed.count(b"\r\n") == changed.count(b"\n") == script.count(b"\n") + 1
    assert site.project.status() == ""
    assert await site.runs()
