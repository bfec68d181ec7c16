"""What people ask of a host through its inbox: close, reopen, report; once each, whatever happens in between."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import asked, broken, entries_of, only, records_of, runbook, types_of

from remediation import Reporter
from remediation.authoring import Finding, RemediationContext, Verdict
from remediation.bootstrap import Host
from remediation.model.entries import IncidentReopened, IncidentSettled
from remediation.settings import Home
from remediation.testing import eventually, running_host


def inbox(tmp_path: Path) -> Path:
    return tmp_path / "home" / "inbox"


async def taken(tmp_path: Path) -> None:
    await eventually(lambda: not list(inbox(tmp_path).glob("*.json")))


def rejected(tmp_path: Path) -> list[str]:
    folder = inbox(tmp_path) / "rejected"
    return sorted(path.read_text().strip() for path in folder.glob("*.reason")) if folder.exists() else []


async def failed(host: Host, tmp_path: Path) -> Any:
    incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
    assert incident.status == "heal_failed"
    return incident


async def never(ctx: RemediationContext) -> Verdict:
    return Verdict.failed("no")


async def test_closing_a_held_incident_lets_go_of_its_fingerprint_and_names_who_did_it(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(verify=never)) as host:
        incident = await failed(host, tmp_path)
        asked(tmp_path, "close", {"incident": incident.id, "reason": "mended by hand"})
        await eventually(lambda: not host.incident(incident.id).held)
        closed = host.incident(incident.id)
        assert closed.status == "heal_failed"
        assert closed.reason == f"closed by uid:{os.getuid()}: mended by hand"
        last = (await records_of(host, incident.id))[-1]
        assert last.head.actor == f"uid:{os.getuid()}"
        assert (await host.report(broken(tmp_path))).opened


async def test_an_incident_can_be_named_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(verify=never)) as host:
        incident = await failed(host, tmp_path)
        asked(tmp_path, "close", {"incident": incident.id[:5]})
        await eventually(lambda: rejected(tmp_path))
        assert host.incident(incident.id).held
        asked(tmp_path, "close", {"incident": incident.id[:8]})
        await eventually(lambda: not host.incident(incident.id).held)


async def test_closing_an_incident_that_waits_escalates_it(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook()) as host:
        asked(tmp_path, "pause", {})
        await taken(tmp_path)
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).wait)
        asked(tmp_path, "close", {"incident": reported.incident})
        incident = await host.wait_for(reported, timeout=10)
        assert (incident.status, incident.held) == ("escalated", False)
        asked(tmp_path, "resume", {})
        await taken(tmp_path)
        assert Path(incident.event.subject).read_text() == "broken\n"


async def test_an_incident_that_is_acted_on_can_not_be_closed(tmp_path: Path) -> None:
    import asyncio

    gate = asyncio.Event()

    async def look(ctx: RemediationContext) -> Verdict:
        await gate.wait()
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(verify=look)) as host:
        reported = await host.report(broken(tmp_path))
        await eventually(lambda: host.incident(reported.incident).attempts)
        asked(tmp_path, "close", {"incident": reported.incident})
        await eventually(lambda: rejected(tmp_path))
        assert "being acted on" in rejected(tmp_path)[0]
        gate.set()
        assert (await host.wait_for(reported, timeout=10)).status == "resolved"


async def test_a_reopened_incident_is_handled_again_from_the_top(tmp_path: Path) -> None:
    tries: list[str] = []

    async def third_time(ctx: RemediationContext) -> Verdict:
        tries.append(ctx.incident.id)
        return Verdict.healthy() if len(tries) == 3 else Verdict.failed("no")

    books = [runbook(name, verify=third_time) for name in ("a", "b")]
    async with running_host(tmp_path, *books, limits={"attempts_per_incident": 2}) as host:
        incident = await failed(host, tmp_path)
        asked(tmp_path, "reopen", {"incident": incident.id, "reason": "try again"})
        await eventually(lambda: host.incident(incident.id).status == "resolved")
        reopened = host.incident(incident.id)
        assert [attempt.runbook for attempt in reopened.attempts] == ["a", "b", "a"]
        (entry,) = only(IncidentReopened, await entries_of(host, incident.id))
        assert (entry.reason, entry.ladder) == ("try again", ("a", "b"))


async def test_an_unmatched_incident_can_be_reopened_once_there_is_a_runbook(tmp_path: Path) -> None:
    async with running_host(tmp_path) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "escalated"
    async with running_host(tmp_path, runbook()) as host:
        asked(tmp_path, "reopen", {"incident": incident.id})
        await eventually(lambda: host.incident(incident.id).status == "resolved")


async def test_reopening_lifts_the_fence_and_closing_does_too(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(verify=never)) as host:
        incident = await failed(host, tmp_path)
        for kind in ("reopen", "close"):
            host._state.fenced[incident.event.subject] = incident.id
            asked(tmp_path, kind, {"incident": incident.id})
            await eventually(lambda: not host._state.fenced)
            await eventually(lambda: not host.incident(incident.id).open)


async def test_a_resolved_incident_is_not_reopened_while_a_newer_one_is_handled(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), limits={"cooldown": 0}) as host:
        first = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        asked(tmp_path, "pause", {})
        await taken(tmp_path)
        second = await host.report(broken(tmp_path))
        asked(tmp_path, "reopen", {"incident": first.id})
        await eventually(lambda: rejected(tmp_path))
        assert second.incident in rejected(tmp_path)[0]


@pytest.mark.parametrize(
    ("kind", "document", "why"),
    [
        ("close", {}, "incident"),
        ("close", {"incident": "0000000000000000-none"}, "no incident"),
        ("reopen", {"incident": ""}, "no incident"),
        ("report", {"code": "X"}, "required"),
        ("report", {"code": "no code", "subsystem": "s", "subject": "x"}, "letters"),
        ("report", {"code": "X", "subsystem": "s", "subject": "x", "severity": "P9"}, "P0"),
        ("report", {"code": "X", "subsystem": "s", "subject": "x", "extra": 1}, "permitted"),
        ("dance", {}, "dance"),
    ],
)
async def test_what_can_not_be_done_is_put_aside_with_the_reason_and_the_rest_is_done(
    tmp_path: Path, kind: str, document: dict[str, Any], why: str
) -> None:
    async with running_host(tmp_path, runbook()) as host:
        asked(tmp_path, kind, document)
        event = broken(tmp_path)
        Reporter(Home(tmp_path / "home")).report(event)
        await eventually(lambda: [item for item in host.incidents() if item.status == "resolved"])
        assert len(rejected(tmp_path)) == 1
        assert why in rejected(tmp_path)[0]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"v":2,"kind":"report","document":{}}', b"\xff" * 100, b"x" * (1024 * 1024 + 1)]
)
async def test_files_that_are_no_messages_are_put_aside(tmp_path: Path, content: bytes) -> None:
    async with running_host(tmp_path, runbook()) as host:
        name = f"{1:020d}-{'0' * 32}.json"
        (inbox(tmp_path) / name).write_bytes(content)
        await eventually(lambda: rejected(tmp_path))
        assert (inbox(tmp_path) / "rejected" / name).read_bytes() == content
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"


async def test_a_request_that_was_journaled_before_a_crash_is_not_carried_out_twice(tmp_path: Path) -> None:
    async def decline(ctx: RemediationContext) -> Finding:
        return Finding.declined("not mine")

    async with running_host(tmp_path, runbook(precondition=decline)) as host:
        event = broken(tmp_path)
        Reporter(Home(tmp_path / "home")).report(event)
        (message,) = inbox(tmp_path).glob("*.json")
        content = message.read_bytes()
        await eventually(lambda: [item for item in host.incidents() if not item.open])
        await taken(tmp_path)
        # As if the host had been killed between the entry and the removal of the file.
        for _ in range(3):
            message.write_bytes(content)
            await taken(tmp_path)
        (incident,) = host.incidents()
        assert incident.reports == 1
        assert host._remediator.intake.count_of(incident) == 1
        document = json.loads(content)
        document["document"]["observed_at"] = None
        message.write_text(json.dumps(document))
        await taken(tmp_path)
        assert not rejected(tmp_path)
        assert (await types_of(host)).count("degradation.reported") == 1


async def test_reports_are_taken_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    async with running_host(tmp_path, watch=False, limits={"storm_subjects": 1000}) as host:
        reporter = Reporter(Home(tmp_path / "home"))
        for number in range(300):
            asked_at = broken(tmp_path, f"f{number}")
            reporter.report(asked_at.model_copy(update={"observed_at": 1_000_000 + number}))
        await host.settle()
        subjects = [entry.event.subject for entry in await entries_of(host) if entry.type == "degradation.reported"]
        assert subjects == [str(tmp_path / "world" / f"f{number}") for number in range(300)]
        assert len(only(IncidentSettled, await entries_of(host))) == 300
