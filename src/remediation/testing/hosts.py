"""A real host in a folder: its home, its keys and the world that it may change, all inside."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.hooks import hookimpl
from remediation.ports.channel import Channel
from remediation.ports.clock import Clock
from remediation.ports.effect import Effect
from remediation.ports.sentinel import Sentinel
from remediation.runbook import Runbook
from remediation.settings import Settings

WORLD = "world"
"""Name of the one folder that a host of `settings_in` may change."""


def settings_in(folder: Path, *, live: Sequence[str] = (), profile: str = "autonomous", **tables: Any) -> Settings:
    """
    Settings of a host that keeps everything inside `folder`, and may change ``folder/world``, which is made.

    It takes no plugins from installed packages, and tells people nothing.

    Args:
        folder: Must exist; empty, or of an earlier host of the same test.
        live: Ids of runbooks that may act.
        profile: Of the gate.
        tables: Further tables of ``remediation.toml``; they win over what is set here.

    """
    (folder / WORLD).mkdir(exist_ok=True)
    defaults: dict[str, Any] = {
        "host": {"id": "test-host", "home": folder / "home", "autoload": False},
        "keys": {"dir": folder / "keys"},
        "gate": {"profile": profile},
        "effects": {"roots": [folder / WORLD]},
        "runbooks": {id_: {"state": "live"} for id_ in live},
        "channels": {"log": False},
    }
    merged = {name: {**defaults.get(name, {}), **table} if isinstance(table, Mapping) else table for name, table in tables.items()}
    return Settings(base=folder, **{**defaults, **merged})


def plugin(
    *runbooks: type[Runbook[Any]],
    effects: Sequence[type[Effect[Any, Any]]] = (),
    sentinels: Sequence[type[Sentinel[Any]]] = (),
    channels: Sequence[Channel] = (),
) -> Any:
    """A plugin that brings these classes and channels, as a module with hooks would."""

    class Plugin:
        @hookimpl
        def remediation_runbooks(self) -> Sequence[type[Runbook[Any]]]:
            return runbooks

        @hookimpl
        def remediation_effects(self) -> Sequence[type[Effect[Any, Any]]]:
            return effects

        @hookimpl
        def remediation_sentinels(self) -> Sequence[type[Sentinel[Any]]]:
            return sentinels

        @hookimpl
        def remediation_channels(self) -> Sequence[Channel]:
            return channels

    return Plugin()


@contextlib.asynccontextmanager
async def running_host(
    folder: Path,
    *runbooks: type[Runbook[Any]],
    plugins: Sequence[Any] = (),
    clock: Clock | None = None,
    secrets: Mapping[str, str] | None = None,
    prepare: Callable[[RemediatorBootstrap], None] | None = None,
    watch: bool = True,
    **settings: Any,
) -> AsyncIterator[Host]:
    """
    A host of `settings_in` (`settings` are its arguments), started and, at the end, stopped.

    Args:
        runbooks: Registered, and live unless `settings` say which ones are.
        plugins: Beside them; see `plugin`.
        clock, secrets, watch: As for `RemediatorBootstrap` and its `start`.
        prepare: Called with the bootstrap before the start, to register controls.

    """
    settings.setdefault("live", [kind.spec.id for kind in runbooks])
    boot = RemediatorBootstrap(settings_in(folder, **settings), plugins=[plugin(*runbooks), *plugins], clock=clock, secrets=secrets)
    if prepare is not None:
        prepare(boot)
    async with boot.start(watch=watch) as host:
        yield host


async def eventually(condition: Callable[[], Any | Awaitable[Any]], *, within: float = 10.0) -> Any:
    """
    Ask `condition` (plain or async) again and again until it returns something true; returns that.

    Args:
        within: Seconds of real time.

    Raises:
        AssertionError: it did not in that time.

    """
    end = time.monotonic() + within
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{getattr(condition, '__qualname__', condition)} did not become true within {within:g} s")
        await asyncio.sleep(0.005)
