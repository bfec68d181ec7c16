"""
What an operator configures (`Settings`, the file ``remediation.toml``), and where a host keeps its things (`Home`).

This package must not open the journal, read a key, or know what a plugin's options mean: those tables are handed on as they are.
"""

from remediation.settings.approvals import Approvals
from remediation.settings.document import Settings
from remediation.settings.home import DEFAULT_HOME, HOME_VARIABLE, Home
from remediation.settings.limits import Limits, Trust
from remediation.settings.tables import (
    Channels,
    Disposables,
    Effects,
    Gate,
    HostTable,
    Keys,
    Ladder,
    RunbookTable,
)
from remediation.settings.template import new_host_id, template

__all__ = [
    "DEFAULT_HOME",
    "HOME_VARIABLE",
    "Approvals",
    "Channels",
    "Disposables",
    "Effects",
    "Gate",
    "Home",
    "HostTable",
    "Keys",
    "Ladder",
    "Limits",
    "RunbookTable",
    "Settings",
    "Trust",
    "new_host_id",
    "template",
]
