"""How folded state is kept in a snapshot: a pickle of our own values, from which nothing else can be made."""

from __future__ import annotations

import io
import pickle
from typing import Any

_OURS = ("remediation.core.", "remediation.model.")
_BUILTIN = {
    *(("builtins", name) for name in ("bytearray", "frozenset", "set")),
    *(("collections", name) for name in ("Counter", "OrderedDict", "deque")),
}


def dumps(value: Any) -> bytes:
    """`value` for `loads`."""
    return pickle.dumps(value, protocol=5)


def loads(content: bytes) -> Any:
    """
    What `dumps` was given, by the same code.

    Only classes of the model and of this package are ever made, so that a snapshot that somebody else wrote can lie, and can't act.

    Raises:
        Exception: of any kind; it is not what `dumps` returned.

    """
    return _Unpickler(io.BytesIO(content)).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _BUILTIN:
            return super().find_class(module, name)
        # A name with a dot leads through a module to whatever that imports.
        if module.startswith(_OURS) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"a snapshot holds no {module}.{name}")
