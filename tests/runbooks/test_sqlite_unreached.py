"""One damaged page above the leaves: every row of the leaves comes back, no other does, and what can't be told is counted."""

import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import sqlite_databases as databases
from tests.support.sqlite_healing import Heal, report
from tests.support.world import EffectWorld

from remediation.runbooks._sqlite import copies
from remediation.runbooks._sqlite.pages import Pages
from remediation.runbooks._sqlite.walk import Walk

CHECKED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
COLUMNS = {
    "plain": ("id INTEGER PRIMARY KEY, a TEXT NOT NULL, b REAL", {"a": "text", "b": "real"}),
    "numbers": ("id INTEGER PRIMARY KEY, a INTEGER, b REAL", {"a": "integer", "b": "real"}),
    "unkeyed": ("a TEXT, b BLOB, c", {"a": "text", "b": "blob", "c": "any"}),
    "wide": ("id INTEGER PRIMARY KEY AUTOINCREMENT, a, b TEXT, c TEXT DEFAULT 'x', d INT NOT NULL", {"a": "any", "b": "text", "d": "integer"}),
    "generated": ("id INTEGER PRIMARY KEY, a TEXT, g INTEGER AS (length(a)) STORED, v AS (a || g)", {"a": "text"}),
}  # fmt: skip
DAMAGE = {
    "zeroes": lambda chance, size: bytes(size),
    "noise": lambda chance, size: chance.randbytes(size),
    "noise at the start": lambda chance, size: chance.randbytes(300),
    "fewer cells": lambda chance, size: b"\x05\0\0\0\x01",
}


def value(chance: random.Random, kind: str) -> Any:
    if kind == "any":
        kind = chance.choice(["text", "real", "integer", "blob"])
    if kind == "text":
        return "".join(chance.choices("abc ünï'", k=chance.choice([0, 5, 40, 40, 40, 3000] if chance.random() < 0.05 else [5, 40])))
    if kind == "blob":
        return chance.randbytes(chance.choice([0, 3, 60, 5000]) if chance.random() < 0.05 else 20)
    return chance.random() * 1000 if kind == "real" else chance.choice([0, 1, -1, 2**40, 7])


def filled(path: Path, chance: random.Random, tables: list[str], page_size: int, auto_vacuum: int, *, wal: bool, rows: int) -> None:
    """A database of random tables, of whose rows many were deleted: they are still on free pages."""
    for suffix in databases.SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in (f"page_size = {page_size}", f"auto_vacuum = {auto_vacuum}", "secure_delete = OFF", "synchronous = OFF"):
        database.execute(f"PRAGMA {pragma}")
    if wal:
        database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN")
    keys = {}
    for number, shape in enumerate(tables):
        database.execute(f"CREATE TABLE t{number} ({COLUMNS[shape][0]})")
        step = chance.choice([1, 1, 3, 10**6])
        keys[number] = [chance.choice([1, -300 * step]) + index * step for index in range(rows)]
    for index in range(rows):  # in turn, so that their pages lie mixed
        for number, shape in enumerate(tables):
            kinds = COLUMNS[shape][1]
            row = (keys[number][index], *(value(chance, kind) for kind in kinds.values()))
            names = ", ".join(["rowid", *kinds])
            database.execute(f"INSERT INTO t{number} ({names}) VALUES ({', '.join('?' * len(row))})", row)
    database.execute("COMMIT")
    for number in keys:
        low = chance.randrange(rows)
        high = min(low + chance.randrange(rows // 2), rows - 1)
        database.execute(f"DELETE FROM t{number} WHERE rowid BETWEEN ? AND ?", sorted([keys[number][low], keys[number][high]]))
        if chance.random() < 0.3:
            database.execute(f"ALTER TABLE t{number} ADD COLUMN late INTEGER NOT NULL DEFAULT 5")
            database.execute(f"UPDATE t{number} SET late = 6 WHERE rowid % 9 = 0")
    database.close()


def contents(path: Path) -> dict[str, set[tuple[Any, ...]]]:
    database = sqlite3.connect(path)
    try:
        names = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        ]
        return {name: set(database.execute(f"SELECT rowid, * FROM {name}")) for name in names}
    finally:
        database.close()


def damage(path: Path, page: int, chance: random.Random, kind: str) -> None:
    size = databases.page_size(path)
    databases.overwrite(path, (page - 1) * size, DAMAGE[kind](chance, size))


def walked(path: Path, unsure: str = "") -> tuple[Path, dict[str, Any]]:
    target = path.with_name("walked.db")
    target.unlink(missing_ok=True)
    source = Path(shutil.copyfile(path, path.with_name("source.db")))
    said = Walk(str(source), str(target), 60, {}, unsure).run()
    source.unlink()
    return target, said


def interior(path: Path) -> list[int]:
    database = sqlite3.connect(path)
    names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE name LIKE 't_'")]
    database.close()
    return [page for name in names for page in databases.pages_of(path, name, kind="interior")]


shapes = st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3)


@CHECKED
@given(
    seed=st.integers(0, 2**32),
    tables=shapes,
    page_size=st.sampled_from([512, 1024]),
    auto_vacuum=st.integers(0, 2),
    wal=st.booleans(),
    kind=st.sampled_from(sorted(DAMAGE)),
)
def test_one_damaged_page_above_the_leaves_costs_no_row_and_brings_none_back(
    seed: int, tables: list[str], page_size: int, auto_vacuum: int, wal: bool, kind: str, tmp_path: Path
) -> None:
    path, chance = tmp_path / "app.db", random.Random(seed)
    filled(path, chance, tables, page_size, auto_vacuum, wal=wal, rows=220)
    before, pages = contents(path), interior(path)
    if not pages:
        return
    sound = path.read_bytes()
    damage(path, chance.choice(pages), chance, kind)
    target, said = walked(path)
    assert contents(target) == before
    assert said["whole"] is (path.read_bytes() == sound)
    assert said["left"] == 0


@settings(CHECKED, max_examples=12)
@given(
    seed=st.integers(0, 2**32),
    tables=shapes,
    page_size=st.sampled_from([512, 1024]),
    number=st.integers(2, 5),
    kind=st.sampled_from(sorted(DAMAGE)),
)
def test_whatever_pages_are_damaged_no_row_is_made_up(
    seed: int, tables: list[str], page_size: int, number: int, kind: str, tmp_path: Path
) -> None:
    path, chance = tmp_path / "app.db", random.Random(seed)
    filled(path, chance, tables, page_size, 0, wal=False, rows=200)
    before, pages = contents(path), interior(path)
    every = [page for index in range(len(tables)) for page in databases.pages_of(path, f"t{index}")]
    for page in [*chance.sample(pages, min(len(pages), 2)), *chance.sample(every, min(len(every), number))]:
        damage(path, page, chance, "noise" if kind == "fewer cells" else kind)
    target, _ = walked(path)
    after = contents(target)
    assert all(after[name] <= rows for name, rows in before.items())


# -- by hand


def twins(path: Path, rows: int = 6000, second: str = "INTEGER PRIMARY KEY, v TEXT") -> None:
    """Two tables, whose pages lie mixed; a third of the first one's rows was deleted, and lies on free pages."""
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(
        f"PRAGMA secure_delete = OFF; CREATE TABLE one (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE two (id {second})"
    )
    database.execute("BEGIN")
    for index in range(1, rows + 1):
        database.execute("INSERT INTO one VALUES (?, ?)", (index, f"one {index} " * 12))
        database.execute("INSERT INTO two (id, v) VALUES (?, ?)", (index, f"two {index} " * 12))
    database.execute("COMMIT")
    database.execute("DELETE FROM one WHERE id BETWEEN ? AND ?", (rows // 3, rows * 2 // 3))
    database.close()


def break_roots(path: Path, *names: str) -> None:
    for name in names:
        databases.overwrite(path, (databases.pages_of(path, name, kind="interior")[0] - 1) * 4096, bytes(4096))


def test_deleted_rows_on_free_pages_stay_deleted(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    twins(path)
    before = contents(path)
    assert b"one 3000 one 3000" in path.read_bytes()
    break_roots(path, "one")
    target, said = walked(path)
    assert contents(target) == before
    assert said["taken"] == {"one": len(before["one"])}


@pytest.mark.parametrize("what", ["count", "head", "trunk", "no list", "replaced header"])
def test_without_a_list_of_free_pages_nothing_is_taken_and_the_rows_are_counted(what: str, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    twins(path)
    before = contents(path)
    trunk = int.from_bytes(path.read_bytes()[32:36], "big")
    break_roots(path, "one")
    changes = {
        "count": (36, b"\0\0\0\1"),
        "head": (32, bytes(4)),
        "trunk": ((trunk - 1) * 4096, b"\xff" * 16),
        "no list": (32, bytes(8)),
    }
    unsure = ""
    if what in changes:
        databases.overwrite(path, *changes[what])
    else:
        databases.break_header(path)
        assert copies.mend(str(path), 4096, None)["mended"]
        unsure = "the header was replaced"
    target, said = walked(path, unsure)
    assert contents(target) == {"one": set(), "two": before["two"]}
    assert said["left"] >= len(before["one"])
    assert "free pages" in said["left_why"] or said["left_why"] == unsure
    assert said["taken"] == {}


def test_leaves_that_fit_two_tables_are_left_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    twins(path)
    before = contents(path)
    break_roots(path, "one", "two")
    target, said = walked(path)
    assert contents(target) == {"one": set(), "two": set()}
    assert said["left"] == len(before["one"]) + len(before["two"])
    assert said["left_why"] == "they fit more than one table that lacks pages, or none"


@pytest.mark.parametrize("second", ["TEXT, v TEXT", "INTEGER PRIMARY KEY, v INTEGER, w TEXT NOT NULL DEFAULT ''"])
def test_columns_and_types_tell_two_damaged_tables_apart(second: str, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    twins(path, second=second)
    before = contents(path)
    break_roots(path, "one", "two")
    target, said = walked(path)
    after = contents(target)
    assert after["two"] == before["two"]
    assert after["one"] <= before["one"]
    assert said["left"] == len(before["one"]) - len(after["one"])


def test_rowids_tell_two_damaged_tables_apart(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    databases.make(path, orders=30_000)
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("CREATE TABLE more AS SELECT * FROM orders; UPDATE more SET memo = memo || '!'")
    database.close()
    before = databases.counts(path)
    for name, index in (("orders", 1), ("more", 2)):
        page = databases.pages_of(path, name, kind="interior")[index]
        databases.overwrite(path, (page - 1) * 4096, bytes(4096))
    target, said = walked(path)
    assert databases.counts(target) == before
    assert said["left"] == 0


def test_a_damaged_schema_gives_no_leaf_to_a_table(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    database = sqlite3.connect(path, isolation_level=None)
    for index in range(100):
        database.execute(f"CREATE TABLE t{index:03} (a TEXT DEFAULT '{'x' * 100}')")
        database.execute(f"INSERT INTO t{index:03} VALUES ('v')")
    database.execute("BEGIN")
    database.executemany("INSERT INTO t000 VALUES (?)", [(f"value {index} " * 9,) for index in range(3000)])
    database.execute("COMMIT")
    database.close()
    break_roots(path, "t000")
    databases.overwrite(path, (databases.schema_leaves(path)[2] - 1) * 4096, bytes(4096))
    target, said = walked(path)
    assert contents(target)["t000"] == set()
    assert said["left"] > 3000
    assert said["left_why"] == "the schema can't be read to its end"


def test_a_leaf_that_nothing_refers_to_is_told_even_if_every_tree_is_sound(tmp_path: Path) -> None:
    """As after a write that was lost: the leaf was split, and the page above it does not know."""
    path = tmp_path / "app.db"
    databases.make(path)
    spare = databases.pages_of(path, "orders")[7]
    page = path.read_bytes()[(spare - 1) * 4096 : spare * 4096]
    number = path.stat().st_size // 4096
    databases.overwrite(path, number * 4096, page)
    databases.overwrite(path, 28, (number + 1).to_bytes(4, "big"))
    target, said = walked(path)
    assert databases.counts(target)["orders"] == databases.ORDERS
    assert said["left"] == int.from_bytes(page[3:5], "big")
    assert not said["whole"]


def test_every_page_of_a_sound_database_is_intact(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    databases.make(path)
    pages = Pages(path.read_bytes())
    assert all(pages.leaf(page) for name in ("orders", "customer", "blob") for page in databases.pages_of(path, name))
    assert all(pages.interior(page) for name in ("orders", "customer") for page in databases.pages_of(path, name, kind="interior"))
    assert pages.free() == set()


# -- healing


@pytest.mark.parametrize("wal", [False, True])
async def test_the_heal_keeps_all_rows_below_a_damaged_page_and_says_how(wal: bool, tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    path = databases.make(world.root / "app.db", wal=wal)
    before = databases.rows(path)
    [root] = databases.pages_of(path, "orders", kind="interior")
    databases.overwrite(path, (root - 1) * 4096, random.Random(1).randbytes(300))
    heal = Heal(world, report(path, last_good={"at": 1, "rows": {name: len(rows) for name, rows in before.items()}}))
    verdict = await heal.through()
    assert databases.rows(path) == before
    assert "orders: 6000 rows lay on pages that only a damaged page referred to, and fit no other table" in heal.finding.evidence
    assert verdict.reason.endswith("possibly rows of the damaged pages: no fewer than at the last good check were salvaged")
    assert heal.stages[0].tags == ("data-loss",)


async def test_the_heal_says_how_many_rows_can_not_be_given_to_a_table(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    path = world.root / "app.db"
    twins(path, rows=3000)
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("CREATE TABLE three (a); INSERT INTO three VALUES (1)")
    database.close()
    total = sum(len(rows) for name, rows in contents(path).items() if name != "three")
    break_roots(path, "one", "two")
    heal = Heal(world, report(path))
    finding = await heal.decide()
    wanted = f"{total} rows lie on pages that no intact page refers to, and are left out: they fit more than one table"
    assert any(line.startswith(wanted) for line in finding.evidence), finding.evidence
