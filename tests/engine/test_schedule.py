"""The schedule of treatments, by itself."""

import asyncio

from tests.support.folding import Ledger

from remediation.engine.schedule import Schedule
from remediation.model.base import epoch_ms
from remediation.ports.clock import SystemClock
from remediation.testing import eventually


async def test_a_timer_that_comes_while_its_incident_is_treated_is_over_with_that_treatment() -> None:
    clock, incident, runs = SystemClock(), Ledger().report(), 0

    async def work(_: str) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            schedule.ready(incident)  # something came meanwhile: it is looked at again
            schedule.at(incident, epoch_ms(clock.now()) + 20)
        else:
            await asyncio.sleep(0.1)

    schedule = Schedule(work, 4, clock)
    schedule.start()
    schedule.ready(incident)
    await eventually(lambda: runs == 2 and schedule.idle.is_set())
    assert schedule.due() == {}
    assert not schedule.holds(incident.id)
    await schedule.stop()
