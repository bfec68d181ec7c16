"""The incident in a running host: configured by a file, seen by the sentinel, healed, or given to people."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support import sqlite_databases as databases

from remediation.bootstrap import Host, RemediatorBootstrap, initialise
from remediation.core.incident import Attempt, Incident
from remediation.keys.ssh import sign
from remediation.settings import Settings


@asynccontextmanager
async def host(
    base: Path, *, profile: str = "autonomous", options: str = "", controls: object = None, more: str = ""
) -> AsyncIterator[Host]:
    """A host that watches ``data/app.db`` every second; its roots are what the sentinel watches."""
    file = base / "remediation.toml"
    file.write_text(
        f'[host]\nid = "test"\n[gate]\nprofile = "{profile}"\n[keys]\ndir = {json.dumps(str(base / "keys"))}\n'
        f'[runbooks."sqlite-corruption"]\nstate = "live"\n{options}'
        '[[sentinels.sqlite]]\npath = "data/app.db"\nevery = "1s"\nbackups = ["data/backups/*.db"]\n' + more
    )
    settings = Settings.load(file, home=base / "home")
    initialise(settings)
    boot = RemediatorBootstrap(settings)
    if controls is not None:
        boot.controls.register("quiesce", controls.close, idempotent=True, undo=controls.open)
        boot.controls.register("resume", controls.open, idempotent=True, undo=controls.close)
    async with boot.start() as running:
        yield running


async def settled(running: Host, seconds: float = 60) -> Incident:
    deadline = time.monotonic() + seconds
    while not (found := [incident for incident in running.incidents() if incident.status.value != "open"]):
        assert time.monotonic() < deadline, running.incidents()
        await asyncio.sleep(0.05)
    return found[0]


async def planned(running: Host) -> Attempt:
    """The first attempt of the first incident."""
    deadline = time.monotonic() + 60
    while not (found := [attempt for incident in running.incidents() for attempt in incident.attempts]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return found[0]


async def watched(base: Path) -> None:
    """Wait until the sentinel has counted the rows once."""
    deadline = time.monotonic() + 30
    while not list((base / "home" / "sentinels").rglob("last-good.json")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_damaged_index_is_healed_without_a_person(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "data" / "app.db", wal=True)
    rows = databases.rows(path)
    async with host(tmp_path) as running:
        await watched(tmp_path)
        databases.break_index(path)
        incident = await settled(running)
    assert incident.status.value == "resolved", incident.reason
    assert incident.event.evidence["last_good"]["rows"] == {name: len(found) for name, found in rows.items()}
    assert databases.rows(path) == rows
    assert databases.pragma(path, "journal_mode") == "wal"
    assert sorted(file.name for file in path.parent.iterdir()) == ["app.db"]


async def test_losing_rows_waits_for_a_person(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "data" / "app.db")
    async with host(tmp_path) as running:
        await watched(tmp_path)
        databases.zero_leaf(path, "orders", 3)
        before = databases.sides(path)
        attempt = await planned(running)
        assert (attempt.acted, attempt.plan.tags) == (False, ("data-loss",))
        assert "of orders" in attempt.plan.loses
        assert databases.sides(path) == before


async def test_a_loss_that_a_person_consented_to_is_told_once(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "data" / "app.db")
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (tmp_path / "signers").write_text(f'alice namespaces="remediation-approval" {public}\n')
    async with host(tmp_path, more='[approvals]\nallowed_signers = "signers"\n') as running:
        await watched(tmp_path)
        databases.zero_leaf(path, "orders", 3)
        deadline = time.monotonic() + 60
        while not (asked := list(running.approvals.pending())):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        document = running.approvals.document(asked[0].approval.id, decision="approve", approver="alice")
        await running.approvals.answer(document, sign(document, key, "remediation-approval"))
        incident = await settled(running)
    assert incident.status.value == "resolved", incident.reason
    assert incident.reason.count("lost: rows of the damaged pages") == 1


async def test_a_host_that_uses_the_database_itself_is_quiesced_and_resumed(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "data" / "app.db")

    class App:
        database: sqlite3.Connection | None = None
        calls: tuple[str, ...] = ()

        def open(self, path: str) -> None:
            self.calls += ("open",)
            self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self.database.execute("SELECT count(*) FROM setting").fetchone()

        def close(self, path: str) -> None:
            self.calls += ("close",)
            if self.database is not None:
                self.database.close()
            self.database = None

    app = App()
    app.open(str(path))
    options = '[runbooks."sqlite-corruption".options]\nquiesce = "quiesce"\nresume = "resume"\n'
    async with host(tmp_path, options=options, controls=app) as running:
        await watched(tmp_path)
        databases.break_index(path)
        incident = await settled(running)
    assert incident.status.value == "resolved", incident.reason
    assert app.calls == ("open", "close", "open")
    assert app.database is not None
    app.database.execute("INSERT INTO setting VALUES ('works', 1)")
    app.database.close()
    assert databases.counts(path)["orders"] == databases.ORDERS


async def test_a_database_in_use_is_given_to_people_with_the_process_named(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "data" / "app.db")
    databases.break_index(path)
    with databases.holder(path) as process:
        async with host(tmp_path) as running:
            incident = await settled(running)
    assert incident.status.value == "escalated"
    assert f"open in {process.pid}" in incident.reason
