"""Trust with a real host: what people grant and what a record earns, for how far, until when, and how it ends."""

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.support.hosts import asked, broken, entries_of, is_mended, only, records_of, runbook

from remediation import DegradationEvent
from remediation.authoring import Finding, Plan, RemediationContext, RunCommand, Verdict, WriteFile
from remediation.bootstrap import Host, open_journal
from remediation.core.incident import Incident
from remediation.core.state import HostState
from remediation.core.trust import TrustElevationSource
from remediation.engine.casefile import CaseFile
from remediation.errors import GrantRefused
from remediation.journal import IntentJournal
from remediation.keys.ssh import sign
from remediation.model import canonical
from remediation.model.entries import (
    AttemptPlanned,
    RunbookPromoted,
    RunbookQuarantined,
    RunbookRegistered,
    TrustGranted,
    TrustRefused,
    TrustRequested,
    TrustRevoked,
)
from remediation.ports.clock import SystemClock
from remediation.settings import Home
from remediation.testing import FakeClock, eventually, running_host, settings_in

NAMESPACE = "remediation-trust"
DAY = 24 * 3_600_000


class Person:
    """Somebody with a key of their own, and what it may sign for."""

    def __init__(self, name: str, namespaces: str = NAMESPACE) -> None:
        self.name = name
        self.namespaces = namespaces
        self.key = Ed25519PrivateKey.generate()

    @property
    def line(self) -> str:
        public = self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return f'{self.name} namespaces="{self.namespaces}" {public}\n'

    def document(self, host: Host, **changes: Any) -> bytes:
        asked: dict[str, Any] = {"not_after": now_of(host) + DAY, "reason": "well watched", "approver": self.name, **changes}
        return host.trust.document(asked.pop("runbook", "mend"), **asked)

    async def trusts(self, host: Host, **changes: Any) -> str:
        document = self.document(host, **changes)
        return await host.trust.grant(document, sign(document, self.key, NAMESPACE))


ALICE, MALLORY = Person("alice"), Person("mallory")


def now_of(host: Host) -> int:
    return host.trust._now()


def trusting(tmp_path: Path, *people: Person, profile: str = "supervised", **more: Any) -> dict[str, Any]:
    """The settings of a host on which these people may grant trust; plans that ask are withheld as long as none may consent."""
    file = tmp_path / "allowed_signers"
    file.write_text("".join(person.line for person in people or (ALICE,)))
    return {"profile": profile, "approvals": {"allowed_signers": file, "expires": "1h", **more}}


async def settled(host: Host, event: DegradationEvent) -> Incident:
    """The incident once it is over, or waits for a person."""
    reported = await host.report(event)
    await eventually(lambda: not host.incident(reported.incident).open or host.incident(reported.incident).approval is not None)
    return host.incident(reported.incident)


async def answers(host: Host, incident: Incident) -> list[Any]:
    return [
        entry for entry in await entries_of(host, incident.id) if isinstance(entry, TrustRequested | TrustGranted | TrustRefused)
    ]


async def reach_the_machine(ctx: RemediationContext) -> Plan:
    subject = str(ctx.subject_path())
    return Plan(RunCommand(argv=("/bin/sh", "-c", 'echo mended > "$0"', subject), undo=("/bin/true",), reach="machine"))


def wide(name: str = "mend", **changes: Any) -> Any:
    """A runbook whose plans reach the machine."""
    return runbook(name, action=reach_the_machine, blast_radius="machine", **changes)


async def test_without_trust_a_plan_asks_and_the_journal_says_why_it_was_not_trusted(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        incident = await settled(host, broken(tmp_path))
        assert incident.approval is not None
        requested, refused = await answers(host, incident)
        assert isinstance(requested, TrustRequested)
        assert isinstance(refused, TrustRefused)
        assert requested.attempt == refused.attempt == incident.attempts[0].id
        assert "reversible" in requested.scope
        assert "process" in requested.scope
        assert "earn_after" in refused.reason


async def test_a_grant_lifts_supervision_and_each_use_is_journaled_with_who_and_until_when(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        grant_id = await ALICE.trusts(host)
        assert [grant.grant_id for grant in host.trust.grants()] == [grant_id]
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        requested, granted = await answers(host, incident)
        assert isinstance(requested, TrustRequested)
        assert (granted.by, granted.grant_id) == ("alice", incident.attempts[0].id)
        assert grant_id in granted.reason
        assert "until 20" in granted.reason
        assert "well watched" in granted.reason
        (planned,) = only(AttemptPlanned, await entries_of(host, incident.id))
        assert planned.gate.decision == "proceed"
        assert grant_id in planned.gate.reasons[0].reason


async def test_the_recorded_grant_is_accepted_by_stock_ssh_keygen(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        grant_id = await ALICE.trusts(host, subjects="*")
        (granted,) = [record.entry for record in await records_of(host) if record.head.stream == f"trust/{grant_id}"]
    assert isinstance(granted, TrustGranted)
    (tmp_path / "signature").write_text(granted.signature)
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed_signers"), "-I", ALICE.name, "-n", NAMESPACE]
    done = subprocess.run([*command, "-s", str(tmp_path / "signature")], input=granted.document.encode(), check=False)
    assert done.returncode == 0
    assert json.loads(granted.document)["grant_id"] == grant_id


async def test_a_grant_covers_its_subjects_and_no_others(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        await ALICE.trusts(host, subjects="*/yes-*")
        assert (await settled(host, broken(tmp_path, "yes-1"))).status == "resolved"
        other = await settled(host, broken(tmp_path, "no-1"))
        assert other.approval is not None
        assert "is for */yes-*" in (await answers(host, other))[1].reason


async def test_a_grant_covers_its_radius_and_nothing_wider(tmp_path: Path) -> None:
    async with running_host(tmp_path, wide(), **trusting(tmp_path)) as host:
        await ALICE.trusts(host, radius="process")
        incident = await settled(host, broken(tmp_path))
        assert incident.approval is not None
        assert "reaches the process only" in (await answers(host, incident))[1].reason
        await ALICE.trusts(host, radius="machine")
        assert (await settled(host, broken(tmp_path, "other"))).status == "resolved"


async def test_a_grant_is_for_one_runbook(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), runbook("other", code="OTHER"), **trusting(tmp_path)) as host:
        await ALICE.trusts(host)
        assert (await settled(host, broken(tmp_path, "b", code="OTHER"))).approval is not None


async def test_a_grant_does_not_make_up_for_low_confidence(tmp_path: Path) -> None:
    async def unsure(ctx: RemediationContext) -> Finding:
        return Finding.applies(confidence=60)

    async with running_host(tmp_path, runbook(precondition=unsure), **trusting(tmp_path)) as host:
        await ALICE.trusts(host)
        incident = await settled(host, broken(tmp_path))
        assert incident.approval is not None
        assert Path(incident.event.subject).read_text() == "broken\n"


async def test_a_grant_does_not_let_a_tagged_runbook_act(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(tags=("auth",)), **trusting(tmp_path)) as host:
        await ALICE.trusts(host)
        assert (await settled(host, broken(tmp_path))).approval is not None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"radius": "fleet"}, "whole fleet always asks"),
        ({"radius": "galaxy"}, "process or machine"),
        ({"reversibility": "partial"}, "always asks a person"),
        ({"reversibility": "irreversible"}, "always asks a person"),
        ({"reversibility": "maybe"}, "reversible or disposable"),
        ({"subjects": ""}, "glob"),
        ({"reason": "  "}, "why it is given"),
        ({"reason": "x" * 5000}, "at most"),
        ({"reason": "it uses AKIAIOSFODNN7EXAMPLF"}, "secret"),
        ({"approver": ""}, "by whom"),
        ({"approver": "record"}, "what was earned"),
        ({"runbook": "nobody"}, "no runbook"),
    ],
)
async def test_what_can_not_be_granted_is_refused_with_the_reason(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        with pytest.raises(GrantRefused, match=why):
            ALICE.document(host, **changes)


@pytest.mark.parametrize(("ahead", "counts"), [(0, False), (-1, False), (1, True), (90 * DAY, True), (90 * DAY + 1, False)])
async def test_a_grant_ends_after_ninety_days_at_most_and_lies_ahead(tmp_path: Path, ahead: int, counts: bool) -> None:
    async with running_host(tmp_path, runbook(), clock=FakeClock(), **trusting(tmp_path)) as host:
        if counts:
            await ALICE.trusts(host, not_after=now_of(host) + ahead)
            return
        with pytest.raises(GrantRefused, match=r"90 days|expired"):
            await ALICE.trusts(host, not_after=now_of(host) + ahead)


async def test_what_was_signed_longer_ahead_than_allowed_is_refused_when_it_comes_in_too(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        for changes in ({"not_after": now_of(host) + 91 * DAY}, {"radius": "fleet"}, {"reversibility": "partial"}):
            altered = canonical.dumps(json.loads(ALICE.document(host)) | changes)
            with pytest.raises(GrantRefused):
                await host.trust.grant(altered, sign(altered, ALICE.key, NAMESPACE))
        assert not host.trust.grants()


async def test_a_grant_expires(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_host(tmp_path, runbook(), clock=clock, **trusting(tmp_path)) as host:
        await ALICE.trusts(host, not_after=now_of(host) + 3_600_000)
        assert (await settled(host, broken(tmp_path))).status == "resolved"
        clock.advance(3_600)
        assert not host.trust.grants()
        incident = await settled(host, broken(tmp_path, "later"))
        assert incident.approval is not None
        assert "has expired" in (await answers(host, incident))[1].reason


async def test_only_who_is_listed_for_this_purpose_can_grant_and_only_in_their_own_name(tmp_path: Path) -> None:
    approver = Person("ann", "remediation-approval")
    async with running_host(tmp_path, runbook(), **trusting(tmp_path, ALICE, approver)) as host:
        with pytest.raises(GrantRefused, match="nobody who may sign"):
            await MALLORY.trusts(host)
        with pytest.raises(GrantRefused, match="may not sign for 'remediation-trust'"):
            await approver.trusts(host)
        document = ALICE.document(host)
        with pytest.raises(GrantRefused, match="does not count"):
            await host.trust.grant(document, sign(document, ALICE.key, "remediation-approval"))
        with pytest.raises(GrantRefused, match="alice signed it"):
            other = ALICE.document(host, approver="ann")
            await host.trust.grant(other, sign(other, ALICE.key, NAMESPACE))
        with pytest.raises(GrantRefused, match="does not count"):
            await host.trust.grant(ALICE.document(host), sign(document, ALICE.key, NAMESPACE))


async def test_without_a_list_of_signers_nobody_can_grant(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), profile="supervised") as host:
        with pytest.raises(GrantRefused, match="allowed_signers"):
            await ALICE.trusts(host)


async def test_a_key_that_the_host_could_use_itself_is_refused_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "user"
    (own / ".ssh").mkdir(parents=True, mode=0o700)
    private = ALICE.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (own / ".ssh" / "id_ed25519").write_bytes(private)
    monkeypatch.setenv("HOME", str(own))
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        with pytest.raises(GrantRefused, match="allow_local"):
            await ALICE.trusts(host)
    async with running_host(tmp_path, runbook(), **trusting(tmp_path, allow_local=True)) as host:
        assert await ALICE.trusts(host)


@pytest.mark.parametrize("revoked", [False, True])
async def test_a_grant_counts_once_also_after_it_was_revoked_and_after_a_restart(tmp_path: Path, revoked: bool) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        document = ALICE.document(host)
        signature = sign(document, ALICE.key, NAMESPACE)
        grant_id = await host.trust.grant(document, signature)
        if revoked:
            await host.trust.revoke(grant_id, by="uid:7")
        with pytest.raises(GrantRefused, match="counts once"):
            await host.trust.grant(document, signature)
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        with pytest.raises(GrantRefused, match="counts once"):
            await host.trust.grant(document, signature)
        assert len(host.trust.grants()) == (not revoked)


async def test_a_grant_for_another_log_or_with_a_member_too_many_is_refused(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        told = json.loads(ALICE.document(host))
        for altered in (
            canonical.dumps(told | {"origin": "elsewhere/remediation/00"}),
            canonical.dumps(told | {"note": "more"}),
            canonical.dumps(told | {"v": 2}),
            canonical.dumps(told | {"decision": "approve"}),
            canonical.dumps(told | {"grant_id": "short"}),
            json.dumps(told).encode(),
            b"[]",
            b"\xff",
            b"[" * 100_000,
        ):
            with pytest.raises(GrantRefused):
                await host.trust.grant(altered, sign(altered, ALICE.key, NAMESPACE))


async def test_the_inbox_takes_grants_and_revocations_without_a_key(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        document = ALICE.document(host)
        asked(tmp_path, "grant", {"document": document.decode(), "signature": sign(document, ALICE.key, NAMESPACE)})
        (grant,) = await eventually(host.trust.grants)
        asked(tmp_path, "revoke", {"grant_id": grant.grant_id[:8], "reason": "enough"})
        await eventually(lambda: not host.trust.grants())
        revoked = only(TrustRevoked, await entries_of(host))[0]
        assert (revoked.grant_id, revoked.reason) == (grant.grant_id, "enough")
        assert revoked.by.startswith("uid:")


@pytest.mark.parametrize("message", [{}, {"document": 1, "signature": []}, {"document": "{}", "signature": ""}])
async def test_nonsense_in_the_inbox_is_put_aside(tmp_path: Path, message: dict[str, Any]) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        for kind in ("grant", "revoke"):
            asked(tmp_path, kind, message)
        rejected = tmp_path / "home" / "inbox" / "rejected"
        await eventually(lambda: len(list(rejected.glob("*.reason"))) == 2)
        assert not host.trust.grants()


async def test_a_message_that_is_found_again_after_a_crash_grants_once_and_is_no_error(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        document = ALICE.document(host)
        signature = sign(document, ALICE.key, NAMESPACE)
        for _ in range(2):
            await host.trust.grant(document, signature, event_id="ab" * 16)
        assert len(only(TrustGranted, await entries_of(host))) == 1


@contextlib.asynccontextmanager
async def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[IntentJournal], Any]) -> AsyncIterator[Host]:
    """A host before whose commit of a plan, decided already, `act` is done once with a journal of its own, as another process would."""
    left, commit = [act], CaseFile.commit
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        other = await open_journal(host_home(tmp_path), SystemClock(), state=HostState())

        async def between(case: CaseFile, *entries: Any, **more: Any) -> None:
            if left and any(isinstance(entry, AttemptPlanned) for entry in entries):
                await left.pop()(other)
            await commit(case, *entries, **more)

        monkeypatch.setattr(CaseFile, "commit", between)
        try:
            yield host
        finally:
            await other.close()


def host_home(tmp_path: Path) -> Home:
    return settings_in(tmp_path).home


async def test_a_grant_that_another_process_revokes_between_decision_and_commit_lets_nothing_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def revoke(other: IntentJournal) -> None:
        entry = TrustRevoked(grant_id=grant_id, by="uid:7", reason="stop")
        await other.append(f"trust/{grant_id}", [entry])

    async with interrupted(tmp_path, monkeypatch, revoke) as host:
        grant_id = await ALICE.trusts(host)
        incident = await settled(host, broken(tmp_path))
        assert incident.approval is not None
        assert Path(incident.event.subject).read_text() == "broken\n"
        planned = only(AttemptPlanned, await entries_of(host, incident.id))
        assert [item.gate.decision for item in planned] == ["ask"]
        assert not [entry for entry in await answers(host, incident) if isinstance(entry, TrustGranted)]


async def test_when_one_of_two_grants_is_revoked_between_decision_and_commit_the_journal_names_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def revoke(other: IntentJournal) -> None:
        await other.append(f"trust/{first}", [TrustRevoked(grant_id=first, by="uid:7", reason="stop")])

    async with interrupted(tmp_path, monkeypatch, revoke) as host:
        first, second = sorted([await ALICE.trusts(host), await ALICE.trusts(host)])
        incident = await settled(host, broken(tmp_path))
        assert incident.status == "resolved"
        granted = only(TrustGranted, await entries_of(host, incident.id))[0]
        assert second in granted.reason
        assert first not in granted.reason


async def test_a_quarantine_by_another_process_between_decision_and_commit_lets_nothing_act_and_ends_the_grants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quarantine(other: IntentJournal) -> None:
        await other.append("runbook/mend", [RunbookQuarantined(runbook="mend", by="uid:7", reason="stop")])

    async with interrupted(tmp_path, monkeypatch, quarantine) as host:
        await ALICE.trusts(host)
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "escalated"
        assert Path(incident.event.subject).read_text() == "broken\n"
        assert "quarantined" in incident.reason
        assert not host.trust.grants()
        with pytest.raises(GrantRefused, match="quarantined"):
            await ALICE.trusts(host)


async def test_changed_code_needs_a_new_grant(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), **trusting(tmp_path)) as host:
        document = ALICE.document(host)
        await ALICE.trusts(host)
        again = RunbookRegistered.of(runbook().spec, "other", "plugin")
        await host.journal.append("runbook/mend", [again, RunbookPromoted(runbook="mend", code_digest="other", by="uid:7")])
        with pytest.raises(GrantRefused, match="other code"):
            await host.trust.grant(document, sign(document, ALICE.key, NAMESPACE))


async def test_a_deprecated_runbook_observes_and_can_be_neither_configured_live_nor_trusted(tmp_path: Path) -> None:
    old = runbook(deprecated="use mend-2")
    async with running_host(tmp_path, old, **trusting(tmp_path, profile="autonomous")) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "escalated"
        assert "mend is deprecated; use mend-2" in incident.reason
        assert Path(incident.event.subject).read_text() == "broken\n"
        with pytest.raises(GrantRefused, match="deprecated"):
            await ALICE.trusts(host)


# -- what a record earns --------------------------------------------------------------------------------------------------


def earning(tmp_path: Path, after: int) -> dict[str, Any]:
    return {**trusting(tmp_path, profile="collaborative"), "trust": {"earn_after": after}, "limits": {"cooldown": 0}}


def growing() -> Any:
    """A runbook that stays within the process, except for subjects that are called wide."""

    async def act(ctx: RemediationContext) -> Plan:
        subject = ctx.subject_path()
        return (
            await reach_the_machine(ctx) if subject.name.startswith("wide") else Plan(WriteFile(path=subject, content="mended\n"))
        )

    async def look(ctx: RemediationContext) -> Verdict:
        return Verdict.failed("bad luck") if "unlucky" in ctx.event.subject else await is_mended(ctx)

    return runbook(action=act, verify=look, blast_radius="machine")


async def test_verified_heals_of_lower_reach_earn_the_machine_and_a_failure_takes_it_away(tmp_path: Path) -> None:
    async with running_host(tmp_path, growing(), **earning(tmp_path, 2)) as host:
        first = await settled(host, broken(tmp_path, "wide-0"))
        assert first.approval is not None
        assert "0 verified heals" in (await answers(host, first))[1].reason
        await ALICE.trusts(host, subjects="*small*")
        for number in range(2):
            early = await settled(host, broken(tmp_path, f"wide-early-{number}"))
            assert early.approval is not None
            assert f"{number} verified heals" in (await answers(host, early))[1].reason
            assert (await settled(host, broken(tmp_path, f"small-{number}"))).status == "resolved"
        earned = await settled(host, broken(tmp_path, "wide-1"))
        assert earned.status == "resolved"
        requested, granted = await answers(host, earned)
        assert isinstance(requested, TrustRequested)
        assert (granted.by, granted.not_after) == ("record", 0)
        assert "2 verified heals" in granted.reason
        assert (await settled(host, broken(tmp_path, "small-unlucky"))).status == "heal_failed"
        again = await settled(host, broken(tmp_path, "wide-2"))
        assert again.approval is not None
        assert "0 verified heals" in (await answers(host, again))[1].reason


async def test_what_a_runbook_may_do_at_other_times_counts_for_the_gate_and_what_it_did_for_the_record(tmp_path: Path) -> None:
    async with running_host(tmp_path, growing(), **earning(tmp_path, 1)) as host:
        small = await settled(host, broken(tmp_path, "small"))
        assert small.approval is not None
        (plan,) = small.attempts[-1].plans
        assert (plan.radius, plan.reach) == ("machine", "process")


async def test_a_restart_keeps_what_was_earned(tmp_path: Path) -> None:
    async with running_host(tmp_path, growing(), **earning(tmp_path, 1)) as host:
        await ALICE.trusts(host, subjects="*small*")
        assert (await settled(host, broken(tmp_path, "small"))).status == "resolved"
    async with running_host(tmp_path, growing(), **earning(tmp_path, 1)) as host:
        assert (await settled(host, broken(tmp_path, "wide"))).status == "resolved"


async def test_by_default_nothing_is_earned(tmp_path: Path) -> None:
    async with running_host(tmp_path, growing(), **trusting(tmp_path, profile="collaborative"), limits={"cooldown": 0}) as host:
        await ALICE.trusts(host, subjects="*small*")
        assert (await settled(host, broken(tmp_path, "small"))).status == "resolved"
        wide = await settled(host, broken(tmp_path, "wide"))
        assert wide.approval is not None
        assert "earn_after is 0" in (await answers(host, wide))[1].reason


def test_the_source_of_trust_is_a_name_of_the_package() -> None:
    import remediation

    assert remediation.TrustElevationSource is TrustElevationSource
    assert "TrustElevationSource" in remediation.__all__
