"""What `doctor` looks at. Each check reads only, and yields findings: what is so, and how to mend what should not be."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

import remediation
from remediation.bootstrap.belonging import foreign
from remediation.bootstrap.strangers import strangers
from remediation.cli import reading
from remediation.cli.anchor_checks import look_at_anchors
from remediation.cli.consent_checks import look_at_requests, look_at_signers
from remediation.cli.sentinel_checks import look_at_sentinels
from remediation.coordination.lock_file import holders
from remediation.coordination.machine_lock import FILE
from remediation.core.state import HostState
from remediation.discovery import discover
from remediation.errors import RemediationError
from remediation.journal.inbox import is_message
from remediation.journal.tree import note_size
from remediation.model.base import from_epoch_ms, parse_timestamp, timestamp
from remediation.model.entries import HostStarted
from remediation.model.text import printable
from remediation.settings import Home, Settings

_WAITED_TOO_LONG = 60.0
"""Seconds that a report may lie in the inbox of a running host."""
_LITTLE_SPACE = 200 * 1024 * 1024
_NO_SPACE = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `doctor` says."""

    level: Literal["ok", "warning", "problem"]
    check: str
    message: str
    mend: str = ""
    """What to do about it; empty if nothing has to be done."""


def examine(home: Home) -> Iterator[Finding]:
    """Everything there is to say about the installation and `home`."""
    yield from _software()
    try:
        made = home.made
    except OSError as error:
        yield Finding("problem", "home", f"{home.root} can't be read: {error.strerror}", "run as its owner")
        return
    if not made:
        yield Finding("problem", "home", f"there is no home at {home.root}", f"remediation --home {home.root} init")
        return
    yield from _folder("home", home.root)
    yield from _space(home)
    settings, other = None, ""
    known: set[str] = set()
    try:
        settings = Settings.of(home)
    except RemediationError as error:
        for line in str(error).split("\n"):
            yield Finding("problem", "settings", line, f"edit {home.config}")
    if settings is not None:
        yield Finding("ok", "settings", f"host {settings.host.id}, profile {settings.gate.profile}")
        other = foreign(settings.home)
        yield from (Finding("problem", "keys", other, f"edit {home.config}"),) if other else _keys(settings.home)
        yield from _configured(settings)
        known = yield from _plugins(settings)
        yield from (Finding(level, "approvals", message, mend) for level, message, mend in look_at_signers(settings))
    try:
        state = reading.run(reading.host_state(home))
    except (RemediationError, sqlite3.Error) as error:
        yield Finding("problem", "journal", str(error), "remediation journal verify")
        return
    yield from _journal(home, settings if not other else None, state)
    if settings is not None:
        yield from (Finding(level, "anchors", message, mend) for level, message, mend in look_at_anchors(settings))
    host = reading.running(home, state.instances)
    yield from _host(host, state)
    yield from _locks(home)
    yield from _inbox(home, host)
    yield from _incidents(state)
    yield from (Finding(level, "approvals", message, mend) for level, message, mend in look_at_requests(state))
    if settings is not None:
        yield from _runbooks(settings, state, known)


def _software() -> Iterator[Finding]:
    python = platform.python_version()
    versions = (
        f"remediation {remediation.__version__}, Python {python}, SQLite {sqlite3.sqlite_version}, {platform.platform(terse=True)}"
    )
    yield Finding("ok", "software", versions)
    if sys.platform != "linux":
        yield Finding("warning", "software", "this system is not Linux; kernel locks and process groups are tested there only")
    if shutil.which("git") is None:
        yield Finding("warning", "software", "git is not on PATH; runbooks that commit can't be used", "install git")


def _folder(check: str, folder: Path) -> Iterator[Finding]:
    found = folder.stat()
    if found.st_uid != os.geteuid():
        yield Finding("warning", check, f"{folder} belongs to user {found.st_uid}, not to you", "run as its owner")
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield Finding("warning", check, f"{folder} is open to other users", f"chmod 700 {folder}")
    else:
        yield Finding("ok", check, str(folder))


def _space(home: Home) -> Iterator[Finding]:
    free = shutil.disk_usage(home.root).free
    megabytes = f"{free // (1024 * 1024)} MB are free for {home.root}"
    if free < _NO_SPACE:
        yield Finding(
            "problem", "space", f"only {megabytes}: the journal stops when they are used up, and healing with it", "make room"
        )
    elif free < _LITTLE_SPACE:
        yield Finding("warning", "space", f"only {megabytes}", "make room")


def _keys(home: Home) -> Iterator[Finding]:
    if not home.keys.is_dir():
        yield Finding(
            "problem",
            "keys",
            f"there is no folder {home.keys}: the journal can't be written",
            "restore it from your backup of the keys",
        )
        return
    yield from _folder("keys", home.keys)
    if home.root == home.keys or home.root in home.keys.parents:
        yield Finding(
            "warning",
            "keys",
            "the keys lie in the home: an old copy of it that is restored brings an old head.note, and the roll-back is not seen",
            "set [keys] dir to a folder elsewhere, and move them",
        )
    in_file = home.key_provider == "file"
    for path in (home.signing_key, home.head_note) if in_file else (home.head_note,):
        if not path.is_file():
            yield Finding("problem", "keys", f"{path} is missing", "restore it from your backup of the keys")
    if in_file and not home.signing_key.is_file():
        return
    if in_file and stat.S_IMODE(home.signing_key.stat().st_mode) & 0o077:
        yield Finding("problem", "keys", f"{home.signing_key} can be read by others", f"chmod 600 {home.signing_key}")
    else:
        yield from _signing(home)


def _signing(home: Home) -> Iterator[Finding]:
    """How the signing key is kept; needs no passphrase."""
    from remediation.bootstrap.keys import open_keys

    try:
        state = open_keys(home).state()
    except RemediationError as error:
        yield Finding("problem", "keys", str(error), "restore the key from your backup, or see docs/howto/keys.md")
        return
    yield Finding("ok", "keys", f"provider {home.key_provider}: {state.kept}")
    if len(state.held) > 1 or state.unsettled:
        yield Finding(
            "warning",
            "keys",
            "a rotation of the key was cut off; the old or the new private key is still there",
            "remediation keys rotate",
        )


def _configured(settings: Settings) -> Iterator[Finding]:
    command = settings.channels.command
    if command:
        program = command[0]
        found = shutil.which(program) or (settings.base / program if (settings.base / program).is_file() else None)
        if found is None:
            yield Finding(
                "problem", "channels", f"the program {program} of [channels] command is not there", "install it, or name it in full"
            )
    else:
        yield Finding("warning", "channels", "people are told in the host's log only", "set [channels] command")
    for root in settings.effects.roots or ():
        if root == Path("/"):
            yield Finding(
                "warning", "effects", "[effects] roots allows the whole file system", "name the folders that runbooks may change"
            )
        elif not root.exists():
            yield Finding("warning", "effects", f"{root} of [effects] roots is not there", "make it, or take it out")


def _plugins(settings: Settings) -> Generator[Finding, None, set[str]]:
    """Load what a host would load; returns the ids of the runbooks found."""
    try:
        plugins = discover(settings)
        sentinels = plugins.sentinels(settings)
    except RemediationError as error:
        yield Finding("problem", "plugins", str(error), f"edit {settings.base / 'remediation.toml'}, or mend the plugin")
        return set()
    if sentinels:
        yield Finding("ok", "sentinels", ", ".join(sorted(sentinel.name for sentinel in sentinels)))
    else:
        yield Finding("ok", "sentinels", "none are configured: incidents come from reports only")
    for message, mend in look_at_sentinels(sentinels, settings.base):
        yield Finding("warning", "sentinels", message, mend)
    return {kind.spec.id for kind, _ in plugins.runbooks() if hasattr(kind, "spec")}


def _journal(home: Home, settings: Settings | None, state: HostState) -> Iterator[Finding]:
    size = state.position + 1
    yield Finding("ok", "journal", f"{size} entries")
    if settings is not None and settings.home.head_note.is_file():
        try:
            known = note_size(settings.home.head_note.read_text("utf-8"))
        except (RemediationError, ValueError, OSError) as error:
            yield Finding(
                "problem", "journal", f"{settings.home.head_note} is not a signed head: {error}", "restore it from your backup"
            )
        else:
            if known > size:
                yield Finding(
                    "problem",
                    "journal",
                    f"the journal has {size} entries, but {known} were signed: it was rolled back",
                    "bring the newer files back; remediation journal verify tells what is proven",
                )
    newest = reading.run(_newest(home, size))
    if newest is not None and newest - time.time() > 5:
        yield Finding(
            "warning",
            "clock",
            f"the newest entry is {newest - time.time():.0f} s in the future: the clock went back",
            "set the clock",
        )


async def _newest(home: Home, size: int) -> float | None:
    async with reading.open_journal(home) as journal:
        async for record in journal.read(after=size - 2, limit=1):
            return parse_timestamp(record.head.time).timestamp()
    return None


def _host(host: HostStarted | None, state: HostState) -> Iterator[Finding]:
    if host is not None:
        yield Finding("ok", "host", f"runs (pid {host.pid}, profile {host.profile})")
    else:
        ended = "; the last one did not end in an orderly way" if state.instances else ""
        yield Finding("ok", "host", f"none runs{ended}")
    if reason := state.paused(round(time.time() * 1000)):
        yield Finding("warning", "host", f"healing is paused: {reason}", "remediation resume")


def _locks(home: Home) -> Iterator[Finding]:
    try:
        held = list(holders(home.locks / FILE))
    except OSError as error:
        yield Finding("warning", "locks", f"{home.locks / FILE} can't be read: {error.strerror}", "run as its owner")
        return
    for holder in held:
        whose = f"incident {holder.claim.incident} is locked by host {holder.claim.instance}"
        since = timestamp(from_epoch_ms(holder.since))
        if psutil.pid_exists(holder.pid):
            yield Finding("ok", "locks", f"{whose} (pid {holder.pid}, attempt {holder.claim.attempt or 'not begun'}) since {since}")
        else:
            yield Finding(
                "warning",
                "locks",
                f"{whose} since {since}; pid {holder.pid} is gone, and what it started still runs",
                "nothing acts on the subject until that has ended; the next host ends it at its deadline",
            )


def _inbox(home: Home, host: HostStarted | None) -> Iterator[Finding]:
    times, strays = [], []
    for entry in os.scandir(home.inbox):
        if is_message(entry.name):
            with contextlib.suppress(FileNotFoundError):  # it was taken in meanwhile
                times.append(entry.stat(follow_symlinks=False).st_mtime)
        elif not entry.name.startswith(".") and entry.name != "rejected":
            strays.append(entry.name)
    if strays:
        yield Finding(
            "warning",
            "inbox",
            f"{len(strays)} that lie there are no messages, so that no host takes them in, such as {printable(min(strays))}",
            f"remove them from {home.inbox}; leave reports with `remediation report`",
        )
    refused = list((home.inbox / "rejected").glob("*.json"))
    if refused:
        yield Finding(
            "warning", "inbox", f"{len(refused)} were refused", f"read the reasons in {home.inbox / 'rejected'}, and delete them"
        )
    waited = time.time() - min(times, default=time.time())
    if times and host is None:
        yield Finding("warning", "inbox", f"{len(times)} wait, and no host runs", "remediation run (or run --once)")
    elif waited > _WAITED_TOO_LONG:
        yield Finding("warning", "inbox", f"{len(times)} wait, the oldest for {waited:.0f} s", "look into the host's log")


def _incidents(state: HostState) -> Iterator[Finding]:
    held = [incident for incident in state.incidents.values() if incident.held]
    dirty = [incident for incident in held if incident.dirty]
    if dirty:
        yield Finding(
            "problem",
            "incidents",
            f"{len(dirty)} could not be taken back, and their subjects are fenced",
            f"remediation incident show {dirty[0].id}",
        )
    if len(held) > len(dirty):
        first = next(incident for incident in held if not incident.dirty)
        yield Finding(
            "warning", "incidents", f"{len(held) - len(dirty)} wait for a person", f"remediation incident show {first.id}"
        )


def _runbooks(settings: Settings, state: HostState, found: set[str]) -> Iterator[Finding]:
    by_state: dict[str, list[str]] = {}
    for record in state.runbooks.values():
        by_state.setdefault(record.state, []).append(record.id)
    if state.runbooks:
        yield Finding("ok", "runbooks", ", ".join(f"{len(ids)} {name}" for name, ids in sorted(by_state.items())))
        if not {"live", "degraded"} & set(by_state):
            yield Finding(
                "warning",
                "runbooks",
                "none is live: plans are recorded, nothing is mended",
                'set [runbooks."ID"] state = "live" for those you trust',
            )
    for name in by_state.get("quarantined", []):
        yield Finding(
            "warning", "runbooks", f"{name} is quarantined: {state.runbooks[name].why}", f"remediation runbooks show {name}"
        )
    known = found | set(state.runbooks)
    yield from (Finding("warning", "runbooks", message, meant) for message, meant in strangers(settings, known))
