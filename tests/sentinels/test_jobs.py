"""The job sentinel with real commands: what is run when, and what is said about it."""

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError
from tests.support import repository
from tests.support.watching import RealWatch

from remediation.effects.rerun_job import RerunJob, running_alone
from remediation.model.base import epoch_ms
from remediation.sentinels import jobs
from remediation.sentinels._jobs import evidence, history
from remediation.sentinels._jobs.options import JobOptions
from remediation.sentinels.jobs import JobSentinel


@pytest.fixture
def watch(tmp_path: Path) -> RealWatch:
    return RealWatch(base=tmp_path, state=tmp_path / "state")


def job(watch: RealWatch, code: str = "", **options: Any) -> JobSentinel:
    """A job that runs `code` in Python."""
    (watch.base / "job.py").write_text(code)
    table = {"name": "pages", "command": [sys.executable, "job.py"], "every": "10m"} | options
    return JobSentinel(JobOptions(**table), watch.base)


async def test_a_job_that_succeeds_clears_whatever_was_said_of_it(watch: RealWatch) -> None:
    sentinel = job(watch, "print('fine')")
    due = await watch.checked(sentinel)
    assert watch.reports == []
    assert sorted(set(watch.cleared)) == sorted(jobs.CODES)
    assert timedelta(minutes=9, seconds=55) < due - watch.clock.now() <= timedelta(minutes=10)


async def test_a_missing_file_is_reported_with_all_that_the_traceback_says(watch: RealWatch) -> None:
    sentinel = job(
        watch, "import sys\nprint('out')\n\ndef load(path):\n    return open(path)\n\nload('/nowhere/page.html')\n", env={"A": "b"}
    )
    before = epoch_ms(watch.clock.now())
    await watch.checked(sentinel)
    (event,) = watch.reports
    assert (event.code, event.subsystem, event.subject, event.severity) == ("JOB_FILE_MISSING", "jobs", "pages", "P2")
    assert event.observed_at is not None
    assert before <= event.observed_at <= before + 5000
    said = event.evidence
    assert said["exit_code"] == 1
    assert said["missing_path"] == "/nowhere/page.html"
    assert said["exception"] == "FileNotFoundError"
    assert (said["failing_file"], said["failing_line"], said["failing_function"]) == (str(watch.base / "job.py"), 5, "load")
    assert [frame["line"] for frame in said["frames"]] == [7, 5]
    assert said["command"] == [sys.executable, "job.py"]
    assert said["cwd"] == str(watch.base)
    assert said["env"] == [["A", "b"]]
    assert said["schedule"] == {"every": "600000ms"}
    assert said["next_run"] == said["started_at"] + 600_000
    assert said["stdout_tail"] == "out\n"
    assert "FileNotFoundError" in said["stderr_tail"]
    assert watch.cleared == ["JOB_MISSED"]


async def test_only_what_was_read_out_of_printed_text_is_tainted(watch: RealWatch) -> None:
    await watch.checked(job(watch, "print('x')\nopen('/nowhere')"))
    (event,) = watch.reports
    configured = {"job", "command", "cwd", "env", "schedule", "timeout_ms", "lock", "digest", "next_run", "recent"}
    measured = {"exit_code", "duration_ms", "started_at"}
    assert set(event.tainted) == set(event.evidence) - configured - measured
    assert {"missing_path", "failing_file", "frames", "exception", "message", "stderr_tail"} <= set(event.tainted)


async def test_the_digest_covers_what_the_operator_configured(watch: RealWatch) -> None:
    await watch.checked(job(watch, "open('/nowhere')"))
    said = watch.reports[0].evidence
    fields = ("job", "command", "cwd", "env", "schedule", "timeout_ms", "lock")
    assert said["digest"] == evidence.digest({name: said[name] for name in fields})
    assert said["digest"] != evidence.digest({name: said[name] for name in fields} | {"cwd": "/elsewhere"})


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("raise ValueError('bad')", "exit code 1, ValueError: bad"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9"),
        (
            "try:\n    open('/nowhere')\nexcept OSError as e:\n    raise RuntimeError('wrapped') from e",
            "exit code 1, RuntimeError: wrapped",
        ),
        ("raise ExceptionGroup('g', [FileNotFoundError(2, 'No', '/x')])", "exit code 1, ExceptionGroup: g (1 sub-exception)"),
    ],
)
async def test_another_failure_is_a_failed_job(watch: RealWatch, code: str, how: str) -> None:
    await watch.checked(job(watch, code))
    assert watch.codes() == ["JOB_FAILED"]
    assert watch.reports[0].summary == f"the job failed: {how}"


async def test_a_traceback_on_standard_output_is_read_when_there_is_none_on_the_other(watch: RealWatch) -> None:
    code = "import sys, traceback\ntry:\n    open('/nowhere')\nexcept OSError:\n    traceback.print_exc(file=sys.stdout)\n    sys.exit(4)"
    await watch.checked(job(watch, code))
    assert watch.codes() == ["JOB_FILE_MISSING"]


async def test_a_traceback_that_did_not_end_the_job_is_no_degradation(watch: RealWatch) -> None:
    await watch.checked(job(watch, "import traceback\ntry:\n    open('/nowhere')\nexcept OSError:\n    traceback.print_exc()"))
    assert watch.reports == []


async def test_a_job_that_overruns_is_ended_with_its_children_and_reported(watch: RealWatch) -> None:
    code = "import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\nopen('pid', 'w').write(str(child.pid))\ntime.sleep(600)"
    await watch.checked(job(watch, code, timeout="1s"))
    assert watch.codes() == ["JOB_TIMEOUT"]
    assert watch.reports[0].evidence["duration_ms"] >= 1000
    child = int((watch.base / "pid").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_a_command_that_is_not_there_is_a_failed_job(watch: RealWatch) -> None:
    sentinel = JobSentinel(JobOptions(name="pages", command=("/nowhere/program",), every="1h"), watch.base)
    due = await watch.checked(sentinel)
    assert watch.codes() == ["JOB_FAILED"]
    assert "could not be started" in watch.reports[0].summary
    assert due > watch.clock.now()


async def test_a_folder_that_is_not_there_is_a_failed_job(watch: RealWatch) -> None:
    await watch.checked(job(watch, cwd="missing"))
    assert watch.codes() == ["JOB_FAILED"]


async def test_a_job_runs_in_its_folder_with_its_environment_and_nothing_else(
    watch: RealWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    (watch.base / "site").mkdir()
    (watch.base / "site" / "job.py").write_text("import os, json\njson.dump([os.getcwd(), dict(os.environ)], open('said', 'w'))")
    await watch.checked(job(watch, cwd="site", env={"LEVEL": "3"}))
    cwd, environment = json.loads((watch.base / "site" / "said").read_text())
    assert cwd == str(watch.base / "site")
    assert environment["LEVEL"] == "3"
    assert "SECRET_TOKEN" not in environment


async def test_a_job_that_is_not_due_is_not_run_again_after_a_restart(watch: RealWatch) -> None:
    first = await watch.checked(job(watch, "pass"))
    watch.clock.advance(minutes=3)
    again = job(watch, "pass")
    assert abs(await watch.checked(again) - first) < timedelta(seconds=1)
    assert watch.ran == 1
    watch.clock.advance(minutes=7, seconds=1)
    await watch.checked(again)
    assert watch.ran == 2
    assert watch.reports == []


async def test_a_run_that_was_missed_is_reported_and_made_up_for_once(watch: RealWatch) -> None:
    await watch.checked(job(watch, "pass"))
    watch.clock.advance(hours=5)
    await watch.checked(job(watch, "pass"))
    assert watch.codes() == ["JOB_MISSED"]
    said = watch.reports[0]
    assert said.evidence["late_ms"] == pytest.approx(4.8333 * 3_600_000, rel=0.01)
    assert said.tainted == ()
    assert watch.ran == 2
    assert "JOB_MISSED" in watch.cleared
    await watch.checked(job(watch, "pass"))
    assert watch.ran == 2


async def test_a_missed_run_that_fails_when_made_up_for_stays_reported(watch: RealWatch) -> None:
    await watch.checked(job(watch, "pass"))
    watch.cleared.clear()
    watch.clock.advance(hours=5)
    await watch.checked(job(watch, "raise SystemExit(1)"))
    assert watch.codes() == ["JOB_MISSED", "JOB_FAILED"]
    assert watch.cleared == []


async def test_a_start_within_the_grace_is_not_missed(watch: RealWatch) -> None:
    await watch.checked(job(watch, "pass", expect_within="1h"))
    watch.clock.advance(minutes=69)
    await watch.checked(job(watch, "pass", expect_within="1h"))
    assert watch.ran == 2
    assert watch.reports == []


async def test_a_cron_job_does_not_run_when_the_host_first_sees_it_but_at_its_time(watch: RealWatch) -> None:
    watch.clock.set(datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC))
    sentinel = job(watch, "pass", every=None, cron="0 3 * * *", timezone="UTC")
    assert await watch.checked(sentinel) == datetime(2026, 3, 3, 3, 0, tzinfo=UTC)
    assert watch.ran == 0
    watch.clock.set(datetime(2026, 3, 3, 3, 0, 1, tzinfo=UTC))
    # A restarted host, which has only the state folder to go by.
    again = job(watch, "pass", every=None, cron="0 3 * * *", timezone="UTC")
    assert await watch.checked(again) == datetime(2026, 3, 4, 3, 0, tzinfo=UTC)
    assert watch.ran == 1
    assert watch.reports == []


async def test_a_cron_job_that_was_due_while_the_host_slept_is_missed(watch: RealWatch) -> None:
    watch.clock.set(datetime(2026, 3, 2, 12, 0, tzinfo=UTC))
    await watch.checked(job(watch, "pass", every=None, cron="0 3 * * *", timezone="UTC"))
    watch.clock.set(datetime(2026, 3, 3, 9, 0, tzinfo=UTC))
    await watch.checked(job(watch, "pass", every=None, cron="0 3 * * *", timezone="UTC"))
    assert watch.codes() == ["JOB_MISSED"]
    assert watch.reports[0].evidence["due_at"] == epoch_ms(datetime(2026, 3, 3, 3, 0, tzinfo=UTC))
    assert watch.ran == 1


async def test_a_clock_that_was_set_back_delays_a_job_by_one_interval_at_most(watch: RealWatch) -> None:
    await watch.checked(job(watch, "pass"))
    watch.clock.advance(days=-400)
    due = await watch.checked(job(watch, "pass"))
    assert due - watch.clock.now() <= timedelta(minutes=10)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b'{"v":1}', b'{"v":2,"seen":0,"runs":[]}', b'{"v":1,"seen":0,"runs":[["x"]]}']
)
async def test_a_damaged_record_of_runs_is_none(watch: RealWatch, content: bytes) -> None:
    watch.state.mkdir()
    (watch.state / "runs.json").write_bytes(content)
    await watch.checked(job(watch, "pass"))
    assert watch.ran == 1
    assert len(history.load(watch.state).runs) == 1


async def test_the_last_runs_are_kept_and_told(watch: RealWatch) -> None:
    for _ in range(history.KEPT + 3):
        watch.clock.advance(minutes=10)
        sentinel = JobSentinel(JobOptions(name="pages", command=("false",), every="10m"), watch.base)
        await watch.checked(sentinel)
    assert len(history.load(watch.state).runs) == history.KEPT
    recent = watch.reports[-1].evidence["recent"]
    assert [run[2] for run in recent] == [1] * 5
    assert os.listdir(watch.state) == ["runs.json", "running.lock"] or sorted(os.listdir(watch.state)) == [
        "running.lock",
        "runs.json",
    ]


async def test_a_job_is_not_started_while_a_heal_reruns_it(watch: RealWatch) -> None:
    sentinel = job(watch, "pass", timeout="200ms")
    watch.state.mkdir()
    async with running_alone(watch.state / "running.lock", watch.clock, until=watch.clock.monotonic() + 5):
        due = await watch.checked(sentinel)
        assert watch.ran == 0
        assert watch.clock.now() < due < watch.clock.now() + timedelta(minutes=1)
    await watch.checked(sentinel)
    assert watch.ran == 1


async def test_a_job_waits_for_a_rerun_that_ends_in_time(watch: RealWatch) -> None:
    sentinel = job(watch, "pass", timeout="30s")
    watch.state.mkdir()
    async with running_alone(watch.state / "running.lock", watch.clock, until=watch.clock.monotonic() + 5):
        checking = asyncio.create_task(watch.checked(sentinel))
        done, _ = await asyncio.wait([checking], timeout=0.2)
        assert not done
        assert watch.ran == 0
    await checking
    assert watch.ran == 1


async def test_a_check_that_is_cancelled_leaves_no_process_and_no_record(watch: RealWatch) -> None:
    sentinel = job(
        watch, "import os, time\nopen('pid.tmp', 'w').write(str(os.getpid()))\nos.rename('pid.tmp', 'pid')\ntime.sleep(600)"
    )
    checking = asyncio.create_task(watch.checked(sentinel))
    deadline = time.monotonic() + 20
    while not (watch.base / "pid").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert not psutil.pid_exists(int((watch.base / "pid").read_text()))
    assert history.load(watch.state).runs == ()


async def test_a_hostile_traceback_still_fits_into_a_degradation(watch: RealWatch) -> None:
    code = (
        "import sys\nw = sys.stderr.write\nw('Traceback (most recent call last):\\n')\n"
        "for i in range(30): w('  File \"' + '\\x01\\u202e' * 1500 + f'\", line {i}, in ' + 'f' * 3000 + '\\n    ' + 'ü' * 3000 + '\\n')\n"
        "w('FileNotFoundError: [Errno 2] No such file: ' + repr('/' + 'x' * 3000) + '\\n')\nsys.exit(1)\n"
    )
    await watch.checked(job(watch, code, env={"PYTHONIOENCODING": "utf-8"}))
    (event,) = watch.reports
    assert event.code == "JOB_FILE_MISSING"
    assert "cut" not in event.evidence
    assert event.evidence["command"] == [sys.executable, "job.py"]
    assert event.evidence["frames"]
    assert "\u202e" not in event.summary


async def test_the_failing_file_is_the_innermost_of_the_project_and_no_library(watch: RealWatch) -> None:
    (watch.base / ".git").mkdir()
    library = watch.base / "site" / ".venv" / "lib" / "site-packages"
    library.mkdir(parents=True)
    (library / "engine.py").write_text("def render(path):\n    return open(path)\n")
    (watch.base / "lib").mkdir()
    (watch.base / "lib" / "pages.py").write_text("import engine\ndef build():\n    engine.render('/nowhere')\n")
    (watch.base / "site" / "job.py").write_text("import pages\npages.build()\n")
    path = os.pathsep.join([str(library), str(watch.base / "lib")])
    await watch.checked(job(watch, cwd="site", env={"PYTHONPATH": path}))
    assert watch.reports[0].evidence["failing_file"] == str(watch.base / "lib" / "pages.py")
    assert len(watch.reports[0].evidence["frames"]) == 3


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"every": None}, "exactly one of"),
        ({"cron": "* * * * *"}, "exactly one of"),
        ({"every": None, "cron": "61 * * * *"}, "no cron expression"),
        ({"every": None, "cron": "0 0 30 2 *"}, "no cron expression"),
        ({"every": None, "cron": "0 3 * * *", "timezone": "Mars/Olympus"}, "no time zone"),
        ({"every": "1ms"}, "at least 100 ms"),
        ({"command": []}, "at least 1 item"),
        ({"name": "a/b"}, "must be 1-128"),
        ({"subsystem": "a b"}, "must be 1-64"),
        ({"timeout": 0}, "more than nothing"),
        ({"comand": ["x"]}, "not permitted"),
    ],
)
def test_a_table_that_can_not_work_is_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        JobOptions(**({"name": "pages", "command": ["true"], "every": "10m"} | table))


def test_the_sentinel_is_named_after_its_job_and_watches_its_folder(tmp_path: Path) -> None:
    sentinel = JobSentinel(JobOptions(name="pages", command=("true",), every="10m", cwd=Path("site")), tmp_path)
    assert sentinel.name == "jobs:pages"
    assert list(sentinel.roots()) == [tmp_path / "site"]
    beside = JobSentinel(JobOptions(name="pages", command=("true",), every="10m", cwd=Path("../site")), tmp_path / "etc")
    assert list(beside.roots()) == [tmp_path / "site"]
    assert sentinel.timeout > 1200


def test_the_module_registers_the_sentinel_and_the_effect_that_reruns_a_job() -> None:
    assert list(jobs.remediation_sentinels()) == [JobSentinel]
    assert list(jobs.remediation_effects()) == [RerunJob]


def test_the_page_about_jobs_tells_every_key_and_every_code() -> None:
    page = (repository.ROOT / "docs" / "howto" / "watch-jobs.md").read_text()
    told = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert told == [*JobOptions.model_fields, "JOB_FILE_MISSING", "JOB_FAILED", "JOB_TIMEOUT", "JOB_MISSED"]
    assert set(jobs.CODES) <= set(told)
