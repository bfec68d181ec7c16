"""A job whose template was cleaned away: confirmed, found again, tried, and planned; or declined with the reason."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support import repository
from tests.support.git import Project, git
from tests.support.volatile_site import PAGE, SCRIPT, Site

from remediation.effects import GitCommit
from remediation.effects.rerun_job import RerunJob
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import BlobRef
from remediation.model.runbook import Finding, Wait
from remediation.runbooks import volatile_path
from remediation.runbooks._volatile_path.options import VolatilePathOptions
from remediation.runbooks.volatile_path import VolatilePath
from remediation.stores.blobs import FileBlobStore


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def finding(site: Site, **options: Any) -> Finding:
    """What the runbook finds about the job's next failure."""
    return await site.attempt(await site.fails(), options).precondition()


async def planned(site: Site, **options: Any) -> tuple[GitCommit, RerunJob]:
    attempt = site.attempt(await site.fails(), options)
    found = await attempt.precondition()
    assert found.applicable, found
    commit, rerun = (await attempt.action()).effects
    assert isinstance(commit, GitCommit)
    assert isinstance(rerun, RerunJob)
    return commit, rerun


async def test_content_from_history_is_planned_beside_the_script_and_the_script_finds_it(site: Site) -> None:
    site.with_content_in_history()
    commit, rerun = await planned(site)
    files = dict(commit.files)
    assert set(files) == {"scripts/build.py", "scripts/resources/page.html"}
    assert files["scripts/resources/page.html"] == PAGE
    assert files["scripts/build.py"] == (
        site.script()
        .replace(f'"{site.missing}"', 'str(Path(__file__).resolve().parent / "resources" / "page.html")')
        .replace("import sys\n", "import sys\nfrom pathlib import Path\n")
    )
    assert commit.repository == site.project.top
    assert (rerun.name, rerun.argv, rerun.cwd) == ("build-pages", (sys.executable, "scripts/build.py"), site.project.top)
    assert rerun.lock == site.watch.state / "running.lock"


async def test_deciding_changes_nothing_but_scratch(site: Site) -> None:
    site.with_content_in_history()
    event = await site.fails()
    before = site.project.head(), site.project.status(), sorted(path for path in site.project.top.rglob("*"))
    attempt = site.attempt(event)
    await attempt.precondition()
    await attempt.action()
    assert (site.project.head(), site.project.status(), sorted(path for path in site.project.top.rglob("*"))) == before
    assert not site.missing.exists()


async def test_the_finding_tells_what_was_confirmed_found_reproduced_and_tried(site: Site) -> None:
    site.with_content_in_history()
    found = await finding(site)
    assert found.applicable
    assert found.confidence >= 85
    lines = "\n".join(found.evidence)
    assert f"{site.missing} is gone; git history: site/page.html" in lines
    assert "scripts/build.py names it in line 6" in lines
    assert "reproduced: in a clone of" in lines
    assert "tried: in a clone of" in lines


async def test_the_job_is_not_tried_twice_for_one_attempt(site: Site) -> None:
    site.with_content_in_history()
    attempt = site.attempt(await site.fails())
    await attempt.precondition()
    ran = attempt.commands.count((sys.executable, "scripts/build.py"))
    await attempt.action()
    assert ran == attempt.commands.count((sys.executable, "scripts/build.py")) == 2


async def test_a_change_after_the_precondition_is_tried_again(site: Site) -> None:
    site.with_content_in_history()
    attempt = site.attempt(await site.fails())
    await attempt.precondition()
    site.project.commit({"other.txt": "x"})
    await attempt.action()
    assert attempt.commands.count((sys.executable, "scripts/build.py")) == 4


async def test_an_action_on_a_world_that_changed_for_the_worse_has_it_decided_anew(site: Site) -> None:
    site.with_content_in_history()
    attempt = site.attempt(await site.fails())
    await attempt.precondition()
    site.gone.mkdir(parents=True)
    site.missing.write_text("back")
    answer = await attempt.runbook.action(attempt.ctx)
    assert isinstance(answer, Wait)
    assert "is there" in answer.reason
    assert not (await attempt.precondition()).applicable


async def test_the_commit_message_explains_what_why_by_what_evidence_and_how_to_take_it_back(site: Site) -> None:
    site.with_content_in_history()
    commit, _ = await planned(site)
    title, blank, *rest = commit.message.split("\n")
    text = " ".join(rest)
    assert title == "Find page.html in the repository, not among temporary files"
    assert blank == ""
    for part in (
        "The job build-pages failed",
        "now lies in scripts/resources/page.html",
        "git history: site/page.html",
        "line 6",
        "git revert",
    ):
        assert part in text
    assert rest[-3:] == ["Remediation-Incident: incident/0123/4567", "Remediation-Runbook: volatile-path", ""]


async def test_the_commit_message_tells_what_the_script_does_not_use_any_more(site: Site) -> None:
    source = "import os\nfrom pathlib import Path\n\nBASE = '{gone}'\nprint(Path(os.path.join(BASE, 'page.html')).read_text())\n"
    site.with_content_in_history(script=source)
    commit, _ = await planned(site)
    text = " ".join(commit.message.split())
    wanted = (
        "Nothing in scripts/build.py uses os (line 1), BASE (line 4) any more; other files may, so that is left for you to remove."
    )
    assert wanted in text
    assert f"BASE = '{site.gone}'" in dict(commit.files)["scripts/build.py"]


# -- where content is found -------------------------------------------------------------------------------------------------


async def test_a_committed_file_of_that_name_is_pointed_to_where_it_is(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script(), "templates/page.html": PAGE})
    commit, _ = await planned(site)
    ((name, source),) = commit.files
    assert name == "scripts/build.py"
    assert 'str(Path(__file__).resolve().parent.parent / "templates" / "page.html")' in str(source)


async def test_an_untracked_file_of_that_name_is_kept(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script()})
    site.project.write("drafts/page.html", PAGE)
    commit, _ = await planned(site)
    assert dict(commit.files)["scripts/resources/page.html"] == PAGE


async def test_content_is_found_on_another_branch(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script()})
    git(site.project.top, "checkout", "--quiet", "-b", "design")
    site.project.commit({"page.html": "old\n"})
    site.project.commit({"page.html": PAGE})
    git(site.project.top, "checkout", "--quiet", "main")
    commit, _ = await planned(site)
    assert dict(commit.files)["scripts/resources/page.html"] == PAGE


async def test_of_several_backups_under_one_glob_the_newest_counts(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script()})
    for day, content in enumerate(["oldest\n", PAGE, "older\n"]):
        backup = site.base / "backups" / f"day-{day}" / "page.html"
        backup.parent.mkdir(parents=True)
        backup.write_text(content)
        os.utime(backup, (1_700_000_000 + (day == 1) * 1000, 1_700_000_000 + (day == 1) * 1000))
    (site.base / "backups" / "day-0" / "other.html").write_text("other")
    commit, _ = await planned(site, backups=[f"{site.base}/backups/*/{{name}}"])
    assert dict(commit.files)["scripts/resources/page.html"] == PAGE


async def test_what_the_operator_declared_goes_before_everything_that_is_searched(site: Site) -> None:
    site.with_content_in_history(page="other\n")
    declared = site.base / "declared.html"
    declared.write_text(PAGE)
    commit, _ = await planned(site, content={str(site.missing): str(declared)})
    assert dict(commit.files)["scripts/resources/page.html"] == PAGE


async def test_a_declared_command_makes_the_content_in_a_clone(site: Site) -> None:
    site.project.commit(
        {
            "scripts/build.py": site.script(),
            "make.py": "import sys\nopen(sys.argv[1], 'w', encoding='utf-8').write('made\\n')\nopen('trace', 'w')\n",
        }
    )
    commit, _ = await planned(site, regenerate={f"{site.gone}//page.html": [sys.executable, "make.py", "{out}"]})
    assert dict(commit.files)["scripts/resources/page.html"] == "made\n"
    assert not (site.project.top / "trace").exists()


async def test_places_that_agree_raise_the_confidence(site: Site) -> None:
    site.with_content_in_history()
    alone = await finding(site)
    backup = site.base / "backups" / "page.html"
    backup.parent.mkdir()
    backup.write_text(PAGE)
    shutil.rmtree(site.base / "home")
    both = await finding(site, backups=[f"{backup.parent}/{{name}}"])
    assert both.confidence == min(95, alone.confidence + 5)
    assert "1 other places that agree" in "\n".join(both.evidence)


async def test_binary_and_large_content_goes_to_the_blob_store(site: Site) -> None:
    script = SCRIPT.replace('open(TEMPLATE, encoding="utf-8")', 'open(TEMPLATE, "rb")').replace(
        "out.write(page)", "out.write(str(len(page)))"
    )
    data = bytes(range(256)) * 400
    site.with_content_in_history(script, data)
    commit, _ = await planned(site)
    ref = dict(commit.files)["scripts/resources/page.html"]
    assert isinstance(ref, BlobRef)
    assert await FileBlobStore(site.base / "home" / "blobs").get(ref) == data


async def test_texts_that_are_too_much_for_a_plan_go_to_the_blob_store(site: Site) -> None:
    script = "for name in ['{gone}/a.txt', '{gone}/b.txt', '{gone}/c.txt']:\n    open(name)\n"
    pages = {f"old/{name}.txt": name * 30_000 for name in "abc"}
    site.project.commit({"scripts/build.py": site.script(script), **pages})
    shutil.rmtree(site.project.top / "old")
    site.project.commit_all()
    commit, _ = await planned(site)
    assert [isinstance(content, str) for _, content in commit.files] == [True, True, False, False]


async def test_a_file_that_another_script_names_too_is_less_sure(site: Site) -> None:
    site.with_content_in_history()
    site.project.commit(
        {"scripts/fetch.sh": f"curl -o {site.missing} https://example.org\n", "README.md": f"reads {site.missing}\n"}
    )
    found = await finding(site)
    assert found.applicable
    assert found.confidence < 70
    assert "is named by scripts/fetch.sh too" in "\n".join(found.evidence)


async def test_a_whole_folder_that_was_cleaned_away_is_healed_at_once(site: Site) -> None:
    script = (
        "TOP = '{gone}/top.html'\nEND = '{gone}/end.html'\nBASE = '{gone}'\nimport os\n"
        "for name in (TOP, os.path.join(BASE, 'middle.html'), END):\n    print(open(name).read())\n"
    )
    site.project.commit({"scripts/build.py": site.script(script), "old/top.html": "1", "old/middle.html": "2", "old/end.html": "3"})
    shutil.rmtree(site.project.top / "old")
    site.project.commit_all()
    commit, _ = await planned(site)
    assert set(dict(commit.files)) == {"scripts/build.py", *(f"scripts/resources/{name}.html" for name in ("top", "middle", "end"))}
    assert commit.message.startswith("Find top.html and 2 more in the repository")


async def test_the_caller_that_names_the_file_is_changed_and_not_the_helper_that_opens_it(site: Site) -> None:
    build = "import sys\nsys.path.insert(0, 'lib')\nimport loading\nprint(loading.load('{gone}/page.html'))\n"
    site.project.commit(
        {"build.py": site.script(build), "lib/loading.py": "def load(path):\n    return open(path).read()\n", "old/page.html": PAGE}
    )
    shutil.rmtree(site.project.top / "old")
    site.project.commit_all()
    site.table["command"] = [sys.executable, "build.py"]
    commit, _ = await planned(site)
    assert set(dict(commit.files)) == {"build.py", "resources/page.html"}


async def test_a_job_with_a_folder_of_its_own_absolute_arguments_and_an_environment_is_tried_in_the_clone(site: Site) -> None:
    script = "import os, sys\nassert os.environ['LEVEL'] == '3'\nimport settings\nassert sys.argv[1].endswith('/data') and os.path.isdir(sys.argv[1])\nopen('ran-here', 'w')\nopen('{gone}/page.html')\n"
    site.project.commit(
        {"jobs/build.py": site.script(script), "data/x": "", "lib/settings.py": "", "work/keep": "", "old/page.html": PAGE}
    )
    shutil.rmtree(site.project.top / "old")
    site.project.commit_all()
    top = site.project.top
    site.table |= {
        "command": [sys.executable, str(top / "jobs" / "build.py"), str(top / "data")],
        "cwd": "work",
        "env": {"LEVEL": "3", "PYTHONPATH": f"{top}/lib:{top}/other"},
    }
    event = await site.fails()
    (top / "work" / "ran-here").unlink()
    attempt = site.attempt(event)
    assert (await attempt.precondition()).applicable
    assert not (top / "work" / "ran-here").exists()
    plan = await attempt.action()
    rerun = plan.effects[1]
    assert isinstance(rerun, RerunJob)
    assert dict(rerun.env)["PYTHONPATH"] == f"{top}/lib:{top}/other"


async def test_a_program_that_is_not_committed_is_run_from_the_work_tree(site: Site) -> None:
    site.with_content_in_history()
    site.project.write(".gitignore", ".venv\n")
    site.project.commit_all()
    python = site.project.top / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    for command in ([".venv/bin/python", "scripts/build.py"], [str(python), str(site.project.top / "scripts" / "build.py")]):
        site.table["command"] = command
        shutil.rmtree(site.base / "home", ignore_errors=True)
        found = await finding(site)
        assert found.applicable, found


async def test_a_job_outside_of_the_repository_is_tried_in_an_empty_folder(site: Site) -> None:
    site.with_content_in_history()
    site.table |= {"command": [sys.executable, str(site.project.top / "scripts" / "build.py")], "cwd": "/"}
    found = await finding(site)
    assert found.applicable, found


async def test_a_work_tree_that_is_reached_by_a_link_is_healed_in_its_real_place(site: Site) -> None:
    site.with_content_in_history()
    link = site.base / "current"
    link.symlink_to(site.project.top)
    site.table |= {"command": [sys.executable, str(link / "scripts" / "build.py")], "cwd": str(link)}
    site.roots = [link]
    commit, rerun = await planned(site)
    assert commit.repository == site.project.top
    assert rerun.cwd == link


# -- what is declined -------------------------------------------------------------------------------------------------------


async def declined(site: Site, **options: Any) -> str:
    found = await finding(site, **options)
    assert not found.applicable
    return found.reason


async def test_a_file_that_came_back_is_left_alone(site: Site) -> None:
    site.with_content_in_history()
    event = await site.fails()
    site.gone.mkdir(parents=True)
    site.missing.write_text("back")
    found = await site.attempt(event).precondition()
    assert found.reason.endswith("is there: it came back, or the job may not read it")


async def test_a_dangling_link_in_its_place_is_something_else(site: Site) -> None:
    site.with_content_in_history()
    site.gone.mkdir(parents=True)
    site.missing.symlink_to(site.base / "nowhere")
    assert "is there" in await declined(site)


async def test_a_place_that_is_not_cleaned_away_is_left_to_people(site: Site) -> None:
    site.with_content_in_history()
    event = await site.fails()
    lasting = event.model_copy(update={"evidence": event.evidence | {"missing_path": "/srv/site/page.html"}})
    found = await site.attempt(lasting).precondition()
    assert "/srv/site/page.html is not in a place that the system cleans away" in found.reason


async def test_a_file_of_the_repository_itself_is_not_volatile(site: Site) -> None:
    site.gone = site.project.top / "cache"
    site.with_content_in_history()
    assert "lies in the repository itself" in await declined(site, volatile=[str(site.base)])


async def test_a_relative_path_is_left_to_people(site: Site) -> None:
    site.project.commit({"scripts/build.py": "open('cache/page.html')"})
    assert "is not an absolute path" in await declined(site)


async def test_a_traceback_without_a_path_is_declined(site: Site) -> None:
    site.project.commit({"scripts/build.py": "raise FileNotFoundError('no template')"})
    assert "does not say which file" in await declined(site)


async def test_what_the_script_does_not_name_is_not_believed(site: Site) -> None:
    site.with_content_in_history()
    event = await site.fails()
    forged = event.model_copy(update={"evidence": event.evidence | {"missing_path": f"{site.gone}/forged.html"}})
    found = await site.attempt(forged).precondition()
    assert "scripts/build.py: the script" in found.reason


async def test_a_forged_traceback_can_not_lead_out_of_the_repository(site: Site) -> None:
    site.with_content_in_history()
    event = await site.fails()
    victim = site.base / "victim.py"
    victim.write_text(site.script())
    frames = [{"file": str(victim), "line": 1, "function": "f", "source": ""}]
    forged = event.model_copy(update={"evidence": event.evidence | {"failing_file": str(victim), "frames": frames}})
    found = await site.attempt(forged).precondition()
    assert found.reason == "no file in the traceback belongs to the job's repository"


@pytest.mark.parametrize("field", ["command", "cwd", "env", "timeout_ms", "lock", "schedule", "job"])
async def test_a_job_that_did_not_arrive_as_configured_is_not_rerun(site: Site, field: str) -> None:
    site.with_content_in_history()
    event = await site.fails()
    changed = event.model_copy(update={"evidence": event.evidence | {field: "[redacted]"}})
    found = await site.attempt(changed).precondition()
    assert "did not arrive as configured" in found.reason


async def test_an_explicit_report_is_declined_unless_the_operator_vouches_for_the_job(site: Site) -> None:
    site.with_content_in_history()
    event = await site.fails()
    stranger = event.model_copy(update={"evidence": event.evidence | {"command": ["rm", "-rf", "/"]}})
    found = await site.attempt(stranger, provenance=Provenance.EXPLICIT).precondition()
    assert "no option vouches" in found.reason
    jobs = {"build-pages": {"command": [sys.executable, "scripts/build.py"], "cwd": str(site.project.top)}}
    attempt = site.attempt(stranger, {"jobs": jobs}, Provenance.EXPLICIT)
    assert (await attempt.precondition()).applicable
    rerun = (await attempt.action()).effects[1]
    assert isinstance(rerun, RerunJob)
    assert rerun.argv == (sys.executable, "scripts/build.py")
    assert rerun.lock is None


async def test_no_content_is_declined_with_what_was_looked_at(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script()})
    found = await finding(site)
    assert "no content for" in found.reason
    assert "looked for its name in the work tree, the history of all branches, and the configured backups" in found.reason


async def test_different_contents_are_declined_with_all_of_them(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script(), "a/page.html": "a", "b/page.html": "b"})
    found = await finding(site)
    assert "2 places hold different content" in found.reason
    for place in ("committed in the work tree: a/page.html", "committed in the work tree: b/page.html"):
        assert place in found.reason


async def test_a_backup_that_differs_from_history_is_declined(site: Site) -> None:
    site.with_content_in_history()
    backup = site.base / "page.html"
    backup.write_text("another")
    assert "2 places hold different content" in await declined(site, backups=[str(backup)])


async def test_content_with_uncommitted_changes_is_declined(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script(), "templates/page.html": PAGE})
    site.project.write("templates/page.html", "edited")
    assert "templates/page.html could be the content, but has uncommitted changes" in await declined(site)


async def test_a_script_with_uncommitted_changes_is_declined(site: Site) -> None:
    site.with_content_in_history()
    site.project.write("scripts/build.py", site.script() + "# edited\n")
    assert "scripts/build.py has uncommitted changes" in await declined(site)


async def test_a_script_that_is_not_committed_is_declined(site: Site) -> None:
    site.project.commit({"x": ""})
    site.project.write("scripts/build.py", site.script())
    assert "scripts/build.py is not committed" in await declined(site)


async def test_a_script_outside_of_a_repository_is_declined(site: Site) -> None:
    site.with_content_in_history()
    shutil.rmtree(site.project.top / ".git")
    assert "is in a git repository" in await declined(site)


async def test_a_repository_without_a_branch_or_in_the_middle_of_something_is_declined(site: Site) -> None:
    site.with_content_in_history()
    git(site.project.top, "checkout", "--quiet", "--detach")
    assert "has no branch checked out" in await declined(site)
    git(site.project.top, "checkout", "--quiet", "main")
    (site.project.top / ".git" / "MERGE_HEAD").write_text(site.project.head())
    assert "in the middle of something (MERGE_HEAD)" in await declined(site)


async def test_a_repository_outside_of_the_roots_is_declined(site: Site) -> None:
    site.with_content_in_history()
    site.roots = [site.out]
    assert "outside the allowed roots" in await declined(site)


async def test_a_script_in_another_repository_than_the_job_runs_in_is_healed_there(site: Site) -> None:
    site.with_content_in_history()
    data = Project(site.base / "data")
    data.commit({"x": ""})
    site.table |= {"command": [sys.executable, str(site.project.top / "scripts" / "build.py")], "cwd": str(data.top)}
    commit, rerun = await planned(site)
    assert commit.repository == site.project.top
    assert rerun.cwd == data.top


async def test_a_place_that_is_taken_or_ignored_or_filtered_is_declined(site: Site) -> None:
    site.with_content_in_history()
    taken = site.project.write("scripts/resources/page.html", PAGE)
    assert "is taken" in await declined(site)
    taken.unlink()
    site.project.commit({".gitignore": "resources/\n"})
    assert "is ignored by git" in await declined(site)
    site.project.commit({".gitignore": "", ".gitattributes": "*.html filter=lfs\n"})
    assert "by the filter lfs" in await declined(site)
    assert "is ignored by git" not in await declined(site, folder="templates")


async def test_a_script_that_makes_up_the_path_is_declined(site: Site) -> None:
    site.with_content_in_history("import os\nname = os.environ.get('PAGE', 'page.html')\nprint(open('{gone}/' + name).read())\n")
    assert "makes up the path at run time" in await declined(site)


async def test_a_script_that_writes_the_file_too_is_declined(site: Site) -> None:
    site.with_content_in_history("T = '{gone}/page.html'\nopen(T).read()\nopen(T, 'w').write('x')\n")
    assert "also changes the file" in await declined(site)


async def test_a_script_that_writes_beside_the_file_is_found_out_by_the_trial(site: Site) -> None:
    site.with_content_in_history(
        "import os\nT = '{gone}/page.html'\nopen(T).read()\nopen(os.path.join(os.path.dirname(T), 'out.html'), 'w').write('x')\n"
    )
    assert "writes to or beside the file" in await declined(site)


async def test_a_job_that_fails_for_another_reason_with_the_change_is_declined_with_what_it_said(site: Site) -> None:
    site.with_content_in_history(SCRIPT.replace("page = file.read()", "raise ValueError('the real trouble')"))
    found = await finding(site)
    assert "still fails in a clone" in found.reason
    assert "the real trouble" in found.reason


async def test_a_job_that_needs_uncommitted_files_can_not_be_tried_and_is_declined(site: Site) -> None:
    site.with_content_in_history("import local_settings\n" + SCRIPT)
    site.project.write("scripts/local_settings.py", "")
    found = await finding(site)
    assert "fails in another way" in found.reason
    assert "local_settings" in found.reason


async def test_a_failure_that_does_not_happen_in_a_clone_is_declined(site: Site) -> None:
    flag = "import os\nif os.path.exists('untracked'):\n    open('{gone}/page.html')\n"
    site.with_content_in_history(flag)
    site.project.write("untracked", "")
    assert "can't be reproduced" in await declined(site)


async def test_a_file_that_something_makes_anew_meanwhile_is_declined(site: Site) -> None:
    site.with_content_in_history(
        SCRIPT.replace(
            "page = file.read()",
            "page = file.read(); os.makedirs('{gone}'); shutil.copy(__file__, '{gone}/' + chr(112) + 'age.html')",
        ).replace("import os", "import os, shutil")
    )
    assert "came back" in await declined(site)


async def test_a_job_that_hangs_in_the_trial_is_declined(site: Site) -> None:
    site.with_content_in_history(SCRIPT.replace("page = file.read()", "page = file.read(); import time; time.sleep(600)"))
    site.table["timeout"] = "2s"
    assert "can't be tried in a clone" in await declined(site)


async def test_a_script_that_ends_the_parser_ends_only_a_child(site: Site) -> None:
    # Nested too deeply for the parser's native stack; as a program it does not even start, so the traceback is a stranger's.
    site.with_content_in_history()
    event = await site.fails()
    site.project.commit({"scripts/build.py": "x = " + "(" * 20000 + "1" + ")" * 20000})
    found = await site.attempt(event).precondition()
    assert "could not be parsed: the parser ended with exit code -" in found.reason


async def test_a_declared_command_that_fails_is_declined(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script()})
    reason = await declined(site, regenerate={str(site.missing): ["sh", "-c", "echo no >&2; exit 3; # {out}"]})
    assert "did not make the content: exit code 3, no" in reason


async def test_content_beyond_the_size_that_is_allowed_is_declined(site: Site) -> None:
    site.with_content_in_history(page="x" * 2000)
    assert "has 2000 bytes, more than the 1000" in await declined(site, largest=1000)


async def test_names_with_every_odd_character_are_found_and_kept(site: Site) -> None:
    name = "pä[g]e *?'\"$(x).html"
    site.project.commit(
        {
            "scripts/build.py": f"print(open({str(site.gone / name)!r}).read())\n",
            f"old folder/{name}": PAGE,
            "old folder/e.html": "x",
        }
    )
    shutil.rmtree(site.project.top / "old folder")
    site.project.commit_all()
    commit, _ = await planned(site)
    assert dict(commit.files)[f"scripts/resources/{name}"] == PAGE


async def test_hooks_and_monitors_of_the_repository_are_not_run(site: Site) -> None:
    site.with_content_in_history()
    trap = site.base / "trap"
    hook = f"#!/bin/sh\ntouch {trap}\n"
    for name in ("post-checkout", "post-index-change", "fsmonitor-watchman", "reference-transaction"):
        path = site.project.top / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(hook)
        path.chmod(0o755)
    git(site.project.top, "config", "core.fsmonitor", str(site.project.top / ".git" / "hooks" / "fsmonitor-watchman"))
    await planned(site)
    assert not trap.exists()


async def test_a_shallow_clone_is_healed_too(site: Site) -> None:
    site.project.commit({"scripts/build.py": site.script(), "templates/page.html": PAGE})
    shallow = site.base / "shallow"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{site.project.top}", str(shallow)], check=True)
    shutil.rmtree(site.project.top)
    shallow.rename(site.project.top)
    commit, _ = await planned(site)
    assert len(commit.files) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folder": "a/b"}, "name of one folder"),
        ({"folder": ".."}, "name of one folder"),
        ({"backups": ["backups/*"]}, "must be an absolute path"),
        ({"regenerate": {"/tmp/x": ["make"]}}, "must say where it writes"),
        ({"volatile": ["tmp"]}, "absolute"),
        ({"jobs": {"a": {"command": ["x"], "cwd": "relative"}}}, "absolute"),
        ({"jobs": {"a": {"command": ["x"], "cwd": "/", "every": "1m", "cron": "* * * * *"}}}, "exactly one of"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_options_that_can_not_work_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        VolatilePathOptions.model_validate(options)


def test_the_module_registers_the_runbook_and_its_effect() -> None:
    assert list(volatile_path.remediation_runbooks()) == [VolatilePath]
    assert list(volatile_path.remediation_effects()) == [RerunJob]
    assert VolatilePath.options_type is VolatilePathOptions


async def test_evidence_of_any_shape_is_declined_and_not_raised(site: Site) -> None:
    site.with_content_in_history()
    event = await site.fails()
    for evidence in (
        {},
        {"missing_path": 3},
        {"frames": "x"},
        {"frames": [1, None, {"file": 5}]},
        {"failing_file": "\0"},
        {"missing_path": "/tmp/\0"},
    ):
        kept = {} if not evidence else event.evidence
        odd = DegradationEvent.model_validate_json(
            json.dumps(json.loads(event.model_dump_json()) | {"evidence": json.dumps(kept | evidence)})
        )
        found = await site.attempt(odd).precondition()
        assert not found.applicable or set(evidence) <= {"frames", "failing_file"}


def test_the_page_about_the_runbook_tells_every_option() -> None:
    page = (repository.ROOT / "docs" / "howto" / "heal-a-volatile-path.md").read_text()
    told = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert told == list(VolatilePathOptions.model_fields)


def test_the_runbook_names_its_proposal() -> None:
    assert (repository.ROOT / "proposals" / f"{volatile_path.__proposal_derived_from__}.md").is_file()
