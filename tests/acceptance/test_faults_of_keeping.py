"""What self-healing hosts get wrong, continued (see `test_faults_of_the_field`): crashes, records, keys, locks, a failing journal."""

import asyncio
import contextlib
import gc
import inspect
import os
import resource
import signal
import sqlite3
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.hosts import asked, broken, entries_of, only, runbook

from remediation.authoring import (
    CallHost,
    Effect,
    EffectContext,
    Output,
    Plan,
    Prepared,
    Probe,
    Promise,
    RemediationContext,
    RunCommand,
    Timeouts,
    Touches,
    Verdict,
    hookimpl,
)
from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.coordination.machine_lock import MachineLock
from remediation.engine import steps
from remediation.errors import JournalError
from remediation.journal import IntentJournal
from remediation.keys import SigningKey
from remediation.model.entries import IncidentSettled
from remediation.ports.channel import Notice
from remediation.ports.clock import SystemClock
from remediation.proof.note import NoteSigner
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.stores.sqlite import SqliteJournalStore
from remediation.testing import WORLD, eventually, plugin, running_host

PATIENCE = 60.0


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def forked(work: Callable[[], None]) -> int:
    """A process that does `work`; it ends with 0, or with 1 when that raises."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


# -- a crash in the middle of an action --------------------------------------------------------------------------------------------------


def test_a_kill_in_the_middle_of_an_action_loses_no_incident_and_wedges_no_lock(tmp_path: Path) -> None:
    started, reported = tmp_path / WORLD / "started", tmp_path / "reported"

    async def slow(ctx: RemediationContext) -> Plan:
        return Plan(RunCommand(argv=("/bin/sh", "-c", 'echo $$ > "$0"; exec sleep 300', str(started)), undo=("/bin/true",)))

    async def be_killed() -> None:
        async with running_host(tmp_path, runbook(action=slow, timeouts=Timeouts(apply="4s"))) as host:
            reported.write_text((await host.report(broken(tmp_path))).incident)
            await asyncio.Event().wait()

    async def take_over() -> None:
        async with running_host(tmp_path, runbook(), limits={"cooldown": 0}) as host:
            incident = await host.wait_for(reported.read_text(), timeout=PATIENCE)
            assert incident.attempts[0].uncertain, "nobody knows how far the command came: it is not run again"
            assert incident.status == "escalated"
            asked(tmp_path, "close", {"incident": incident.id, "reason": "mended by hand"})
            await eventually(lambda: not host.incident(incident.id).held)
            again = await host.wait_for(await host.report(broken(tmp_path, code="OTHER")), timeout=PATIENCE)
            assert "no runbook" in again.reason
            subject = incident.event.subject
            held = MachineLock(Home(tmp_path / "home").locks, SystemClock()).try_acquire(subject)
            assert held is not None, "the lock is free again"
            held.release()

    killed = forked(lambda: asyncio.run(be_killed()))
    until(lambda: started.exists() and started.read_text().strip())
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    asyncio.run(take_over())


# -- records -----------------------------------------------------------------------------------------------------------------------------


def forge(journal: sqlite3.Connection) -> None:
    (last,) = journal.execute("SELECT max(seq) FROM entry").fetchone()
    journal.execute(
        "INSERT INTO entry SELECT seq + 1, 'forged' || substr(event_id, 7), stream, stream_seq + 1, type, time, leaf FROM entry WHERE seq = ?",
        (last,),
    )
    journal.execute("INSERT INTO payload SELECT seq + 1, salt, body FROM payload WHERE seq = ?", (last,))


def edit(journal: sqlite3.Connection) -> None:
    changed = journal.execute(
        "UPDATE payload SET body = CAST(replace(CAST(body AS TEXT), 'resolved', 'rejected') AS BLOB) WHERE instr(body, 'resolved')"
    )
    assert changed.rowcount


def delete(journal: sqlite3.Connection) -> None:
    for table in ("payload", "entry"):
        journal.execute(f"DELETE FROM {table} WHERE seq = (SELECT max(seq) FROM {table})")


def swap(journal: sqlite3.Connection) -> None:
    journal.execute("UPDATE payload SET body = (SELECT body FROM payload WHERE seq = 2) WHERE seq = 3")


@pytest.mark.parametrize("hand", [forge, edit, delete, swap])
def test_a_row_that_is_forged_edited_deleted_or_swapped_is_noticed(
    tmp_path: Path, hand: Callable[[sqlite3.Connection], None]
) -> None:
    async def heal() -> None:
        async with running_host(tmp_path, runbook()) as host:
            assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"

    asyncio.run(heal())
    home = Home(tmp_path / "home", tmp_path / "keys")
    copy = tmp_path / "copy.sqlite3"
    with contextlib.closing(sqlite3.connect(home.journal)) as journal, contextlib.closing(sqlite3.connect(copy)) as other:
        journal.backup(other)
    vkeys = home.verifier_keys.read_text().split()
    assert verify_journal(copy, vkeys=vkeys).ok
    with contextlib.closing(sqlite3.connect(copy)) as journal, journal:
        hand(journal)
    verdict = verify_journal(copy, vkeys=vkeys, known_head=home.head_note.read_text())
    assert not verdict.ok
    assert verdict.problems


# -- keys --------------------------------------------------------------------------------------------------------------------------------

SECRETS = (SigningKey, NoteSigner, Ed25519PrivateKey, IntentJournal, SqliteJournalStore, RemediatorBootstrap, Host)
PLAIN = (str, bytes, int, float, bool, type(None), type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


def public(value: Any) -> Iterator[Any]:
    """What can be had of `value` by its public attributes, or by looking into it."""
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    for name in dir(value):
        if not name.startswith("_"):
            with contextlib.suppress(Exception):
                yield getattr(value, name)


def held(value: Any) -> Iterator[Any]:
    """Whatever `value` refers to, private or not; not through modules, classes and the globals of functions, which lead everywhere."""
    if isinstance(value, types.FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or ())
        yield value.__defaults__
    else:
        yield from gc.get_referents(value)


def reachable(roots: list[Any], step: Callable[[Any], Iterator[Any]], leaf: tuple[type, ...], depth: int) -> list[Any]:
    """All within `depth` steps of `roots`."""
    seen: dict[int, Any] = {}
    edge = list(roots)
    for _ in range(depth):
        following = []
        for value in edge:
            if id(value) not in seen:
                seen[id(value)] = value
                if not isinstance(value, leaf):
                    following.extend(step(value))
        edge = following
    return list(seen.values())


async def test_no_plugin_is_handed_the_key_or_the_journal(tmp_path: Path) -> None:
    """
    Runbooks, effects and hooks get at neither by what they are given. Python has no walls: code in the process can find any object
    (`gc.get_objects`), and read any file of its user. Whoever installs a plugin trusts it that far; the documentation says so.
    """
    given: list[Any] = []

    class Looks(Effect[Prepared, Output]):
        kind: ClassVar[str] = "test.looks"
        promise: ClassVar[Promise] = Promise.STATE
        path: str

        def touches(self) -> Touches:
            return Touches(paths=(self.path,))

        def describe(self) -> str:
            return "look around"

        async def prepare(self, context: EffectContext) -> Prepared:
            given.append(("effect", self._walked(context)))
            return Prepared()

        async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
            given.append(("effect", self._walked(context)))
            Path(self.path).write_text("mended\n")
            return Output()

        async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
            return Probe.NOT_APPLIED

        async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
            given.append(("effect", self._walked(context)))

        @staticmethod
        def _walked(context: EffectContext) -> list[Any]:
            return reachable([context], public, PLAIN, 6)

    async def act(ctx: RemediationContext) -> Plan:
        given.append(("runbook", reachable([ctx], public, PLAIN, 6)))
        return Plan(Looks(path=str(ctx.subject_path())))

    hooks: list[tuple[str, ...]] = []

    class Module:
        @hookimpl
        def remediation_effects(self) -> list[Any]:
            hooks.append(tuple(inspect.signature(self.remediation_effects).parameters))
            return [Looks]

    async with running_host(tmp_path, runbook(action=act), plugins=[Module()]) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved", incident.reason
    assert hooks == [()], "hooks are given nothing"
    assert {who for who, _ in given} == {"runbook", "effect"}
    for who, found in given:
        assert len(found) > 20, "the walk went somewhere"
        assert not [value for value in found if isinstance(value, SECRETS)], who
        key = (tmp_path / "keys" / "signing.key").read_bytes()
        assert not [value for value in found if value == key], who


# -- locks -------------------------------------------------------------------------------------------------------------------------------


def test_two_processes_and_two_hundred_rounds_of_one_lock_overlap_never(tmp_path: Path) -> None:
    rounds, inside, log = 200, tmp_path / "inside", tmp_path / "log"

    async def contend(name: str) -> None:
        locks = MachineLock(tmp_path, SystemClock())
        for _ in range(rounds):
            lock = await locks.acquire("subject", within=PATIENCE)
            assert lock is not None
            inside.mkdir()  # fails if somebody else is inside
            with log.open("a") as file:
                file.write(name)
            inside.rmdir()
            lock.release()

    pids = [forked(lambda name=name: asyncio.run(contend(name))) for name in "ab"]  # type: ignore[misc]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    assert sorted(log.read_text()) == ["a"] * rounds + ["b"] * rounds


async def test_a_lock_is_held_past_the_deadline_for_as_long_as_the_action_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "GRACE", 0.3)
    stop = asyncio.Event()

    class Deaf(Effect[Prepared, Output]):
        kind: ClassVar[str] = "test.deaf"
        promise: ClassVar[Promise] = Promise.STATE
        path: str

        def touches(self) -> Touches:
            return Touches(paths=(self.path,))

        def describe(self) -> str:
            return "go on whatever is said"

        async def prepare(self, context: EffectContext) -> Prepared:
            return Prepared()

        async def apply(self, context: EffectContext, prepared: Prepared) -> Output:
            while not stop.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await stop.wait()
            return Output()

        async def probe(self, context: EffectContext, prepared: Prepared) -> Probe:
            return Probe.NOT_APPLIED

        async def revert(self, context: EffectContext, prepared: Prepared, output: Output | None) -> None:
            pass

    async def act(ctx: RemediationContext) -> Plan:
        return Plan(Deaf(path=str(ctx.subject_path())))

    book = runbook(action=act, timeouts=Timeouts(apply="300ms"))
    async with running_host(tmp_path, book, plugins=[plugin(effects=[Deaf])]) as host:
        subject = broken(tmp_path)
        incident = await host.wait_for(await host.report(subject), timeout=PATIENCE)
        assert incident.status == "escalated", "the deadline has passed, and people know"
        locks = MachineLock(Home(tmp_path / "home").locks, SystemClock())
        assert locks.try_acquire(subject.subject) is None, "and the action runs on"
        stop.set()
        await eventually(lambda: (lock := locks.try_acquire(subject.subject)) is not None and (lock.release() or True))


# -- the journal fails ---------------------------------------------------------------------------------------------------------------------


async def test_a_journal_that_can_not_be_written_stops_acting_and_no_success_is_reported(tmp_path: Path) -> None:
    told: list[str] = []

    class Told:
        name = "told"

        async def send(self, notice: Notice) -> None:
            told.append(notice.kind)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full: list[int] = []

    def fill_the_disk() -> None:
        # The plan is journaled. From now on no file grows beyond the journal's size.
        if not full:
            full.append((tmp_path / "home" / "journal.sqlite3-wal").stat().st_size)
            resource.setrlimit(resource.RLIMIT_FSIZE, (full[0], hard))

    async def act(ctx: RemediationContext) -> Plan:
        return Plan(CallHost(control="fill"))

    async def well(ctx: RemediationContext) -> Verdict:
        return Verdict.healthy()

    def prepare(boot: RemediatorBootstrap) -> None:
        boot.controls.register("fill", fill_the_disk, idempotent=True)

    book = runbook(action=act, verify=well, reversibility="disposable")
    effects = {"disposable": {"controls": ["fill"]}}
    async with running_host(tmp_path, book, plugins=[plugin(channels=[Told()])], prepare=prepare, effects=effects) as host:
        try:
            reported = await host.report(broken(tmp_path))
            await eventually(lambda: host.halted, within=PATIENCE)
            await eventually(lambda: "host_failed" in told, within=PATIENCE)
            with pytest.raises((TimeoutError, JournalError)):
                await host.wait_for(reported, timeout=0.5)
            assert "resolved" not in told
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        incident = await host.wait_for(reported, timeout=PATIENCE)
        assert incident.status == "resolved"
        assert len(only(IncidentSettled, await entries_of(host, incident.id))) == 1
        await eventually(lambda: "resolved" in told and "host_recovered" in told)
