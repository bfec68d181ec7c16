"""Erasing: content that is gone from every byte of the home, an entry that says so, and state that counts as before."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import broken, records_of, runbook

from remediation.authoring import RemediationContext, Verdict
from remediation.bootstrap import Host, erasing, open_journal, open_reader
from remediation.bootstrap.erasing import Eraser, ErasureRefused
from remediation.cli.postmortem import post_mortem
from remediation.core.incident import Incident
from remediation.core.residue import GONE
from remediation.core.standing import Standing
from remediation.core.state import HostState
from remediation.errors import JournalUnavailable
from remediation.journal import IntentJournal
from remediation.model.entries import PayloadErased
from remediation.ports.clock import Clock
from remediation.proof import verify_export_file
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.stores.exporting import export_journal
from remediation.stores.snapshot import Snapshot
from remediation.testing import FakeClock, running_host

SECRET = "Hildegard-Mustermann"
DAY = 86_400.0


def home_in(folder: Path) -> Home:
    return Home(folder / "home", folder / "keys")


async def heal(folder: Path, host: Host, name: str = SECRET) -> Incident:
    """One incident that is healed, with the secret wherever there is text."""
    event = broken(folder, name, text=f"{SECRET} lay here\n" * 3, summary=f"about {SECRET}", evidence={"who": SECRET})
    return await host.wait_for(await host.report(event), timeout=20)


@contextlib.asynccontextmanager
async def eraser_of(home: Home, clock: Clock) -> AsyncIterator[tuple[Eraser, IntentJournal]]:
    standing = Standing()
    journal = await open_journal(home, clock, folds=[standing])
    try:
        yield Eraser(home, journal, standing, clock, host="test-host", cooldown_ms=300_000), journal
    finally:
        await journal.close()


async def erase_incident(home: Home, clock: Clock, incident: str) -> tuple[int, ...]:
    async with eraser_of(home, clock) as (eraser, _):
        return (await eraser.erase_incident(incident, reason="asked for")).seqs


def files_holding(home: Home, *texts: str) -> list[str]:
    """The files of the home and its keys that hold one of the texts, plain or in hex."""
    wanted = [form for text in texts for form in (text.encode(), text.encode().hex().encode())]
    found = []
    for folder in (home.root, home.keys):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and any(form in path.read_bytes() or form in os.fsencode(path.name) for form in wanted):
                found.append(str(path.relative_to(folder)))
    return found


def verified(home: Home) -> Any:
    vkeys = home.verifier_keys.read_text().split()
    verdict = verify_journal(home.journal, own=vkeys, known_head=home.head_note.read_text())
    assert verdict.ok, verdict.problems
    return verdict


async def folded(home: Home) -> HostState:
    state = HostState(keep_settled=None)
    async with open_reader(home) as journal:
        async for record in journal.read():
            state.apply(record)
    return state


def counted(state: HostState) -> dict[str, Any]:
    """All of the state that holds no text of people."""
    known = {
        name: value
        for name, value in vars(state).items()
        if name not in ("incidents", "touched", "listeners", "position", "_second")
    }
    incidents = [
        (
            each.id,
            each.fingerprint,
            each.status,
            each.reports,
            each.severity,
            each.version,
            each.opened_at,
            each.settled_at,
            each.held,
        )
        for each in state.incidents.values()
    ]
    attempts = [
        (a.id, a.number, a.runbook, a.outcome, a.acted, a.finished_at, [r.key for r in a.receipts], a.revert, a.reverted)
        for each in state.incidents.values()
        for a in each.attempts
    ]
    return {**known, "incidents": incidents, "attempts": attempts}


async def test_what_is_erased_is_in_no_file_of_the_home_any_more_and_the_journal_verifies(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
        assert incident.status == "resolved"
    before = await folded(home)
    assert {"journal.sqlite3", "snapshot.bin"} <= set(files_holding(home, SECRET))
    assert any(name.startswith("blobs/") for name in files_holding(home, SECRET))
    clock.advance(2 * DAY)

    erased = await erase_incident(home, clock, incident.id)

    assert len(erased) >= 3
    assert files_holding(home, SECRET) == []
    assert verified(home).erased == len(erased)
    after = await folded(home)
    assert counted(after) == counted(before)
    assert after.incidents[incident.id].event.subject == GONE
    assert not (home.root / "erasing.json").exists()
    said_so = [record for record in await records_of(home) if isinstance(record.entry, PayloadErased)]
    assert [record.entry.seq for record in said_so if isinstance(record.entry, PayloadErased)] == list(erased)
    assert all(record.head.actor.startswith("key:") and record.head.correlation == incident.id for record in said_so)


async def test_a_running_host_forgets_what_is_erased_beside_it_and_goes_on(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
        clock.advance(2 * DAY)
        await erase_incident(home, clock, incident.id)
        await host.journal.refresh()
        assert incident.id not in {each.id for each in host.incidents()}
        assert SECRET.encode() not in host._state.dump()
        again = await heal(tmp_path, host, "something-else")
        assert again.status == "resolved"
        assert counted(host._state)["runbooks"]["mend"].healed == 2
        clock.advance(2 * DAY)
        await erase_incident(home, clock, again.id)
    # Closing saved a snapshot of a state that holds nothing of it.
    assert files_holding(home, SECRET) == []
    verified(home)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        assert host._state.runbooks["mend"].healed == 2


async def test_a_host_that_stops_right_after_an_erasure_beside_it_saves_no_snapshot_of_before(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
        clock.advance(2 * DAY)
        journal = host.journal
        await erase_incident(home, clock, incident.id)
        await journal.close()
    assert files_holding(home, SECRET) == []


async def test_a_post_mortem_tells_what_remains_and_that_the_rest_was_erased(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
    clock.advance(2 * DAY)
    await erase_incident(home, clock, incident.id)
    document = post_mortem(await records_of(home, incident.id))
    assert (document["status"], document["code"], document["subject"]) == ("resolved", "BROKEN", GONE)
    assert document["attempts"][0]["outcome"] == "healed"
    assert sum("erased" in line["text"] for line in document["timeline"]) >= 3
    assert SECRET not in json.dumps(document)


async def test_only_the_named_entries_lose_their_content(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
    clock.advance(2 * DAY)
    records = await records_of(home, incident.id)
    async with eraser_of(home, clock) as (eraser, _):
        done = await eraser.erase([records[0].seq], reason="asked for")
        assert done.seqs == (records[0].seq,)
        again = await eraser.erase([records[0].seq], reason="asked for")
        assert (again.seqs, again.before) == ((), (records[0].seq,))
    after = await records_of(home, incident.id)
    assert [record.erased for record in after] == [True] + [False] * (len(records) - 1)
    assert after[1:] == records[1:]
    assert "journal.sqlite3" in files_holding(home, SECRET)
    assert verified(home).erased == 1


async def test_a_file_that_another_incident_still_refers_to_is_kept(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        first = await heal(tmp_path, host, "one")
        second = await heal(tmp_path, host, "two")  # with the same content before
    clock.advance(2 * DAY)
    blob = home.blobs / (digest := hashlib.sha256(f"{SECRET} lay here\n".encode() * 3).hexdigest())[:2] / digest[2:]
    await erase_incident(home, clock, first.id)
    assert blob.exists()
    await erase_incident(home, clock, second.id)
    assert not blob.exists()


async def test_what_limits_still_need_is_refused_with_the_moment_from_which_it_is_allowed(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
    clock.advance(3600)
    with pytest.raises(ErasureRefused, match=r"allowed from 2030-01-02T00:00:0.*Z on"):
        await erase_incident(home, clock, incident.id)
    assert "journal.sqlite3" in files_holding(home, SECRET)
    clock.advance(DAY)
    assert await erase_incident(home, clock, incident.id)


async def test_an_incident_that_is_held_for_people_keeps_its_content(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, clock=clock) as host:
        incident = await heal(tmp_path, host)
        assert incident.held
    clock.advance(30 * DAY)
    with pytest.raises(ErasureRefused, match="open or held"):
        await erase_incident(home, clock, incident.id)


async def test_a_failed_verdict_counts_for_a_week(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)

    async def never(ctx: RemediationContext) -> Verdict:
        return Verdict.failed(f"{SECRET} again")

    async with running_host(tmp_path, runbook(verify=never), clock=clock) as host:
        incident = await heal(tmp_path, host)
    standing = Standing()
    for record in await records_of(home):
        standing.apply(record)
    standing._over[incident.id] = 0  # as if somebody had closed it
    need = standing.need(incident.id, now=int(clock.now().timestamp() * 1000) + 2 * 86_400_000, cooldown_ms=0)
    assert need is not None
    assert "7 days" in need.reason


@pytest.mark.parametrize("type_", ["host.started", "runbook.registered", "incident.opened"])
async def test_what_state_or_authority_rests_on_is_refused(tmp_path: Path, type_: str) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        await heal(tmp_path, host)
    clock.advance(2 * DAY)
    seq = next(record.seq for record in await records_of(home) if record.head.type == type_)
    async with eraser_of(home, clock) as (eraser, journal):
        size = journal.size
        with pytest.raises(ErasureRefused, match="can't be erased"):
            await eraser.erase([seq], reason="x")
        with pytest.raises(ErasureRefused, match="no entry 99999"):
            await eraser.erase([99999], reason="x")
        assert journal.size == size


async def test_a_reader_that_stays_makes_it_wait_and_then_say_what_is_left_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
    clock.advance(2 * DAY)
    real = erasing.finish

    async def soon(*args: Any, **more: Any) -> None:
        await real(*args, **{**more, "patience": 0.3})

    monkeypatch.setattr(erasing, "finish", soon)
    with Snapshot(home.journal):
        with pytest.raises(JournalUnavailable, match="a program that reads the journal"):
            await erase_incident(home, clock, incident.id)
        assert (home.root / "erasing.json").exists()
    assert not any(record.entry is None for record in await records_of(home, incident.id))
    async with running_host(tmp_path, runbook(), clock=clock):
        assert files_holding(home, SECRET) == []
    assert not (home.root / "erasing.json").exists()
    verified(home)


async def test_an_export_after_it_verifies_and_holds_nothing_of_it(tmp_path: Path) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
    clock.advance(2 * DAY)
    erased = await erase_incident(home, clock, incident.id)
    out = tmp_path / "export.jsonl"
    vkeys = home.verifier_keys.read_text().split()
    with out.open("wb") as file:
        export_journal(home.journal, home.head_note.read_text(), vkeys, file.write)
    assert SECRET.encode() not in out.read_bytes()
    verdict = verify_export_file(out, vkeys=vkeys)
    assert verdict.ok
    assert verdict.erased == len(erased)


async def test_an_index_that_names_another_entry_is_damage_and_no_content(tmp_path: Path) -> None:
    from remediation.errors import JournalDamaged

    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
    clock.advance(2 * DAY)
    erased = await erase_incident(home, clock, incident.id)
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        database.execute("UPDATE erasure SET by = (SELECT by FROM erasure WHERE seq = ?) WHERE seq = ?", (erased[1], erased[0]))
        database.commit()
    with pytest.raises(JournalDamaged, match="does not say that the body"):
        await records_of(home, incident.id)


STEPS = ["note_unfinished", "append", "flush", "mentioned", "discard"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_at_any_step_leaves_all_or_nothing_and_the_next_start_finishes(tmp_path: Path, step: str) -> None:
    clock, home = FakeClock(), home_in(tmp_path)
    async with running_host(tmp_path, runbook(), clock=clock) as host:
        incident = await heal(tmp_path, host)
    clock.advance(2 * DAY)
    for when in ("before", "after"):
        child = os.fork()
        if child == 0:
            asyncio.events._set_running_loop(None)
            _die_at(step, when)
            with contextlib.suppress(BaseException):
                asyncio.new_event_loop().run_until_complete(erase_incident(home, clock, incident.id))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        records = await records_of(home, incident.id)
        erased = [record for record in records if record.erased]
        said_so = [record for record in await records_of(home) if isinstance(record.entry, PayloadErased)]
        assert len(erased) == len(said_so)
    async with running_host(tmp_path, runbook(), clock=clock):
        pass
    verified(home)
    if erased:
        assert files_holding(home, SECRET) == []
    await erase_incident(home, clock, incident.id)
    assert files_holding(home, SECRET) == []


def _die_at(step: str, when: str) -> None:
    from remediation.stores.blobs import FileBlobStore
    from remediation.stores.sqlite import SqliteJournalStore

    owner: Any = {
        "note_unfinished": erasing,
        "append": IntentJournal,
        "flush": SqliteJournalStore,
        "mentioned": SqliteJournalStore,
        "discard": FileBlobStore,
    }[step]
    real: Callable[..., Any] = getattr(owner, step)

    def plain(*args: Any, **more: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    async def awaited(*args: Any, **more: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await real(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, step, awaited if asyncio.iscoroutinefunction(real) else plain)
