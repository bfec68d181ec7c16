"""
Makes single system calls of a process fail, for real: the kernel asks us about each one (seccomp user notification, seccomp_unotify(2)),
and we let it go on or answer with an error. Needs Linux 5.5, no privileges, and nothing but Python.

`Faulty` keeps one small server process that has everything imported; each run is a fork of it. Counted are the calls that change
files below one folder, SQLite's own among them.
"""

import asyncio
import ctypes
import errno
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.support.crashing import _PATHS, ROOT

NEVER = 10**9
_MACHINES = {
    "x86_64": (0xC000003E, 317, {
        "write": 1, "pwrite64": 18, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "rename": 82, "unlink": 87, "open": 2, "openat": 257,
        "renameat": 264, "renameat2": 316, "unlinkat": 263, "fallocate": 285,
    }),
    "aarch64": (0xC00000B7, 277, {
        "write": 64, "pwrite64": 68, "fsync": 82, "fdatasync": 83, "ftruncate": 46, "openat": 56,
        "renameat": 38, "renameat2": 276, "unlinkat": 35, "fallocate": 47,
    }),
}  # fmt: skip
_PATH_ARGUMENT = {"rename": 0, "unlink": 0, "open": 0, "openat": 1, "renameat": 1, "renameat2": 1, "unlinkat": 1}
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NO_NEW_PRIVS, _SET_FILTER, _NEW_LISTENER = 38, 1, 1 << 3
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_CONTINUE = 1
_HANGS_AFTER = 30.0


class Faulty:
    """The server, as a context manager."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.syscalls"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": _PATHS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()

    def run(
        self, job: str, folder: Path, *, at: int = NEVER, error: int = errno.EIO, lasting: bool = False, **more: Any
    ) -> dict[str, Any]:
        """
        Do `job` (see `JOBS`) in a process whose call number `at` below `folder` fails with `error`.

        Args:
            job: Its name.
            folder: Whose files are meant.
            at: Counted from 0.
            error: An errno.
            lasting: Whether all later calls that need room or write fail too.
            more: Arguments of the job, JSON.

        Returns:
            ``status`` of the process, ``calls`` (name and file of each), ``hit`` (the one that failed) and what the job said.

        """
        assert self._server.stdin
        assert self._server.stdout
        request = {"job": job, "folder": str(folder), "at": at, "error": error, "lasting": lasting, "more": more}
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


# -- the process that is watched -------------------------------------------------------------------------------------------------


def _watched() -> int:
    """From now on the kernel asks about the calls of this thread, and of those it starts; returns the descriptor to answer on."""
    arch, seccomp, numbers = _MACHINES[platform.machine()]
    wanted = list(numbers.values())
    steps = [
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 0, len(wanted) + 2, arch),
        (0x20, 0, 0, 0),  # load the number
        *((0x15, len(wanted) - index, 0, number) for index, number in enumerate(wanted)),
        (0x06, 0, 0, _ALLOW),
        (0x06, 0, 0, _NOTIFY),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    descriptor: int = libc.syscall(seccomp, _SET_FILTER, _NEW_LISTENER, program)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "this kernel can't ask about system calls (seccomp user notification)")
    return descriptor


def _child(request: dict[str, Any], own: socket.socket, out: str) -> None:
    code = 1
    try:
        os.close(0)
        os.dup2(2, 1)
        # The supervisor fetches the descriptor itself: sending it would need calls that are asked about already.
        own.send(b"?")
        own.recv(1)
        listener = _watched()
        socket.send_fds(own, [b"!"], [listener])
        os.close(listener)
        own.recv(1)
        said = asyncio.run(JOBS[request["job"]](Path(request["folder"]), **request["more"]))
        Path(out).write_text(json.dumps(said))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# -- the one that watches --------------------------------------------------------------------------------------------------------


class _Judge:
    """Decides about each call."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._folder = request["folder"] + "/"
        self._at, self._error, self._lasting = request["at"], request["error"], request["lasting"]
        self._names = {number: name for name, number in _MACHINES[platform.machine()][2].items()}
        self.calls: list[str] = []
        self.hit = ""

    def errno_of(self, pid: int, number: int, arguments: tuple[int, ...]) -> int:
        """0 lets the call go on."""
        name = self._names[number]
        path = self._path(pid, name, arguments)
        if not path.startswith(self._folder) or path.endswith("-shm"):
            return 0
        if name in ("open", "openat") and not arguments[_PATH_ARGUMENT[name] + 1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            return 0
        if name in ("open", "openat") and self._error in (errno.ENOSPC, errno.EDQUOT) and os.path.exists(path):
            return 0  # to open what is there needs no room
        call = f"{name} {path.removeprefix(self._folder)}"
        self.calls.append(call)
        index = len(self.calls) - 1
        if index == self._at:
            self.hit = call
        # A disk that is full or broken still removes files.
        fails = index == self._at or (self._lasting and index > self._at and not name.startswith("unlink"))
        return self._error if fails else 0

    def _path(self, pid: int, name: str, arguments: tuple[int, ...]) -> str:
        try:
            if name not in _PATH_ARGUMENT:
                return os.readlink(f"/proc/{pid}/fd/{arguments[0] & 0xFFFFFFFF}")
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(arguments[_PATH_ARGUMENT[name]])
                return os.fsdecode(memory.read(4096).partition(b"\0")[0])
        except OSError:
            return ""


def _supervise(listener: int, judge: _Judge, gone: Callable[[], bool]) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        events = poll.poll(200)
        if any(event & select.POLLIN for _, event in events):
            asked = bytearray(80)
            try:
                fcntl.ioctl(listener, _RECEIVE, asked)
            except OSError:
                continue  # killed while it asked
            id_, pid, _, number, _, _, *arguments = struct.unpack("QIIiIQ6Q", asked)
            error = judge.errno_of(pid, number, tuple(arguments))
            answer = struct.pack("QqiI", id_, 0, -error, 0 if error else _CONTINUE)
            try:
                fcntl.ioctl(listener, _SEND, bytearray(answer))
            except OSError:
                continue
        elif any(event & select.POLLHUP for _, event in events) or gone():
            return


def _run(request: dict[str, Any], judge: _Judge | None = None) -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    judge = judge or _Judge(request)
    with tempfile.NamedTemporaryFile() as out:
        child = os.fork()
        if child == 0:
            ours.close()
            _child(request, theirs, out.name)
        theirs.close()
        ended: list[int] = []

        def gone() -> bool:
            if not ended:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    ended.append(os.waitstatus_to_exitcode(status))
                elif time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
            return bool(ended)

        deadline = time.monotonic() + _HANGS_AFTER
        ours.recv(1)
        ours.send(b"!")
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        ours.send(b"!")
        if descriptors:
            _supervise(descriptors[0], judge, gone)
            os.close(descriptors[0])
        ours.close()
        if not ended:
            ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        said = Path(out.name).read_text()
    return {"status": ended[0], "calls": judge.calls, "hit": judge.hit, "said": json.loads(said) if said else None}


# -- jobs ------------------------------------------------------------------------------------------------------------------------


async def append(folder: Path, tries: int = 4) -> dict[str, Any]:
    """Open, append three times in two batches, publish, append, close; each is tried again when it fails. Says how each try ended."""
    from tests.support.journals import open_with, said

    from remediation.errors import RemediationError
    from remediation.settings import Home

    home = Home(folder / "home", folder / "keys")
    told: dict[str, list[str]] = {}

    async def tried(name: str, work: Callable[[], Any]) -> Any:
        for _ in range(tries):
            try:
                answer = await work()
            except (RemediationError, OSError) as error:
                told.setdefault(name, []).append(f"{type(error).__name__}: {error}")
            else:
                told.setdefault(name, []).append("done")
                return answer
        return None

    journal = await tried("open", lambda: open_with(home))
    if journal is None:
        return told
    # Else it writes head.note after the first commit, and tries again by itself: here whoever publishes does, and is told.
    for task in journal._tasks[1:]:
        task.cancel()

    def some(name: str) -> Callable[[], Any]:
        return lambda: journal.append(f"s-{name}", [said(f"{name} {index} 2") for index in range(2)], event_id=name)

    async def read() -> None:
        async for _ in journal.read():
            pass

    await asyncio.gather(tried("a", some("a")), tried("b", some("b")))
    await tried("read", read)
    await tried("publish", journal.publish)
    await tried("c", some("c"))
    await tried("close", journal.close)
    return told


JOBS = {job.__name__: job for job in (append,)}


def main() -> None:
    from tests.support.journals import make_home

    with tempfile.TemporaryDirectory() as folder:
        make_home(Path(folder))
        asyncio.run(append(Path(folder)))
    assert threading.active_count() == 1
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
