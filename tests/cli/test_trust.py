"""`trust grant|list|revoke`: made and signed by a person, handed in without a key, and gone by a host in another process."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.governed import Governed, until

from remediation.journal.inbox import Inbox
from remediation.model.base import parse_timestamp
from remediation.settings import Home

TRUST = "remediation-trust"
LIVE = '[runbooks."mender"]\nstate = "live"\n'
ASKED = ("--until", "30d", "--reason", "well watched", "--subjects", "*/app/*", "--radius", "process")


@pytest.fixture
def governed(tmp_path: Path) -> Governed:
    made = Governed(tmp_path, profile="supervised", runbooks=LIVE)
    made.once()
    return made


def printed(governed: Governed, *changes: str, name: str = "alice") -> str:
    return governed.done("trust", "grant", "mender", *(changes or ASKED), "--as", name, "--print").out


def handed_in(governed: Governed, key: Path, content: str, namespace: str = TRUST) -> tuple[str | Path, ...]:
    document, signature = governed.signed(key, content, namespace)
    return ("trust", "grant", "--document", document, "--signature", signature)


def test_a_grant_is_printed_signed_elsewhere_handed_in_and_lets_the_runbook_act(governed: Governed) -> None:
    alice = governed.person("alice")
    content = printed(governed)
    told = json.loads(content)
    assert (told["decision"], told["runbook"], told["radius"], told["subjects"]) == ("grant", "mender", "process", "*/app/*")
    ran = governed.done(*handed_in(governed, alice, content))
    assert "it counts when a host runs" in ran.out
    path = governed.report("one")
    governed.once()
    assert path.read_text() == "mended\n"
    (grant,) = governed.said("trust")
    assert (grant["grant_id"], grant["by"], grant["reason"]) == (told["grant_id"], "alice", "well watched")
    ends = parse_timestamp(grant["until"]) - datetime.now(UTC)
    assert timedelta(days=29) < ends < timedelta(days=30)
    shown = governed.done("runbooks", "show", "mender").out
    assert "Trusted beyond the profile" in shown
    assert governed.said("runbooks", "show", "mender")["grants"] == [grant]


def test_a_grant_is_signed_at_once_with_a_key_that_is_at_hand(governed: Governed) -> None:
    alice = governed.person("alice")
    governed.configure(LIVE, more="allow_local = true")
    said = governed.said("trust", "grant", "mender", *ASKED, "--key", alice)
    assert (said["state"], said["approver"]) == ("waiting", "alice")
    governed.once()
    assert [item["grant_id"] for item in governed.said("trust", "list")] == [said["grant_id"]]


def test_a_key_where_the_host_could_use_it_is_refused_with_the_way_out(governed: Governed) -> None:
    alice = governed.person("alice")
    why = governed.refused("trust", "grant", "mender", *ASKED, "--key", alice)
    assert "trust grant … --as alice --print" in why
    assert "-n remediation-trust" in why


def test_a_running_host_takes_grants_in_and_goes_by_a_revocation_at_once(governed: Governed) -> None:
    alice = governed.person("alice")
    with governed.host():
        ran = governed.done(*handed_in(governed, alice, printed(governed)))
        assert "alice trusts mender with reversible plans" in ran.out
        (grant,) = governed.said("trust")
        acted = governed.report("acts")
        until(lambda: acted.read_text() == "mended\n")
        assert "no longer" in governed.done("trust", "revoke", grant["grant_id"][:8], "--reason", "enough").out
        assert governed.said("trust") == []
        stays = governed.report("stays")
        until(lambda: any(item["subject"] == str(stays) for item in governed.said("approvals")))
        assert stays.read_text() == "broken\n"
        assert "counts once" in governed.refused("trust", "grant", "--document", "document", "--signature", "document.sig")
    assert governed("journal", "verify").status == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (("--until", "91d", "--reason", "x"), "90 days"),
        (("--until", "3d", "--reason", "x", "--radius", "fleet"), "always asks"),
        (("--until", "3d", "--reason", "x", "--reversibility", "partial"), "always asks"),
        (("--until", "3d", "--reason", "x", "--reversibility", "irreversible"), "always asks"),
        (("--until", "3d", "--reason", "x", "--radius", "planet"), "process or machine"),
        (("--until", "3d", "--reason", "x", "--subjects", ""), "glob"),
    ],
)
def test_what_can_not_be_granted_is_refused_before_anybody_signs(governed: Governed, changes: tuple[str, ...], why: str) -> None:
    alice = governed.person("alice")
    assert why in governed.refused("trust", "grant", "mender", *changes, "--as", "alice", "--print")
    assert why in governed.refused("trust", "grant", "mender", *changes, "--key", alice)


def test_nobody_else_can_grant_nor_for_another_purpose(governed: Governed) -> None:
    alice, ann = governed.person("alice"), governed.person("ann", "remediation-approval")
    assert "may not consent" in governed.refused("trust", "grant", "mender", *ASKED, "--as", "ann", "--print")
    content = printed(governed)
    assert "remediation-trust" in governed.refused(*handed_in(governed, ann, content))
    assert "does not count" in governed.refused(*handed_in(governed, alice, content, "remediation-approval"))
    altered = content.replace('"radius":"process"', '"radius":"machine"')
    document, signature = governed.signed(alice, content, TRUST)
    document.write_text(altered)
    assert "does not count" in governed.refused("trust", "grant", "--document", document, "--signature", signature)
    assert governed.said("trust") == []
    assert not list(Inbox(Home(governed.folder / ".remediation").inbox).messages())


def test_without_allowed_signers_it_says_what_to_set(tmp_path: Path) -> None:
    governed = Governed(tmp_path)
    toml = governed.folder / "remediation.toml"
    toml.write_text(toml.read_text().replace('allowed_signers = "allowed_signers"', ""))
    assert "allowed_signers" in governed.refused("trust", "grant", "mender", *ASKED, "--as", "alice", "--print")


def test_a_runbook_that_nobody_knows_or_that_is_quarantined_can_not_be_trusted(governed: Governed) -> None:
    governed.person("alice")
    assert "no runbook" in governed.refused("trust", "grant", "nobody", *ASKED, "--as", "alice", "--print")
    governed.done("runbooks", "quarantine", "mender", "--reason", "stop")
    assert "quarantined" in governed.refused("trust", "grant", "mender", *ASKED, "--as", "alice", "--print")


@pytest.mark.parametrize(
    "wrong",
    [
        ("mender", *ASKED),
        ("mender", *ASKED, "--print"),
        ("mender", *ASKED, "--print", "--key", "k"),
        ("mender", "--reason", "x", "--as", "alice", "--print"),
        ("mender", "--until", "3d", "--as", "alice", "--print"),
        ("mender", "--until", "never", "--reason", "x", "--as", "alice", "--print"),
        ("mender", "--until", "2001-01-01", "--reason", "x", "--as", "alice", "--print"),
        (*ASKED, "--as", "alice", "--print"),
        ("--document", "x"),
        ("--signature", "x"),
        ("mender", "--document", "x", "--signature", "y"),
    ],
)
def test_wrong_use_is_told_from_refusals(governed: Governed, wrong: tuple[str, ...]) -> None:
    governed.person("alice")
    assert governed("trust", "grant", *wrong).status == 2


def test_files_that_are_not_there_are_named(governed: Governed) -> None:
    assert "nothing-here" in governed.refused("trust", "grant", "--document", "nothing-here", "--signature", "nothing-here")


def test_a_grant_that_does_not_exist_can_not_be_revoked(governed: Governed) -> None:
    assert "no grant" in governed.refused("trust", "revoke", "ab12")
    assert "no grant" in governed.refused("trust", "revoke", "")


def test_the_list_is_empty_at_first_and_json_is_a_list(governed: Governed) -> None:
    assert governed.said("trust", "list") == []
    assert "nobody is trusted" in governed.done("trust").err


def test_the_post_mortem_says_by_whose_trust(governed: Governed) -> None:
    alice = governed.person("alice")
    governed.done(*handed_in(governed, alice, printed(governed)))
    governed.report("one")
    governed.once()
    (incident,) = governed.said("incidents")
    shown = governed.done("incident", "show", incident["id"]).out
    assert "mender asks to be trusted beyond the profile" in shown
    assert "trusted by alice: granted by alice until" in shown
