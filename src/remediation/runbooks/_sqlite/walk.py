"""
A program of its own, run as a child: copies every row that can still be read from a damaged database into a new one.

Usage: ``python -I -S walk.py walk JSON``; the answer is one JSON object on standard output. It imports the standard library
only. The damaged database is a copy in scratch; opening it may change it.

Tables are read in the order of their keys. Where reading fails, it goes on from the other end, and by rowid between the two:
each damaged leaf costs its rows, and no others. What only a damaged page above the leaves referred to is looked for page by page;
see `unreached`. Keys must ascend, so that rubbish is not taken for rows. Values are copied as they are stored, TEXT that is not UTF-8
too.
"""

# ruff: noqa: S608 - names of foreign tables can't be parameters; `quoted` quotes them
from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remediation.runbooks._sqlite.reading import Outcome, Reader, Table, Text, quoted
from remediation.runbooks._sqlite.unreached import Survey, Unreached, plant, stored

_BATCH = 500
_FINDINGS = 100
_HARMLESS = re.compile(r"ok$|\*\*\* in database|Page \d+:? (is )?never used|max rootpage\b|(Main )?freelist\b", re.IGNORECASE)
"""Of no consequence for rows. Pages of indexes that were taken out of the schema are told as never used, and the largest root
page in the header of an auto-vacuum database may have been one of theirs."""
_CREATES = re.compile(r"\s*CREATE\s+(TABLE|(UNIQUE\s+)?INDEX|VIEW|TRIGGER)\b", re.IGNORECASE)
_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL\s+TABLE\b", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One entry of the schema."""

    kind: str
    name: str
    table: str
    sql: str
    root: int


def main() -> None:
    """Run the command of the arguments."""
    sys.stdout.write(json.dumps(Walk(**json.loads(sys.argv[2])).run()))


class Walk:
    """One copy of one database."""

    def __init__(
        self, source: str, target: str, seconds: float, settings: dict[str, Any], unsure: str = "", **remembered: Any
    ) -> None:
        self.path = source
        self.unsure = unsure
        """Why free pages can't be told from others; empty if they can."""
        self.remembered = remembered
        """``schema`` and ``schema_version`` of when it was healthy."""
        self.tables: dict[str, Table] = {}
        """How those that could be made again are read."""
        self.taken: dict[str, int] = {}
        """Rows of pages that only damaged pages referred to."""
        self.until = time.monotonic() + seconds
        self.settings = settings
        self.problems: list[str] = []
        self.reader = Reader(source, self.until)
        self.target = sqlite3.connect(target, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "trusted_schema = OFF"):
            self.target.execute(f"PRAGMA {pragma}")

    def run(self) -> dict[str, Any]:
        """Copy, and tell what was copied."""
        for name in ("page_size", "encoding", "auto_vacuum", "user_version", "application_id"):
            if (value := self.settings.get(name)) is not None:
                self.target.execute(f"PRAGMA {name} = {quoted(value) if isinstance(value, str) else int(value)}")
        whole = Outcome("sqlite_schema")
        entries = self.schema(whole)
        remembered = [] if whole.clean else self.still_valid()
        entries = remembered or entries
        if not whole.clean and entries:
            self.replant(entries)
        self.target.execute("BEGIN")
        outcomes = [self.table(entry.name, entry.sql) for entry in entries if entry.kind == "table" and _is_ordinary(entry)]
        unreached = self.unreached(entries, whole)
        self.sequences()
        self.virtual_tables(entries)
        for wanted in ("index", "view", "trigger"):
            for entry in entries:
                if entry.kind == wanted and entry.sql:
                    self.create(entry.kind, entry.name, entry.sql)
        self.target.execute("COMMIT")
        if any(entry.name == "sqlite_stat1" for entry in entries) and not self.reader.expired:
            self.target.execute("ANALYZE")
        kept = {item.name: self.count(item.name) for item in outcomes}
        self.target.close()
        self.reader.source.close()
        clean = (
            bool(outcomes)
            and whole.clean
            and not self.reader.expired
            and all(item.clean and item.read == kept[item.name] for item in outcomes)
            and not unreached.taken
            and not unreached.left
        )
        return {
            "tables": [{"name": item.name, "clean": item.clean, "error": item.error, "kept": kept[item.name]} for item in outcomes],
            "schema_error": "" if remembered else whole.error,
            "schema_remembered": bool(remembered),
            "problems": self.problems,
            "taken": self.taken,
            "left": unreached.rows,
            "left_why": unreached.why,
            "expired": self.reader.expired,
            "whole": clean and not self.problems and self.sound(),
        }

    def count(self, name: str) -> int:
        """Rows of a table in the new database."""
        try:
            return int(self.target.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0])
        except sqlite3.Error:
            return 0

    def sound(self) -> bool:
        """
        Whether the trees of the tables themselves are without any fault: then the damage is in indexes or free pages only.

        Told by SQLite's own check, after all indexes were taken out of the copy's schema.
        """
        database = sqlite3.connect(self.path, isolation_level=None)
        try:
            database.execute("PRAGMA writable_schema = ON")
            database.execute("DELETE FROM sqlite_master WHERE type <> 'table' OR rootpage = 0 OR rootpage IS NULL")
            for name in (name for name, table in self.tables.items() if table.key):
                database.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (f"CREATE TABLE {quoted(name)} (a)", name))
            database.close()
            database = sqlite3.connect(self.path, isolation_level=None)
            database.set_progress_handler(lambda: time.monotonic() > self.until, 20_000)
            database.execute("PRAGMA writable_schema = ON")
            said = [line for row in database.execute(f"PRAGMA quick_check({_FINDINGS})") for line in str(row[0]).split("\n")]
        except sqlite3.Error:
            return False
        finally:
            database.close()
        # Trees are checked before pages that nothing refers to: once one of those is told, no fault of a tree was cut off.
        told = len(said) < _FINDINGS or any("never used" in line for line in said)
        return told and all(_HARMLESS.match(line) for line in said)

    # -- the schema

    def schema(self, outcome: Outcome) -> list[Entry]:
        """Each readable entry, in their order."""
        table = Table("sqlite_master", ["type", "name", "tbl_name", "sql", "rootpage"], "rowid")
        found: dict[int, Entry] = {}
        for row in self.reader.rows(table, outcome):
            texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else "" for value in row[1:5]]
            found[row[0]] = Entry(texts[0], texts[1], texts[2], texts[3], row[5] if isinstance(row[5], int) else 0)
        return [found[key] for key in sorted(found)]

    def still_valid(self) -> list[Entry]:
        """The schema of when it was healthy, if nobody changed it since: its version is in the header, not in the schema itself."""
        version = self.remembered.get("schema_version")
        with contextlib.suppress(sqlite3.Error):
            if version is not None and self.reader.source.execute("PRAGMA schema_version").fetchone() == (version,):
                return [Entry(*entry) for entry in self.remembered["schema"]]
        return []

    def replant(self, entries: Sequence[Entry]) -> None:
        """
        Give the copy a schema of what could be read of its own: SQLite reads that from its start up to the first error only.

        Page 1 becomes an empty leaf (file format, section 1.6), the list of free pages is forgotten, and the entries are put in anew.
        """
        self.reader.source.close()
        with open(self.path, "r+b") as file:
            size = int.from_bytes(file.read(18)[16:], "big")
            for offset, data in (
                (32, bytes(8)),
                (52, bytes(4)),
                (100, struct.pack(">BHHHB", 0x0D, 0, 0, size if size > 1 else 0, 0)),
            ):
                file.seek(offset)
                file.write(data)
        database = sqlite3.connect(self.path, isolation_level=None)
        try:
            database.execute("PRAGMA writable_schema = ON")
            rows = [(entry.kind, entry.name, entry.table, entry.root, entry.sql or None) for entry in entries]
            database.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            self.problems.append(f"the rest of the schema could not be used: {error}")
        finally:
            database.close()
        self.reader = Reader(self.path, self.until)

    def create(self, kind: str, name: str, sql: str) -> bool:
        """Create one thing, if its SQL creates something."""
        if not _CREATES.match(sql):
            self.problems.append(f"the definition of {kind} {name} makes no sense")
            return False
        try:
            self.target.execute(sql)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            self.problems.append(f"{kind} {name} could not be made again: {error}")
            return False
        return True

    def virtual_tables(self, entries: Sequence[Entry]) -> None:
        """Their content lies in ordinary tables, which are there by now; the entry needs no module to be made."""
        virtual = [entry for entry in entries if entry.kind == "table" and _VIRTUAL.match(entry.sql)]
        if virtual:
            self.target.execute("PRAGMA writable_schema = ON")
            for entry in virtual:
                values = (entry.name, entry.name, entry.sql)
                self.target.execute("INSERT INTO sqlite_master VALUES ('table', ?, ?, 0, ?)", values)
            self.target.execute("PRAGMA writable_schema = OFF")

    def sequences(self) -> None:
        """The counters of AUTOINCREMENT tables, where they are ahead of the rows."""
        try:
            for name, value in self.reader.source.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
                text = name.decode("utf-8", "replace")
                changed = self.target.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (value, text))
                if changed.rowcount == 0:
                    self.target.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (text, value))
        except (sqlite3.Error, AttributeError):
            return  # there is none, or it is damaged: the rows themselves set it

    # -- the rows

    def table(self, name: str, sql: str) -> Outcome:
        """Make a table and copy its rows."""
        outcome = Outcome(name)
        if not self.create("table", name, sql):
            return Outcome(name, clean=False, error="it could not be made again")
        self.tables[name] = self.described(name)
        self.copied(self.tables[name], outcome)
        return outcome

    def copied(self, table: Table, outcome: Outcome) -> None:
        """Copy the rows that the reader reaches, and that are not there yet."""
        batch: list[list[Any]] = []
        for row in self.reader.rows(table, outcome):
            outcome.read += 1
            batch.append([_decoded(value) for value in row])
            if len(batch) >= _BATCH:
                self.put(table, batch)
        self.put(table, batch)

    def unreached(self, entries: Sequence[Entry], whole: Outcome) -> Unreached:
        """Copy the rows of leaf pages that only damaged pages referred to, where it is certain whose they are."""
        self.reader.source.close()  # this puts what is in the write-ahead log into the database
        expired, found = self.reader.expired, Unreached()
        roots = {entry.name: entry.root for entry in entries if entry.kind == "table" and entry.root > 0}
        shapes = {name: stored(self.target, table) for name, table in self.tables.items() if table.key and name in roots}
        unsure = self.unsure or ("" if whole.clean else "the schema can't be read to its end")
        try:
            if not (os.path.exists(f"{self.path}-wal") and os.path.getsize(f"{self.path}-wal")):
                found = Survey(self.path, roots, shapes, unsure).look(self.until)
            self.replace_roots(plant(self.path, found.taken))
        except TimeoutError:
            expired = True
        except (OSError, ValueError, sqlite3.Error) as error:
            found = Unreached(why=str(error))
        self.reader = Reader(self.path, self.until)
        self.reader.expired = expired
        for name in found.taken:
            before = self.count(name)
            self.copied(self.tables[name], Outcome(name))
            self.taken[name] = self.count(name) - before
        return found

    def replace_roots(self, roots: Mapping[str, int]) -> None:
        """Have the copy's schema refer to other trees."""
        if roots:
            database = sqlite3.connect(self.path, isolation_level=None)
            try:
                database.execute("PRAGMA writable_schema = ON")
                for name, root in roots.items():
                    database.execute("UPDATE sqlite_master SET rootpage = ? WHERE type = 'table' AND name = ?", (root, name))
            finally:
                database.close()

    def described(self, name: str) -> Table:
        """How the new table is built; generated columns are left out, they come of themselves."""
        info = self.target.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
        columns = [row[1] for row in info if row[6] == 0]
        primary = [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]
        keyed = any(row[3] == "pk" for row in self.target.execute(f"PRAGMA index_list({quoted(name)})"))
        taken = {row[1].lower() for row in info}
        for alias in ("rowid", "_rowid_", "oid"):
            if alias not in taken:
                try:
                    self.target.execute(f"SELECT {alias} FROM {quoted(name)} LIMIT 0")
                except sqlite3.Error:
                    return Table(name, columns, "", primary)  # WITHOUT ROWID
                if len(primary) == 1 and not keyed:
                    return Table(name, [column for column in columns if column != primary[0]], quoted(primary[0]))
                return Table(name, columns, alias)
        return Table(name, columns, "", primary)

    def put(self, table: Table, batch: list[list[Any]]) -> None:
        """Insert rows; one that breaks a constraint is left out."""
        plain = [row for row in batch if not any(isinstance(value, Text) for value in row)]
        try:
            if plain:
                self.target.executemany(table.insert(plain[0]), plain)
            for row in batch:
                if any(isinstance(value, Text) for value in row):
                    self.target.execute(table.insert(row), [bytes(value) if isinstance(value, Text) else value for value in row])
        except sqlite3.Error:  # not a conflict that OR IGNORE covers: one row after the other then
            for row in batch:
                with contextlib.suppress(sqlite3.Error):
                    self.target.execute(table.insert(row), [bytes(value) if isinstance(value, Text) else value for value in row])
        batch.clear()


def _is_ordinary(entry: Entry) -> bool:
    return not entry.name.lower().startswith("sqlite_") and not _VIRTUAL.match(entry.sql)


def _decoded(value: Any) -> Any:
    if isinstance(value, Text):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value


if __name__ == "__main__":
    main()
