"""Different subjects at the same time, one subject one at a time, and who waits for what."""

import asyncio
import threading
from pathlib import Path

import pytest
from tests.support.hosts import broken, records_of, runbook

from remediation import DegradationEvent, Reporter
from remediation.authoring import Finding, RemediationContext, Verdict
from remediation.errors import HostStopped
from remediation.settings import Home
from remediation.testing import eventually, running_host


class Crowd:
    """Counts who is inside at the same time, by subject."""

    def __init__(self, wanted: int = 1) -> None:
        self.wanted = wanted
        """How many shall be inside together once, before anybody leaves."""
        self.inside: dict[str, int] = {}
        self.most = 0
        self.most_of_one = 0
        self.entered = 0

    async def __call__(self, ctx: RemediationContext) -> Finding:
        subject = ctx.event.subject
        self.entered += 1
        self.inside[subject] = self.inside.get(subject, 0) + 1
        self.most = max(self.most, sum(self.inside.values()))
        self.most_of_one = max(self.most_of_one, self.inside[subject])
        await eventually(lambda: self.most >= self.wanted)
        await asyncio.sleep(0.01)
        self.inside[subject] -= 1
        return Finding.declined("seen enough")


@pytest.mark.parametrize("places", [1, 4, 16])
async def test_as_many_subjects_as_there_are_places_are_treated_at_a_time(tmp_path: Path, places: int) -> None:
    crowd = Crowd(places)
    async with running_host(tmp_path, runbook(precondition=crowd), limits={"concurrency": places}) as host:
        reported = [await host.report(broken(tmp_path, f"f{number}")) for number in range(3 * places)]
        for item in reported:
            await host.wait_for(item, timeout=20)
        assert crowd.entered == 3 * places
        assert crowd.most == places


async def test_incidents_of_one_subject_are_treated_one_after_the_other(tmp_path: Path) -> None:
    crowd = Crowd()
    codes = [f"CODE{number}" for number in range(10)]
    books = [runbook(f"book-{number}", code=code, precondition=crowd) for number, code in enumerate(codes)]
    async with running_host(tmp_path, *books) as host:
        events = [broken(tmp_path, name, code=code) for code in codes for name in ("one", "two")]
        reported = [await host.report(event) for event in events]
        for item in reported:
            await host.wait_for(item, timeout=20)
        assert crowd.entered == 20
        assert crowd.most_of_one == 1
        assert crowd.most == 2


async def test_a_busy_subject_does_not_keep_others_from_being_treated(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(ctx: RemediationContext) -> Finding:
        await gate.wait()
        return Finding.declined("at last")

    books = [runbook(f"slow-{number}", code=f"SLOW{number}", precondition=slow) for number in range(8)]
    async with running_host(tmp_path, *books, runbook(), limits={"concurrency": 2}) as host:
        waiting = [await host.report(broken(tmp_path, "same", code=f"SLOW{number}")) for number in range(8)]
        for number in range(5):
            quick = await host.wait_for(await host.report(broken(tmp_path, f"quick{number}")), timeout=10)
            assert quick.status == "resolved"
        gate.set()
        for item in waiting:
            await host.wait_for(item, timeout=10)


async def test_a_thousand_incidents_are_all_settled(tmp_path: Path) -> None:
    limits = {"changes_per_hour": 10_000, "runbook_changes": 10_000, "storm_subjects": 10_000}
    async with running_host(tmp_path, runbook(), limits=limits) as host:
        events = [broken(tmp_path, f"f{number}") for number in range(1000)]

        async def one(event: DegradationEvent) -> str:
            return (await host.wait_for(await host.report(event), timeout=60)).status.value

        said = await asyncio.gather(*(one(event) for event in events))
        assert said == ["resolved"] * 1000
        assert all(path.read_text() == "mended\n" for path in (tmp_path / "world").iterdir())
        records = await records_of(host)
        assert [record.seq for record in records] == list(range(len(records)))


# -- wait_for ------------------------------------------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_settled_incident_for_all_who_wait(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def look(ctx: RemediationContext) -> Verdict:
        await gate.wait()
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=look)) as host:
        reported = await host.report(broken(tmp_path))
        waiting = [asyncio.ensure_future(host.wait_for(item)) for item in (reported, reported.incident) * 10]
        await eventually(lambda: host.incident(reported.incident).attempts)
        gate.set()
        said = await asyncio.wait_for(asyncio.gather(*waiting), 10)
        assert {incident.status for incident in said} == {"resolved"}
        # And at once for whoever comes later.
        assert (await host.wait_for(reported, timeout=0.5)).status == "resolved"


async def test_waiting_times_out_and_healing_goes_on(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def look(ctx: RemediationContext) -> Verdict:
        await gate.wait()
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=look)) as host:
        reported = await host.report(broken(tmp_path))
        with pytest.raises(TimeoutError):
            await host.wait_for(reported, timeout=0.05)
        gate.set()
        assert (await host.wait_for(reported, timeout=10)).status == "resolved"


async def test_waiting_for_what_never_was_is_an_error(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        for name in ("0123456789abcdef-0123456789ab", "nonsense", ""):
            with pytest.raises(KeyError):
                await host.wait_for(name, timeout=1)


async def test_waiting_ends_with_the_host_and_the_incident_goes_on_with_the_next(tmp_path: Path) -> None:
    async def look(ctx: RemediationContext) -> Verdict:
        await asyncio.Event().wait()
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=look)) as host:
        reported = await host.report(broken(tmp_path))
        waiting = asyncio.ensure_future(host.wait_for(reported))
        await eventually(lambda: host.incident(reported.incident).attempts)
    with pytest.raises(HostStopped, match="next start"):
        await asyncio.wait_for(waiting, 5)
    async with running_host(tmp_path, runbook()) as host:
        assert (await host.wait_for(reported.incident, timeout=10)).status == "resolved"


async def test_an_incident_that_was_forgotten_is_read_back_for_whoever_waits_for_it(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        reported = await host.report(broken(tmp_path))
        await host.wait_for(reported, timeout=10)
        host._state.incidents.pop(reported.incident)
        assert (await host.wait_for(reported, timeout=5)).status == "resolved"


async def test_an_incident_is_durable_when_waiting_for_it_ends(tmp_path: Path) -> None:
    from remediation.bootstrap import open_reader

    async with running_host(tmp_path, runbook()) as host:
        for number in range(9):
            incident = await host.wait_for(await host.report(broken(tmp_path, f"f{number}")), timeout=10)
            async with open_reader(Home(tmp_path / "home")) as reader:
                fingerprint, _, rest = incident.id.partition("-")
                types = [record.head.type async for record in reader.read(stream=f"incident/{fingerprint}/{rest}")]
            assert types[-1] == "incident.settled"


# -- reporting from elsewhere ----------------------------------------------------------------------------------------------------------


async def test_many_threads_report_without_a_loop_and_nothing_is_lost(tmp_path: Path) -> None:
    async with running_host(
        tmp_path, runbook(), limits={"changes_per_hour": 10_000, "runbook_changes": 10_000, "storm_subjects": 10_000}
    ) as host:
        reporter = Reporter(Home(tmp_path / "home"))
        events = [[broken(tmp_path, f"t{thread}-{number}") for number in range(25)] for thread in range(8)]
        threads = [threading.Thread(target=lambda some=some: [reporter.report(event) for event in some]) for some in events]
        for thread in threads:
            thread.start()
        wanted = {event.subject for some in events for event in some}
        await eventually(
            lambda: {item.event.subject for item in host.incidents() if item.status == "resolved"} == wanted, within=60
        )
        for thread in threads:
            thread.join()
        assert len(host.incidents()) == len(wanted)


async def test_what_was_reported_while_no_host_ran_is_handled_by_the_next_one(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()):
        pass
    reporter = Reporter(Home(tmp_path / "home"))
    ids = [reporter.report(broken(tmp_path, f"f{number}")) for number in range(10)]
    assert len(set(ids)) == 10
    async with running_host(tmp_path, runbook()) as host:
        await eventually(lambda: len([item for item in host.incidents() if item.status == "resolved"]) == 10)


async def test_settle_takes_in_what_is_there_treats_it_and_says_what_waits(tmp_path: Path) -> None:
    async def wait(ctx: RemediationContext) -> object:
        from remediation.authoring import Wait

        return Wait("10m", "not yet")

    async with running_host(tmp_path, runbook(), runbook("waits", code="WAITS", action=wait), watch=False) as host:
        reporter = Reporter(Home(tmp_path / "home"))
        for number in range(5):
            reporter.report(broken(tmp_path, f"f{number}"))
        reporter.report(broken(tmp_path, "w", code="WAITS"))
        due = await asyncio.wait_for(host.settle(), 20)
        statuses = sorted(item.status.value for item in host.incidents())
        assert statuses == ["open", *["resolved"] * 5]
        assert list(due) == [item.id for item in host.incidents() if item.open]
