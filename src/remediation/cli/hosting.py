"""The host as a process: told to stop by signals, watched by the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.cli import output
from remediation.cli.reading import incident_document
from remediation.cli.service_manager import ServiceManager
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.entries import HostStarted

STOP_WITHIN = 35.0
"""Seconds from the wish to stop until the process is gone. All parts that stop have less together; systemd waits for 90 by default."""
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def once(boot: RemediatorBootstrap) -> list[dict[str, Any]]:
    """Start, do what can be done now, leave; returns the incidents that were touched or are open, as `incident_document`."""
    async with boot.start(watch=False) as host:
        due = await host.settle()
        if host.halted:
            output.fail(host.halted)
        begin = await _start(host)
        touched = {record.head.stream async for record in host.journal.read(after=begin, stream="incident/")}
        return [
            # When the host would look again, which may be sooner than what was journaled.
            incident_document(incident)
            | ({"waits_until": timestamp(from_epoch_ms(due[incident.id]))} if due.get(incident.id) else {})
            for incident in host.incidents()
            if incident.open or incident.stream in touched
        ]


async def _start(host: Host) -> int:
    """The position of the entry that says that `host` started."""
    begin = -1
    async for record in host.journal.read(stream="host/", types=[HostStarted.type]):
        if isinstance(record.entry, HostStarted) and record.entry.instance == host.instance:
            begin = record.seq
    return begin


async def until_stopped(boot: RemediatorBootstrap) -> None:
    """Be the host until SIGTERM, SIGINT, SIGHUP, or until it stops by itself."""
    manager = ServiceManager()
    stopping = last_resort(STOP_WITHIN)
    with _signals(stopping) as asked:
        async with boot.start() as host:
            settle_memory()
            waiting = asyncio.create_task(_stop_when(asked, host))
            manager.ready(f"host {boot.settings.host.id}, profile {boot.settings.gate.profile}")
            if manager.beat_every is not None:
                host.on_beat(manager.beat, manager.beat_every)
            await host.stopped()
            stopping()
            waiting.cancel()
            manager.stopping(host.stopped_because)


def settle_memory() -> None:
    """
    Tell Python's garbage collector that this process is a host and little else: what was imported stays, and what a heal makes is
    mostly gone by reference counting. Saves a sixth of the time under load. An embedding program decides that for itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def last_resort(seconds: float) -> Callable[[], None]:
    """
    A function that sets a limit: `seconds` after it was first called the process ends, whatever it does, if it has not ended before.

    That counts up to the very end: what a plugin left behind can keep an interpreter from finishing. A thread sees to it, which hears
    of it through a pipe: a signal handler may write to one, wherever it interrupted.
    """
    hears, says = os.pipe()

    def wait() -> None:
        os.read(hears, 1)
        time.sleep(seconds)
        output.complain(f"did not stop within {seconds:g} s, and ends now; nothing is lost, the next start goes on")
        os._exit(output.ExitCode.NO)

    threading.Thread(target=wait, name="last resort", daemon=True).start()

    def begin() -> None:
        with contextlib.suppress(OSError):
            os.write(says, b"!")

    return begin


@contextlib.contextmanager
def _signals(stopping: Callable[[], None]) -> Iterator[asyncio.Future[str]]:
    """
    A future that the first signal to stop fulfils, also one during the start; the second one ends the process at once.

    The handlers are Python's own and not the loop's: they run, and `stopping` sets its limit, also while a step blocks the loop.
    """
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[str] = loop.create_future()
    before = {number: signal.getsignal(number) for number in _STOPPING}

    def fulfil(number: int) -> None:
        if not asked.done():
            asked.set_result(f"received {signal.Signals(number).name}")

    def stop(number: int, _: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        stopping()
        loop.call_soon_threadsafe(fulfil, number)

    # Who started this with nohup wants it to outlive the terminal.
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield asked
    finally:
        if not asked.done():
            for number, handler in before.items():
                signal.signal(number, handler)


async def _stop_when(asked: asyncio.Future[str], host: Host) -> None:
    host.stop(await asked)
