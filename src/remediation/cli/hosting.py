"""The host as a process: told to stop by signals, watched by the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Iterator
from typing import Any

from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.cli import output
from remediation.cli.reading import incident_document
from remediation.cli.service_manager import ServiceManager
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.entries import HostStarted


async def once(boot: RemediatorBootstrap) -> list[dict[str, Any]]:
    """Start, do what can be done now, leave; returns the incidents that were touched or are open, as `incident_document`."""
    async with boot.start(watch=False) as host:
        due = await host.settle()
        if host.halted:
            output.fail(host.halted)
        begin = await _start(host)
        touched = {record.head.stream async for record in host.journal.read(after=begin, stream="incident/")}
        return [
            {
                **incident_document(incident),
                "waits_until": timestamp(from_epoch_ms(due[incident.id])) if due.get(incident.id) else None,
            }
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
    """Be the host until SIGTERM, SIGINT, or until it stops by itself."""
    manager = ServiceManager()
    with _signals() as asked:
        async with boot.start() as host:
            settle_memory()
            tasks = [asyncio.create_task(_beat(manager)), asyncio.create_task(_stop_when(asked, host))]
            manager.ready(f"host {boot.settings.host.id}, profile {boot.settings.gate.profile}")
            await host.stopped()
            for task in tasks:
                task.cancel()
            manager.stopping()


def settle_memory() -> None:
    """
    Tell Python's garbage collector that this process is a host and little else: what was imported stays, and what a heal makes is
    mostly gone by reference counting. Saves a sixth of the time under load. An embedding program decides that for itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Future[str]]:
    """A future that the first SIGTERM or SIGINT fulfils, also one during the start; a second one ends the process as usual."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[str] = loop.create_future()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop(number: signal.Signals) -> None:
        for each in numbers:
            loop.remove_signal_handler(each)
        asked.set_result(f"received {number.name}")

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield asked
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _stop_when(asked: asyncio.Future[str], host: Host) -> None:
    host.stop(await asked)


async def _beat(manager: ServiceManager) -> None:
    pace = manager.beat_every
    while pace is not None:
        manager.beat()
        await asyncio.sleep(pace)
