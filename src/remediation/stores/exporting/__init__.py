"""
Hands a stored journal to others, entry by entry and in constant memory: as the export that proves itself, or in the forms of pipelines.

Every record carries its entry's position and leaf hash, so that it can be traced to the log: `journal prove` shows that the entry with
that hash stands at that position. This package needs public keys only, reads one consistent state also beside a running host, and must
not decide where anything goes: its callers hand in a function that takes bytes. What is on its way is read in one transaction: as long
as it lasts, SQLite keeps what the host appends in the write-ahead log.
"""

from __future__ import annotations

from remediation.stores.exporting.cloudevents import CloudEvents
from remediation.stores.exporting.jsonl import export_journal
from remediation.stores.exporting.ocsf import Ocsf
from remediation.stores.exporting.otlp import OtlpLogs
from remediation.stores.exporting.records import Encoder, ExportedEntry, Selection, export_records

__all__ = [
    "CloudEvents",
    "Encoder",
    "ExportedEntry",
    "Ocsf",
    "OtlpLogs",
    "Selection",
    "export_journal",
    "export_records",
]
