"""What can be had from a damaged database: rows of every kind, headers, schemas, and what SQLite's own shell contributes."""

import os
import shutil
import sqlite3
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import sqlite_databases as databases
from tests.support.sqlite_healing import Heal, report
from tests.support.world import EffectWorld

from remediation.runbooks._sqlite import compare, copies, recover
from remediation.runbooks._sqlite.walk import Walk


def walked(path: Path, seconds: float = 60, **settings: Any) -> tuple[Path, dict[str, Any]]:
    target = path.with_name("walked.db")
    target.unlink(missing_ok=True)
    source = Path(shutil.copyfile(path, path.with_name("source.db")))
    said = Walk(str(source), str(target), seconds, settings).run()
    source.unlink()
    return target, said


def built(path: Path, script: str, *more: Callable[[sqlite3.Connection], object]) -> Path:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.executescript(script)
    if more:
        database.execute("BEGIN")
        for step in more:
            step(database)
        database.execute("COMMIT")
    database.close()
    return path


# -- everything that a database may hold


ODD = """
CREATE TABLE "it's; odd" ("a b" TEXT, "select" INTEGER, "c""d]" REAL);
INSERT INTO "it's; odd" VALUES ('it''s', 1, 1.5), (NULL, NULL, NULL);
CREATE TABLE rowid_column (rowid TEXT, _rowid_ TEXT, oid TEXT);
INSERT INTO rowid_column VALUES ('a', 'b', 'c'), ('a', 'b', 'c');
CREATE TABLE sparse (id INTEGER PRIMARY KEY, v);
INSERT INTO sparse VALUES (-9223372036854775808, 'low'), (-5, 'x'), (0, 'y'), (9223372036854775807, 'high');
CREATE TABLE descending (id INTEGER PRIMARY KEY DESC, v);
INSERT INTO descending VALUES (3, 'c'), (1, 'a'), (2, 'b');
CREATE TABLE composite (a TEXT, b INTEGER, v, PRIMARY KEY (a, b DESC)) WITHOUT ROWID;
INSERT INTO composite VALUES ('x', 1, 1), ('x', 2, 2), ('w', 9, 3);
CREATE TABLE generated (a INTEGER, b INTEGER AS (a * 2) STORED, c TEXT AS ('v' || a));
INSERT INTO generated (a) VALUES (1), (2), (3);
CREATE TABLE checked (a INTEGER NOT NULL CHECK (a > 0), b TEXT UNIQUE ON CONFLICT ABORT, c DEFAULT (1 + 1));
INSERT INTO checked VALUES (1, 'one', 1), (2, 'two', 2);
CREATE TABLE wide (v);
CREATE INDEX partial ON checked (a) WHERE b IS NOT NULL;
CREATE INDEX expression ON checked (lower(b), a DESC);
CREATE VIEW "a view" AS SELECT * FROM checked;
CREATE TRIGGER after_it AFTER DELETE ON wide BEGIN DELETE FROM checked; END;
PRAGMA user_version = -7;
"""


def odd_values(database: sqlite3.Connection) -> None:
    values: list[Any] = [None, 0, -1, 2**62, 1.5, 1e300, "", "a\0b", "ünï", b"", b"\0\1", b"bytes", "x" * 30_000, b"y" * 30_000]
    database.executemany("INSERT INTO wide VALUES (?)", [(value,) for value in values])
    database.execute("INSERT INTO wide VALUES (CAST(X'c328ff' AS TEXT))")


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every value with its type and its bytes, and every rowid."""
    database = sqlite3.connect(path)
    try:
        found = {}
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall():
            quoted = '"' + name.replace('"', '""') + '"'
            columns = ['"' + row[1].replace('"', '""') + '"' for row in database.execute(f"PRAGMA table_xinfo({quoted})")]
            parts = [f"typeof({column}), CAST({column} AS BLOB)" for column in columns]
            keyed = name not in ("composite", "rowid_column")
            select = f"SELECT {'rowid, ' if keyed else ''}{', '.join(parts)} FROM {quoted}"
            found[name] = sorted(database.execute(select).fetchall(), key=repr)
        return found
    finally:
        database.close()


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_every_kind_of_value_and_definition_survives(page_size: int, encoding: str, tmp_path: Path) -> None:
    prelude = f"PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = 2;"
    path = built(tmp_path / "app.db", prelude + ODD, *([odd_values] if encoding == "UTF-8" else []))
    target, said = walked(path, page_size=page_size, encoding=encoding, auto_vacuum=2, user_version=-7)
    assert said["problems"] == []
    assert said["whole"]
    assert contents(target) == contents(path)
    assert databases.schema(target) == databases.schema(path)
    for name in ("page_size", "encoding", "auto_vacuum", "user_version"):
        assert databases.pragma(target, name) == databases.pragma(path, name), name
    assert databases.pragma(target, "integrity_check") == "ok"


def test_a_virtual_table_survives_without_its_module(tmp_path: Path) -> None:
    path = built(
        tmp_path / "app.db",
        "CREATE TABLE notes_content (id INTEGER PRIMARY KEY, c0); INSERT INTO notes_content VALUES (1, 'hello world');"
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES "
        "('table', 'notes', 'notes', 0, 'CREATE VIRTUAL TABLE notes USING some_module(body)');",
    )
    target, said = walked(path)
    assert (said["problems"], said["whole"]) == ([], True)
    assert databases.schema(target) == databases.schema(path)
    assert contents(target) == contents(path)


def test_statistics_of_the_planner_are_made_again(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "app.db", orders=100)
    built(path, "ANALYZE")
    target, _ = walked(path)
    database = sqlite3.connect(target)
    assert database.execute("SELECT count(*) FROM sqlite_stat1").fetchone()[0] >= 2
    database.close()


# -- damage


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    step=st.sampled_from([1, 7, 10**6, 10**15]),
    start=st.sampled_from([1, -500, -(10**17)]),
    damaged=st.sets(st.integers(0, 19), min_size=1, max_size=6),
    kind=st.sampled_from(["zeros", "noise"]),
)
def test_all_rows_of_undamaged_pages_are_found(step: int, start: int, damaged: set[int], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.unlink(missing_ok=True)
    every = [(start + i * step, f"row {i} " * 10) for i in range(600)]
    built(
        path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        lambda database: database.executemany("INSERT INTO t VALUES (?, ?)", every),
    )
    pages = databases.pages_of(path, "t")
    lost = damaged & set(range(len(pages)))
    per_page = rows_by_page(path, pages)
    for index in lost:
        content = bytes(4096) if kind == "zeros" else bytes([0x77, 0xA5] * 2048)
        databases.overwrite(path, (pages[index] - 1) * 4096, content)
    target, said = walked(path)
    found = {row[0] for row in databases.rows(target)["t"]}
    wanted = {key for index, keys in enumerate(per_page) for key in keys if index not in lost}
    assert found <= {key for key, _ in every}
    if step < 10**6:
        assert found == wanted
    else:  # with keys this sparse, single pages between damaged ones may not be met; what lies outside of them is
        assert {key for key in wanted if key < min_key(per_page, lost) or key > max_key(per_page, lost)} <= found
    assert said["whole"] is not bool(lost)
    assert said["tables"][0]["clean"] is not bool(lost)


def rows_by_page(path: Path, pages: list[int]) -> list[list[int]]:
    """The keys of each leaf page, read from the cells."""
    data, found = path.read_bytes(), []
    for number in pages:
        page = data[(number - 1) * 4096 : number * 4096]
        cells = int.from_bytes(page[3:5], "big")
        keys = []
        for i in range(cells):
            offset = int.from_bytes(page[8 + 2 * i : 10 + 2 * i], "big")
            _, used = varint(page, offset)
            key, _ = varint(page, offset + used)
            keys.append(key - 2**64 if key >= 2**63 else key)
        found.append(keys)
    return found


def varint(page: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for i in range(9):
        byte = page[offset + i]
        if i == 8:
            return (value << 8) | byte, 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, i + 1
    raise AssertionError


def min_key(per_page: list[list[int]], lost: set[int]) -> int:
    return min((key for index in lost for key in per_page[index]), default=0)


def max_key(per_page: list[list[int]], lost: set[int]) -> int:
    return max((key for index in lost for key in per_page[index]), default=0)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16be"])
@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
def test_a_lost_header_is_replaced(page_size: int, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    built(path, f"PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}'; {ODD}")
    before = contents(path)
    databases.break_header(path)
    said = copies.mend(str(path), None, encoding)
    assert said == {"mended": True, "readable": True, "page_size": page_size}
    target, walk = walked(path, page_size=page_size, encoding=encoding)
    assert walk["problems"] == []
    assert contents(target) == before


def test_a_damaged_tree_does_not_make_a_wrong_page_size_look_right(tmp_path: Path) -> None:
    """With twice the size, both tables would seem to be there, with rows of each other's pages."""
    path = built(tmp_path / "app.db", "CREATE TABLE one (id INTEGER PRIMARY KEY, v); CREATE TABLE two (id INTEGER PRIMARY KEY, v)")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN")
    for index in range(1, 3000):
        for name in ("one", "two"):
            database.execute(f"INSERT INTO {name} VALUES (?, ?)", (index, f"{name} {index} " * 12))
    database.execute("COMMIT")
    database.close()
    before = databases.rows(path)
    databases.overwrite(path, (databases.pages_of(path, "one", kind="interior")[0] - 1) * 4096, bytes(4096))
    databases.break_header(path)
    assert copies.mend(str(path), None, None) == {"mended": True, "readable": True, "page_size": 4096}
    target, _ = walked(path)
    assert databases.rows(target)["two"] == before["two"]
    assert set(databases.rows(target)["one"]) <= set(before["one"])


def test_what_is_no_header_problem_is_not_mended(tmp_path: Path) -> None:
    good = databases.make(tmp_path / "app.db", orders=10)
    before = good.read_bytes()
    assert copies.mend(str(good), None, None) == {"mended": False, "readable": True}
    assert good.read_bytes() == before
    bad = tmp_path / "bad.db"
    bad.write_bytes(os.urandom(50_000))
    before = bad.read_bytes()
    assert copies.mend(str(bad), 4096, None) == {"mended": False, "readable": False}
    assert bad.read_bytes() == before


def test_a_schema_that_is_damaged_in_part_gives_the_rest(tmp_path: Path) -> None:
    tables = "".join(f"CREATE TABLE t{i} (a TEXT DEFAULT '{'x' * 100}'); INSERT INTO t{i} VALUES ('v{i}');" for i in range(100))
    path = built(tmp_path / "app.db", f"BEGIN; {tables} COMMIT;")
    leaves = databases.schema_leaves(path)
    assert len(leaves) > 2
    databases.overwrite(path, (leaves[1] - 1) * 4096, bytes(4096))
    target, said = walked(path)
    found = databases.rows(target)
    assert 40 < len(found) < 100
    assert all(rows == [(f"v{name[1:]}",)] for name, rows in found.items())
    assert said["schema_error"]
    assert not said["whole"]


def test_a_definition_that_makes_no_sense_costs_only_itself(tmp_path: Path) -> None:
    path = built(
        tmp_path / "app.db", "CREATE TABLE good (a); INSERT INTO good VALUES (1); CREATE TABLE bad (a); CREATE INDEX i ON bad (a);"
    )
    built(
        path,
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'ATTACH ''/tmp/x'' AS y' WHERE name = 'bad'; "
        "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON bad (a); DROP TABLE good' WHERE name = 'i';",
    )
    target, said = walked(path)
    assert databases.rows(target) == {"good": [(1,)]}
    assert [problem.split(" ")[:2] for problem in said["problems"]] == [["the", "definition"], ["index", "i"]]
    assert not said["whole"]


def test_rows_that_break_a_constraint_are_left_out_and_noticed(tmp_path: Path) -> None:
    path = built(tmp_path / "app.db", "CREATE TABLE t (a INTEGER CHECK (a < 5)); INSERT INTO t VALUES (1), (2);")
    built(path, "PRAGMA ignore_check_constraints = ON; INSERT INTO t VALUES (9);")
    target, said = walked(path)
    assert databases.rows(target) == {"t": [(1,), (2,)]}
    assert not said["whole"]


def test_an_index_that_can_not_be_made_again_is_a_problem(tmp_path: Path) -> None:
    path = built(tmp_path / "app.db", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (1); CREATE INDEX i ON t (a);")
    built(path, "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE UNIQUE INDEX i ON t (a)' WHERE name = 'i';")
    _, said = walked(path)
    assert said["problems"] == ["index i could not be made again: UNIQUE constraint failed: t.a"]


def test_a_walk_ends_in_time_and_says_so(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "app.db")
    _, said = walked(path, seconds=0.0)
    assert said["expired"]
    assert not said["whole"]


def test_a_page_that_hides_rows_without_an_error_is_not_whole(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "app.db")
    offset = (databases.pages_of(path, "orders")[3] - 1) * 4096 + 3
    cells = int.from_bytes(path.read_bytes()[offset : offset + 2], "big")
    databases.overwrite(path, offset, (cells - 3).to_bytes(2, "big"))
    _, said = walked(path)
    assert [table["kept"] for table in said["tables"] if table["name"] == "orders"] == [databases.ORDERS - 3]
    assert all(table["clean"] for table in said["tables"])
    assert not said["whole"]


def test_damage_in_free_pages_only_is_whole(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "app.db")
    built(path, "DELETE FROM blob;")
    first = int.from_bytes(path.read_bytes()[32:36], "big")
    databases.overwrite(path, (first - 1) * 4096, bytes([0xFF]) * 4096)
    _, said = walked(path)
    assert said["whole"]


# -- SQLite's own shell


STAND_IN = """\
    #!{python}
    # Stands in for the sqlite3 shell: prints a dump that such a shell printed, and reads dumps as it does.
    import sqlite3, sys
    if any(word.startswith(".recover") for word in sys.argv):
        lost = sys.argv[-1].split()[-1]
        sys.stdout.write(open({dump!r}).read().replace("LOST_AND_FOUND", lost))
        sys.exit({code})
    assert "-safe" in sys.argv
    database = sqlite3.connect(sys.argv[-1], isolation_level=None)
    text = sys.stdin.read()
    for statement in text.split(";\\n"):
        try:
            database.execute(statement)
        except sqlite3.Error as error:
            print(error, file=sys.stderr)
    """
# As printed by the shell of SQLite 3.40.1, built with SQLITE_ENABLE_DBPAGE_VTAB.
DUMP = """\
BEGIN;
PRAGMA writable_schema = on;
PRAGMA encoding = 'UTF-8';
PRAGMA page_size = '4096';
PRAGMA auto_vacuum = '0';
PRAGMA user_version = '7';
PRAGMA application_id = '99';
CREATE TABLE t(id integer primary key, a text not null, b blob);
CREATE TABLE w(k text primary key, v) without rowid;
INSERT OR IGNORE INTO 't'('id', 'a', 'b') VALUES (1, replace('it''s 1\\nx','\\n', char(10)), X'000000');
INSERT OR IGNORE INTO 't'('id', 'a', 'b') VALUES (2, 'two', NULL);
INSERT OR IGNORE INTO 'w'('k', 'v') VALUES ('a', 1);
CREATE TABLE LOST_AND_FOUND(rootpgno INTEGER, pgno INTEGER, nfield INTEGER, id INTEGER, c0, c1);
INSERT INTO LOST_AND_FOUND VALUES(9, 9, 2, 41, NULL, 'somebody');
INSERT INTO LOST_AND_FOUND VALUES(9, 9, 2, 42, NULL, 'else');
CREATE INDEX ti on t(a);
PRAGMA writable_schema = off;
COMMIT;
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(dump: str = DUMP, code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "dump.sql").write_text(dump)
        file = folder / "sqlite3"
        file.write_text(textwrap.dedent(STAND_IN).format(python=sys.executable, dump=str(folder / "dump.sql"), code=code))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return install


def test_what_the_shell_recovers_is_taken_without_its_lost_rows(shell: Callable[..., None], tmp_path: Path) -> None:
    shell()
    source = built(tmp_path / "source.db", "CREATE TABLE t (a); CREATE TABLE w (a); CREATE INDEX ti ON t (a);")
    said = recover.recover(str(source), str(tmp_path / "new.db"), {"user_version": 12, "application_id": 4711})
    assert said == {"done": True, "reason": "", "unattributed": 2, "problems": []}
    assert databases.rows(tmp_path / "new.db") == {"t": [(1, "it's 1\nx", b"\0\0\0"), (2, "two", None)], "w": [("a", 1)]}
    assert databases.pragma(tmp_path / "new.db", "user_version") == 12
    assert b"somebody" not in (tmp_path / "new.db").read_bytes()


def test_a_shell_that_fails_halfway_counts_for_nothing(shell: Callable[..., None], tmp_path: Path) -> None:
    shell(DUMP[:300], 1)
    source = built(tmp_path / "source.db", "CREATE TABLE t (a);")
    said = recover.recover(str(source), str(tmp_path / "new.db"), {})
    assert not said["done"]
    assert "does not work" in said["reason"]


def test_what_the_shell_left_out_of_the_schema_is_noticed(shell: Callable[..., None], tmp_path: Path) -> None:
    shell()
    source = built(tmp_path / "source.db", "CREATE TABLE t (a); CREATE TABLE other (a); CREATE VIEW v AS SELECT 1;")
    said = recover.recover(str(source), str(tmp_path / "new.db"), {})
    assert said["problems"] == ["table other is missing", "view v is missing"]


async def test_the_heal_takes_the_shells_rows_if_they_are_more(shell: Callable[..., None], tmp_path: Path) -> None:
    world = EffectWorld(tmp_path / "world")
    path = built(
        world.root / "app.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a text not null, b blob); CREATE TABLE w (k text primary key, v) without rowid; CREATE INDEX ti on t(a); INSERT INTO t VALUES (1, 'x', 1)",
    )
    [leaf] = databases.pages_of(path, "t")
    databases.overwrite(path, (leaf - 1) * 4096, bytes(4096))
    shell()
    heal = Heal(world, report(path))
    verdict = await heal.through()
    assert databases.counts(path) == {"t": 2, "w": 1}
    assert "2 rows were found that belong to no table any more" in verdict.evidence[0]
    assert heal.stages[0].tags == ("data-loss",)


@pytest.mark.parametrize("there", [True, False])
async def test_with_and_without_a_shell_on_the_path_the_rows_are_kept(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = EffectWorld(tmp_path)
    path = databases.make(world.root / "app.db")
    databases.zero_leaf(path, "orders", 3)
    if not there:
        monkeypatch.setenv("PATH", str(tmp_path))
    heal = Heal(world, report(path))
    await heal.through()
    assert databases.counts(path)["orders"] > databases.ORDERS - 60
    assert any("no sqlite3 shell" in line for line in heal.finding.evidence) is not there or (there and not shutil.which("sqlite3"))


# -- comparing


def test_rows_are_compared_by_key_and_content(tmp_path: Path) -> None:
    script = (
        "CREATE TABLE t (a, b); CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE {} (x); CREATE TABLE s ({});"
    )
    left = built(
        tmp_path / "left ?.db",
        script.format("only_left", "a")
        + "INSERT INTO t (rowid, a, b) VALUES (1, 1, NULL), (2, 2, 'x'), (3, 3, 3); INSERT INTO w VALUES ('a', 1), ('b', 2);"
        + "INSERT INTO only_left VALUES (1), (2); INSERT INTO s VALUES (1);",
    )
    right = built(
        tmp_path / "right.db",
        script.format("only_right", "a, b")
        + "INSERT INTO t (rowid, a, b) VALUES (1, 1, NULL), (2, 2, 'y'), (5, 3, 3), (6, 1, 1); INSERT INTO w VALUES ('b', NULL), ('c', 1);"
        + "INSERT INTO only_right VALUES (1); INSERT INTO s VALUES (1, 2);",
    )
    tables = {item.pop("name"): tuple(item.values()) for item in compare.compare(str(left), str(right), 60)["tables"]}
    assert tables == {
        "only_left": (2, 0, 2, 0, 0),
        "only_right": (0, 1, 0, 1, 0),
        "s": (1, 1, None, None, None),
        "t": (3, 4, 1, 2, 1),
        "w": (2, 2, 1, 1, 1),
    }


def test_a_comparison_that_takes_too_long_says_that_it_does_not_know(tmp_path: Path) -> None:
    left, right = databases.make(tmp_path / "a.db"), databases.make(tmp_path / "b.db")
    tables = {item["name"]: item for item in compare.compare(str(left), str(right), 0)["tables"]}
    assert (tables["orders"]["left"], tables["orders"]["differ"]) == (databases.ORDERS, None)


def test_a_replacement_is_finished_without_side_files(tmp_path: Path) -> None:
    path = databases.make(tmp_path / "app.db", orders=10)
    built(path, "INSERT INTO orders (customer) VALUES (99999);")
    assert copies.finish(str(path), "wal") == {"findings": [], "orphans": 1, "journal_mode": "wal"}
    assert os.listdir(tmp_path) == ["app.db"]
    databases.zero_leaf(path, "customer", 1)
    assert copies.finish(str(path), "delete")["findings"]
