"""The built-in runbooks at real degradations: a dry run and a host that observes show the plan, and touch nothing at all."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import sqlite_databases as databases
from tests.support.command_homes import CommandHome
from tests.support.untouched import Seen, everything
from tests.support.volatile_site import Site

from remediation import DegradationEvent


class Case:
    """A degradation in a home whose world must stay as it is."""

    def __init__(self, place: CommandHome, event: DegradationEvent, world: Path, kinds: tuple[str, ...]) -> None:
        self.place = place
        self.event = event
        self.world = world
        self.kinds = kinds

    def report(self, *more: str) -> Any:
        event = self.event
        return self.place(
            *("report", "--code", event.code, "--subsystem", event.subsystem, "--subject", event.subject),
            *("--evidence", event.model_dump(mode="json")["evidence"], *more),
        )


async def volatile_path(tmp_path: Path) -> Case:
    base = tmp_path / "site"
    base.mkdir()
    site = Site(base)
    site.with_content_in_history()
    event = await site.fails()
    # Reported by a person, the job has to be configured: nothing is run because a report says so.
    job = f"command = {json.dumps(site.table['command'])}\ncwd = {json.dumps(str(site.project.top))}\n"
    more = (
        '[runbooks."volatile-path"]\nstate = "live"\n'
        f'[runbooks."volatile-path".options]\nvolatile = {json.dumps(site.options["volatile"])}\n'
        f'[runbooks."volatile-path".options.jobs."build-pages"]\n{job}'
    )
    place = home(tmp_path, site.project.top, more)
    return Case(place, event, base, ("git.commit",))


async def corrupt(tmp_path: Path, *, wal: bool) -> Case:
    folder = tmp_path / "data"
    folder.mkdir()
    path = databases.make(folder / "app.db", wal=wal)
    databases.break_index(path)
    if wal:
        databases.leave_wal(path, "INSERT INTO setting VALUES ('left', 'in the log')")
    place = home(tmp_path, folder, '[runbooks."sqlite-corruption"]\nstate = "live"\n')
    event = DegradationEvent(code="SQLITE_CORRUPT", subsystem="sqlite", subject=str(path), severity="P1")
    return Case(place, event, folder, ("sqlite.replace",))


def home(tmp_path: Path, root: Path, more: str) -> CommandHome:
    place = CommandHome(tmp_path / "host", profile="autonomous")
    place.world = root
    place.configure(profile="autonomous", more=more)
    return place


@pytest.fixture(params=["volatile-path", "sqlite-corruption", "sqlite-corruption with a log"])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    (tmp_path / "host").mkdir()
    makers: dict[str, Callable[[], Any]] = {
        "volatile-path": lambda: volatile_path(tmp_path),
        "sqlite-corruption": lambda: corrupt(tmp_path, wal=False),
        "sqlite-corruption with a log": lambda: corrupt(tmp_path, wal=True),
    }
    made: Case = await makers[request.param]()
    return made


def as_seen(world: Path) -> Seen:
    """
    All of `world` but ``out``, where the job itself writes: to find out whether a change helps, volatile-path runs the job in clones, in a
    dry run too, and what the job does elsewhere it does then. Of git's objects all but the time of change: where one that is planned exists already, git marks it as in use, so that
    it is not pruned (``Documentation/git-prune``); no object comes or goes.
    """
    seen = everything(world, leave_out=("out",))
    return {name: (*facts[:3], *facts[4:]) if "/.git/objects/" in f"/{name}" else facts for name, facts in seen.items()}


def test_a_dry_run_touches_neither_the_world_nor_the_home(case: Case) -> None:
    world, before = as_seen(case.world), case.place.untouchable()
    ran = case.report("--dry-run", "--json")
    assert as_seen(case.world) == world
    assert case.place.untouchable() == before
    told = ran.json
    (rung,) = told["ladder"]
    assert rung["result"] == "planned", rung
    assert set(case.kinds) <= {effect["kind"] for effect in rung["plan"]["plan"]["effects"]}
    assert (ran.status == 0) == told["acts"]


def test_a_host_that_observes_touches_only_its_home_and_shows_the_same_plan(case: Case) -> None:
    rehearsed = case.report("--dry-run", "--json").json["ladder"][0]["plan"]["plan"]
    case.report()
    world = as_seen(case.world)
    ran = case.place("run", "--once", "--profile", "observe", "--json")
    assert ran.status == 0, ran.err
    assert as_seen(case.world) == world
    (incident,) = case.place.incidents()
    assert (incident["status"], incident["withheld"]) == ("escalated", True)
    shown = json.loads(case.place("incident", "show", incident["id"], "--json").out)
    (stage,) = shown["attempts"][0]["stages"]
    assert stage["gate"]["decision"] == "observe"

    def lines(plan: dict[str, Any]) -> list[Any]:
        return [(effect["kind"], effect["diff"].partition("\n@@")[2]) for effect in plan["effects"]]

    assert lines(stage["plan"]) == lines(rehearsed)
    assert all(effect["outcome"] is None for effect in stage["plan"]["effects"])


def test_and_without_the_profile_the_same_host_heals_it(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    folder = tmp_path / "data"
    folder.mkdir()
    path = databases.make(folder / "app.db")
    databases.break_index(path)
    place = home(tmp_path, folder, '[runbooks."sqlite-corruption"]\nstate = "live"\n')
    Case(place, DegradationEvent(code="SQLITE_CORRUPT", subsystem="sqlite", subject=str(path)), folder, ()).report()
    place("run", "--once")
    assert place.incidents()[0]["status"] == "resolved"
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
