"""One place that keeps a context from being used when it is no longer valid."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=type)


def only_while_valid(*, but: tuple[str, ...]) -> Callable[[C], C]:
    """
    For a class with a method ``_alive``, which raises: has it called at each use of a public property or method, `but` of these.

    So no member can be forgotten. What an async method does begins when it is awaited, and it is asked then.
    """

    def decorate(cls: C) -> C:
        for name, member in list(vars(cls).items()):
            if name.startswith("_") or name in but:
                continue
            if isinstance(member, property) and member.fget is not None:
                setattr(cls, name, property(_checked(member.fget)))
            elif inspect.isfunction(member):
                setattr(cls, name, _checked(member))
        return cls

    return decorate


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def awaited(self: Any, *args: Any, **named: Any) -> Any:
            self._alive()
            return await method(self, *args, **named)

        return awaited

    @functools.wraps(method)
    def called(self: Any, *args: Any, **named: Any) -> Any:
        self._alive()
        return method(self, *args, **named)

    return called
