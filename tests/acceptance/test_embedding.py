"""A host inside a program: the lines of the documentation as they stand there, and reports from before and beside it."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from tests.support.installed import User, eventually, wait_for_line
from tests.support.repository import ROOT

SETTINGS = """\
[host]
id = "mail-1"

[gate]
profile = "autonomous"

[effects.disposable]
controls = ["resume"]

[runbooks."resume-queue"]
state = "live"
"""

MY_MODULE = '''\
"""A runbook that has a queue resumed, and looks whether it was."""
from pathlib import Path

from remediation.authoring import CallHost, Finding, Handles, Plan, Runbook, RunbookSpec, Verdict, hookimpl

CALLS = Path("calls.txt").absolute()


class ResumeQueue(Runbook):
    spec = RunbookSpec(
        id="resume-queue", handles=(Handles(code="QUEUE_STUCK"),), blast_radius="process", reversibility="disposable", level="recovery"
    )

    async def precondition(self, ctx):
        return Finding.applies(confidence=90) if ctx.has_control("resume") else Finding.declined("there is no control")

    async def action(self, ctx):
        return Plan(CallHost(control="resume", args={"queue": ctx.event.subject}))

    async def verify(self, ctx):
        called = (await ctx.read_text(CALLS)).split()
        return Verdict.healthy() if ctx.event.subject in called else Verdict.failed(f"only {called}")


@hookimpl
def remediation_runbooks():
    return [ResumeQueue]
'''

# The lines between the marks are those of the contract, to the letter.
SERVICE = """\
import asyncio
import sys

import my_module


async def resume(queue):
    with my_module.CALLS.open("a") as file:
        file.write(f"{queue}\\n")


async def main():
    # >>>
    from remediation import DegradationEvent, RemediatorBootstrap, Reporter, Settings

    boot = RemediatorBootstrap(Settings.load("remediation.toml"), plugins=[my_module])
    boot.controls.register("resume", resume, idempotent=True)      # probe=, undo= where there are any
    async with boot.start() as host:                               # recovers, then is ready; asyncio
        reported = await host.report(DegradationEvent(code="QUEUE_STUCK", subsystem="mail", subject="outbox", severity="P2"))
        incident = await host.wait_for(reported, timeout=60)       # settled, or TimeoutError
    # <<<
        assert incident is host.incident(reported.incident)
        assert incident in host.incidents()
        print(incident.status, incident.runbook, incident.severity, flush=True)
        if "--linger" in sys.argv:
            await host.stopped()
    print("stopped", flush=True)


asyncio.run(main())
"""

REPORTER = """\
import sys
from remediation import DegradationEvent, Reporter
print(Reporter(".remediation").report(DegradationEvent(code="QUEUE_STUCK", subsystem="mail", subject=sys.argv[1])))
"""


@pytest.fixture
def user(tmp_path: Path) -> User:
    user = User(tmp_path)
    (tmp_path / "remediation.toml").write_text(SETTINGS)
    (tmp_path / "my_module.py").write_text(MY_MODULE)
    (tmp_path / "service.py").write_text(SERVICE)
    return user


def calls(user: User) -> list[str]:
    path = user.folder / "calls.txt"
    return path.read_text().split() if path.exists() else []


def by_subject(user: User) -> dict[str, dict[str, object]]:
    return {item["subject"]: item for item in user.succeed("incidents", "--json").json}


def test_a_program_heals_itself_with_the_lines_of_the_documentation(user: User) -> None:
    ran = user.python(user.folder / "service.py")
    assert ran.status == 0, ran.err
    assert [line for line in ran.out.splitlines() if " info " not in line and "[info" not in line] == [
        "resolved resume-queue P2",
        "stopped",
    ]
    assert calls(user) == ["outbox"]
    assert by_subject(user)["outbox"]["status"] == "resolved"
    assert user.succeed("journal", "verify", "--json").json["ok"] is True


def test_reports_from_before_the_first_start_are_healed_too(user: User) -> None:
    user.succeed("init")
    ids = [user.python(REPORTER, subject) for subject in ("before-1", "before-2")]
    assert [ran.status for ran in ids] == [0, 0], ids[0].err
    assert calls(user) == []
    with user.process("service.py", "--linger") as service:
        wait_for_line(service, b"resolved", stream="stdout")
        eventually(lambda: {"before-1", "before-2"} <= set(calls(user)))
        eventually(lambda: {item["status"] for item in by_subject(user).values()} == {"resolved"})
    assert sorted(calls(user)) == ["before-1", "before-2", "outbox"]
    for ran in ids:
        story = user.incident(ran.out.strip())
        assert story["detected"]["provenance"] == "explicit"
        assert [attempt["outcome"] for attempt in story["attempts"]] == ["healed"]


def test_reports_from_other_processes_reach_a_running_program(user: User) -> None:
    with user.process("service.py", "--linger") as service:
        wait_for_line(service, b"resolved", stream="stdout")
        assert user.python(REPORTER, "from-a-reporter").status == 0
        user.succeed("report", "--code", "QUEUE_STUCK", "--subsystem", "mail", "--subject", "from-the-command-line")
        eventually(lambda: len(calls(user)) == 3)
        eventually(lambda: {item["status"] for item in by_subject(user).values()} == {"resolved"})
        assert set(by_subject(user)) == {"outbox", "from-a-reporter", "from-the-command-line"}


def test_a_program_that_is_killed_loses_no_report(user: User) -> None:
    with user.process("service.py", "--linger") as service:
        wait_for_line(service, b"resolved", stream="stdout")
        service.kill()
        service.wait()
    reported = user.python(REPORTER, "while-it-was-dead").out.strip()
    settings = user.folder / "remediation.toml"
    settings.write_text(f'{SETTINGS}\n[limits]\ncooldown = "0s"\n')
    with user.process("service.py", "--linger") as service:
        eventually(lambda: "while-it-was-dead" in calls(user))
        eventually(lambda: by_subject(user)["while-it-was-dead"]["status"] == "resolved")
    assert calls(user).count("while-it-was-dead") == 1
    assert user.incident(reported)["status"] == "resolved"
    assert user.succeed("journal", "verify", "--json").json["ok"] is True


def test_a_program_that_waits_in_vain_is_told_what_for(user: User) -> None:
    assert user.python(user.folder / "service.py").status == 0
    patient = (user.folder / "service.py").read_text().replace("timeout=60", "timeout=1")
    ran = user.python(patient)
    assert ran.status == 1
    assert ran.err.splitlines()[-1].startswith("TimeoutError: incident ")
    assert "is not settled yet: it waits, it was healed a short while ago" in ran.err
    assert calls(user) == ["outbox"], "within the cooldown nothing is done twice"


def test_a_reporter_without_a_home_makes_one_for_the_host_that_comes(user: User) -> None:
    ran = user.python(REPORTER, "anything")
    assert ran.status == 0, ran.err
    (message,) = (user.home / "inbox").glob("*.json")
    assert ran.out.strip() in message.name
    assert (user.home / ".gitignore").read_text() == "*\n"


def test_the_example_service_heals_and_lingers(tmp_path: Path) -> None:
    for name in ("embedding.py", "remediation.toml"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    user = User(tmp_path)
    with user.process("embedding.py", "--linger") as service:
        said = wait_for_line(service, b"sent: to-ada", stream="stdout")
        assert b"resolved: everything was sent" in said
        service.send_signal(signal.SIGINT)
        assert service.wait(timeout=60) == 0
    (incident,) = user.succeed("incidents", "--json").json
    assert incident["subject"] == str(tmp_path / "spool" / "waiting")
    (attempt,) = user.incident(incident["id"])["attempts"]
    assert attempt["stages"][0]["plan"]["effects"][0]["line"].startswith("call resume(")
    assert user.types()[-1] == "host.stopped"


def test_importing_the_package_starts_nothing_and_reads_nothing_of_ours(tmp_path: Path) -> None:
    script = (
        "import json, sys, threading\n"
        "opened = []\n"
        "sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name in ('open', 'socket.__new__') else None)\n"
        "import remediation\n"
        "ours = [path for path in opened if not path.endswith(('.py', '.pyc'))]\n"
        "print(json.dumps([ours, threading.active_count(), sorted(remediation.__all__)]))\n"
    )
    ours, threads, names = json.loads(User(tmp_path).python(script).out)
    assert (ours, threads) == ([], 1)
    assert "RemediatorBootstrap" in names
    assert list(tmp_path.iterdir()) == []
