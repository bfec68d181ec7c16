"""The play: three incidents, one killed host, one proof, one forgery."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

from remediation.cli import output
from remediation.cli.demo import scene as scenery
from remediation.cli.demo.process import DemoFailed, HostProcess, Watcher, remediation
from remediation.cli.demo.scene import Scene
from remediation.cli.demo.telling import Teller
from remediation.core.incident import Incident, Status


def perform(home: Path | None, *, keep: bool) -> None:
    """
    Play all of it.

    Raises:
        ConfigurationError: the home is not empty, or git is missing.
        typer.Exit: it did not go as it should; everything is left to look at.

    """
    scene = scenery.build(home)
    teller = Teller()
    host = HostProcess(scene.home, scene.folder / "host.log")
    begun = time.monotonic()
    try:
        asyncio.run(_play(scene, host, teller))
    except (DemoFailed, OSError, sqlite3.Error, subprocess.SubprocessError) as error:
        output.fail(f"{error}. Everything is left in {scene.folder}")
    except KeyboardInterrupt:
        host.stop()
        if keep:
            output.complain(f"left for you: {scene.folder}")
        else:
            scene.remove()
        raise
    finally:
        host.stop()
    teller.title(f"done in {time.monotonic() - begun:.0f} s")
    if keep:
        teller.plain(f"Left for you: {scene.folder}\nTry: remediation --home {scene.home} incidents", "  ")
    else:
        scene.remove()


async def _play(scene: Scene, host: HostProcess, teller: Teller) -> None:
    teller.title("A host is set up")
    scene.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    scene.home.chmod(0o700)
    scene.home.joinpath("remediation.toml").write_text(scenery.settings(scene), "utf-8")
    _said(teller, scene, "init")
    teller.act(f"a job in {scene.site} builds a page every 2 s; {scenery.ROWS} orders lie in {scene.database}")
    teller.act("remediation run")
    host.start()
    async with Watcher.open(scene.home, host, teller.entry) as watcher:
        await watcher.until("the host's start", lambda state: bool(state.instances))
        await watcher.until("the job's first page", lambda _: scene.page.exists())
        teller.result("the host is up, and the job works")
        await _first_act(scene, watcher, teller)
        await _second_act(scene, host, watcher, teller)
        await _third_act(scene, watcher, teller)
        teller.title("The host is stopped")
        code = host.stop()
        teller.result(f"SIGTERM: exit code {code}", good=code == 0)
        _epilogue(scene, watcher, teller)


async def _first_act(scene: Scene, watcher: Watcher, teller: Teller) -> None:
    teller.title("1. The system cleans /tmp, and a job's template goes with it")
    teller.act(f"rm -r {scene.volatile}")
    scene.template.unlink()
    scene.volatile.rmdir()
    incident = await _settled(watcher, "JOB_FILE_MISSING")
    _expect(
        incident, Status.RESOLVED, teller, "the job runs again, and the cause is gone: the script finds its template beside itself"
    )
    teller.plain(_commits(scene))


async def _second_act(scene: Scene, host: HostProcess, watcher: Watcher, teller: Teller) -> None:
    teller.title("2. A database loses pages, and the host is killed while it heals")
    page = scenery.damage(scene.database)
    teller.act(f"page {page} of {scene.database.name}, where its index begins, is overwritten with noise")

    def planned(_: object) -> bool:
        incident = watcher.newest("SQLITE_CORRUPT")
        return incident is not None and bool(incident.attempts)

    await watcher.until("a plan for the database", planned)
    pid = host.pid
    host.kill()
    teller.act(f"kill -9 {pid}: the plan is in the journal, what was done of it is not")
    incident = watcher.newest("SQLITE_CORRUPT")
    teller.result(f"the incident is {incident.status.value if incident else 'unknown'}, and nobody is there to go on with it")
    teller.act("remediation run")
    host.start()
    incident = await _settled(watcher, "SQLITE_CORRUPT")
    _expect(incident, Status.RESOLVED, teller, "the database is whole again")
    found = scenery.rows(scene.database)
    if found != scenery.ROWS:
        raise DemoFailed(f"{scenery.ROWS - found} orders are missing")
    teller.result(f"all {found} orders are there, after a kill -9 in the middle")


async def _third_act(scene: Scene, watcher: Watcher, teller: Teller) -> None:
    teller.title("3. Something breaks that no runbook knows")
    words = ("report", "--code", "QUEUE_STUCK", "--subsystem", "mail", "--subject", "outbox", "--severity", "P1")
    _said(teller, scene, *words, "--summary", "42 messages wait since an hour")
    incident = await _settled(watcher, "QUEUE_STUCK")
    _expect(incident, Status.ESCALATED, teller, "nothing was guessed: it was given to people, and is held until they close it")


def _epilogue(scene: Scene, watcher: Watcher, teller: Teller) -> None:
    teller.title("The post-mortems, from the journal alone")
    for incident in watcher.state.incidents.values():
        _said(teller, scene, "incident", "show", incident.id)
    teller.title("The proof")
    verified = _said(teller, scene, "journal", "verify", "--json")
    if not json.loads(verified)["ok"]:
        raise DemoFailed("the journal does not verify")
    export = scene.folder / "journal.jsonl"
    _said(teller, scene, "journal", "export", "--format", "jsonl", "--out", str(export))
    forged = scene.folder / "forged.jsonl"
    teller.act("in a copy, one word of one entry is changed: escalated becomes resolved")
    forged.write_text(export.read_text("utf-8").replace('\\"status\\":\\"escalated\\"', '\\"status\\":\\"resolved\\"', 1), "utf-8")
    if forged.read_bytes() == export.read_bytes():
        raise DemoFailed("there was nothing to forge in the export")
    done = _run(scene, "journal", "verify", str(forged))
    teller.act(f"remediation journal verify {forged.name}")
    teller.plain(done.stdout + done.stderr)
    if done.returncode != output.ExitCode.TAMPERING:
        raise DemoFailed(f"the forgery was not detected (exit code {done.returncode})")
    teller.result(f"exit code {done.returncode}: the forgery is detected")


async def _settled(watcher: Watcher, code: str) -> Incident:
    def settled(_: object) -> bool:
        incident = watcher.newest(code)
        return incident is not None and not incident.open

    await watcher.until(f"the end of {code}", settled, seconds=60.0)
    incident = watcher.newest(code)
    if incident is None:
        raise DemoFailed(f"the incident {code} is gone")
    return incident


def _expect(incident: Incident, status: Status, teller: Teller, text: str) -> None:
    if incident.status is not status:
        raise DemoFailed(f"incident {incident.id} ended as {incident.status.value}, not {status.value}: {incident.reason}")
    teller.result(text)


def _commits(scene: Scene) -> str:
    log = subprocess.run(["git", "-C", str(scene.site), "log", "--oneline", "-3"], check=True, capture_output=True, text=True)
    return log.stdout


def _run(scene: Scene, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(remediation(scene.home, *words), capture_output=True, text=True, timeout=60, check=False)


def _said(teller: Teller, scene: Scene, *words: str) -> str:
    """Run a command as a user would, show it and what it said."""
    shown: list[Any] = [f"'{word}'" if " " in word else word for word in words]
    teller.act(f"remediation {' '.join(shown)}")
    done = _run(scene, *words)
    teller.plain(done.stdout + done.stderr)
    if done.returncode != 0:
        raise DemoFailed(f"`remediation {' '.join(words)}` ended with exit code {done.returncode}")
    return done.stdout
