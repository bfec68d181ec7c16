"""
A program of its own, run as a child: SQLite's own ``.recover``, by the ``sqlite3`` shell.

Arguments: ``recover JSON``; the answer is one JSON object on standard output. It imports the standard
library only.

Many distributions ship a shell whose ``.recover`` can't work (their library is built without SQLITE_ENABLE_DBPAGE_VTAB): it
prints the beginning of a dump and fails, so what it printed counts only if it ended well. The dump is read by a shell in safe
mode, because the text in it comes from the damaged file. Rows that belong to no table come in a table of their own; they are
counted and left out.
"""

# ruff: noqa: S608 - the name of the table for lost rows is made here
from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import subprocess
import sys
from typing import Any


def main() -> None:
    """Run the command of the arguments."""
    sys.stdout.write(json.dumps(recover(**json.loads(sys.argv[2]))))


def recover(source: str, target: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Recover `source` into `target`; `done` is whether that worked, `reason` why not."""
    shell = shutil.which("sqlite3")
    if shell is None:
        return {"done": False, "reason": "there is no sqlite3 shell on PATH"}
    lost = f"lost_{secrets.token_hex(8)}"
    quiet = [shell, "-batch", "-init", "/dev/null"]
    command = f".recover --ignore-freelist --lost-and-found {lost}"
    with (
        subprocess.Popen([*quiet, source, command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading,
        subprocess.Popen(
            [*quiet, "-safe", target], stdin=reading.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as writing,
    ):
        if reading.stdout:
            reading.stdout.close()
        said = reading.stderr.read(500).decode("utf-8", "replace").strip() if reading.stderr else ""
        if reading.stderr:
            while reading.stderr.read(65536):
                pass
        writing.wait()
        if reading.wait() != 0 or writing.returncode < 0:
            return {
                "done": False,
                "reason": f"the .recover of {shell} does not work ({said[:300]}); many distributions build it without what that needs",
            }
    unattributed = _without_lost_rows(target, lost, settings)
    missing = sorted(_names(source) - _names(target))
    return {"done": True, "reason": "", "unattributed": unattributed, "problems": [f"{name} is missing" for name in missing]}


def _names(path: str) -> set[str]:
    """What the schema names, as far as it can be read."""
    database = sqlite3.connect(path, isolation_level=None)
    found = set()
    try:
        database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        database.execute("PRAGMA writable_schema = ON")
        for kind, name in database.execute("SELECT type, name FROM sqlite_master"):
            if not name.startswith("sqlite_"):
                found.add(f"{kind} {name}")
    except sqlite3.Error:
        pass  # the rest can't be read
    finally:
        database.close()
    return found


def _without_lost_rows(target: str, lost: str, settings: dict[str, Any]) -> int:
    database = sqlite3.connect(target, isolation_level=None)
    try:
        database.execute("PRAGMA secure_delete = ON")
        unattributed = 0
        names = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?", (f"{lost}%",))
        ]
        for name in names:
            unattributed += int(database.execute(f"SELECT count(*) FROM {name}").fetchone()[0])
            database.execute(f"DROP TABLE {name}")
        for name in ("user_version", "application_id"):
            if (value := settings.get(name)) is not None:
                database.execute(f"PRAGMA {name} = {int(value)}")
        return unattributed
    finally:
        database.close()


if __name__ == "__main__":
    main()
