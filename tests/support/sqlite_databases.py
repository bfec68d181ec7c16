"""Real SQLite databases of thousands of rows, and the ways to damage them."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

ORDERS = 6000
SUFFIXES = ("", "-wal", "-shm", "-journal")
SCHEMA = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, note TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer INTEGER REFERENCES customer(id), total REAL, memo TEXT);
CREATE TABLE setting (key TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;
CREATE TABLE blob (data BLOB);
CREATE INDEX orders_by_customer ON orders (customer);
CREATE UNIQUE INDEX customer_name ON customer (name);
CREATE VIEW rich AS SELECT customer, sum(total) AS total FROM orders GROUP BY customer;
CREATE TRIGGER no_negative BEFORE INSERT ON orders WHEN NEW.total < 0 BEGIN SELECT raise(ABORT, 'negative; not allowed'); END;
"""
TABLES = ("blob", "customer", "orders", "setting")


def make(path: Path, *, wal: bool = False, orders: int = ORDERS, page_size: int = 4096) -> Path:
    """A database with four tables, two indexes, a view and a trigger; `orders` rows in the largest table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA page_size = {page_size}")
    database.execute("PRAGMA application_id = 4711")
    database.execute("PRAGMA user_version = 12")
    if wal:
        database.execute("PRAGMA journal_mode = WAL")
    database.executescript(SCHEMA)
    database.execute("BEGIN")
    database.executemany(
        "INSERT INTO customer VALUES (?, ?, ?)", [(i, f"customer {i}", "it's; a\nnote" if i % 7 else None) for i in range(1, 801)]
    )
    database.executemany(
        "INSERT INTO orders VALUES (?, ?, ?, ?)", [(i, i % 800 + 1, i / 8, f"order number {i} " * 4) for i in range(1, orders + 1)]
    )
    database.executemany("INSERT INTO setting VALUES (?, ?)", [(f"key-{i:04}", i if i % 2 else f"v{i}") for i in range(400)])
    database.executemany("INSERT INTO blob VALUES (?)", [(bytes([i % 256]) * (i * 40),) for i in range(200)])
    database.execute("COMMIT")
    database.close()
    return path


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every ordinary table. For databases that no one else uses: it may leave side files."""
    database = sqlite3.connect(path)
    try:
        names = [
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        ]
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    finally:
        database.close()


def counts(path: Path) -> dict[str, int]:
    """Row counts of every ordinary table."""
    return {name: len(found) for name, found in rows(path).items()}


def counts_where_readable(path: Path) -> dict[str, int | None]:
    """Row counts of every ordinary table; `None` for one that can't be read to its end."""
    database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
    found: dict[str, int | None] = {}
    for name in TABLES:
        try:
            found[name] = database.execute(f"SELECT count(*) FROM {name} NOT INDEXED").fetchone()[0]
        except sqlite3.DatabaseError:
            found[name] = None
    database.close()
    return found


def schema(path: Path) -> set[tuple[str, ...]]:
    """Everything in the schema but where it lies."""
    database = sqlite3.connect(path)
    try:
        return set(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall())
    finally:
        database.close()


def pragma(path: Path, name: str) -> object:
    """The value of a pragma."""
    database = sqlite3.connect(path)
    try:
        return database.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        database.close()


def sides(path: Path) -> dict[str, bytes]:
    """The content of the database and what lies beside it, by suffix."""
    return {suffix: file.read_bytes() for suffix in SUFFIXES if (file := path.with_name(path.name + suffix)).exists()}


# -- damage


def page_size(path: Path) -> int:
    """Bytes in a page, from the header."""
    size = int.from_bytes(path.read_bytes()[16:18], "big")
    return 65536 if size == 1 else size


def schema_leaves(path: Path) -> list[int]:
    """The leaf pages of the schema table."""
    return _pages(path, 1, "leaf")


def pages_of(path: Path, name: str, *, kind: str = "leaf") -> list[int]:
    """The pages of a table or index, in order: `kind` is ``leaf`` or ``interior``. Found by walking its b-tree."""
    database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
    root = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    database.close()
    return _pages(path, root, kind)


def _pages(path: Path, root: int, kind: str) -> list[int]:
    data, size = path.read_bytes(), page_size(path)
    found = []
    waiting = [root]
    while waiting:
        number = waiting.pop(0)
        page = data[(number - 1) * size : number * size]
        head = 100 if number == 1 else 0
        leaf = page[head] in (10, 13)
        if leaf == (kind == "leaf"):
            found.append(number)
        if not leaf:
            cells = int.from_bytes(page[head + 3 : head + 5], "big")
            pointers = [int.from_bytes(page[head + 12 + 2 * i : head + 14 + 2 * i], "big") for i in range(cells)]
            children = [int.from_bytes(page[offset : offset + 4], "big") for offset in pointers]
            waiting = [*children, int.from_bytes(page[head + 8 : head + 12], "big"), *waiting]
    return found


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write bytes into the middle of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip_leaf(path: Path, table: str, which: int = 3) -> None:
    """Turn the cell pointers of one leaf page of a table into rubbish."""
    page = pages_of(path, table)[which]
    overwrite(path, (page - 1) * page_size(path) + 8, bytes([0xFF, 0xF1]) * 40)


def zero_leaf(path: Path, table: str, *which: int) -> None:
    """Fill leaf pages of a table with zeros."""
    pages = pages_of(path, table)
    for index in which:
        overwrite(path, (pages[index] - 1) * page_size(path), bytes(page_size(path)))


def break_index(path: Path, index: str = "orders_by_customer") -> None:
    """Zero a leaf page of an index; the table is as good as before."""
    zero_leaf(path, index, 1)


def break_header(path: Path) -> None:
    """Overwrite the first 100 bytes."""
    overwrite(path, 0, b"\xde\xad\xbe\xef" * 25)


def truncate(path: Path, keep: float = 0.6) -> None:
    """Cut the end off, at a page's border."""
    size = page_size(path)
    os.truncate(path, int(path.stat().st_size * keep) // size * size)


# -- other processes


_HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
{work}
print("ready", flush=True)
sys.stdin.read()
{end}
"""


@contextmanager
def holder(path: Path, work: str = "", end: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that has the database open; closing its standard input ends it."""
    program = _HOLD.format(work=work or 'database.execute("SELECT 1 FROM sqlite_master").fetchall()', end=end)
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.communicate(timeout=20)


def leave_wal(path: Path, statements: str) -> None:
    """Run statements in a process that is killed, so that its WAL (and, outside of WAL mode, its journal) stays behind."""
    program = f"import os, sqlite3\ndatabase = sqlite3.connect({str(path)!r}, isolation_level=None)\n{statements}\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], check=False)


def until(condition: object, seconds: float = 20) -> None:
    """Poll a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
