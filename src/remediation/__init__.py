"""
A long-running host heals itself, and proves afterwards what it did.

Importing this package starts nothing, reads no file and opens no socket; names are loaded on first use, so that
`remediation.proof` can be used alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remediation.bootstrap import Host, RemediatorBootstrap, Reporter
    from remediation.context import RemediationContext
    from remediation.coordination.lease import PrimaryAggregatorLease
    from remediation.coordination.machine_lock import MachineLock
    from remediation.core.incident import Incident
    from remediation.core.trust import TrustElevationSource
    from remediation.errors import RemediationError
    from remediation.journal import IntentJournal
    from remediation.keys.vault import RemediationKeyVault
    from remediation.model.base import Severity
    from remediation.model.events import DegradationEvent
    from remediation.settings import Settings

__version__ = "0.1.0"
_HOMES = {
    "DegradationEvent": "remediation.model.events",
    "Host": "remediation.bootstrap",
    "Incident": "remediation.core.incident",
    "IntentJournal": "remediation.journal",
    "MachineLock": "remediation.coordination.machine_lock",
    "PrimaryAggregatorLease": "remediation.coordination.lease",
    "RemediationContext": "remediation.context",
    "RemediationError": "remediation.errors",
    "RemediationKeyVault": "remediation.keys.vault",
    "RemediatorBootstrap": "remediation.bootstrap",
    "Reporter": "remediation.bootstrap",
    "Settings": "remediation.settings",
    "Severity": "remediation.model.base",
    "TrustElevationSource": "remediation.core.trust",
}
__all__ = [
    "DegradationEvent",
    "Host",
    "Incident",
    "IntentJournal",
    "MachineLock",
    "PrimaryAggregatorLease",
    "RemediationContext",
    "RemediationError",
    "RemediationKeyVault",
    "RemediatorBootstrap",
    "Reporter",
    "Settings",
    "Severity",
    "TrustElevationSource",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'remediation' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
