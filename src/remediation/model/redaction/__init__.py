"""
Redaction: secrets are masked before anything is journaled, cut or hashed.

Pure: patterns, values and texts in, texts out. Must not do I/O, and must not know who calls it. `journaled` and `plans`, which know
events, entries and plans, are imported by name.
"""

from remediation.model.redaction.redactor import Redactor
from remediation.model.redaction.rules import Rule, masked

__all__ = ["Redactor", "Rule", "masked"]
