"""Sentinels: what watches one thing and publishes what it sees."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import structlog
from pydantic import BaseModel

from remediation.model.base import Duration, Frozen
from remediation.model.events import DegradationEvent
from remediation.ports.clock import Clock
from remediation.ports.effect import Completed
from remediation.ports.options import options_type_of


class SentinelOptions(Frozen):
    """Base of a sentinel's options: the keys of one table of ``[[sentinels.<kind>]]``."""

    every: Duration = timedelta(seconds=30)
    """Pause between two checks."""


class Watch(Protocol):
    """What a sentinel may use."""

    clock: Clock
    log: structlog.typing.FilteringBoundLogger
    base: Path
    """Relative paths in options are relative to this folder (that of the configuration file)."""
    state: Path
    """A folder of this sentinel's own, for caches; it may be emptied between runs."""

    async def report(self, event: DegradationEvent) -> None:
        """Publish a degradation; returns when it is durable."""

    async def clear(self, code: str, subsystem: str, subject: str, summary: str = "") -> None:
        """Say that the degradation with this fingerprint is no longer seen. Cheap when there is no open or held incident."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout: float,
        stdin: bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """
        Run a command to its end in its own process group; ended at the timeout.

        Raises:
            ProcessError: it could not be started, or overran `timeout` (seconds).

        """


Opt = TypeVar("Opt", bound=BaseModel)


class Sentinel(abc.ABC, Generic[Opt]):
    """
    Watches one thing. One instance per configured table; it never fixes anything and keeps no state that matters.

    `check` may raise: the host logs it, publishes ``SENTINEL_FAILED`` for the sentinel, and goes on.
    """

    kind: ClassVar[str]
    """``[[sentinels.<kind>]]`` configures it."""
    options_type: ClassVar[type[BaseModel]] = SentinelOptions
    """That of ``class X(Sentinel[XOptions])``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "options_type" not in cls.__dict__ and (named := options_type_of(cls, Sentinel)):
            cls.options_type = named

    def __init__(self, options: Opt, base: Path) -> None:
        self.options = options
        self.base = base

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Unique among the host's sentinels, e.g. ``sqlite:app.db``."""

    def roots(self) -> Sequence[Path]:
        """Absolute paths it watches: what runbooks may change when ``[effects] roots`` is not set."""
        return ()

    def next_check(self, after: datetime) -> datetime:
        """When to check next, given that the last check began at `after`."""
        every: timedelta = getattr(self.options, "every", timedelta(seconds=30))
        return after + every

    @property
    def timeout(self) -> float:
        """Seconds after which a check is cancelled and reported as failed."""
        return 60.0

    @abc.abstractmethod
    async def check(self, watch: Watch) -> None:
        """Look once, and report or clear."""


SentinelFactory = Callable[[Any, Path], Sentinel[Any]]
