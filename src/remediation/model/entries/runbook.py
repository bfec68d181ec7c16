"""Entries of a runbook's life. Stream: ``runbook/<id>``."""

from __future__ import annotations

from typing import ClassVar

from remediation.model.entries.base import Entry
from remediation.model.runbook import RunbookSpec


class RunbookRegistered(Entry):
    """The host knows a runbook with this code for the first time; it observes until promoted."""

    type: ClassVar[str] = "runbook.registered"
    runbook: str
    code_digest: str
    plugin: str
    spec: str
    """The spec as JSON text."""
    deprecated: str = ""
    """Why it should not be used any more, as its spec says; then it never acts."""

    @classmethod
    def of(cls, spec: RunbookSpec, code_digest: str, plugin: str) -> RunbookRegistered:
        """The entry for a spec."""
        return cls(runbook=spec.id, code_digest=code_digest, plugin=plugin, spec=spec.model_dump_json(), deprecated=spec.deprecated)


class RunbookPromoted(Entry):
    """The runbook may act (`live`), by configuration or by a person, with exactly this code."""

    type: ClassVar[str] = "runbook.promoted"
    runbook: str
    code_digest: str
    by: str
    reason: str = ""


class RunbookDegraded(Entry):
    """The runbook gave cause for concern; it may still act."""

    type: ClassVar[str] = "runbook.degraded"
    runbook: str
    reason: str


class RunbookQuarantined(Entry):
    """The runbook may no longer act; it observes until released."""

    type: ClassVar[str] = "runbook.quarantined"
    runbook: str
    by: str
    reason: str


class RunbookReleased(Entry):
    """
    A person ended the quarantine; the runbook is `registered` again.

    For an essential runbook a second person consented: `document` and `signature` can be checked with ``ssh-keygen -Y verify``.
    """

    type: ClassVar[str] = "runbook.released"
    runbook: str
    by: str
    reason: str = ""
    approver: str = ""
    document: str = ""
    signature: str = ""


class RunbookFaulted(Entry):
    """The runbook's own code failed: it raised, hung, or returned what it must not."""

    type: ClassVar[str] = "runbook.faulted"
    runbook: str
    step: str
    """``matches``, ``precondition``, ``action``, ``verify``, ``escalate``."""
    error: str
    incident: str = ""
