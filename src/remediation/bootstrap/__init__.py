"""
The one place that wires everything: a home is initialised here, and a host is started, in the right order.

Nothing below imports this package; nothing in it decides. Its names are loaded on first use, because reporting must be quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remediation.bootstrap.host import Host
    from remediation.bootstrap.opening import initialise, initialised, open_journal, open_reader
    from remediation.bootstrap.reporter import Reporter
    from remediation.bootstrap.start import RemediatorBootstrap
    from remediation.bootstrap.vault import open_vault
    from remediation.engine.intake import Reported

_HOMES = {
    "Host": "remediation.bootstrap.host",
    "RemediatorBootstrap": "remediation.bootstrap.start",
    "Reported": "remediation.engine.intake",
    "Reporter": "remediation.bootstrap.reporter",
    "initialise": "remediation.bootstrap.opening",
    "initialised": "remediation.bootstrap.opening",
    "open_journal": "remediation.bootstrap.opening",
    "open_reader": "remediation.bootstrap.opening",
    "open_vault": "remediation.bootstrap.vault",
}
__all__ = [
    "Host",
    "RemediatorBootstrap",
    "Reported",
    "Reporter",
    "initialise",
    "initialised",
    "open_journal",
    "open_reader",
    "open_vault",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'remediation.bootstrap' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
