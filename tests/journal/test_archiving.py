"""Archives: the oldest entries leave, in a file that proves itself; what stays verifies, proves, counts and heals as before."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import broken, runbook
from tests.support.journals import said

from remediation.bootstrap import Host, open_journal, open_reader
from remediation.bootstrap.archiving import Archived, Archiver, ArchiveRefused
from remediation.bootstrap.bringing_back import bring_back
from remediation.bootstrap.erasing import Eraser, ErasureRefused
from remediation.core import ground
from remediation.core.incident import Incident
from remediation.core.standing import Standing
from remediation.core.state import HostState
from remediation.errors import JournalDamaged, JournalTooNew
from remediation.journal import IntentJournal
from remediation.ports.clock import Clock
from remediation.proof import ProblemKind, Verification, verify_export_file
from remediation.proof.chain import verify_chain
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.stores.exporting.jsonl import export_journal
from remediation.stores.proving import prove_entry
from remediation.testing import FakeClock, running_host

DAY = 86_400.0
SECRET = "Hildegard-Mustermann"


def home_in(folder: Path) -> Home:
    return Home(folder / "home", folder / "keys")


async def heal(folder: Path, host: Host, name: str) -> Incident:
    event = broken(folder, name, text=f"{SECRET} {name}\n", summary=f"about {SECRET}")
    return await host.wait_for(await host.report(event), timeout=20)


async def fill(journal: IntentJournal, number: int) -> None:
    """Entries that say something and mean nothing."""
    for start in range(0, number, 64):
        await asyncio.gather(*(journal.append("talk", [said(f"number {n}")]) for n in range(start, min(number, start + 64))))


@contextlib.asynccontextmanager
async def archiver_of(home: Home, clock: Clock) -> AsyncIterator[tuple[Archiver, IntentJournal]]:
    standing = Standing()
    journal = await open_journal(home, clock, folds=[standing])
    try:
        yield Archiver(home, journal, standing, clock, host="test-host", cooldown_ms=300_000), journal
    finally:
        await journal.close()


async def archive(home: Home, clock: Clock, until: int, out: Path) -> Archived:
    async with archiver_of(home, clock) as (archiver, _):
        return await archiver.archive(until, out)


def verdict_of(home: Home, *archives: Path) -> Verification:
    vkeys = home.verifier_keys.read_text().split()
    return verify_journal(home.journal, own=vkeys, known_head=home.head_note.read_text(), archives=archives)


def verified(home: Home, *archives: Path) -> Verification:
    verdict = verdict_of(home, *archives)
    assert verdict.ok, verdict.problems
    return verdict


async def lived(folder: Path, clock: FakeClock, entries: int = 600) -> list[Incident]:
    """A home with two heals, many entries between and after them, and two days since then."""
    async with running_host(folder, runbook(), clock=clock) as host:
        first = await heal(folder, host, "one")
        await fill(host.journal, entries)
        clock.advance(10)
        second = await heal(folder, host, "two")
        await fill(host.journal, entries // 2)
    clock.advance(2 * DAY)
    return [first, second]


async def state_of(home: Home) -> HostState:
    state = HostState()
    async with open_reader(home) as journal:
        base = await journal.base()
        if base is not None:
            state.begin(base.state)
        async for record in journal.read(after=state.position):
            state.apply(record)
    return state


async def test_archived_entries_leave_and_everything_still_verifies_heals_and_counts(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    before, large = await state_of(home), home.journal.stat().st_size

    done = await archive(home, clock, 10_000, tmp_path / "out")

    assert (done.first, done.before % 256) == (0, 0)
    assert done.before >= 768
    assert hashlib.sha256(done.path.read_bytes()).hexdigest() == done.sha256
    assert home.journal.stat().st_size < large * 0.7
    vkeys = home.verifier_keys.read_text().split()
    alone = verify_export_file(done.path, vkeys=vkeys)
    assert alone.ok, alone.problems
    live = verified(home)
    assert live.archived == done.before
    assert live.proven == live.size
    whole = verified(home, done.path)
    assert (whole.archived, whole.root) == (0, live.root)
    after = await state_of(home)
    assert after.runbooks == before.runbooks
    assert after.instances == before.instances
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        assert host._state.runbooks["mend"].healed == 2
        third = await heal(tmp_path, host, "three")
        assert third.status == "resolved"
        assert host._state.runbooks["mend"].healed == 3
    verified(home)
    verified(home, done.path)


async def test_streams_go_on_where_their_archived_entries_ended(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    done = await archive(home, clock, 10_000, tmp_path / "out")
    async with archiver_of(home, clock) as (_, journal):
        await journal.append("runbook/mend-nothing", [said("new")])
        talk = await journal.append("talk", [said("more")])
        assert talk.stream_seq == 900
    verified(home, done.path)


async def test_a_second_archive_begins_where_the_first_one_ended_and_both_prove_the_whole(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    one = await archive(home, clock, 300, tmp_path / "out")
    assert (one.first, one.before) == (0, 256)
    two = await archive(home, clock, 10_000, tmp_path / "out")
    assert two.first == 256
    verified(home)
    verified(home, one.path, two.path)
    vkeys = home.verifier_keys.read_text().split()
    assert verify_export_file(two.path, vkeys=vkeys).worst is ProblemKind.INCOMPLETE
    chain = verify_chain([one.path, two.path], vkeys=vkeys)
    assert chain.ok, chain.problems
    rest = tmp_path / "rest.jsonl"
    with rest.open("wb") as file:
        export_journal(home.journal, home.head_note.read_text(), vkeys, file.write)
    whole = verify_chain([one.path, two.path, rest], vkeys=vkeys)
    assert whole.ok, whole.problems
    assert whole.size == verified(home).size
    assert verify_chain([two.path, one.path, rest], vkeys=vkeys).worst is ProblemKind.INCOMPLETE
    assert verify_chain([two.path, rest], vkeys=vkeys).worst is ProblemKind.INCOMPLETE


async def test_a_live_entry_is_proved_as_before(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    done = await archive(home, clock, 512, tmp_path / "out")
    note = home.head_note.read_text()
    for seq in (done.before, done.before + 100, int(note.split("\n")[1]) - 1):
        assert prove_entry(home.journal, seq, note).proof


async def test_what_is_needed_holds_back_all_that_comes_after_it(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        await fill(host.journal, 300)
        held = await heal(tmp_path, host, "one")
        unknown = await host.wait_for(await host.report(broken(tmp_path, "x", code="UNKNOWN")), timeout=20)
        assert unknown.held
        await fill(host.journal, 600)
        assert held.status == "resolved"
    with pytest.raises(ArchiveRefused, match="a day old"):
        await archive(home, clock, 10_000, tmp_path / "out")
    clock.advance(2 * DAY)
    done = await archive(home, clock, 10_000, tmp_path / "out")
    assert done.before == 256
    assert done.held_back is not None
    assert done.held_back.incident == unknown.id
    with pytest.raises(ArchiveRefused, match=f"{unknown.id} is still needed: it is open or held"):
        await archive(home, clock, 10_000, tmp_path / "out")
    verified(home, done.path)


async def test_blobs_of_archived_plans_lie_beside_the_file_and_leave_the_home(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock, entries=900)
    name = hashlib.sha256(f"{SECRET} one\n".encode()).hexdigest()
    assert (home.blobs / name[:2] / name[2:]).exists()
    done = await archive(home, clock, 512, tmp_path / "out")
    assert done.blobs >= 1
    assert (tmp_path / "out" / "blobs" / name[:2] / name[2:]).read_text() == f"{SECRET} one\n"
    assert not (home.blobs / name[:2] / name[2:]).exists()
    other = hashlib.sha256(f"{SECRET} two\n".encode()).hexdigest()
    assert (home.blobs / other[:2] / other[2:]).exists()


async def test_what_stays_of_archived_incidents_holds_no_text(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock, watch=False) as host:
        await fill(host.journal, 250)
        await heal(tmp_path, host, "one")  # begins before 256, and ends after it
        await fill(host.journal, 300)
    clock.advance(2 * DAY)
    done = await archive(home, clock, 300, tmp_path / "out")
    assert done.before == 256
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        (state,) = database.execute("SELECT state FROM archive").fetchone()
    assert SECRET.encode() not in state
    size, incidents, _ = ground.load(state)
    assert size == 256
    assert all(incident.event.subject == "(archived)" for incident in incidents)
    verified(home)
    assert (await state_of(home)).runbooks["mend"].healed == 1


async def test_entries_come_back_and_the_journal_is_the_one_it_was(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    before = await state_of(home)
    one = await archive(home, clock, 256, tmp_path / "out")
    two = await archive(home, clock, 10_000, tmp_path / "out")
    async with archiver_of(home, clock) as (_, journal):
        with pytest.raises(ArchiveRefused, match="give all archives"):
            await bring_back(home, journal, [two.path])
        assert await bring_back(home, journal, [one.path, two.path]) == two.before
        with pytest.raises(ArchiveRefused, match="nothing was archived"):
            await bring_back(home, journal, [one.path, two.path])
    assert verified(home).archived == 0
    after = await state_of(home)
    assert after.runbooks == before.runbooks
    assert {**after.incidents} == {**before.incidents}
    again = await archive(home, clock, 10_000, tmp_path / "again")
    assert again.first == 0
    verified(home, again.path)


async def test_a_file_that_was_altered_brings_nothing_back(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    done = await archive(home, clock, 10_000, tmp_path / "out")
    done.path.write_bytes(done.path.read_bytes().replace(b"number 7\\", b"number 8\\", 1))
    async with archiver_of(home, clock) as (_, journal):
        with pytest.raises(ArchiveRefused, match="don't hold"):
            await bring_back(home, journal, [done.path])
    assert not verdict_of(home, done.path).ok
    assert verified(home).archived == done.before


async def test_an_erasure_before_an_archive_is_in_the_file_with_its_reason(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    incidents = await lived(tmp_path, clock)
    standing = Standing()
    journal = await open_journal(home, clock, folds=[standing])
    eraser = Eraser(home, journal, standing, clock, host="test-host", cooldown_ms=0)
    erased = (await eraser.erase_incident(incidents[0].id, reason="asked for")).seqs
    await journal.close()
    done = await archive(home, clock, 512, tmp_path / "out")
    verdict = verify_export_file(done.path, vkeys=home.verifier_keys.read_text().split())
    assert verdict.ok, verdict.problems
    assert verdict.erased == len(erased)
    verified(home)
    verified(home, done.path)
    journal = await open_journal(home, clock, folds=[standing])
    try:
        with pytest.raises(ErasureRefused, match="was archived"):
            await Eraser(home, journal, standing, clock, host="test-host", cooldown_ms=0).erase([3], reason="x")
    finally:
        await journal.close()


async def test_a_running_host_goes_on_beside_an_archive(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        done = await archive(home, clock, 10_000, tmp_path / "out")
        third = await heal(tmp_path, host, "three")
        assert third.status == "resolved"
        assert host._state.runbooks["mend"].healed == 3
    verified(home, done.path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        assert host._state.runbooks["mend"].healed == 3
    (home.root / "snapshot.bin").unlink()
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        assert host._state.runbooks["mend"].healed == 3


TAMPERINGS = {
    "the state": "UPDATE archive SET state = CAST(state || ' ' AS BLOB)",
    "where it begins": "UPDATE archive SET before = before - 256",
    "the note of it": "DELETE FROM archive",
    "an upper tile": "UPDATE tile SET data = zeroblob(length(data)) WHERE level = 1",
    "one more entry": "DELETE FROM entry WHERE seq = (SELECT before FROM archive)",
    "a tile too many": "INSERT INTO tile VALUES (0, 0, zeroblob(8192))",
    "how long streams were": "UPDATE archived_stream SET length = length + 3",
    "which streams there were": "DELETE FROM archived_stream",
    "a stream that never was": "INSERT INTO archived_stream VALUES ('zz/new', 9)",
    "which entry tells of it": "UPDATE archive SET by = 1",
    "another entry that tells of it": "UPDATE archive SET by = by + 1",
}


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_whatever_is_altered_about_an_archive_is_found(tmp_path: Path, what: str) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    await archive(home, clock, 600, tmp_path / "out")
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute(TAMPERINGS[what])
        database.commit()
    assert verdict_of(home).worst is ProblemKind.TAMPERING


LENGTHS = [what for what, sql in TAMPERINGS.items() if "archived_stream" in sql or "SET by" in sql]


@pytest.mark.parametrize("what", LENGTHS)
async def test_streams_are_never_continued_from_lengths_that_nobody_signed(tmp_path: Path, what: str) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    await archive(home, clock, 600, tmp_path / "out")
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute(TAMPERINGS[what])
        database.commit()
    with pytest.raises(JournalDamaged, match="journal verify"):
        await open_journal(home, clock)


async def test_a_journal_that_was_never_archived_has_no_lengths_of_archived_streams(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock, entries=10)
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute("INSERT INTO archived_stream VALUES ('host/test-host', 5000)")
        database.commit()
    assert verdict_of(home).worst is ProblemKind.TAMPERING
    with pytest.raises(JournalDamaged, match="journal verify"):
        await open_journal(home, clock)


async def test_a_state_that_does_not_name_the_streams_is_compared_with_the_archives(tmp_path: Path) -> None:
    """As it was kept before it named them: the table alone has them."""
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    dump = ground.dump
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ground, "dump", lambda size, state, streams: without_streams(dump(size, state, streams)))
        done = await archive(home, clock, 600, tmp_path / "out")
    verified(home)
    verified(home, done.path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        assert host._state.runbooks["mend"].healed == 2
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute("UPDATE archived_stream SET length = length + 3")
        database.commit()
    assert verdict_of(home, done.path).worst is ProblemKind.TAMPERING


def without_streams(state: bytes) -> bytes:
    return json.dumps({name: value for name, value in json.loads(state).items() if name != "streams"}).encode()


async def test_a_state_of_another_release_is_refused_and_says_how_to_bring_entries_back(tmp_path: Path) -> None:
    with pytest.raises(JournalTooNew, match="--restore FILE"):
        HostState().begin(b'{"v": 2, "size": 256}')


def test_every_part_of_the_state_is_kept_or_known_to_be_needless() -> None:
    internal = {name for name in vars(HostState()) if name.startswith("_")} | {"position", "incidents", "listeners"}
    unknown = set(vars(HostState())) - set(ground.KEPT) - ground.LET_GO - internal
    assert not unknown, f"say in core/ground.py what becomes of {unknown} when entries are archived"


STEPS: list[tuple[Any, str]] = [
    (Archiver, "_write"),
    (Archiver, "_copy_blobs"),
    (Archiver, "_verify"),
    (IntentJournal, "append"),
    (Archiver, "tidy"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS)
async def test_a_kill_at_any_step_loses_nothing_and_the_next_run_gets_it_done(
    tmp_path: Path, owner: Any, step: str, when: str
) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    child = os.fork()
    if child == 0:
        asyncio.events._set_running_loop(None)
        _die_at(owner, step, when)
        with contextlib.suppress(BaseException):
            asyncio.new_event_loop().run_until_complete(archive(home, clock, 600, tmp_path / "out"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    verdict = verified(home)
    files = sorted((tmp_path / "out").glob("journal-*.jsonl"))
    if verdict.archived:
        verified(home, *files)
    else:
        done = await archive(home, clock, 600, tmp_path / "out")
        verified(home, done.path)
    assert verified(home).archived == 512
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        assert host._state.runbooks["mend"].healed == 2


def _die_at(owner: Any, step: str, when: str) -> None:
    real = getattr(owner, step)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def plain(*args: Any, **more: Any) -> Any:
        if when == "before":
            die()
        answer = real(*args, **more)
        die()
        return answer

    async def awaited(*args: Any, **more: Any) -> Any:
        if when == "before":
            die()
        answer = await real(*args, **more)
        die()
        return answer

    setattr(owner, step, awaited if asyncio.iscoroutinefunction(real) else plain)


async def test_a_rotation_of_the_key_among_archived_entries_breaks_nothing(tmp_path: Path) -> None:
    from remediation.bootstrap.keys import open_keys, rotate

    clock, home = FakeClock(), home_in(tmp_path)
    first = ""
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        await fill(host.journal, 100)
        first = str(host.journal.keys[0])
        await rotate(home, open_keys(home), host.journal)
        await fill(host.journal, 600)
    clock.advance(2 * DAY)
    done = await archive(home, clock, 300, tmp_path / "out")
    live = verified(home)
    assert live.archived == 256
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        assert len(host.journal.keys) == 2
        assert (await heal(tmp_path, host, "one")).status == "resolved"
    verified(home, done.path)
    assert verify_export_file(done.path, vkeys=[first]).ok
    old = verify_journal(home.journal, vkeys=[first], known_head=home.head_note.read_text())
    assert old.worst is ProblemKind.INCOMPLETE, old.problems
    whole = verify_journal(home.journal, vkeys=[first], known_head=home.head_note.read_text(), archives=[done.path])
    assert whole.ok, whole.problems


@pytest.mark.parametrize("rotations", [(700,), (100, 700), (100, 300, 700)])
async def test_archives_before_between_and_after_rotations_of_the_key_verify(tmp_path: Path, rotations: tuple[int, ...]) -> None:
    from remediation.bootstrap.keys import open_keys, rotate

    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        for at in rotations:
            await fill(host.journal, at - host.journal.size)
            await rotate(home, open_keys(home), host.journal)
        await fill(host.journal, 200)
    clock.advance(2 * DAY)
    files = []
    for until in (256, 512, 768):
        done = await archive(home, clock, until, tmp_path / "out")
        assert done.before == until
        files.append(done.path)
        verified(home)
        verified(home, *files)
    assert verify_export_file(files[0], vkeys=home.verifier_keys.read_text().split()).ok
    assert verify_chain(files, vkeys=home.verifier_keys.read_text().split()[:1]).ok


async def test_an_archive_that_does_not_verify_is_not_left_behind(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    await lived(tmp_path, clock)
    async with archiver_of(home, clock) as (archiver, _):
        with contextlib.closing(sqlite3.connect(home.journal)) as database:
            database.execute("UPDATE payload SET body = CAST(body || ' ' AS BLOB) WHERE seq = 40")
            database.commit()
        with pytest.raises(JournalDamaged, match="does not verify"):
            await archiver.archive(600, tmp_path / "out")
    assert not [*(tmp_path / "out").glob("*.jsonl"), *(tmp_path / "out").glob(".*")]
