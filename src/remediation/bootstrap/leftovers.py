"""What hosts leave behind when they are killed, removed by the next one that starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from remediation.bootstrap.keys import exchanging
from remediation.coordination import beats
from remediation.coordination.locks import alive
from remediation.coordination.machine_lock import MachineLock
from remediation.errors import ConfigurationError
from remediation.settings import Home

UNFINISHED = ".journal.sqlite3.new"
"""A journal that is being made; it gets its name when it is whole."""
RECOVERY = "recovery.json"
"""The steps of a recovery that is not finished, see `remediation.bootstrap.recovering`."""


OLD = 3600.0
"""Seconds after which a request that was never finished is taken for one that never will be."""


def clear_leftovers(home: Home, locks: MachineLock) -> None:
    """
    Remove the lock files, scratch folders and unfinished files of hosts that are gone. What living ones use is left alone.

    Non-guarantee: while somebody appends to the journal, unfinished files of the keys' folder stay for the next start.
    """
    for path in home.locks.glob("host-*.lock"):
        alive(path)
    for folder in home.scratch.iterdir():
        if not alive(home.locks / f"host-{folder.name}.lock"):
            shutil.rmtree(folder, ignore_errors=True)
    beats.remove_dead(home.hosts)
    for path in home.hosts.glob(".*"):
        if not alive(home.locks / f"host-{path.suffix[1:]}.lock"):
            path.unlink(missing_ok=True)
    locks.forget_children()
    for path in (
        *home.root.glob(".snapshot.bin.*"),
        *home.root.glob(f".{home.told.name}.*"),
        *home.root.glob(f".{home.anchors.name}.*"),
    ):
        # Its name says by whom it is written.
        if _abandoned(path):
            path.unlink(missing_ok=True)
    for path in home.inbox.glob(".*.json.*"):
        # Of somebody who died while asking. Whoever asks may live where this host sees no processes: only what is old is removed.
        with contextlib.suppress(FileNotFoundError):
            if _abandoned(path) and time.time() - path.stat().st_mtime > OLD:
                path.unlink(missing_ok=True)
    with _nobody_writes(home.journal_lock) as sure:
        if sure:
            for name in (home.head_note.name, home.keys_owner.name, f".{home.keys_owner.name}"):
                for path in home.keys.glob(f".{name}.*"):
                    path.unlink(missing_ok=True)
            names = (f".{home.signing_key.name}.*", f".{home.verifier_keys.name}.*")
            if unfinished := [path for name in names for path in home.keys.glob(name)]:
                # A rotation makes such files without the writer lock. Listed before its lock is taken, they are those of dead ones.
                with contextlib.suppress(ConfigurationError), exchanging(home):
                    for path in unfinished:
                        path.unlink(missing_ok=True)


def _abandoned(path: Path) -> bool:
    pid = path.suffix[1:]
    return not pid.isdigit() or int(pid) == os.getpid() or not psutil.pid_exists(int(pid))


@contextlib.contextmanager
def _nobody_writes(path: Path) -> Iterator[bool]:
    # Without waiting: the lock may be held by another host of this very process and event loop.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
