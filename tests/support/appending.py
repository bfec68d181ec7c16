"""
Processes that write to a journal, to be killed.

`Writers` keeps one small server process that has everything imported; each writer is a fork of it, so that a round takes
milliseconds. What a writer was told is durable it says in a file, with one unbuffered write for each acknowledgement.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.crashing import _PATHS, ROOT

NEVER = 10**9
_STEPS = frozenset(
    "open write pwrite fsync rename link unlink mkdir chmod fchmod flock connect close execute executemany executescript".split()
)
_WORLDS = frozenset(["posix", "fcntl", "_sqlite3", "sqlite3"])


@dataclass(frozen=True)
class Writer:
    """A forked process."""

    server: "Writers"
    pid: int

    def kill(self) -> None:
        """End it, whatever it does, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Its exit status; negative for a signal."""
        return self.server._ask({"wait": self.pid})["status"]


@dataclass(frozen=True)
class Acknowledged:
    """What a writer was told is durable: an append and where its first entry stands."""

    id: str
    seq: int
    entries: int


class Writers:
    """The server, as a context manager."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.appending"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": _PATHS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()

    def start(self, job: str, *, stop: int = NEVER, uid: int | None = None, **arguments: Any) -> Writer:
        """
        Fork a process that does `job` with `arguments` (see `JOBS`), and end it right before its step number `stop`.

        A step is a call that changes a file, a lock or a database. `uid`: the user that it becomes.
        """
        answer = self._ask({"job": job, "arguments": arguments, "stop": stop, "uid": uid})
        return Writer(self, answer["pid"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin
        assert self._server.stdout
        with self._lock:
            print(json.dumps(request), file=self._server.stdin, flush=True)
            answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def acknowledged(out: Path) -> list[Acknowledged]:
    """What writers have said in `out`, in that order; a last line that is cut off was never said."""
    if not out.exists():
        return []
    lines = out.read_text().split("\n")[:-1]
    return [Acknowledged(id_, int(seq), int(entries)) for id_, seq, entries in (line.split() for line in lines)]


def text_of(id_: str, index: int, of: int) -> str:
    """What the entry number `index` of the append `id_` says."""
    return f"{id_} {index} {of}"


async def append(home: str, keys: str, out: str, callers: int, seed: int, limit: int | None = None, streams: int = 5) -> None:
    """Append with many callers, without end, or `limit` times a caller."""
    from tests.support.journals import opened, said

    rng = random.Random(seed)
    file = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with opened(_home(home, keys)) as journal:

        async def caller(number: int) -> None:
            for turn in itertools.count() if limit is None else range(limit):
                id_ = f"{seed}-{number}-{turn}"
                of = rng.choice((1, 1, 2, 3))
                entries = [said(text_of(id_, index, of)) for index in range(of)]
                position = await journal.append(f"s{rng.randrange(streams)}", entries, event_id=id_)
                os.write(file, f"{id_} {position.seq} {of}\n".encode())

        await asyncio.gather(*(caller(number) for number in range(callers)))


async def tokens(home: str, keys: str, callers: int, cap: int) -> None:
    """Take tokens until there are `cap` of them in the whole journal, whoever took them."""
    from tests.support.journals import Seen, opened, said, texts

    from remediation.errors import GuardRefused

    seen = Seen()

    def guard() -> None:
        if texts(seen.records).count("token") >= cap:
            raise GuardRefused("all are taken")

    async with opened(_home(home, keys), seen) as journal:

        async def caller() -> None:
            with contextlib.suppress(GuardRefused):
                while True:
                    await journal.append("tokens", [said("token")], guard=guard)

        await asyncio.gather(*(caller() for _ in range(callers)))


async def once(home: str, keys: str, out: str, text: str, publish: bool = True) -> None:
    """Append two entries with the id `text`, publish, close."""
    from tests.support.journals import opened, said

    file = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with opened(_home(home, keys)) as journal:
        position = await journal.append("once", [said(text_of(text, index, 2)) for index in range(2)], event_id=text)
        os.write(file, f"{text} {position.seq} 2\n".encode())
        if publish:
            await journal.publish()


async def follow(home: str, keys: str, out: str, count: int) -> None:
    """Say in `out` when each of `count` entries of other processes was seen: seq and seconds of the machine's clock."""
    from tests.support.journals import opened

    file = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with opened(_home(home, keys)) as journal:
        os.write(file, b"ready 0\n")
        async for record in journal.follow():
            os.write(file, f"{record.seq} {time.monotonic()}\n".encode())
            if record.seq + 1 == count:
                return


async def follow_until(home: str, keys: str, out: str, word: str) -> None:
    """As a host: say in `out` when each entry was seen, until one says `word`."""
    from tests.support.journals import opened

    async with opened(_home(home, keys)) as journal:
        await _follow(journal.follow(), out, word)


async def read_until(home: str, keys: str, out: str, word: str) -> None:
    """As a reader without a key: say in `out` when each entry was seen, until one says `word`."""
    from remediation.bootstrap import open_reader

    async with open_reader(_home(home, keys)) as journal:
        await _follow(journal.follow(), out, word)


async def _follow(records: Any, out: str, word: str) -> None:
    file = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, b"ready 0\n")
    async for record in records:
        os.write(file, f"{record.seq} {time.monotonic()}\n".encode())
        if getattr(record.entry, "reason", "") == word:
            return


async def attempt(home: str, keys: str, out: str) -> None:
    """Open, append, read; say in `out` how each of these ended."""
    from tests.support.journals import entries_of, opened

    from remediation.bootstrap import open_reader
    from remediation.errors import RemediationError

    said: dict[str, str] = {}
    place = _home(home, keys)
    try:
        async with open_reader(place) as reader:
            said["read"] = str(len([record async for record in reader.read()]))
    except RemediationError as error:
        said["read"] = f"{type(error).__name__}: {error}"
    try:
        async with opened(place) as journal:
            await journal.append("s", entries_of("attempt"))
            said["append"] = "done"
    except RemediationError as error:
        said["append"] = f"{type(error).__name__}: {error}"
    Path(out).write_text(json.dumps(said))


async def put(path: str, out: str) -> None:
    """Leave a message in an inbox; say its id in `out`."""
    from remediation.journal.inbox import Inbox

    id_ = Inbox(Path(path)).put("report", {"text": "x" * 5000}, at=5)
    Path(out).write_text(id_)


async def initialise(folder: str, out: str | None = None) -> None:
    """Make the home in `folder`; say its origin in `out`."""
    from tests.support.journals import home_settings

    from remediation.bootstrap import initialise as make

    origin = make(home_settings(Path(folder)))
    if out is not None:
        Path(out).write_text(origin)


async def host(base: str) -> None:
    """Be a whole host, see `tests.support.racing`."""
    from tests.support.racing import run

    await run(Path(base))


async def limited(base: str, name: str) -> None:
    """Be a whole host that races at a limit, see `tests.support.racing_limits`."""
    from tests.support.racing_limits import run

    await run(Path(base), name)


def recover(folder: str) -> None:
    """Recover the journal of the home in `folder`."""
    from tests.support.journals import home_settings

    from remediation.bootstrap.recovering import recover as do_it

    settings = home_settings(Path(folder))
    do_it(settings.home, settings.host.id)


async def rotate(home: str, keys: str) -> None:
    """Exchange the signing key."""
    from remediation.bootstrap import open_journal
    from remediation.bootstrap.keys import open_keys
    from remediation.bootstrap.keys import rotate as exchange
    from remediation.ports.clock import SystemClock

    place = _home(home, keys)
    journal = await open_journal(place, SystemClock())
    try:
        await exchange(place, open_keys(place), journal)
    finally:
        await journal.close()


JOBS = {
    job.__name__: job
    for job in (append, tokens, once, follow, follow_until, read_until, attempt, put, initialise, recover, host, limited, rotate)
}


def _home(home: str, keys: str) -> Any:
    from remediation.settings import Home

    return Home(Path(home), Path(keys))


def main() -> None:
    # Done once, so that all forks have imported what it needs: another user may not be able to read the modules.
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(initialise(folder))
        asyncio.run(attempt(f"{folder}/home", f"{folder}/keys", f"{folder}/out"))
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            child = os.fork()
            if child == 0:
                _child(request)
            answer = {"pid": child}
        print(json.dumps(answer), flush=True)


def _child(request: dict[str, Any]) -> None:
    code = 1
    try:
        os.close(0)
        os.dup2(2, 1)
        if request["uid"] is not None:
            os.setgroups([])
            os.setgid(request["uid"])
            os.setuid(request["uid"])
        if request["stop"] != NEVER:
            watch = _killer(request["stop"])
            threading.setprofile(watch)
            sys.setprofile(watch)
        job: Any = JOBS[request["job"]](**request["arguments"])
        if job is not None:
            asyncio.run(job)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _killer(stop: int) -> Callable[[Any, str, Any], None]:
    passed = itertools.count()

    def watch(frame: Any, event: str, called: Any) -> None:
        if event != "c_call" or called.__name__ not in _STEPS:
            return
        owner = called.__module__ or type(called.__self__).__module__
        if (owner in _WORLDS or isinstance(called.__self__, _sqlite())) and next(passed) == stop:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch


def _sqlite() -> tuple[type, ...]:
    import sqlite3

    return (sqlite3.Connection, sqlite3.Cursor)


if __name__ == "__main__":
    main()
