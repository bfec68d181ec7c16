"""
The IntentJournal, format v1: one signed, append-only log from which all state is derived.

Specification: ``docs/specs/journal-format-v1.md``. This package must not know how storage works (see `store`), nor what entries
mean. Its names are loaded on first use, because `inbox` is for short-lived commands that need nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remediation.journal.journal import IntentJournal
    from remediation.journal.reading import JournalReader

_MODULES = {"IntentJournal": "remediation.journal.journal", "JournalReader": "remediation.journal.reading"}
__all__ = ["IntentJournal", "JournalReader"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'remediation.journal' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
