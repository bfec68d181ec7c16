"""A running host, as the embedding program sees it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from remediation.bootstrap.pulse import Pulse
from remediation.bootstrap.reporter import must_be_event
from remediation.coordination.beats import PACE
from remediation.core.incident import Incident
from remediation.core.state import HostState
from remediation.engine.approvals import Approvals
from remediation.engine.intake import Reported
from remediation.engine.remediator import Remediator
from remediation.engine.requests import Requests
from remediation.engine.trusting import Trust
from remediation.engine.watching import Sentinels
from remediation.journal import IntentJournal
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.text import printable

_REPORT = re.compile(r"[0-9a-f]{32}")


class Host:
    """A running host. Made by `RemediatorBootstrap.start`; belongs to its event loop."""

    def __init__(
        self,
        instance: str,
        journal: IntentJournal,
        state: HostState,
        remediator: Remediator,
        sentinels: Sentinels,
        requests: Requests,
        approvals: Approvals,
        trust: Trust,
        pulse: Pulse,
    ) -> None:
        self.instance = instance
        self.journal = journal
        self._state = state
        self._remediator = remediator
        self._sentinels = sentinels
        self._requests = requests
        self.approvals = approvals
        """What waits for a person's consent, and how it is answered."""
        self.trust = trust
        """People's grants of trust beyond the profile: which there are, how one is given and revoked."""
        self._pulse = pulse
        self._stopped = asyncio.Event()
        self.stopped_because = ""

    async def report(self, event: DegradationEvent) -> Reported:
        """
        Publish a degradation; returns when it is durable. Healing goes on beside the caller.

        Raises:
            HostStopped, JournalError: it is not durable; report it again.
            TypeError: `event` is no `DegradationEvent`.

        """
        must_be_event(event)
        return await self._remediator.report(event, Provenance.NATIVE)

    async def wait_for(self, reported: Reported | str, timeout: float | None = None) -> Incident:
        """
        Wait until the incident of a report is settled.

        Args:
            reported: What `report` returned, the id of an incident, or the id that `Reporter.report` returned: of the report that
                opened the incident.
            timeout: Seconds.

        Raises:
            TimeoutError: it is still open; healing goes on.
            HostStopped: the host stopped before.
            KeyError: no such incident; from `Reporter`, it may not have been taken in yet.

        """
        id_ = reported.incident if isinstance(reported, Reported) else self._incident_id(reported)
        try:
            async with asyncio.timeout(timeout):
                return await self._remediator.settled(id_)
        except KeyError:
            raise _unknown(id_) from None
        except TimeoutError:
            raise TimeoutError(f"incident {id_} is not settled yet{self._waits(id_)}; healing goes on") from None

    def _waits(self, id_: str) -> str:
        incident = self._state.incidents.get(id_)
        wait = incident.wait if incident is not None else None
        return f": it waits, {wait.reason}" if wait is not None and wait.reason else ""

    def incidents(self) -> list[Incident]:
        """Incidents that are open, held, or settled not long ago, oldest first. All of history is in `journal`."""
        return list(self._state.incidents.values())

    def incident(self, id_: str) -> Incident:
        """
        One of `incidents`, by its id or by that of the report that opened it.

        Non-guarantee: it may be ahead of the disk by the commit under way; what `wait_for` returns is durable.

        Raises:
            KeyError: no such incident is known.

        """
        try:
            return self._state.incidents[self._incident_id(id_)]
        except KeyError:
            raise _unknown(id_) from None

    def _incident_id(self, id_: str) -> str:
        """`id_`, or the incident that the report of this id opened."""
        if not _REPORT.fullmatch(id_):
            return id_
        return next((known for known in self._state.incidents if known.endswith(f"-{id_[:12]}")), id_)

    @property
    def halted(self) -> str:
        """Why nothing is applied at present (the journal can't be written); empty when all is well."""
        return self._remediator.halted

    def on_beat(self, listener: Callable[[], None], every: float = PACE) -> None:
        """
        Have `listener` called about every `every` seconds while the event loop runs and the journal answers and can be written.

        For a service manager or a supervisor of the embedding program: when it is not called any more, the host is stuck. It must
        return at once. Also in the home's ``hosts/<instance>.json``, see `remediation.coordination.beats`.
        """
        self._pulse.listen(listener, every)

    async def settle(self) -> dict[str, int]:
        """
        Take in the inbox, have each sentinel look once, and treat what can be settled now.

        Returns:
            The incidents that wait, each with the time until when, in milliseconds since 1970 UTC.

        """
        await self._requests.take_in()
        await self._sentinels.check_once()
        await self._requests.take_in()
        return await self._remediator.quiet()

    def stop(self, reason: str = "asked to stop") -> Awaitable[None]:
        """
        Ask the host to stop; leaving ``async with boot.start()`` does it.

        What it returns may be awaited or ignored: it is `stopped`, and comes at once.
        """
        self.stopped_because = self.stopped_because or reason
        self._stopped.set()
        return _Asked(self._stopped)

    async def stopped(self) -> None:
        """Return once somebody called `stop`."""
        await self._stopped.wait()


class _Asked:
    """`Host.stopped`, for whoever awaits it; nothing is left over if nobody does."""

    def __init__(self, stopped: asyncio.Event) -> None:
        self._stopped = stopped

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._stopped.wait().__await__()


def _unknown(id_: str) -> KeyError:
    if _REPORT.fullmatch(id_):
        return KeyError(
            f"no incident that the report {id_} opened is known: it was not taken in yet, or it was taken into one that was there; "
            "host.incidents() lists them"
        )
    return KeyError(f"no incident {printable(id_)} is known; host.incidents() lists them, and all of history is in host.journal")
