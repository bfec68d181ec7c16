"""People consent to plans of a running host: through the commands alone, with stock ssh-keygen, and the record proves it afterwards."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.installed import User, eventually
from tests.support.ssh import NAMESPACE, made_key, public_key, stock_verifies

SETTINGS = """\
[host]
id = "atlas-1"
autoload = false
plugins = ["mender"]

[approvals]
allowed_signers = "allowed_signers"
expires = "{expires}"

[effects]
roots = ["app"]

[runbooks."mender"]
state = "live"
"""

MENDER = '''\
"""Writes what belongs into a file, and asks before it does."""
from remediation.authoring import Finding, Handles, Plan, Runbook, RunbookSpec, Verdict, WriteFile, hookimpl


class Mender(Runbook):
    spec = RunbookSpec(
        id="mender", handles=(Handles(code="BROKEN"),), blast_radius="process", reversibility="reversible", level="patch"
    )

    async def precondition(self, ctx):
        return Finding.applies(confidence=90, evidence=["it is broken"])

    async def action(self, ctx):
        return Plan(WriteFile(path=ctx.subject_path(), content="mended\\n"), summary="write what belongs there")

    async def verify(self, ctx):
        held = await ctx.read_text(ctx.event.subject)
        return Verdict.healthy() if held == "mended\\n" else Verdict.failed(f"it holds {held!r}")


@hookimpl
def remediation_runbooks():
    return [Mender]
'''


class Atlas(User):
    """A user of a host whose every plan asks, and the machine of people who may consent, which the host never sees."""

    def prepare(self, *people: str, expires: str = "1h") -> None:
        (self.folder / "mender.py").write_text(MENDER)
        self.configure(SETTINGS.format(expires=expires))
        self.elsewhere.mkdir()
        lines = [
            f'{name} namespaces="{NAMESPACE}" {public_key(made_key(self.elsewhere, name=name)).line}\n'
            for name in people or ("alice",)
        ]
        (self.folder / "allowed_signers").write_text("".join(lines))
        self.variables["HOME"] = str(self.folder)

    @property
    def elsewhere(self) -> Path:
        return self.folder / "elsewhere"

    @property
    def thing(self) -> Path:
        return self.world / "thing"

    def broken(self) -> Any:
        """Break it, report it, and wait for the request."""
        self.thing.write_text("broken\n")
        self.report("BROKEN", self.thing)
        return eventually(self.waiting)[0]

    def waiting(self) -> Any:
        return self.succeed("approvals", "--json").json

    def sign(self, id_: str, name: str = "alice", key: str = "") -> tuple[str, str]:
        """The document for `name`, signed by `key` on the other machine; returns the two files."""
        document = self.elsewhere / f"{id_}-{name}"
        document.write_text(self.succeed("approvals", "show", id_, "--document", "--as", name).out)
        made = Path(f"{document}.sig")
        made.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(self.elsewhere / (key or name)), str(document)]
        subprocess.run(command, check=True, capture_output=True)
        return str(document), str(made)

    def leave(self, kind: str, document: dict[str, str]) -> None:
        """Put a message into the inbox past all commands, as anybody could who reaches it."""
        self.python(
            "import json, sys, time; from pathlib import Path; from remediation.journal.inbox import Inbox\n"
            "Inbox(Path(sys.argv[1])).put(sys.argv[2], json.loads(sys.argv[3]), at=round(time.time() * 1000))",
            str(self.home / "inbox"),
            kind,
            json.dumps(document),
        )

    def refusals(self) -> list[str]:
        return [file.read_text() for file in (self.home / "inbox" / "rejected").glob("*.reason")]


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    return Atlas(tmp_path, (tmp_path,))


def test_what_is_signed_on_another_machine_is_applied_once_and_proved_for_good(atlas: Atlas) -> None:
    atlas.prepare()
    with atlas.host():
        asked = atlas.broken()
        assert asked["effects"] == [f"write 7 bytes to {atlas.thing}"]
        shown = atlas.succeed("approvals", "show", asked["id"]).out
        assert "+mended" in shown
        assert "confidence 90" in shown
        assert atlas.thing.read_text() == "broken\n"
        document, signature = atlas.sign(asked["id"])
        answer = ("approve", asked["id"], "--document", document, "--signature", signature, "--yes")
        ran = atlas.succeed(*answer)
        assert "alice has consented" in ran.out
        assert "resolved: mender healed it" in ran.out
        assert atlas.thing.read_text() == "mended\n"
        # Once: neither through the command, nor past it, nor for the next request.
        assert "no request is pending" in atlas.remediation(*answer).err
        replay = {"document": Path(document).read_text(), "signature": Path(signature).read_text()}
        atlas.leave("approve", replay)
        eventually(lambda: len(atlas.refusals()) == 1)
    story = atlas.incident(asked["incident"])
    (attempt,) = story["attempts"]
    (approval,) = attempt["approvals"]
    assert (approval["decision"], approval["by"]) == ("granted", "alice")
    assert approval["plan_digest"] == attempt["stages"][0]["plan"]["digest"]
    told = json.loads(approval["document"])
    assert (told["incident"], told["plan_digest"]) == (asked["incident"], approval["plan_digest"])
    allowed = (atlas.folder / "allowed_signers").read_text()
    assert stock_verifies(atlas.elsewhere, allowed, "alice", approval["document"].encode(), approval["signature"])
    assert not stock_verifies(atlas.elsewhere, allowed, "alice", approval["document"].encode() + b" ", approval["signature"])
    shown = atlas.succeed("incident", "show", asked["incident"]).out
    assert f"Approval: granted by alice, plan {approval['plan_digest'][:16]}" in shown
    assert "the same plan judged again" in shown
    assert atlas.succeed("journal", "verify", "--json").json["ok"] is True


def test_the_host_itself_refuses_what_gets_past_the_commands(atlas: Atlas) -> None:
    atlas.prepare("alice", "bob")
    with atlas.host():
        asked = atlas.broken()
        document, _ = atlas.sign(asked["id"])
        _, by_bob = atlas.sign(asked["id"], "alice", key="bob")
        atlas.leave("approve", {"document": Path(document).read_text(), "signature": Path(by_bob).read_text()})
        (refusal,) = eventually(atlas.refusals)
        assert "names alice as approver, but bob signed it" in refusal
        # Taken out of the file, a key counts no longer at once.
        document, signature = atlas.sign(asked["id"], "bob")
        lines = (atlas.folder / "allowed_signers").read_text().splitlines(keepends=True)
        (atlas.folder / "allowed_signers").write_text(lines[0])
        atlas.leave("approve", {"document": Path(document).read_text(), "signature": Path(signature).read_text()})
        eventually(lambda: len(atlas.refusals()) == 2)
        assert atlas.thing.read_text() == "broken\n"
        assert atlas.waiting()[0]["id"] == asked["id"]


def test_a_denied_plan_does_not_run_and_can_not_be_consented_to_later(atlas: Atlas) -> None:
    atlas.prepare()
    with atlas.host():
        asked = atlas.broken()
        document, signature = atlas.sign(asked["id"])
        ran = atlas.succeed("deny", asked["id"], "--reason", "not during the migration")
        assert "goes to people" in ran.out
        story = eventually(lambda: (found := atlas.incident(asked["incident"]))["status"] == "escalated" and found)
        assert "not during the migration" in story["reason"]
        assert atlas.remediation("approve", asked["id"], "--document", document, "--signature", signature, "--yes").status == 1
        assert atlas.thing.read_text() == "broken\n"
    assert "Approval: denied by uid:" in atlas.succeed("incident", "show", asked["incident"]).out


def test_when_the_world_has_changed_nothing_is_applied_and_the_approver_is_told_of_the_new_request(atlas: Atlas) -> None:
    atlas.prepare()
    with atlas.host():
        asked = atlas.broken()
        document, signature = atlas.sign(asked["id"])
        atlas.thing.write_text("somebody was here\n")
        ran = atlas.succeed("approve", asked["id"], "--document", document, "--signature", signature, "--yes")
        assert "nothing was applied" in ran.out
        (again,) = atlas.waiting()
        assert again["id"] != asked["id"]
        assert again["id"] in ran.out
        assert atlas.thing.read_text() == "somebody was here\n"
        document, signature = atlas.sign(again["id"])
        atlas.succeed("approve", again["id"], "--document", document, "--signature", signature, "--yes")
        eventually(lambda: atlas.thing.read_text() == "mended\n")
    shown = atlas.succeed("incident", "show", asked["incident"]).out
    assert "unused consent of alice: the world is no longer as the plan was shown" in shown


def test_consent_is_left_for_a_host_that_starts_later(atlas: Atlas) -> None:
    atlas.prepare()
    atlas.thing.write_text("broken\n")
    atlas.report("BROKEN", atlas.thing)
    atlas.succeed("run", "--once")
    (asked,) = atlas.waiting()
    document, signature = atlas.sign(asked["id"])
    assert "no host runs" in atlas.succeed("approve", asked["id"], "--document", document, "--signature", signature, "--yes").out
    assert atlas.thing.read_text() == "broken\n"
    atlas.succeed("run", "--once")
    assert atlas.thing.read_text() == "mended\n"


def test_a_request_that_ran_out_is_refused_by_command_and_host(atlas: Atlas) -> None:
    atlas.prepare(expires="6s")
    atlas.thing.write_text("broken\n")
    atlas.report("BROKEN", atlas.thing)
    atlas.succeed("run", "--once")
    (asked,) = atlas.waiting()
    document, signature = atlas.sign(asked["id"])
    eventually(lambda: atlas.waiting()[0]["expired"])
    ran = atlas.remediation("approve", asked["id"], "--document", document, "--signature", signature, "--yes")
    assert (ran.status, atlas.thing.read_text()) == (1, "broken\n")
    assert "has expired" in ran.err
    atlas.leave("approve", {"document": Path(document).read_text(), "signature": Path(signature).read_text()})
    atlas.succeed("run", "--once")
    assert atlas.thing.read_text() == "broken\n"
    assert "nobody consented in time" in atlas.incident(asked["incident"])["reason"]
