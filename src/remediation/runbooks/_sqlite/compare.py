"""
A program of its own, run as a child: compares the rows of two healthy databases, table by table.

Arguments: ``compare JSON``; the answer is one JSON object on standard output. It imports the standard library
only. Rows are the same row if they have the same rowid, or in a WITHOUT ROWID table the same primary key.
"""

# ruff: noqa: S608 - names of foreign tables can't be parameters; `quoted` quotes them
from __future__ import annotations

import json
import sqlite3
import sys
import time
from typing import Any
from urllib.parse import quote

from remediation.runbooks._sqlite.reading import quoted


def main() -> None:
    """Run the command of the arguments."""
    sys.stdout.write(json.dumps(compare(**json.loads(sys.argv[2]))))


def compare(left: str, right: str, seconds: float) -> dict[str, Any]:
    """For each table: rows in either, rows only in one, rows that differ; `None` where it can't be told."""
    until = time.monotonic() + seconds
    database = sqlite3.connect(":memory:", isolation_level=None, uri=True)
    database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    database.execute("PRAGMA trusted_schema = OFF")
    for name, path in (("a", left), ("b", right)):
        database.execute(f"ATTACH ? AS {name}", (f"file:{quote(path)}?mode=ro&immutable=1",))
    database.set_progress_handler(lambda: time.monotonic() > until, 20_000)
    tables = {side: _tables(database, side) for side in ("a", "b")}
    found = []
    for name in sorted(tables["a"] | tables["b"]):
        entry: dict[str, Any] = {"name": name, "left": 0, "right": 0, "only_left": None, "only_right": None, "differ": None}
        for key, side in (("left", "a"), ("right", "b")):
            if name in tables[side]:
                entry[key] = database.execute(f"SELECT count(*) FROM {side}.{quoted(name)} NOT INDEXED").fetchone()[0]
        if name in tables["a"] and name in tables["b"]:
            try:
                entry.update(_rows(database, name))
            except sqlite3.Error:
                entry["differ"] = None
        else:
            entry |= {"only_left": entry["left"], "only_right": entry["right"], "differ": 0}
        found.append(entry)
    database.close()
    return {"tables": found}


def _tables(database: sqlite3.Connection, side: str) -> set[str]:
    query = (
        f"SELECT name FROM {side}.sqlite_master WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return {row[0] for row in database.execute(query)}


def _rows(database: sqlite3.Connection, name: str) -> dict[str, int]:
    shape = [database.execute(f"PRAGMA {side}.table_xinfo({quoted(name)})").fetchall() for side in ("a", "b")]
    columns = [row[1] for row in shape[0] if row[6] == 0]
    if columns != [row[1] for row in shape[1] if row[6] == 0]:
        return {}
    taken = {row[1].lower() for row in shape[0]}
    key = next((alias for alias in ("rowid", "_rowid_", "oid") if alias not in taken), "")
    try:
        database.execute(f"SELECT {key or 'rowid'} FROM a.{quoted(name)} LIMIT 0")
        keys = [key]
    except sqlite3.Error:
        keys = [quoted(row[1]) for row in sorted(shape[0], key=lambda row: row[5]) if row[5]]
    if not keys or not keys[0]:
        return {}
    same = " AND ".join(f"a.{name_} = b.{name_}" for name_ in keys)
    other = " OR ".join(f"a.{quoted(column)} IS NOT b.{quoted(column)}" for column in columns) or "0"
    table = quoted(name)
    count = "SELECT count(*) FROM {0}.{2} AS {0} WHERE NOT EXISTS (SELECT 1 FROM {1}.{2} AS {1} WHERE {3})"
    differ = f"SELECT count(*) FROM a.{table} AS a JOIN b.{table} AS b ON {same} WHERE {other}"
    return {
        "only_left": int(database.execute(count.format("a", "b", table, same)).fetchone()[0]),
        "only_right": int(database.execute(count.format("b", "a", table, same)).fetchone()[0]),
        "differ": int(database.execute(differ).fetchone()[0]),
    }


if __name__ == "__main__":
    main()
