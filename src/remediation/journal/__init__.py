"""The IntentJournal, format v1: one signed, append-only log from which all state is derived.

Specification: ``docs/specs/journal-format-v1.md``. This package must not know how storage works (see `store`), nor what entries mean.
"""

from remediation.journal.journal import IntentJournal
from remediation.journal.reading import JournalReader

__all__ = ["IntentJournal", "JournalReader"]
