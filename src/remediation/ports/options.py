"""Which model a plugin's class names for its options."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel


def options_type_of(cls: type, base: type) -> type[BaseModel] | None:
    """
    The model of ``class cls(base[Model])``, also where a class between them passes it on; `None` if it names none.

    Raises:
        TypeError: what it names is no pydantic model, and so could not be filled from a table.

    """
    for generic in cls.__dict__.get("__orig_bases__", ()):
        origin = typing.get_origin(generic)
        if not isinstance(origin, type) or not issubclass(origin, base):
            continue
        for argument in typing.get_args(generic):
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                return argument
            if origin is base and argument is not Any and not isinstance(argument, typing.TypeVar):
                raise TypeError(
                    f"{cls.__qualname__}: options are a pydantic model, and {argument!r} is none; derive it from pydantic.BaseModel"
                )
    return None
