"""Incidents that wait for others: who may go on when a place is free, or one more subject is well."""

from __future__ import annotations

import itertools

from remediation.core.incident import Incident
from remediation.engine.schedule import Schedule
from remediation.engine.session import Staff

LOOKED_AT = 16
"""Incidents of which one may go on at a time; the sweep looks at all."""


class HeldBack:
    """Those that this host has seen begin to wait, in that order."""

    def __init__(self, staff: Staff, schedule: Schedule) -> None:
        self._staff = staff
        self._schedule = schedule
        self._waiting: dict[str, None] = {}

    def note(self, incident: Incident) -> None:
        """`incident` changed: it waits for others, or what it did makes room for one. What becomes of that one makes room for the next."""
        wait = incident.wait
        if wait is not None and wait.why == "limit" and wait.until == 0:
            self._waiting[incident.id] = None
        elif self._waiting:
            self._waiting.pop(incident.id, None)
            if not incident.open or incident.current is None:
                self._wake_next()

    def _wake_next(self) -> None:
        incidents = self._staff.state.incidents
        for id_ in list(itertools.islice(self._waiting, LOOKED_AT)):
            incident = incidents.get(id_)
            if incident is not None and not self._schedule.holds(id_) and not self._staff.held_back(incident):
                self._schedule.ready(incident)
                return
