"""Databases in use: processes are made to let go first, by controls of the host or by stopping a unit, and work again afterwards."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.support import sqlite_databases as databases
from tests.support.sqlite_healing import Heal, report
from tests.support.world import EffectWorld

from remediation.errors import EffectConflict
from remediation.model.runbook import Radius, Reversibility


class App:
    """The embedding host itself: it has the database open in this very process."""

    def __init__(self, world: EffectWorld, path: Path) -> None:
        self.path = path
        self.calls: list[str] = []
        self.stuck = False
        world.controls.register("quiesce", self.quiesce, idempotent=True, undo=self.resume)
        world.controls.register("resume", self.resume, idempotent=True, undo=self.quiesce)
        self.database: sqlite3.Connection | None = None
        self.open()

    def open(self) -> None:
        self.database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.database.execute("PRAGMA writable_schema = ON")
        self.database.execute("SELECT name FROM sqlite_master").fetchall()

    def close(self) -> None:
        if self.database is not None:
            self.database.close()
            self.database = None

    def quiesce(self, path: str) -> str:
        self.calls.append("quiesce")
        assert path == str(self.path)
        if not self.stuck:
            self.close()
        return "closed"

    def resume(self, path: str) -> None:
        self.calls.append("resume")
        if self.database is None:
            self.open()


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    return EffectWorld(tmp_path)


OPTIONS = {"quiesce": "quiesce", "resume": "resume"}


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
async def test_the_host_itself_lets_go_and_opens_the_replacement(wal: bool, world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=wal)
    rows = databases.rows(path)
    databases.break_index(path)
    app = App(world, path)
    heal = Heal(world, report(path), options=OPTIONS)
    finding = await heal.decide()
    assert f"it is open in {os.getpid()} (" in "\n".join(finding.evidence)
    first = await heal.plan()
    assert (first.more, [item.line for item in first.effects]) == (True, [f'call quiesce(path="{path}")'])
    assert first.reversibility is Reversibility.REVERSIBLE
    assert first.bounds is not None
    assert set(first.bounds.paths) == {f"{path}{suffix}" for suffix in databases.SUFFIXES}
    assert await heal.apply()
    second = await heal.plan()
    assert [item.effect.kind for item in second.effects] == ["sqlite.replace", "sqlite.write-check", "host.call"]
    assert not await heal.apply()
    verdict = await heal.verify()
    assert verdict.status == "healthy"
    assert verdict.reason.endswith("nothing was lost")
    assert app.calls == ["quiesce", "resume"]
    assert app.database is not None
    assert app.database.execute("SELECT count(*) FROM orders").fetchone() == (databases.ORDERS,)
    assert app.database.execute("PRAGMA journal_mode").fetchone() == ("wal" if wal else "delete",)
    app.close()
    assert databases.rows(path) == rows


async def test_what_was_committed_between_the_stages_is_kept(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", wal=True)
    databases.break_index(path)
    app = App(world, path)
    heal = Heal(world, report(path), options=OPTIONS)
    await heal.decide()
    await heal.plan()
    assert app.database is not None
    app.database.execute("INSERT INTO setting VALUES ('late', 1)")
    await heal.apply()
    await heal.plan()
    await heal.apply()
    assert (await heal.verify()).status == "healthy"
    app.close()
    assert databases.counts(path)["setting"] == 401


async def test_a_verdict_that_fails_takes_everything_back_and_the_host_goes_on(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.zero_leaf(path, "orders", 3)
    before = databases.sides(path)
    app = App(world, path)
    heal = Heal(world, report(path), options=OPTIONS)
    await heal.decide()
    while await heal.plan() and await heal.apply():
        pass
    await heal.revert()
    assert heal.reverted == ["host.call", "sqlite.write-check", "sqlite.replace", "host.call"]
    assert app.calls == ["quiesce", "resume", "quiesce", "resume"]
    assert databases.sides(path) == before
    app.close()


async def test_what_a_process_wrote_after_the_replacement_is_not_thrown_away(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    app = App(world, path)
    heal = Heal(world, report(path), options=OPTIONS)
    await heal.decide()
    while await heal.plan() and await heal.apply():
        pass
    assert app.database is not None
    app.database.execute("INSERT INTO setting VALUES ('new', 1)")
    with pytest.raises(EffectConflict, match="written to since"):
        await heal.revert()
    app.close()
    assert databases.counts(path)["setting"] == 401


async def test_it_is_waited_for_processes_that_take_their_time(world: EffectWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    app = App(world, path)
    app.stuck = True
    heal = Heal(world, report(path), options=OPTIONS)
    await heal.decide()
    await heal.plan()
    await heal.apply()
    append = heal.waits.append
    monkeypatch.setattr(heal, "waits", _Closing(app, append))
    await heal.plan()
    assert heal.waits.seen == [f"until the database is closed; it is open in {os.getpid()} ({_name()})"]
    await heal.apply()
    assert (await heal.verify()).status == "healthy"
    app.close()


class _Closing:
    """Lets the app close its database once somebody waits for it."""

    def __init__(self, app: App, append: object) -> None:
        self._app = app
        self.seen: list[str] = []

    def append(self, wait: object) -> None:
        self.seen.append(wait.reason)  # type: ignore[attr-defined]
        self._app.close()


def _name() -> str:
    return Path(f"/proc/{os.getpid()}/comm").read_text().strip()


async def test_a_process_that_never_lets_go_ends_it_and_the_host_is_resumed(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    before = databases.sides(path)
    app = App(world, path)
    app.stuck = True
    heal = Heal(world, report(path), options=OPTIONS)
    await heal.decide()
    await heal.plan()
    await heal.apply()
    heal.facts.last_effect_at -= 61_000
    plan = await heal.plan()
    assert [item.effect.kind for item in plan.effects] == ["host.call"]
    await heal.apply()
    verdict = await heal.verify()
    assert (verdict.status, app.calls) == ("failed", ["quiesce", "resume"])
    assert "still open in" in verdict.reason
    assert databases.sides(path) == before
    app.close()


async def test_a_loss_that_was_not_to_be_foreseen_is_not_inflicted(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    app = App(world, path)
    heal = Heal(world, report(path), options=OPTIONS)
    await heal.decide()
    first = await heal.plan()
    assert first.loses == ""
    await heal.apply()
    databases.zero_leaf(path, "orders", 3)
    before = databases.sides(path)
    plan = await heal.plan()
    assert [item.effect.kind for item in plan.effects] == ["host.call"]
    await heal.apply()
    verdict = await heal.verify()
    assert (verdict.status, "was not to be foreseen" in verdict.reason) == ("failed", True)
    assert databases.sides(path) == before
    app.close()


async def test_a_loss_is_announced_before_anything_is_stopped(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db")
    databases.zero_leaf(path, "orders", 3)
    app = App(world, path)
    heal = Heal(world, report(path), options=OPTIONS)
    await heal.decide()
    first = await heal.plan()
    assert first.tags == ("data-loss",)
    assert first.loses.startswith("by an estimate while it is in use: rows of the damaged pages")
    assert app.calls == []
    app.close()


async def test_a_control_that_the_host_does_not_have_is_a_reason_to_decline(world: EffectWorld) -> None:
    path = databases.make(world.root / "app.db", orders=100)
    databases.break_header(path)
    heal = Heal(
        world, report(path, last_good={"at": 1, "rows": {"orders": 100}}), options={"quiesce": "stop-it", "resume": "go-on"}
    )
    assert (await heal.decide()).reason == "the host has no control 'stop-it', which the options name"


# -- a unit


SYSTEMCTL = """\
    #!{python}
    import os, signal, subprocess, sys, time
    verb, unit = sys.argv[1:]
    state = os.path.join({folder!r}, unit)
    with open({folder!r} + "/log", "a") as log:
        print(verb, unit, file=log)
    if verb == "stop":
        pid = int(open(state).read())
        os.kill(pid, signal.SIGTERM)
        while os.path.exists(f"/proc/{{pid}}/fd/0"):
            time.sleep(0.01)
    else:
        held = subprocess.Popen([sys.executable, "-c", {program!r}], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, start_new_session=True)
        open(state, "w").write(str(held.pid))
    """
PROGRAM = """
import sqlite3, time
database = sqlite3.connect({path!r}, isolation_level=None)
database.execute("PRAGMA writable_schema = ON")
database.execute("SELECT name FROM sqlite_master").fetchall()
time.sleep(60)
"""


async def test_a_unit_is_stopped_and_started_again(world: EffectWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    path = databases.make(world.root / "app.db")
    databases.break_index(path)
    folder = world.base / "units"
    folder.mkdir()
    systemctl = folder / "systemctl"
    program = PROGRAM.format(path=str(path))
    systemctl.write_text(textwrap.dedent(SYSTEMCTL).format(python=sys.executable, folder=str(folder), program=program))
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(["systemctl", "start", "app.service"], check=True)
    databases.until(lambda: _holds(folder / "app.service", path))
    try:
        heal = Heal(world, report(path), options={"databases": [{"path": str(path), "unit": "app.service"}]})
        verdict = await heal.through()
        assert verdict.status == "healthy"
        assert [record.radius for record in heal.stages] == [Radius.PROCESS, Radius.PROCESS]
        assert [record.reversibility for record in heal.stages] == [Reversibility.REVERSIBLE] * 2
        assert (folder / "log").read_text().split() == "start app.service stop app.service start app.service".split()
        databases.until(lambda: _holds(folder / "app.service", path))
    finally:
        subprocess.run(["systemctl", "stop", "app.service"], check=True)
    assert databases.counts(path)["orders"] == databases.ORDERS


def _holds(state: Path, path: Path) -> bool:
    try:
        files = os.listdir(folder := f"/proc/{state.read_text()}/fd")
        return str(path) in [os.readlink(f"{folder}/{name}") for name in files]
    except OSError:
        return False
