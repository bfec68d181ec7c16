"""A lease in a file, for the processes of one machine, and the register of those who receive a leader's writes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from remediation.coordination.lock_file import boot_id
from remediation.errors import LeaseUnavailable, StaleToken
from remediation.ports.clock import Clock
from remediation.ports.leasing import LeaseRecord

_TRIES = 200
_PAUSE = 0.005


class FileLeaseStore:
    """
    One lease, in one file; see `remediation.ports.leasing.LeaseStore`.

    Time is `Clock.monotonic` and the boot id: the wall clock has no part in it, and a reboot ends the lease. All processes must have
    the same monotonic clock, as those of one machine have with `SystemClock`.

    Non-guarantee: a process that is stopped inside a change makes the others fail with LeaseUnavailable until it goes on or ends.

    Args:
        path: The file, on a local disk; its folder must be there.
        clock: The host's time.
        boot: Names the time since the machine's start; read from the kernel by default.

    """

    def __init__(self, path: Path, clock: Clock, *, boot: Callable[[], str] = boot_id) -> None:
        self._path = path
        self._clock = clock
        self._boot = boot

    async def take(self, holder: str, seconds: float) -> LeaseRecord | None:
        """See `LeaseStore.take`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(await self._locked())
            now, boot = self._clock.monotonic(), self._boot()
            token, _, until, at = self._read()
            if until > now and at == boot:
                return None
            self._write(token + 1, holder, now + seconds, boot)
            return LeaseRecord(token + 1, holder)

    async def renew(self, record: LeaseRecord, seconds: float) -> bool:
        """See `LeaseStore.renew`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(await self._locked())
            now, boot = self._clock.monotonic(), self._boot()
            token, _, until, at = self._read()
            if token != record.token or until <= now or at != boot:
                return False
            self._write(token, record.holder, now + seconds, boot)
            return True

    async def release(self, record: LeaseRecord) -> None:
        """See `LeaseStore.release`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(await self._locked())
            token, _, _, _ = self._read()
            if token == record.token:
                self._write(token, "", 0.0, self._boot())

    async def _locked(self) -> contextlib.AbstractContextManager[None]:
        for _ in range(_TRIES):
            held = _try_lock(self._path)
            if held is not None:
                return held
            await asyncio.sleep(_PAUSE)
        raise LeaseUnavailable(f"{self._path} is locked by another process for too long; look whether one of them is stopped")

    def _read(self) -> tuple[int, str, float, str]:
        try:
            told = json.loads(self._path.read_text("utf-8"))
            return int(told["token"]), str(told["holder"]), float(told["until"]), str(told["boot"])
        except FileNotFoundError:
            return 0, "", 0.0, ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            # To begin anew would give old tokens out again.
            raise LeaseUnavailable(f"{self._path} can't be read as a lease ({error}); restore it, or tell all receivers") from error

    def _write(self, token: int, holder: str, until: float, boot: str) -> None:
        told = {"token": token, "holder": holder, "until": until, "boot": boot}
        try:
            _replace(self._path, json.dumps(told))
        except OSError as error:
            raise LeaseUnavailable(f"{self._path} can't be written: {error}") from error


class FencedRegister:
    """
    The receiver's side: refuses the writes of those who no longer lead, however late they come.

    It remembers the highest token it has seen, durably: nothing is admitted before it is on disk. Several processes may use one file.

    Non-guarantee: it can only refuse what is asked of it; each write of a leader must come with the leader's token.

    Args:
        path: The file, on a local disk; its folder must be there.

    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, token: int) -> None:
        """
        Admit a write under `token`.

        Between this and the write, a later leader may be admitted: where that matters, write inside `admitted`.

        Raises:
            StaleToken: a larger one was seen; nothing may be written.
            LeaseUnavailable: what was seen can't be read or written.

        """
        with self.admitted(token):
            pass

    @contextlib.contextmanager
    def admitted(self, token: int) -> Iterator[None]:
        """`check`, and nobody else is admitted until the body is left. Blocks meanwhile: keep the body short."""
        with _lock(self._path):
            highest = self._highest()
            if token < highest:
                why = f"token {token} is no longer the leader's: {highest} was seen"
                raise StaleToken(f"{why}; stop writing, and take the lease anew")
            if token > highest:
                try:
                    _replace(self._path, str(token))
                except OSError as error:
                    raise LeaseUnavailable(f"{self._path} can't be written: {error}") from error
            yield

    @property
    def highest(self) -> int:
        """The highest token seen; 0 before the first."""
        return self._highest()

    def _highest(self) -> int:
        try:
            return int(self._path.read_text("ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise LeaseUnavailable(f"{self._path} does not hold a token ({error}); restore it") from error


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LeaseUnavailable(f"{path}.lock can't be opened: {error}") from error


def _try_lock(path: Path) -> contextlib.AbstractContextManager[None] | None:
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return _closing(descriptor)


def _lock(path: Path) -> contextlib.AbstractContextManager[None]:
    descriptor = _open_lock(path)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return _closing(descriptor)


def _replace(path: Path, content: str) -> None:
    """Temp file, fsync, rename, directory fsync. The caller has the lock."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
