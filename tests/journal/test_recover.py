"""A log that can't be continued: what `journal recover` starts instead, what it takes over, and that a crash on the way loses nothing."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.appending import Writers
from tests.support.ground import in_memory
from tests.support.hosts import broken, runbook
from tests.support.journals import audit, entries_of, home_settings, make_home, opened, until
from tests.support.written_journal import remediation

from remediation.bootstrap import RemediatorBootstrap, open_reader
from remediation.bootstrap.archiving import Archiver
from remediation.bootstrap.keys import open_keys, rotate
from remediation.bootstrap.opening import open_journal
from remediation.bootstrap.recovering import RecoveryRefused, recover, why_lost
from remediation.coordination.locks import HostLock
from remediation.core.incident import Incident
from remediation.core.standing import Standing
from remediation.core.state import HostState
from remediation.errors import JournalError, JournalUnavailable
from remediation.model import entries
from remediation.model.events import DegradationEvent, Provenance
from remediation.ports.clock import SystemClock
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.testing import FakeClock, plugin, running_host, settings_in

EVERY_STEP = "REMEDIATION_CRASH_ROUNDS" in os.environ
"""Else some of them: it is the same code that runs every time."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


def write(home: Home, *parts: tuple[str, list[entries.Entry]]) -> None:
    async def work() -> None:
        async with opened(home) as journal:
            for stream, some in parts:
                await journal.append(stream, some)

    asyncio.run(work())


def state_of(home: Home) -> HostState:
    async def read() -> HostState:
        state = HostState(keep_settled=None)
        async with open_reader(home) as reader:
            async for record in reader.read():
                state.apply(record)
        return state

    return asyncio.run(read())


def first_entry(home: Home) -> entries.JournalRecovered:
    row = audit(home)[0]
    assert row.body is not None
    entry = entries.decode(row.type, row.body)
    assert isinstance(entry, entries.JournalRecovered)
    return entry


def roll_back(home: Home, *, to: int = 3, lost: int = 2) -> None:
    """A journal of `to` entries whose head knows of `lost` more."""
    write(home, ("s", entries_of(*range(to))))
    old = home.root.parent / "old.sqlite3"
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute(f"VACUUM INTO '{old}'")
    write(home, ("s", entries_of(*range(lost))))
    for suffix in ("-wal", "-shm"):
        home.journal.with_name(home.journal.name + suffix).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(old)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    os.replace(old, home.journal)


def forget_head(home: Home) -> None:
    home.head_note.unlink()


def incident(code: str) -> tuple[str, DegradationEvent]:
    event = stories.event(code=code)
    return f"incident/{event.fingerprint}/{code.lower()}", event


def reported(event: DegradationEvent) -> entries.DegradationReported:
    return entries.DegradationReported(event=event, provenance=Provenance.NATIVE)


def by_code(home: Home) -> dict[str, Incident]:
    return {found.event.code: found for found in state_of(home).incidents.values()}


# -- when ------------------------------------------------------------------------------------------------------------------------


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


LOSSES: dict[str, Callable[[Home], object]] = {
    "head.note is gone": forget_head,
    "head.note is nonsense": lambda home: home.head_note.write_text("nonsense"),
    "the database is gone": lambda home: home.journal.unlink(),
    "the database is empty": lambda home: home.journal.write_bytes(b""),
    "the database is none": lambda home: home.journal.write_bytes(b"nonsense" * 1000),
    "the database's header is damaged": lambda home: _flip(home.journal, 3),
    "a page is damaged": lambda home: _flip(home.journal, home.journal.read_bytes().index(b'"seq":1,') + 6),
    "a body was altered": lambda home: _sql(home, "UPDATE payload SET body = x'00' WHERE seq = 1"),
    "an entry was removed": lambda home: _sql(home, "DELETE FROM entry WHERE seq = 1"),
    "the checkpoints are gone": lambda home: _sql(home, "DELETE FROM checkpoint"),
    "the key is another one": lambda home: _other_key(home),
}


def _sql(home: Home, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        database.execute(sql)


def _other_key(home: Home) -> None:
    other = make_home(home.root.parent / "other")
    os.replace(other.signing_key, home.signing_key)


@pytest.mark.parametrize("loss", LOSSES)
def test_after_any_loss_there_is_a_new_log_that_names_the_old_head_and_everything_old_is_kept(home: Home, loss: str) -> None:
    write(home, ("s", entries_of(1, 2, 3)))
    origin = home.head_note.read_text().split("\n")[0]
    LOSSES[loss](home)
    before = {path.name: path.read_bytes() for path in (home.journal, home.head_note, home.verifier_keys) if path.exists()}
    assert why_lost(home)
    done = recover(home, "atlas", reason="it was lost")
    found = first_entry(home)
    assert (found.reason, found.kept, found.proven) == ("it was lost", f"lost/{origin.rpartition('/')[2]}", done.proven)
    assert {name: (done.kept / name).read_bytes() for name in before} == before
    rows = audit(home)
    assert rows[0].stream == "host/atlas"
    assert done.origin != origin
    assert json.loads(rows[0].leaf)["origin"] == done.origin
    assert home.verifier_keys.read_text().strip() == done.vkey
    assert found.old_head.split("\n")[:2] == [origin, "3"]
    assert done.proven == {"a page is damaged": 0, "a body was altered": 1, "an entry was removed": 0}.get(loss, done.proven)
    assert done.proven == 3 or loss not in ("head.note is gone", "head.note is nonsense", "the checkpoints are gone")
    assert why_lost(home) == ""
    write(home, ("s", entries_of("after")))
    with pytest.raises(RecoveryRefused, match="healthy"):
        recover(home, "atlas")


def test_a_log_that_is_behind_its_head_is_named_with_the_head_that_it_lost(home: Home) -> None:
    roll_back(home)
    assert "at least 5 are known" in why_lost(home)
    done = recover(home, "atlas")
    assert done.proven == 3
    assert first_entry(home).old_head.split("\n")[1] == "5"
    assert "at least 5 are known" in first_entry(home).reason


def test_a_healthy_journal_is_left_alone(home: Home) -> None:
    write(home, ("s", entries_of(1)))
    before = {path: path.read_bytes() for path in (home.journal, home.head_note, home.verifier_keys)}
    assert why_lost(home) == ""
    with pytest.raises(RecoveryRefused, match="healthy"):
        recover(home, "atlas")
    assert {path: path.read_bytes() for path in before} == before
    assert not (home.root / "lost").exists()


def test_looking_does_not_tidy_up_after_a_crash(home: Home, writers: Writers, tmp_path: Path) -> None:
    """The write-ahead log of a killed host may hold what somebody wants to look at: SQLite would move it into the database."""
    running = writers.start("append", home=str(home.root), keys=str(home.keys), out=str(tmp_path / "out"), callers=3, seed=1)
    asyncio.run(until(lambda: (tmp_path / "out").exists() and (tmp_path / "out").stat().st_size > 0))
    running.kill()
    wal = home.journal.with_name("journal.sqlite3-wal")
    content = wal.read_bytes(), home.journal.read_bytes()
    assert content[0]
    forget_head(home)
    assert why_lost(home)
    done = recover(home, "atlas")
    assert ((done.kept / wal.name).read_bytes(), (done.kept / "journal.sqlite3").read_bytes()) == content
    assert done.proven > 0


def test_it_waits_for_no_host_but_refuses_while_one_runs(home: Home) -> None:
    forget_head(home)
    lock = HostLock(home.locks, "abc")
    try:
        with pytest.raises(RecoveryRefused, match="stop it first"):
            recover(home, "atlas")
        assert not (home.root / "recovery.json").exists()
    finally:
        lock.release()
    recover(home, "atlas")


def test_where_there_never_was_a_journal_there_is_nothing_to_recover(tmp_path: Path) -> None:
    home = home_settings(tmp_path).home
    home.make()
    with pytest.raises(RecoveryRefused, match="init"):
        recover(home, "atlas")


def test_a_journal_of_a_newer_release_is_not_given_up(home: Home) -> None:
    _sql(home, "PRAGMA user_version = 2")
    with pytest.raises(JournalError, match="upgrade"):
        recover(home, "atlas")


def test_a_key_that_is_lost_is_replaced_only_when_asked_to(home: Home) -> None:
    write(home, ("s", entries_of(1)))
    old = home.verifier_keys.read_text().split("+")[2]
    home.signing_key.unlink()
    with pytest.raises(RecoveryRefused, match="--new-key"):
        recover(home, "atlas")
    done = recover(home, "atlas", new_key=True)
    assert done.vkey.split("+")[2] != old
    assert done.proven == 1
    audit(home)


def test_an_old_key_is_put_aside_for_a_new_one(home: Home) -> None:
    home.signing_key.write_text("damaged")
    done = recover(home, "atlas", new_key=True)
    assert (home.keys / f"signing.key.{done.kept.name}").read_text() == "damaged"


def test_the_key_stays_though_its_name_is_another_one(home: Home) -> None:
    old = home.verifier_keys.read_text().strip()
    forget_head(home)
    done = recover(home, "atlas")
    assert done.vkey.split("+")[2] == old.split("+")[2]
    assert done.vkey.split("+")[:2] != old.split("+")[:2]


def test_a_recovered_log_can_be_lost_again(home: Home) -> None:
    forget_head(home)
    one = recover(home, "atlas")
    write(home, ("s", entries_of(1)))
    forget_head(home)
    two = recover(home, "atlas")
    assert one.kept != two.kept
    assert one.kept.exists()
    assert first_entry(home).old_head.split("\n")[0] == one.origin


# -- what is taken over --------------------------------------------------------------------------------------------------------------


def test_what_is_carried_over_never_makes_the_host_bolder(home: Home) -> None:
    untouched, acting, held, settled = (incident(code) for code in ("UNTOUCHED", "ACTING", "HELD", "SETTLED"))
    write(
        home,
        (untouched[0], [reported(untouched[1]), _coalesced(7)]),
        (acting[0], [reported(acting[1]), stories.planned(stories.planned_effect("at1:0:0"))]),
        (held[0], [reported(held[1]), _settled("no runbook", held=True)]),
        (settled[0], [reported(settled[1]), _settled("done", held=False)]),
        ("runbook/bad", [entries.RunbookQuarantined(runbook="bad", by="engine", reason="it failed twice")]),
        ("runbook/good", [entries.RunbookQuarantined(runbook="good", by="engine", reason="it failed twice")]),
        ("runbook/good", [entries.RunbookReleased(runbook="good", by="somebody")]),
    )
    forget_head(home)
    done = recover(home, "atlas")
    assert (done.open_again, done.held) == (1, 2)
    state = state_of(home)
    now = by_code(home)
    assert sorted(now) == ["ACTING", "HELD", "UNTOUCHED"]
    assert (now["UNTOUCHED"].status, now["UNTOUCHED"].reports) == ("open", 7)
    assert (now["HELD"].status, now["HELD"].held, now["HELD"].dirty) == ("escalated", True, False)
    assert "no runbook" in now["HELD"].reason
    assert (now["ACTING"].status, now["ACTING"].held, now["ACTING"].dirty) == ("escalated", True, True)
    assert "at1:0:0" in now["ACTING"].analysis
    assert "acting" in now["ACTING"].reason
    assert state.fenced == {acting[1].subject: now["ACTING"].id}
    assert state.paused(0)
    assert state.pauses
    assert state.pauses[-1].until == 0
    assert {id_: record.state for id_, record in state.runbooks.items()} == {"bad": "quarantined"}


def _coalesced(count: int) -> entries.DegradationCoalesced:
    return entries.DegradationCoalesced(count=count, severity=stories.event().severity, observed_at=stories.SEEN, why="count")


def _settled(reason: str, *, held: bool) -> entries.IncidentSettled:
    return entries.IncidentSettled(status="escalated", reason=reason, held=held)


def test_a_panic_stays_a_panic(home: Home) -> None:
    write(home, ("host/pauses", [entries.PauseStarted(reason="stop!", by="somebody", panic=True)]))
    forget_head(home)
    recover(home, "atlas")
    (pause,) = state_of(home).pauses
    assert pause.panic


def test_what_is_not_proven_can_only_make_the_new_log_more_careful(home: Home) -> None:
    """Entry 2 was altered: whatever follows may have been written by anybody who can write to the file."""
    known, closed, late = (incident(code) for code in ("KNOWN", "CLOSED", "LATE"))
    write(home, (known[0], [reported(known[1])]), (closed[0], [reported(closed[1])]), ("s", entries_of("altered")))
    write(
        home,
        (closed[0], [_settled("all is well", held=False)]),
        (known[0], [stories.planned(stories.planned_effect("at1:0:0"))]),
        (late[0], [reported(late[1])]),
        ("runbook/bad", [entries.RunbookQuarantined(runbook="bad", by="engine", reason="it failed twice")]),
    )
    _sql(home, "UPDATE payload SET body = x'00' WHERE seq = 2")
    done = recover(home, "atlas")
    assert done.proven == 2
    now = by_code(home)
    assert sorted(now) == ["CLOSED", "KNOWN", "LATE"]
    assert now["CLOSED"].open
    assert (now["KNOWN"].held, now["KNOWN"].dirty) == (True, True)
    assert (now["LATE"].held, now["LATE"].provenance) == (True, Provenance.FREE_TEXT)
    assert "genuine" in now["LATE"].reason
    assert state_of(home).runbooks["bad"].state == "quarantined"


def test_entries_behind_a_damaged_page_are_read_too(home: Home) -> None:
    late = incident("LATE")
    write(home, ("s", entries_of(*("x" * 3000 for _ in range(40)))), (late[0], [reported(late[1])]))
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            page = database.execute(
                "SELECT pageno FROM dbstat WHERE name = 'entry' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 1"
            ).fetchone()[0]
        except sqlite3.Error:
            page = None
    if page is None:  # this SQLite lacks dbstat: the page of an entry in the middle is found by its text
        page = home.journal.read_bytes().index(b'"seq":12,') // 4096 + 1
    content = bytearray(home.journal.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = os.urandom(4096)
    home.journal.write_bytes(content)
    done = recover(home, "atlas")
    assert 0 <= done.proven < 41
    assert [found.held for found in by_code(home).values()] == [True]


async def test_a_host_heals_what_was_carried_over_once_a_person_resumes(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, live=["mend"])
    event = broken(tmp_path)
    boot = RemediatorBootstrap(settings, plugins=[plugin(runbook())])
    home = settings.home
    async with boot.start() as host:
        await host.journal.append("host/pauses", [entries.PauseStarted(reason="first a report", by="test")])
        await host.report(event)
    forget_head(home)
    with pytest.raises(JournalError):
        async with boot.start():
            pass
    done = await asyncio.to_thread(recover, home, settings.host.id)
    assert (done.open_again, done.held) == (1, 0)
    async with boot.start() as host:
        (found,) = host.incidents()
        with pytest.raises(TimeoutError):
            await host.wait_for(found.id, timeout=0.5)
        assert Path(event.subject).read_text() == "broken\n"
        await host.journal.append("host/pauses", [entries.PauseEnded(by="a person")])
        host._remediator.resume()
        assert (await host.wait_for(found.id, timeout=20)).status == "resolved"
    assert verify_journal(home.journal, own=[done.vkey]).ok


async def test_a_log_whose_oldest_entries_were_archived_keeps_what_was_folded_from_them(tmp_path: Path) -> None:
    clock = FakeClock()
    quarantined = entries.RunbookQuarantined(runbook="bad", by="engine", reason="it failed twice")
    held = broken(tmp_path, "held", code="UNKNOWN")
    async with running_host(tmp_path, clock=clock) as host:
        await host.journal.append("runbook/bad", [quarantined])
        for _ in range(60):
            await asyncio.gather(*(host.journal.append("talk", entries_of("x" * 100)) for _ in range(10)))
        await host.wait_for(await host.report(held), timeout=20)
    clock.advance(2 * 86_400)
    home = Home(tmp_path / "home", tmp_path / "keys")
    standing = Standing()
    journal = await open_journal(home, clock, folds=[standing])
    archiver = Archiver(home, journal, standing, clock, host="test-host", cooldown_ms=300_000)
    try:
        await archiver.archive(10_000, tmp_path / "archive")
    finally:
        await journal.close()
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        assert database.execute("SELECT min(seq) FROM entry").fetchone() >= (256,)
    forget_head(home)
    done = await asyncio.to_thread(recover, home, "test-host")
    assert done.proven > 600
    assert await asyncio.to_thread(lambda: state_of(home).runbooks["bad"].state) == "quarantined"
    now = await asyncio.to_thread(by_code, home)
    assert [found.held for found in now.values()] == [True]


async def test_a_log_whose_key_was_exchanged_is_proven_across_that(home: Home) -> None:
    journal = await open_journal(home, SystemClock())
    try:
        await journal.append("s", entries_of(1, 2))
        await rotate(home, open_keys(home), journal)
        await journal.append("s", entries_of(3))
    finally:
        await journal.close()
    forget_head(home)
    done = await asyncio.to_thread(recover, home, "atlas")
    assert done.proven == 4
    assert (done.kept / "signing.vkey").read_text().count("\n") == 2
    assert why_lost(home) == ""


def test_a_key_under_a_passphrase_signs_the_new_log_too_and_its_successor_is_protected_alike(tmp_path: Path) -> None:
    env = [("XDG_STATE_HOME", str(tmp_path / "state")), ("REMEDIATION_HOME", str(tmp_path / "home")), ("PASS", "correct horse")]
    (tmp_path / "home").mkdir()
    (tmp_path / "home/remediation.toml").write_text('[host]\nid = "atlas"\n[keys]\npassphrase = ["env:PASS"]\n')
    made = remediation("init", "--encrypt-key", env=env)
    assert made.status == 0, made.err
    keys = tmp_path / "state/remediation/atlas"
    (keys / "head.note").unlink()
    assert remediation("journal", "recover", "--yes", env=env[:2]).status == 1
    done = remediation("journal", "recover", "--yes", env=env)
    assert done.status == 0, done.err
    (keys / "head.note").unlink()
    before = (keys / "signing.key").read_bytes()
    done = remediation("journal", "recover", "--yes", "--new-key", env=env)
    assert done.status == 0, done.err
    after = (keys / "signing.key").read_bytes()
    assert before != after
    assert before.split()[:2] == after.split()[:2], "protected in the same form"
    assert remediation("run", "--once", env=env).status == 0


# -- crashes -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.parametrize("loss", ["behind", "no head", "no database"])
def test_a_kill_between_any_two_steps_leaves_something_that_the_next_run_finishes(writers: Writers, loss: str) -> None:
    """Until it is finished nothing else opens the journal, or makes a new one."""
    with in_memory("recover") as folder:
        _kill_and_finish(folder, writers, loss)


def _kill_and_finish(tmp_path: Path, writers: Writers, loss: str) -> None:
    template = make_home(tmp_path / "template")
    found = incident("OPEN")
    if loss == "behind":
        write(template, (found[0], [reported(found[1])]))
        roll_back(template, to=2)
    else:
        write(template, (found[0], [reported(found[1])]), ("s", entries_of(1, 2)))
        (forget_head if loss == "no head" else lambda home: home.journal.unlink())(template)
    head = template.head_note.read_bytes() if template.head_note.exists() else None
    blocked = steps = 0
    for stop in itertools.count(0, 1 if EVERY_STEP else 3 if loss == "behind" else 7):
        base = tmp_path / "base"
        shutil.copytree(tmp_path / "template", base)
        home = home_settings(base).home
        status = writers.start("recover", folder=str(base), stop=stop).wait()
        if status == 0:
            break
        assert status == -9
        steps += 1
        if (home.root / "recovery.json").exists():
            blocked += 1
            with pytest.raises(JournalUnavailable, match="recover"):
                make_home(base)
            with pytest.raises(JournalUnavailable, match="recover"):
                asyncio.run(open_journal(home, SystemClock()))
        if (home.root / "recovery.json").exists() or why_lost(home):
            recover(home, "atlas")
        rows = audit(home)
        assert [row.type for row in rows[:2]] == ["journal.recovered", "pause.started"]
        assert len(rows) == (2 if loss == "no database" else 3)
        kept = home.root / first_entry(home).kept
        if head is not None:
            assert (kept / "head.note").read_bytes() == head
        assert (kept / "journal.sqlite3").exists() == (loss != "no database")
        assert not list(home.root.glob(".journal*"))
        assert why_lost(home) == ""
        shutil.rmtree(base)
    print(f"{steps} steps, {blocked} of them while nothing else could open the journal")
    assert steps > 15
    assert blocked > 10


# -- the command ---------------------------------------------------------------------------------------------------------------------


def test_the_command_asks_and_says_what_came_of_it(tmp_path: Path) -> None:
    env = [("XDG_STATE_HOME", str(tmp_path / "state")), ("REMEDIATION_HOME", str(tmp_path / "home"))]
    assert remediation("init", "--id", "atlas", env=env).status == 0
    assert remediation("report", "--code", "X", "--subsystem", "s", "--subject", "y", env=env).status == 0
    assert remediation("run", "--once", env=env).status == 0
    well = remediation("journal", "recover", "--yes", env=env)
    assert (well.status, well.out) == (1, "")
    assert "healthy" in well.err
    (tmp_path / "state/remediation/atlas/head.note").unlink()
    asked = remediation("journal", "recover", env=env)
    assert (asked.status, asked.out) == (2, "")
    assert "--yes" in asked.err
    done = remediation("journal", "recover", "--yes", "--reason", "a \x1b[31mtest", "--json", env=env)
    assert done.status == 0, done.err
    answer = json.loads(done.out)
    assert (answer["held"], answer["open_again"]) == (1, 0)
    assert remediation("journal", "verify", env=env).status == 0
    kept = Path(answer["kept"]) / "journal.sqlite3"
    verdict = remediation("journal", "verify", str(kept), "--json", env=env)
    assert verdict.status == 0, verdict.out
    assert json.loads(verdict.out)["size"] == answer["proven"]
    (row, *_) = remediation("incidents", "--json", env=env).json  # type: ignore[misc]
    assert row["held"]
    assert remediation("resume", env=env).status == 0
    assert remediation("run", "--once", env=env).status == 0


def test_a_kept_log_that_was_behind_its_head_says_so(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    roll_back(home)
    done = recover(home, "atlas")
    verdict = remediation("journal", "verify", str(done.kept / "journal.sqlite3"))
    assert verdict.status == 4
    assert "at least 5 are known" in verdict.out
