"""Consent with a real host: asked, answered by SSH signatures, held to what was shown, and void when it is no longer needed."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.hosts import applies, asked, broken, entries_of, is_mended, only, runbook, ticked, types_of

from remediation import DegradationEvent
from remediation.authoring import Bounds, Finding, Plan, RemediationContext, Verdict, WriteFile
from remediation.bootstrap import Host
from remediation.core.incident import Incident
from remediation.errors import ApprovalRefused
from remediation.keys.ssh import sign
from remediation.model.entries import ApprovalDenied, ApprovalExpired, ApprovalGranted, ApprovalRequested, AttemptPlanned
from remediation.ports.channel import Notice
from remediation.testing import FakeClock, eventually, plugin, running_host

NAMESPACE = "remediation-approval"


class Person:
    """Somebody with a key of their own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.generate()

    @property
    def line(self) -> str:
        public = self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return f'{self.name} namespaces="{NAMESPACE}" {public}\n'

    async def answer(self, host: Host, decision: Any = "approve", *, approver: str = "") -> str:
        (request,) = host.approvals.pending()
        document = host.approvals.document(request.approval.id, decision=decision, approver=approver or self.name)
        return await host.approvals.answer(document, sign(document, self.key, NAMESPACE))


ALICE, MALLORY = Person("alice"), Person("mallory")


def consenting(tmp_path: Path, *people: Person, **more: Any) -> dict[str, Any]:
    """The settings of a host on which these people may consent, and each plan asks."""
    file = tmp_path / "allowed_signers"
    file.write_text("".join(person.line for person in people or (ALICE,)))
    return {"profile": "supervised", "approvals": {"allowed_signers": file, **more}}


async def waiting(host: Host, event: DegradationEvent) -> Incident:
    reported = await host.report(event)
    await eventually(lambda: host._state.approvals)
    return host.incident(reported.incident)


async def test_a_plan_that_asks_is_applied_after_consent_and_recorded_with_it(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        (request,) = host.approvals.pending()
        assert request.plan.effects[0].diff
        assert Path(event.subject).read_text() == "broken\n"
        await ALICE.answer(host)
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"
        assert Path(event.subject).read_text() == "mended\n"
        first, second = only(AttemptPlanned, await entries_of(host, incident.id))
        assert (first.gate.decision, second.gate.decision) == ("ask", "proceed")
        assert first.plan == second.plan
        assert "alice consented" in second.gate.reasons[0].reason
        assert not list(host.approvals.pending())


async def test_the_recorded_consent_is_accepted_by_stock_ssh_keygen(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        incident = await waiting(host, broken(tmp_path))
        await ALICE.answer(host)
        (granted,) = only(ApprovalGranted, await entries_of(host, incident.id))
    (tmp_path / "signature").write_text(granted.signature)
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed_signers"), "-I", ALICE.name, "-n", NAMESPACE]
    done = subprocess.run([*command, "-s", str(tmp_path / "signature")], input=granted.document.encode(), check=False)
    assert done.returncode == 0
    assert json.loads(granted.document)["incident"] == incident.id


async def test_a_signed_refusal_withholds_the_plan_and_escalates(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        await ALICE.answer(host, "deny")
        settled = await host.wait_for(incident.id, timeout=10)
        assert settled.status == "escalated"
        assert "denied by alice" in settled.reason
        assert Path(event.subject).read_text() == "broken\n"


async def test_anybody_at_the_inbox_may_deny_but_not_approve(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        incident = await waiting(host, broken(tmp_path))
        (request,) = host.approvals.pending()
        asked(tmp_path, "approve", {"document": "{}", "signature": "none"})
        rejected = tmp_path / "home" / "inbox" / "rejected"
        await eventually(lambda: list(rejected.glob("*.reason")))
        assert host.incident(incident.id).open
        asked(tmp_path, "deny", {"approval_id": request.approval.id, "reason": "not now"})
        settled = await host.wait_for(incident.id, timeout=10)
        assert "not now" in settled.reason
        (denied,) = only(ApprovalDenied, await entries_of(host, incident.id))
        assert denied.approver.startswith("uid:")


async def test_nobody_who_is_not_listed_can_consent_nor_in_the_name_of_another(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        incident = await waiting(host, broken(tmp_path))
        with pytest.raises(ApprovalRefused, match="nobody who may sign"):
            await MALLORY.answer(host)
        with pytest.raises(ApprovalRefused, match="nobody who may sign"):
            await MALLORY.answer(host, approver=ALICE.name)
        assert host.incident(incident.id).open


async def test_one_listed_person_can_not_sign_in_the_name_of_another(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path, ALICE, MALLORY)) as host:
        await waiting(host, broken(tmp_path))
        with pytest.raises(ApprovalRefused, match="mallory"):
            await MALLORY.answer(host, approver=ALICE.name)


async def test_an_answer_counts_once_and_for_one_request_only(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        first = await waiting(host, broken(tmp_path, "one"))
        (request,) = host.approvals.pending()
        document = host.approvals.document(request.approval.id, decision="approve", approver=ALICE.name)
        signature = sign(document, ALICE.key, NAMESPACE)
        await host.approvals.answer(document, signature)
        with pytest.raises(ApprovalRefused):
            await host.approvals.answer(document, signature)
        await host.wait_for(first.id, timeout=10)
        second = await waiting(host, broken(tmp_path, "two"))
        with pytest.raises(ApprovalRefused):
            await host.approvals.answer(document, signature)
        told = json.loads(document) | {"approval_id": host.incident(second.id).approval.id}
        altered = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(ApprovalRefused, match="differs in"):
            await host.approvals.answer(altered, signature)
        assert len(only(ApprovalGranted, await entries_of(host))) == 1


async def test_a_key_that_the_host_could_use_itself_is_refused_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    own = tmp_path / "user"
    (own / ".ssh").mkdir(parents=True, mode=0o700)
    private = ALICE.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (own / ".ssh" / "id_ed25519").write_bytes(private)
    monkeypatch.setenv("HOME", str(own))
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        incident = await waiting(host, broken(tmp_path))
        with pytest.raises(ApprovalRefused, match="allow_local"):
            await ALICE.answer(host)
        assert host.incident(incident.id).open
    async with running_host(tmp_path, runbook(), **consenting(tmp_path, allow_local=True)) as host:
        await eventually(lambda: host._state.approvals)
        await ALICE.answer(host)
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"


async def test_a_request_expires_and_the_incident_is_escalated(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock, **consenting(tmp_path, expires="1h", recheck="2h")) as host:
        incident = await waiting(host, broken(tmp_path))
        (request,) = host.approvals.pending()
        document = host.approvals.document(request.approval.id, decision="approve", approver=ALICE.name)
        await ticked(clock, lambda: not host.incident(incident.id).open, 300)
        settled = host.incident(incident.id)
        assert settled.status == "escalated"
        assert "in time" in settled.reason
        with pytest.raises(ApprovalRefused):
            await host.approvals.answer(document, sign(document, ALICE.key, NAMESPACE))
        assert only(ApprovalExpired, await entries_of(host, incident.id))


async def test_when_the_world_differs_from_what_was_shown_nothing_is_applied_and_it_is_asked_again(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        (request,) = host.approvals.pending()
        Path(event.subject).write_text("somebody else was here\n")
        await ALICE.answer(host)
        await eventually(lambda: (approval := host.incident(incident.id).approval) and approval.id != request.approval.id)
        assert Path(event.subject).read_text() == "somebody else was here\n"
        await ALICE.answer(host)
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"
        entries = await entries_of(host, incident.id)
        assert len(only(ApprovalRequested, entries)) == 2


async def mended_counts_as_gone(ctx: RemediationContext) -> Finding:
    if await ctx.read_text(ctx.event.subject) == "mended\n":
        return Finding.declined("it is mended")
    return await applies(ctx)


async def test_a_request_whose_degradation_is_gone_closes_itself(tmp_path: Path) -> None:
    clock = FakeClock()
    found = runbook(precondition=mended_counts_as_gone)
    async with running_host(tmp_path, found, clock=clock, **consenting(tmp_path, recheck="1m")) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        Path(event.subject).write_text("mended\n")
        await ticked(clock, lambda: not host.incident(incident.id).open, 10)
        settled = host.incident(incident.id)
        assert settled.status == "resolved"
        assert "mended" in settled.reason
        assert settled.acted == 0
        assert not list(host.approvals.pending())


async def test_a_request_that_is_still_needed_stands_however_often_it_is_looked_at(tmp_path: Path) -> None:
    clock, looks = FakeClock(), 0

    async def look(ctx: RemediationContext) -> Finding:
        nonlocal looks
        looks += 1
        return await applies(ctx)

    async with running_host(tmp_path, runbook(precondition=look), clock=clock, **consenting(tmp_path, recheck="1m")) as host:
        incident = await waiting(host, broken(tmp_path))
        before = await types_of(host, incident.id)
        await ticked(clock, lambda: looks >= 4, 20)
        assert await types_of(host, incident.id) == before
        await ALICE.answer(host)
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"


async def test_what_the_reporter_no_longer_sees_needs_no_consent(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        await host._remediator.intake.clear(event.code, event.subsystem, event.subject)
        settled = await host.wait_for(incident.id, timeout=10)
        assert settled.status == "resolved"
        assert settled.acted == 0


async def test_a_request_outlives_a_restart_and_is_answered_through_the_inbox(tmp_path: Path) -> None:
    settings = consenting(tmp_path)
    async with running_host(tmp_path, runbook(), **settings) as host:
        incident = await waiting(host, broken(tmp_path))
        (request,) = host.approvals.pending()
        document = host.approvals.document(request.approval.id, decision="approve", approver=ALICE.name)
    asked(tmp_path, "approve", {"document": document.decode(), "signature": sign(document, ALICE.key, NAMESPACE)})
    async with running_host(tmp_path, runbook(), **settings) as host:
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"


@pytest.mark.parametrize("kind", ["approve", "deny"])
async def test_an_answer_that_was_journaled_before_a_crash_is_no_second_one(tmp_path: Path, kind: str) -> None:
    settings = consenting(tmp_path)
    inbox = tmp_path / "home" / "inbox"
    async with running_host(tmp_path, runbook(), **settings) as host:
        incident = await waiting(host, broken(tmp_path))
        (request,) = host.approvals.pending()
        document = host.approvals.document(request.approval.id, decision="approve", approver=ALICE.name)
    signed = {"document": document.decode(), "signature": sign(document, ALICE.key, NAMESPACE)}
    asked(tmp_path, kind, signed if kind == "approve" else {"approval_id": request.approval.id})
    (message,) = inbox.glob("*.json")
    content = message.read_bytes()
    async with running_host(tmp_path, runbook(), **settings) as host:
        await host.wait_for(incident.id, timeout=10)
        await eventually(lambda: not message.exists())
        message.write_bytes(content)  # as if the host had died before it could take the message away
        await eventually(lambda: not message.exists())
        assert not list(inbox.glob("rejected/*"))
        assert len(only(ApprovalGranted, await entries_of(host)) + only(ApprovalDenied, await entries_of(host))) == 1


async def test_consent_that_was_journaled_right_before_a_host_died_is_used_by_the_next_one(tmp_path: Path) -> None:
    settings = consenting(tmp_path)
    async with running_host(tmp_path, runbook(), **settings) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        await host._remediator._schedule.stop()
        await ALICE.answer(host)
    assert Path(event.subject).read_text() == "broken\n"
    async with running_host(tmp_path, runbook(), **settings) as host:
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"


async def test_a_request_of_an_earlier_host_is_looked_at_as_often_as_any(tmp_path: Path) -> None:
    clock = FakeClock()
    found, settings = runbook(precondition=mended_counts_as_gone), consenting(tmp_path, recheck="1m")
    async with running_host(tmp_path, found, clock=clock, **settings) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
    Path(event.subject).write_text("mended\n")
    async with running_host(tmp_path, found, clock=clock, **settings) as host:
        await ticked(clock, lambda: not host.incident(incident.id).open, 10)
        assert host.incident(incident.id).status == "resolved"


async def test_changed_code_has_to_ask_again(tmp_path: Path) -> None:
    settings = consenting(tmp_path)
    async with running_host(tmp_path, runbook(), **settings) as host:
        incident = await waiting(host, broken(tmp_path))
        (request,) = host.approvals.pending()

    changed = runbook()
    changed.__qualname__ = "Rewritten"
    async with running_host(tmp_path, changed, **settings) as host:
        if host._state.approvals.get(request.approval.id):
            await ALICE.answer(host)
        await eventually(lambda: (approval := host.incident(incident.id).approval) and approval.id != request.approval.id)
        assert host.incident(incident.id).acted == 0


async def test_consent_during_a_pause_is_used_when_the_pause_ends(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        asked(tmp_path, "pause", {"reason": "migration"})
        await eventually(lambda: host._state.pauses)
        await ALICE.answer(host)
        await eventually(lambda: (wait := host.incident(incident.id).wait) is not None and wait.why == "pause")
        assert Path(event.subject).read_text() == "broken\n"
        asked(tmp_path, "resume", {})
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"


async def test_a_person_may_close_an_incident_that_waits_for_consent(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **consenting(tmp_path)) as host:
        incident = await waiting(host, broken(tmp_path))
        asked(tmp_path, "close", {"incident": incident.id, "reason": "done by hand"})
        settled = await host.wait_for(incident.id, timeout=10)
        assert settled.status == "escalated"
        assert not settled.held
        assert not list(host.approvals.pending())


async def test_while_nobody_may_consent_what_asks_goes_to_people(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), profile="supervised") as host:
        settled = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert settled.status == "escalated"
        assert not only(ApprovalRequested, await entries_of(host))


# -- stages ----------------------------------------------------------------------------------------------------------------


def two_stages(tmp_path: Path, *, bounds: Bounds | None) -> type[Any]:
    first, second = (str(tmp_path / "world" / name) for name in ("first", "second"))

    async def action(ctx: RemediationContext) -> Plan:
        if ctx.stage == 0:
            return Plan(WriteFile(path=first, content="1\n"), more=True, bounds=bounds)
        return Plan(WriteFile(path=second, content="2\n"))

    async def verify(ctx: RemediationContext) -> Verdict:
        return Verdict.healthy() if await ctx.exists(second) else Verdict.failed("no")

    return runbook(action=action, verify=verify)


async def test_bounds_let_consent_cover_a_later_stage(tmp_path: Path) -> None:
    bounds = Bounds(kinds=("file.write",), paths=(str(tmp_path / "world" / "second"),), max_effects=1, max_stages=2)
    async with running_host(tmp_path, two_stages(tmp_path, bounds=bounds), **consenting(tmp_path)) as host:
        incident = await waiting(host, broken(tmp_path))
        await ALICE.answer(host)
        assert (await host.wait_for(incident.id, timeout=10)).status == "resolved"
        assert len(only(ApprovalRequested, await entries_of(host, incident.id))) == 1


BEYOND: Sequence[dict[str, Any]] = [
    {"kinds": ("file.delete",)},
    {"paths": ("/elsewhere",)},
    {"max_effects": 1, "kinds": ()},
    {"max_stages": 1},
]


@pytest.mark.parametrize("narrow", BEYOND, ids=lambda item: next(iter(item)))
async def test_a_later_stage_beyond_the_bounds_asks_again_and_a_denial_takes_the_first_back(
    tmp_path: Path, narrow: dict[str, Any]
) -> None:
    wide = {"kinds": ("file.write",), "paths": (str(tmp_path / "world"),), "max_effects": 4, "max_stages": 4}
    async with running_host(tmp_path, two_stages(tmp_path, bounds=Bounds(**{**wide, **narrow})), **consenting(tmp_path)) as host:
        incident = await waiting(host, broken(tmp_path))
        await ALICE.answer(host)
        await eventually(lambda: (tmp_path / "world" / "first").exists() and host._state.approvals)
        await ALICE.answer(host, "deny")
        assert (await host.wait_for(incident.id, timeout=10)).status == "escalated"
        assert not (tmp_path / "world" / "first").exists()
        assert not (tmp_path / "world" / "second").exists()


async def test_verify_is_still_asked_after_consent_and_a_failure_is_taken_back(tmp_path: Path) -> None:
    async def useless(ctx: RemediationContext) -> Plan:
        return Plan(WriteFile(path=ctx.subject_path(), content="useless\n"))

    async with running_host(tmp_path, runbook(action=useless, verify=is_mended), **consenting(tmp_path)) as host:
        event = broken(tmp_path)
        incident = await waiting(host, event)
        await ALICE.answer(host)
        assert (await host.wait_for(incident.id, timeout=10)).status == "heal_failed"
        assert Path(event.subject).read_text() == "broken\n"


class Listening:
    """A channel that keeps what it was given."""

    name = "listening"

    def __init__(self) -> None:
        self.heard: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        self.heard.append(notice)


async def test_people_are_told_of_a_request_with_the_diff_and_reminded_while_it_waits(tmp_path: Path) -> None:
    clock, channel = FakeClock(), Listening()
    settings = consenting(tmp_path, expires="20h", recheck="30h")
    async with running_host(tmp_path, runbook(), plugins=[plugin(channels=[channel])], clock=clock, **settings) as host:
        incident = await waiting(host, broken(tmp_path))
        await eventually(lambda: channel.heard)
        (notice,) = channel.heard
        assert notice.kind == "approval_requested"
        assert "+mended" in notice.analysis
        assert notice.actions[0] == f"remediation approve {host.incident(incident.id).approval.id}"
        await ticked(clock, lambda: len(channel.heard) > 1, 600)
        assert [item.kind for item in channel.heard] == ["approval_requested", "reminder"]
        await ALICE.answer(host)
        await host.wait_for(incident.id, timeout=10)
        await eventually(lambda: channel.heard[-1].kind == "resolved")
