"""Controls: functions of the embedding host that runbooks may have called, by name."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remediation.effects.threads import in_thread
from remediation.errors import EffectRefused, RegistrationError
from remediation.model.plan import Probe
from remediation.ports.effect import Control

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
Function = Callable[..., Any]


class HostControl:
    """One registered control; see `HostControls.register`."""

    def __init__(self, name: str, function: Function, idempotent: bool, probe: Function | None, undo: Function | None) -> None:
        self.name = name
        self.idempotent = idempotent
        self._function = _Call(function)
        self._probe = _Call(probe) if probe is not None else None
        self._undo = _Call(undo) if undo is not None else None

    @property
    def can_probe(self) -> bool:
        """Whether it can say if a call with a given key happened."""
        return self._probe is not None

    @property
    def can_undo(self) -> bool:
        """Whether a call can be taken back."""
        return self._undo is not None

    async def call(self, key: str, args: Mapping[str, Any]) -> Any:
        """Call it under `key`; what the function raises passes through."""
        return await self._function(key, args)

    async def probe(self, key: str, args: Mapping[str, Any]) -> Probe:
        """Whether the call under `key` happened; `unknown` without a probe function."""
        if self._probe is None:
            return Probe.UNKNOWN
        said = await self._probe(key, args)
        if isinstance(said, Probe):
            return said
        if isinstance(said, bool):
            return Probe.APPLIED if said else Probe.NOT_APPLIED
        return Probe.UNKNOWN

    async def undo(self, key: str, args: Mapping[str, Any]) -> None:
        """
        Take the call under `key` back.

        Raises:
            EffectRefused: it was registered without an undo function.

        """
        if self._undo is None:
            raise EffectRefused(f"control {self.name!r} was registered without undo=; its calls can't be taken back")
        await self._undo(key, args)


class HostControls(Mapping[str, Control]):
    """The controls of a host, by name."""

    def __init__(self) -> None:
        self._controls: dict[str, Control] = {}

    def register(
        self,
        name: str,
        function: Function,
        *,
        idempotent: bool = False,
        probe: Function | None = None,
        undo: Function | None = None,
    ) -> None:
        """
        Let runbooks have `function` called as `name`.

        `function`, `probe` and `undo` are plain or async, and are called with the effect's arguments by keyword; one that has a
        parameter `key` (or takes any keyword) is also given ``key=``, the same text for each call that belongs to one effect.
        Plain functions run in a worker thread, so they must be thread-safe, and a call that is cancelled is waited for.

        Args:
            name: 1-64 of a-z, 0-9, ``_``, ``.`` and ``-``.
            function: Does it. What it returns is kept as JSON in the receipt.
            idempotent: Calling it again with the same key and arguments changes nothing more.
            probe: Says whether the call under a key happened: `True`, `False`, or `None` for unknown. It must not change anything.
            undo: Takes the call under a key back; calling it again changes nothing more.

        Raises:
            RegistrationError: the name is malformed or taken, or something is not callable.

        """
        if not _NAME.fullmatch(name):
            raise RegistrationError(
                f"control {name!r}: a name is 1-64 of a-z, 0-9, '_', '.' and '-', beginning with a letter or digit"
            )
        if name in self._controls:
            raise RegistrationError(f"control {name!r} is registered twice; give the second one another name")
        for role, value in (("function", function), ("probe", probe), ("undo", undo)):
            if value is not None and not callable(value):
                raise RegistrationError(f"control {name!r}: {role} is a {type(value).__name__}, not a function")
        self._controls[name] = HostControl(name, function, idempotent, probe, undo)

    def __getitem__(self, name: str) -> Control:
        return self._controls[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._controls)

    def __len__(self) -> int:
        return len(self._controls)


class _Call:
    """A function of the host, looked at once."""

    __slots__ = ("_async", "_function", "_keyed")

    def __init__(self, function: Function) -> None:
        self._function = function
        self._keyed = _wants_key(function)
        called = getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
        self._async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)

    async def __call__(self, key: str, args: Mapping[str, Any]) -> Any:
        given = dict(args)
        if self._keyed:
            given["key"] = key
        if self._async:
            return await self._function(**given)
        result = await in_thread(functools.partial(self._function, **given))
        return await result if inspect.isawaitable(result) else result


def _wants_key(function: Function) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    return any(
        parameter.kind is parameter.VAR_KEYWORD or (parameter.name == "key" and parameter.kind is not parameter.POSITIONAL_ONLY)
        for parameter in parameters
    )
