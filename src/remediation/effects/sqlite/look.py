"""
A program of its own, run as a child: looks at one SQLite database without leaving a trace.

Usage: ``python -I -S look.py COMMAND JSON``; the answer is one JSON object on standard output. It imports the standard library
only, so that it starts fast and works without the package. Commands:

| command | does |
|---|---|
| ``check`` | quick_check (``thorough``: integrity_check), row counts, facts of the header |
| ``header`` | facts of the header alone |
| ``locks`` | which processes hold SQLite's locks on it, as the kernel tells |

Rules it keeps: a read-only connection to a database in WAL mode would create ``-wal`` and ``-shm`` files and leave them behind,
so it is opened as immutable when there is no ``-wal``, and copied away when there is a ``-wal`` without ``-shm`` or a hot
journal; in both cases nothing counts if the files changed meanwhile.
"""

# ruff: noqa: S608 - names of tables can't be parameters; `_quoted` quotes them
from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import sqlite3
import stat
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # file format, section 3
_LOCK_RANGES = (("", 0x40000000, 512), ("-shm", 120, 9))  # os_unix.c: PENDING_BYTE and after; the WAL locks and the dead-man switch
_CORRUPT, _NOTADB, _BUSY, _LOCKED, _READONLY, _INTERRUPT = 11, 26, 5, 6, 8, 9
# What an older library says of a schema that a newer one wrote: no damage.
_NOT_UNDERSTOOD = re.compile(
    r'malformed database schema \(.*\) - (near "|unrecognized |unknown |no such |.*syntax error|.*table option)'
)
_MOST_TABLES = 500
_MOST_SCHEMA = 16_384
"""Characters of definitions that are told; of a larger schema, none are."""


class Changed(Exception):
    """The files changed while they were read without locks; what was read means nothing."""


def main() -> None:
    """Run the command of the arguments."""
    commands: dict[str, Callable[..., dict[str, Any]]] = {"check": check, "header": header, "locks": locks}
    answer = commands[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(json.dumps(answer))


# -- looking


def check(path: str, seconds: float, count_below: int, findings: int = 20, thorough: bool = False) -> dict[str, Any]:
    """What state the database is in; see the table in `remediation.effects.sqlite.children`."""
    until = time.monotonic() + seconds
    answer: dict[str, Any] = {"state": "ok", "reason": "", "findings": [], "rows": [], "counted": False}
    answer |= {"schema_entries": [], "schema_version": None}
    try:
        answer.update(header(path))
        for _ in range(3):
            with contextlib.suppress(Changed):
                with _opened(path, until) as database:
                    _examine(database, answer, until, count_below, (findings, thorough))
                return answer
        return answer | {
            "state": "busy",
            "reason": "it is being written all the time",
            "findings": [],
            "rows": [],
            "counted": False,
        }
    except FileNotFoundError:
        return answer | {"state": "missing", "reason": "there is no file"}
    except OSError as error:
        return answer | {"state": "unreadable", "reason": f"it can't be read: {error.strerror}"}
    except sqlite3.Error as error:
        state, reason = _classified(error)
        return answer | {"state": state, "reason": reason, "findings": [reason] if state == "corrupt" else []}


def header(path: str) -> dict[str, Any]:
    """The facts in the first 100 bytes (file format, section 1.3), as far as they make sense."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        head = os.pread(descriptor, 100, 0)
    finally:
        os.close(descriptor)
    facts: dict[str, Any] = {"size": found.st_size, "magic": head[:16] == MAGIC}
    if len(head) < 100 or not facts["magic"]:
        return facts
    page = struct.unpack_from(">H", head, 16)[0]
    counter, largest_root, encoding, user_version, incremental, application = (
        struct.unpack_from(">I", head, offset)[0] for offset in (24, 52, 56, 60, 64, 68)
    )
    return facts | {
        "journal_mode": "wal" if head[18] == 2 else "delete",
        "page_size": 65536 if page == 1 else page,
        "counter": counter,
        "auto_vacuum": 0 if not largest_root else 2 if incremental else 1,
        "encoding": {2: "UTF-16le", 3: "UTF-16be"}.get(encoding, "UTF-8"),
        "user_version": struct.unpack(">i", struct.pack(">I", user_version))[0],
        "application_id": struct.unpack(">i", struct.pack(">I", application))[0],
    }


@contextlib.contextmanager
def _opened(path: str, until: float) -> Iterator[sqlite3.Connection]:
    wal = _size(path + "-wal")
    if _may_be_hot(path + "-journal") and not _locked(path):
        # It would have to be rolled back, which a reader may not do.
        with _copied(path) as copy:
            yield copy
    elif wal > 0 and _size(path + "-shm") < 0:
        with _copied(path) as copy:
            yield copy
    elif wal <= 0 and _size(path) > 0 and header(path).get("journal_mode") == "wal":
        with _unchanged(path):
            yield _connect(path, "mode=ro&immutable=1", until)
    else:
        yield _connect(path, "mode=ro", until)


@contextlib.contextmanager
def _copied(path: str) -> Iterator[sqlite3.Connection]:
    if _locked(path):
        raise Changed
    with tempfile.TemporaryDirectory(prefix="sqlite-check-") as folder:
        copy = os.path.join(folder, "copy")
        with _unchanged(path):
            for suffix in ("", "-wal", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(path + suffix, copy + suffix)
        database = sqlite3.connect(copy, isolation_level=None)
        try:
            yield _careful(database)
        finally:
            database.close()


@contextlib.contextmanager
def _unchanged(path: str) -> Iterator[None]:
    before = _signature(path)
    try:
        yield
    except sqlite3.Error:
        if _signature(path) != before:
            raise Changed from None
        raise
    if _signature(path) != before:
        raise Changed


def _signature(path: str) -> list[Any]:
    found = []
    for suffix in ("", "-wal", "-journal"):
        try:
            told = os.stat(path + suffix)
            found.append((told.st_ino, told.st_size, told.st_mtime_ns))
        except FileNotFoundError:
            found.append((0, 0, 0))
    return found


def _connect(path: str, how: str, until: float) -> sqlite3.Connection:
    wait = max(0.1, min(2.0, until - time.monotonic()))
    database = sqlite3.connect(f"file:{quote(os.fsencode(path))}?{how}", uri=True, isolation_level=None, timeout=wait)
    return _careful(database)


def _careful(database: sqlite3.Connection) -> sqlite3.Connection:
    database.text_factory = lambda raw: raw.decode("utf-8", "replace")
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def _examine(database: sqlite3.Connection, answer: dict[str, Any], until: float, count_below: int, how: tuple[int, bool]) -> None:
    answer.update({"state": "ok", "reason": "", "findings": [], "rows": [], "counted": False})
    try:
        try:
            said = [line for row in _checked(database, answer, *how) for line in str(row[0]).split("\n")]
            said = [line for line in said if line != "ok" and not line.startswith("*** in database")]
            said.sort(key=lambda line: "never used" in line)  # what follows of the others tells least
        except sqlite3.Error as error:
            state, reason = _classified(error)
            if state != "corrupt":
                raise
            said = [reason]
        if said:
            answer.update(state="corrupt", reason=said[0][:300], findings=[line[:300] for line in said[: how[0]]])
            database.execute("PRAGMA writable_schema = ON")  # one malformed definition then hides only itself
        else:
            answer["schema_entries"], answer["schema_version"] = _schema(database)
        if answer["size"] <= count_below:
            database.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            answer["rows"], answer["counted"] = _counts(database)
    finally:
        database.close()


def _checked(database: sqlite3.Connection, facts: dict[str, Any], findings: int, thorough: bool) -> list[tuple[str]]:
    pragma = "integrity_check" if thorough else "quick_check"
    if thorough or facts.get("journal_mode") == "wal" or facts["size"] < 64 * 1024 * 1024:
        return database.execute(f"PRAGMA {pragma}({findings})").fetchall()
    # Outside of WAL mode a reader keeps writers from committing: table by table, they get their turn.
    names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")]
    for name in names:
        found = database.execute(f"PRAGMA {pragma}({_quoted(name)})").fetchall()
        if found != [("ok",)]:
            return found[:findings]
    return [("ok",)]


def _schema(database: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], int | None]:
    """Each entry (type, name, table, SQL, root page), and the number that changes with each of them."""
    try:
        version = database.execute("PRAGMA schema_version").fetchone()[0]
        entries = database.execute("SELECT type, name, tbl_name, coalesce(sql, ''), coalesce(rootpage, 0) FROM sqlite_master")
        found = entries.fetchmany(2 * _MOST_TABLES)
    except sqlite3.Error:
        return [], None
    if len(found) == 2 * _MOST_TABLES or sum(len(str(part)) for entry in found for part in entry) > _MOST_SCHEMA:
        return [], None
    return found, version


def _counts(database: sqlite3.Connection) -> tuple[list[tuple[str, int | None]], bool]:
    counts: list[tuple[str, int | None]] = []
    try:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        tables = database.execute(query).fetchmany(_MOST_TABLES)
    except sqlite3.Error:
        return [], False
    for name, sql in tables:
        if str(sql).upper().startswith("CREATE VIRTUAL"):
            continue
        try:
            counts.append((name, database.execute(f"SELECT count(*) FROM {_quoted(name)} NOT INDEXED").fetchone()[0]))
        except sqlite3.Error as error:
            if _primary(error) == _INTERRUPT:
                return counts, False
            counts.append((name, None))
    return counts, True


def _classified(error: sqlite3.Error) -> tuple[str, str]:
    reason = str(error)[:300]
    code = _primary(error)
    if code in (_BUSY, _LOCKED):
        return "busy", reason
    if _NOT_UNDERSTOOD.match(reason):
        return "unreadable", f"SQLite {sqlite3.sqlite_version} does not understand its schema: {reason}"
    if code in (_CORRUPT, _NOTADB) or reason == "unsupported file format":
        return "corrupt", reason
    return "unreadable", reason


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 1)) & 0xFF


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _may_be_hot(journal: str) -> bool:
    try:
        with open(journal, "rb") as file:
            return file.read(8) == _JOURNAL_MAGIC
    except FileNotFoundError:
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def locks(path: str) -> dict[str, Any]:
    """Pids that hold a lock of SQLite's on the files; 0 stands for a process that can't be named from here."""
    return {"pids": sorted(set(_holding(path)))}


def _locked(path: str) -> bool:
    return bool(_holding(path))


def _holding(path: str) -> list[int]:
    pids = []
    for suffix, start, length in _LOCK_RANGES:
        try:
            descriptor = os.open(path + suffix, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        try:
            # struct flock of 64-bit Linux: type, whence, start, length, pid
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK:
                pids.append(max(0, pid))
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return pids


if __name__ == "__main__":
    main()
