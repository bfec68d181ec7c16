"""Channels: how people are told."""

from __future__ import annotations

from typing import Protocol

from remediation.model.base import Frozen, Severity


class Notice(Frozen):
    """One message to people about an incident."""

    kind: str
    """``escalated``, ``heal_failed``, ``resolved``, ``reminder`` (of what is held, or waits for consent), ``approval_requested``,
    ``held_back`` (it waits for others, nobody knows until when), ``runbook_failed`` (an essential one),
    ``runbook_quarantined``, ``host_failed``, ``host_recovered``, ``anchor_failed``, ``anchor_recovered``."""
    incident: str
    code: str
    subsystem: str
    subject: str
    severity: Severity
    title: str
    analysis: str = ""
    actions: tuple[str, ...] = ()


class Channel(Protocol):
    """
    A way to reach people.

    Non-guarantee: a notice may be sent twice after a crash, never silently not at all: what a channel raises is logged and retried.
    """

    name: str

    async def send(self, notice: Notice) -> None:
        """Deliver `notice`, or raise."""
