"""A host never goes on with a journal that was tampered with: it refuses to open it, and signs nothing."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.journals import Seen, entries_of, make_home, open_with, opened

from remediation.errors import ConfigurationError, JournalDamaged, JournalRolledBack, JournalTooNew, JournalUnavailable
from remediation.keys import SigningKey
from remediation.settings import Home

ENTRIES = 300


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path)
    async with opened(home) as journal:
        for start in range(0, ENTRIES, 50):
            await journal.append(f"s/{start}", entries_of(*range(50)))
    return home


def sql(*statements: str) -> Callable[[Home], None]:
    def change(home: Home) -> None:
        with contextlib.closing(sqlite3.connect(home.journal, isolation_level=None)) as database:
            database.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                database.execute(statement)

    return change


def written(content: bytes) -> Callable[[Home], None]:
    return lambda home: home.journal.write_bytes(content) and None


def cut(home: Home) -> None:
    os.truncate(home.journal, home.journal.stat().st_size // 2)


def folder(home: Home) -> None:
    home.journal.unlink()
    home.journal.mkdir()


def foreign(home: Home) -> None:
    other = home.root.parent / "other"
    other.mkdir()
    shutil.copy(make_home(other, "hera").journal, home.journal)


def another_key(home: Home) -> None:
    home.signing_key.unlink()
    SigningKey.create(home.signing_key)


CHANGES = [
    pytest.param(
        sql("DELETE FROM entry WHERE seq = 299", "DELETE FROM payload WHERE seq = 299"), JournalDamaged, id="last entry gone"
    ),
    pytest.param(sql("DELETE FROM entry WHERE seq >= 100"), JournalDamaged, id="end gone"),
    pytest.param(
        sql("UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'tester', 'nobody') AS BLOB)"), JournalDamaged, id="leaves"
    ),
    pytest.param(sql("UPDATE payload SET body = x'7b7d'"), JournalDamaged, id="bodies"),
    pytest.param(sql("DELETE FROM payload WHERE seq = 5"), JournalDamaged, id="a body gone"),
    pytest.param(sql("DELETE FROM tile"), JournalDamaged, id="tiles gone"),
    pytest.param(sql("UPDATE tile SET data = zeroblob(length(data))"), JournalDamaged, id="tiles"),
    pytest.param(sql("DELETE FROM checkpoint"), JournalDamaged, id="checkpoints gone"),
    pytest.param(sql("UPDATE checkpoint SET note = 'x'"), JournalDamaged, id="checkpoints"),
    pytest.param(sql("DELETE FROM checkpoint WHERE size = 300"), JournalDamaged, id="newest checkpoint gone"),
    pytest.param(sql("CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM payload; END"), JournalDamaged, id="trigger"),
    pytest.param(sql("ALTER TABLE payload RENAME TO p", "CREATE VIEW payload AS SELECT * FROM p"), JournalDamaged, id="view"),
    pytest.param(
        sql("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'payload'"), JournalDamaged, id="not strict"
    ),
    pytest.param(sql("PRAGMA application_id = 7"), JournalDamaged, id="application"),
    pytest.param(sql("PRAGMA user_version = 0"), JournalDamaged, id="version"),
    pytest.param(sql("PRAGMA user_version = 2"), JournalTooNew, id="newer"),
    pytest.param(written(b""), JournalDamaged, id="empty"),
    pytest.param(written(b"\x07" * 9000), JournalDamaged, id="nonsense"),
    pytest.param(cut, (JournalDamaged, JournalUnavailable), id="cut"),
    pytest.param(folder, JournalUnavailable, id="folder"),
    pytest.param(lambda home: home.journal.unlink(), JournalUnavailable, id="missing"),
    pytest.param(foreign, JournalDamaged, id="foreign"),
    pytest.param(another_key, (JournalDamaged, ConfigurationError), id="another key"),
]


@pytest.mark.parametrize(("change", "kind"), CHANGES)
async def test_a_tampered_journal_is_not_opened_and_no_head_is_signed(
    home: Home, change: Callable[[Home], None], kind: type[Exception] | tuple[type[Exception], ...]
) -> None:
    head = home.head_note.read_text()
    (home.root / "snapshot.bin").unlink(missing_ok=True)
    change(home)
    with pytest.raises(kind):
        await open_with(home, Seen())
    assert home.head_note.read_text() == head


async def test_an_older_copy_of_the_database_is_rolled_back(home: Home, tmp_path: Path) -> None:
    shutil.copy(home.journal, tmp_path / "old")
    async with opened(home) as journal:
        await journal.append("s", entries_of("later"))
    head = home.head_note.read_text()
    shutil.copy(tmp_path / "old", home.journal)
    with pytest.raises(JournalRolledBack):
        await open_with(home, Seen())
    assert home.head_note.read_text() == head
