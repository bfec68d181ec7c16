"""`runbooks show|promote|quarantine|release` on a real home, alone and beside a host in another process."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.governed import Governed, until

from remediation.core.lifecycle import RunbookRecord
from remediation.core.promotion import evidence, forbidden, needs

APPROVAL = "remediation-approval"


@pytest.fixture
def governed(tmp_path: Path) -> Governed:
    return Governed(tmp_path)


def observed(governed: Governed, runbook: str = "mender", code: str = "BROKEN") -> None:
    """Let a runbook have observed one plan."""
    governed.report(f"first-{runbook}", code)
    governed.once()


def test_a_runbook_is_watched_promoted_with_its_evidence_and_acts(governed: Governed) -> None:
    observed(governed)
    told = governed.said("runbooks", "show", "mender")
    assert (told["state"], told["observed"], told["would_act"], told["withheld"], told["may_act"]) == ("registered", 1, 1, 1, False)
    assert "promote mender" in told["to_act"]
    ran = governed.done("runbooks", "promote", "mender", "--reason", "it was right", "--yes")
    assert "observed 1 plan; 1 would have been applied at once" in ran.out
    told = governed.said("runbooks", "show", "mender")
    assert (told["state"], told["may_act"], told["to_act"]) == ("live", True, None)
    assert "it was right" in told["why"]
    assert told["promoted_by"].startswith("uid:")
    path = governed.report("second")
    governed.once()
    assert path.read_text() == "mended\n"
    told = governed.said("runbooks", "show", "mender")
    assert (told["attempts"], told["healed"], told["clean"]) == (1, 1, 1)
    assert told["median_ms"] > 0


def test_no_reason_need_be_given(governed: Governed) -> None:
    observed(governed)
    governed.done("runbooks", "promote", "mender", "--yes")
    assert governed.said("runbooks", "show", "mender")["state"] == "live"
    assert "no reason given" in governed.said("runbooks", "show", "mender")["why"]
    governed.done("runbooks", "quarantine", "mender")
    governed.done("runbooks", "release", "mender")
    assert governed.state() == "registered"


def test_a_runbook_that_is_not_there_is_told_before_anybody_is_asked(governed: Governed) -> None:
    observed(governed)
    for command in (["promote", "nope"], ["promote", "nope", "--yes"], ["quarantine", "nope"], ["release", "nope"]):
        assert "no runbook" in governed.refused("runbooks", *command)


def test_without_evidence_a_promotion_is_refused_unless_that_is_said_and_journaled(governed: Governed) -> None:
    governed.once()
    assert "no plan of mender" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes")
    assert governed.state() == "registered"
    governed.done("runbooks", "promote", "mender", "--reason", "as elsewhere", "--yes", "--without-evidence")
    assert "as elsewhere (without evidence)" in governed.said("runbooks", "show", "mender")["why"]


def test_a_promotion_needs_somebody_who_says_yes_and_no_empty_reason(governed: Governed) -> None:
    observed(governed)
    assert governed("runbooks", "promote", "mender", "--reason", " ", "--yes").status == 2
    assert governed("runbooks", "promote", "mender", "--reason", "x").status == 2
    assert governed("runbooks", "promote", "mender", "--reason", "x", stdin="y\n").status == 2
    assert governed.state() == "registered"


def test_a_promotion_is_for_the_code_that_is_installed_now_and_other_code_needs_another(governed: Governed) -> None:
    observed(governed)
    plugin = governed.folder / "governed_plugin.py"
    plugin.write_text(plugin.read_text() + "\n# changed\n")
    why = governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes")
    assert "no plan of mender with this code" in why
    said = governed.said("runbooks", "promote", "mender", "--reason", "x", "--yes", "--without-evidence")
    told = governed.said("runbooks", "show", "mender")
    assert (told["state"], told["code_digest"]) == ("live", said["code_digest"])
    governed.once()
    assert governed.state() == "live"
    plugin.write_text(plugin.read_text() + "\n# changed again\n")
    governed.once()
    assert governed.state() == "registered"
    assert governed.said("runbooks", "show", "mender")["why"] == "new code"


def test_a_runbook_that_the_plugins_do_not_bring_is_promoted_by_naming_its_code(governed: Governed) -> None:
    observed(governed)
    digest = governed.said("runbooks", "show", "mender")["code_digest"]
    (governed.folder / "governed_plugin.py").write_text("")
    assert f"--code-digest {digest}" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes")
    wrong = "0" * 64
    assert "--code-digest" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes", "--code-digest", wrong)
    governed.done("runbooks", "promote", "mender", "--reason", "x", "--yes", "--code-digest", digest)
    assert governed.state() == "live"


def test_a_digest_of_other_code_than_is_installed_is_refused(governed: Governed) -> None:
    observed(governed)
    assert "is installed" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes", "--code-digest", "ab")


def test_nobody_knows_a_runbook_that_does_not_exist(governed: Governed) -> None:
    governed.once()
    for command in (["promote", "--yes"], ["quarantine"], ["release"]):
        name, *rest = command
        assert "no runbook 'no-body'" in governed.refused("runbooks", name, "no-body", "--reason", "x", *rest)
    assert "no-body" in governed.refused("runbooks", "show", "no-body")


def test_a_quarantine_holds_until_release_and_promotion_and_no_restart_undoes_it(governed: Governed) -> None:
    live = '[runbooks."mender"]\nstate = "live"\n'
    governed.configure(live)
    governed.once()
    assert governed.state() == "live"
    assert "promoted by configuration" in governed.said("runbooks", "show", "mender")["why"]
    governed.done("runbooks", "quarantine", "mender", "--reason", "enough")
    assert "quarantined already" in governed.refused("runbooks", "quarantine", "mender", "--reason", "enough")
    assert "release mender" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes")
    path = governed.report("one")
    governed.once()
    assert governed.state() == "quarantined"
    assert path.read_text() == "broken\n"
    assert "enough" in governed.said("runbooks", "show", "mender")["why"]
    ran = governed.done("runbooks", "release", "mender", "--reason", "mended")
    assert 'state = "live" in remediation.toml promotes it' in ran.err
    assert governed.state() == "registered"
    governed.once()
    assert governed.state() == "live"


def test_what_is_quarantined_by_configuration_is_neither_released_nor_promoted_while_the_line_stands(governed: Governed) -> None:
    observed(governed)
    governed.done("runbooks", "promote", "mender", "--reason", "x", "--yes")
    governed.configure('[runbooks."mender"]\nstate = "quarantined"\n')
    assert "would take the promotion back" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes")
    governed.once()
    assert governed.state() == "quarantined"
    assert "remediation.toml" in governed.refused("runbooks", "release", "mender", "--reason", "x")
    governed.configure()
    governed.once()
    assert governed.state() == "quarantined"
    governed.done("runbooks", "release", "mender", "--reason", "x")
    assert governed.state() == "registered"


def test_a_promotion_by_a_person_outlives_restarts_and_is_taken_back_by_the_configuration_only(governed: Governed) -> None:
    observed(governed)
    governed.done("runbooks", "promote", "mender", "--reason", "x", "--yes")
    governed.once()
    assert governed.state() == "live"
    assert "is live already" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes")
    governed.configure('[runbooks."mender"]\nstate = "registered"\n')
    governed.once()
    assert governed.state() == "registered"
    assert "take that line out" in governed.refused("runbooks", "promote", "mender", "--reason", "x", "--yes")


def test_a_runbook_that_failed_once_is_degraded_and_a_promotion_makes_it_live_again(governed: Governed) -> None:
    observed(governed)
    governed.done("runbooks", "promote", "mender", "--reason", "x", "--yes")
    governed.report("bad-1")
    governed.once()
    told = governed.said("runbooks", "show", "mender")
    assert (told["state"], told["failed"] > 0, len(told["failures"])) == ("degraded", True, 1)
    governed.done("runbooks", "promote", "mender", "--reason", "looked at it", "--yes")
    assert governed.state() == "live"
    governed.report("bad-2")
    governed.once()
    told = governed.said("runbooks", "show", "mender")
    assert told["state"] == "quarantined"
    assert "2 incidents" in told["why"]


def test_an_essential_runbook_is_released_by_two_channels_and_each_consent_counts_once(governed: Governed) -> None:
    alice = governed.person("alice")
    governed.once()
    governed.done("runbooks", "quarantine", "heart", "--reason", "stop")
    assert "two channels" in governed.refused("runbooks", "release", "heart", "--reason", "x")
    content = governed.done("runbooks", "release", "heart", "--consent-of", "alice").out
    told = json.loads(content)
    assert (told["decision"], told["runbook"], told["approver"]) == ("release", "heart", "alice")
    document, signature = governed.signed(alice, content, APPROVAL)
    given = ("--document", document, "--signature", signature)
    governed.done("runbooks", "release", "heart", "--reason", "mended", *given)
    assert governed.state("heart") == "registered"
    governed.done("runbooks", "quarantine", "heart", "--reason", "again")
    assert "requested_seq" in governed.refused("runbooks", "release", "heart", "--reason", "mended", *given)
    assert governed.state("heart") == "quarantined"
    (released,) = [
        json.loads(json.loads(line)["body"])
        for line in governed.done("journal", "export").out.splitlines()
        if "body" in line and '"approver' in json.loads(line).get("body", "")
    ]
    assert (released["approver"], released["document"]) == ("alice", content)


def test_a_consent_of_another_or_for_another_purpose_or_altered_releases_nothing(governed: Governed) -> None:
    alice, grantor, mallory = governed.person("alice"), governed.person("greta", "remediation-trust"), governed.keys / "mallory"
    governed.person("mallory")
    governed.signers.write_text("".join(line for line in governed.signers.open() if not line.startswith("mallory")))
    governed.once()
    governed.done("runbooks", "quarantine", "heart", "--reason", "stop")
    content = governed.done("runbooks", "release", "heart", "--consent-of", "alice").out
    assert "may not consent" in governed.refused("runbooks", "release", "heart", "--consent-of", "mallory")
    told = json.loads(content)

    def attempt(key: Path, document: str, namespace: str = APPROVAL) -> str:
        file, signature = governed.signed(key, document, namespace)
        return governed.refused("runbooks", "release", "heart", "--reason", "x", "--document", file, "--signature", signature)

    def canonical(**changes: object) -> str:
        return json.dumps(told | changes, sort_keys=True, separators=(",", ":"))

    assert "nobody who may sign" in attempt(mallory, content)
    assert "remediation-approval" in attempt(grantor, canonical(approver="greta"))
    assert "does not count" in attempt(alice, content, "remediation-trust")
    assert "expired" in attempt(alice, canonical(not_after=1))
    assert "longer than" in attempt(alice, canonical(not_after=told["not_after"] + 90 * 86_400_000))
    assert "runbook" in attempt(alice, canonical(runbook="mender"))
    assert "origin" in attempt(alice, canonical(origin="elsewhere"))
    assert "differs" in attempt(alice, canonical(note="more"))
    assert "no JSON" in attempt(alice, "nonsense")
    assert governed.state("heart") == "quarantined"


def test_a_key_in_the_reach_of_the_host_does_not_release(governed: Governed) -> None:
    alice = governed.person("alice")
    governed.once()
    governed.done("runbooks", "quarantine", "heart", "--reason", "stop")
    content = governed.done("runbooks", "release", "heart", "--consent-of", "alice").out
    document, signature = governed.signed(alice, content, APPROVAL)
    ssh = governed.folder / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "id").write_bytes(alice.read_bytes())
    given = ("--document", document, "--signature", signature)
    assert "allow_local" in governed.refused("runbooks", "release", "heart", "--reason", "x", *given)
    governed.configure(more="allow_local = true")
    governed.done("runbooks", "release", "heart", "--reason", "x", *given)


def test_a_runbook_that_is_not_essential_wants_no_consent(governed: Governed) -> None:
    alice = governed.person("alice")
    governed.once()
    governed.done("runbooks", "quarantine", "mender", "--reason", "stop")
    document, signature = governed.signed(alice, "{}", APPROVAL)
    given = ("--document", document, "--signature", signature)
    assert "not essential" in governed.refused("runbooks", "release", "mender", "--reason", "x", *given)
    assert governed("runbooks", "release", "mender", "--reason", "x", "--document", document).status == 2


def test_a_running_host_goes_by_promotion_quarantine_and_release_at_once(governed: Governed) -> None:
    observed(governed)
    with governed.host():
        governed.done("runbooks", "promote", "mender", "--reason", "x", "--yes")
        acted = governed.report("acts")
        until(lambda: acted.read_text() == "mended\n")
        governed.done("runbooks", "quarantine", "mender", "--reason", "stop")
        stopped = governed.report("stays")
        until(lambda: any(item["status"] == "escalated" and item["subject"] == str(stopped) for item in governed.said("incidents")))
        assert stopped.read_text() == "broken\n"
        governed.done("runbooks", "release", "mender", "--reason", "x")
        assert governed.state() == "registered"
        governed.done("runbooks", "promote", "mender", "--reason", "x", "--yes")
        again = governed.report("acts-again")
        until(lambda: again.read_text() == "mended\n")
    assert governed("journal", "verify").status == 0


def test_a_host_that_runs_older_code_does_not_act_by_a_promotion_of_newer_code(governed: Governed) -> None:
    observed(governed)
    with governed.host():
        plugin = governed.folder / "governed_plugin.py"
        plugin.write_text(plugin.read_text() + "\n# changed\n")
        governed.done("runbooks", "promote", "mender", "--reason", "x", "--yes", "--without-evidence")
        path = governed.report("old")
        until(lambda: any(item["status"] == "escalated" and item["subject"] == str(path) for item in governed.said("incidents")))
        assert path.read_text() == "broken\n"


def test_the_list_has_the_record_of_each(governed: Governed) -> None:
    observed(governed)
    listed = {item["id"]: item for item in governed.said("runbooks")}
    assert {"mender", "heart"} <= set(listed)
    assert listed["mender"]["withheld"] == 1
    assert listed["mender"]["spec"]["blast_radius"] == "process"
    assert listed["heart"]["median_ms"] is None
    text = governed.done("runbooks").out
    assert "WITHHELD" in text
    assert "MEDIAN" in text


def test_a_runbook_is_shown_to_people_with_what_it_declares_and_needs(governed: Governed) -> None:
    governed.once()
    governed.done("runbooks", "quarantine", "heart", "--reason", "it beats too fast")
    shown = governed.done("runbooks", "show", "heart").out
    for part in ("quarantined", "it beats too fast", "essential", "HEART", "process", "reversible", "signed consent"):
        assert part in shown


# -- the rules, alone -----------------------------------------------------------------------------------------------------


def record(**changes: Any) -> RunbookRecord:
    fields: dict[str, Any] = {"id": "mend", "code_digest": "d", "why": "because", **changes}
    return RunbookRecord(**fields)


@pytest.mark.parametrize(
    ("state", "digest", "configured", "why"),
    [
        ("registered", "d", None, ""),
        ("registered", "d", "live", ""),
        ("registered", "d", "registered", "take that line out"),
        ("registered", "d", "quarantined", "take that line out"),
        ("live", "d", None, "live already"),
        ("live", "new", None, ""),
        ("degraded", "d", None, ""),
        ("quarantined", "d", None, "release"),
        ("quarantined", "new", None, "release"),
        ("deprecated", "d", None, "deprecated"),
        ("deprecated", "new", None, ""),
    ],
)
def test_what_forbids_a_promotion(state: str, digest: str, configured: str | None, why: str) -> None:
    found = forbidden(record(state=state), digest, configured)
    assert why in found
    assert bool(found) is bool(why)


def test_evidence_is_of_this_code_or_of_a_runbook_that_acts() -> None:
    assert not evidence(record(), "d")
    assert evidence(record(observed=2, would_act=1), "d").startswith("it observed 2 plans; 1 would")
    assert not evidence(record(observed=2), "new")
    assert "healed in 3 of 4" in evidence(record(state="degraded", attempts=4, healed=3, failed=1), "d")
    assert not evidence(record(state="registered", attempts=4, healed=3), "d")


@pytest.mark.parametrize(
    ("changes", "configured", "needed"),
    [
        ({}, None, "observed plans as evidence"),
        ({"observed": 1}, None, "promote mend"),
        ({"state": "live"}, None, ""),
        ({"state": "degraded"}, None, ""),
        ({"state": "quarantined"}, None, "release mend"),
        ({"state": "live"}, "quarantined", "has to go"),
        ({"state": "deprecated", "deprecated": "use other"}, None, "use other"),
    ],
)
def test_what_a_runbook_still_needs_to_act(changes: dict[str, object], configured: str | None, needed: str) -> None:
    found = needs(record(**changes), configured, essential=False)
    assert needed in found
    assert bool(found) is bool(needed)
