"""`approvals`, `approve` and `deny` on a journal without a host: what is shown, what is signed, and what is refused before it is sent."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import stories
from tests.support.ssh import NAMESPACE, made_key, public_key, ssh_keygen, stock_signature
from tests.support.written_journal import Ran, WrittenJournal, remediation

from remediation.cli.consenting import readable_by
from remediation.journal.inbox import Inbox, Message
from remediation.model.entries import ApprovalRequested, IncidentWaiting
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Bounds

ID = "6f2c51d09ab3e877"
HOUR = 3_600_000


class Place:
    """A home in whose journal one plan waits for consent, and people with keys."""

    def __init__(self, folder: Path, *, settings: str = "", **changes: Any) -> None:
        self.folder = folder
        self.signers = folder / "allowed_signers"
        self.keys = folder / "people"
        self.keys.mkdir()
        self.signers.write_text("")
        table = f'allowed_signers = "{self.signers}"\n{settings}'
        text = f'[host]\nid = "atlas"\n[keys]\ndir = "{folder / "keys"}"\n[approvals]\n{table}'
        self.journal = WrittenJournal.make(folder, settings=text)
        self.journal.write(stories.stream(), asking(**changes))

    def person(self, name: str, namespaces: str = NAMESPACE, *, passphrase: str = "") -> Path:
        key = made_key(self.keys, name=name, passphrase=passphrase)
        with self.signers.open("a") as file:
            file.write(f'{name} namespaces="{namespaces}" {public_key(key).line}\n')
        return key

    def __call__(self, *arguments: str | Path, stdin: str | None = None, env: Any = ()) -> Ran:
        told = [str(argument) for argument in arguments]
        # Nobody's keys but those of the test.
        ran = remediation(
            *told, "--home", str(self.journal.home.root), stdin=stdin, env=[("HOME", str(self.folder)), ("SSH_AUTH_SOCK", ""), *env]
        )
        assert "Traceback" not in ran.err
        assert "internal error" not in ran.err, ran.err
        return ran

    def document(self, name: str) -> Path:
        ran = self("approvals", "show", ID, "--document", "--as", name)
        assert ran.status == 0, ran.err
        file = self.folder / f"request-{name}"
        file.write_text(ran.out)
        return file

    def signed(self, key: Path, document: Path, namespace: str = NAMESPACE) -> Path:
        file = self.folder / "signature"
        file.write_text(stock_signature(key, document.read_bytes(), namespace))
        return file

    def left(self) -> list[Message]:
        return [message for message in Inbox(self.journal.home.inbox).messages() if isinstance(message, Message)]


def asking(*, digest: str = "", not_after: int = 0, **plan: Any) -> list[Any]:
    """The entries of an incident whose plan waits for consent."""
    expires = not_after or round(time.time() * 1000) + 5 * HOUR
    planned = stories.planned(
        stories.planned_effect(diff="--- a\n+++ b\n@@ -1 +0,0 @@\n-4711\n"), decision="ask", reason="supervised"
    )
    planned = planned.model_copy(update={"plan": planned.plan.model_copy(update=plan)})
    planned = planned.model_copy(update={"plan_digest": planned.plan.digest})
    request = ApprovalRequested(
        approval_id=ID,
        attempt="at1",
        runbook="stale-lock-file",
        code_digest=planned.code_digest,
        plan_digest=digest or planned.plan_digest,
        not_after=expires,
    )
    waiting = IncidentWaiting(
        until=expires, why="approval", reason="a person must consent", runbook="stale-lock-file", attempt="at1"
    )
    return [stories.reported(summary=stories.HOSTILE), stories.opened("stale-lock-file"), planned, request, waiting]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place that a test leaves as it is; alice may consent there."""
    place = Place(tmp_path_factory.mktemp("shared"))
    place.person("alice")
    return place


def test_what_waits_is_listed_with_a_line_for_each_effect(tmp_path: Path) -> None:
    effects = (stories.planned_effect("at1:0:0"), stories.planned_effect("at1:0:1", line="start the job"))
    place = Place(tmp_path, effects=effects)
    ran = place("approvals")
    assert ran.status == 0, ran.err
    _, first, second = ran.out.splitlines()
    assert first.split()[0] == ID
    assert "in 4h" in first
    assert "delete /srv/app/job.lock" in first
    assert second.strip() == "start the job"
    (told,) = place("approvals", "--json").json
    assert (told["id"], told["incident"], told["expired"]) == (ID, stories.incident_id(), False)
    assert told["effects"] == ["delete /srv/app/job.lock", "start the job"]
    assert place("approvals", "list", "--json").json[0]["id"] == ID


def test_when_nothing_waits_that_is_said(tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    ran = remediation("approvals", "--home", str(journal.home.root))
    assert (ran.status, ran.out) == (0, "")
    assert "nothing waits" in ran.err
    assert remediation("approvals", "--json", "--home", str(journal.home.root)).json == []


@pytest.mark.parametrize("wanted", [ID, ID[:4], stories.incident_id(), stories.incident_id()[:9]])
def test_a_request_is_found_by_its_id_or_its_incidents_or_a_beginning(wanted: str, shared: Place) -> None:
    assert shared("approvals", "show", wanted, "--json").json["id"] == ID


def test_a_request_is_shown_whole(tmp_path: Path) -> None:
    bounds = Bounds(kinds=("delete_file",), paths=("/srv/app",), argv_prefixes=(("npm", "ci"),), max_effects=3, max_stages=2)
    place = Place(tmp_path, loses="the lock's time", tags=("data-loss",), more=True, bounds=bounds)
    shown = place("approvals", "show", ID).out
    for told in (
        "confidence 95",
        "pid 4711 is gone",
        "supervised",
        "-4711",
        "the lock's time",
        "data-loss",
        "/srv/app",
        "npm ci …",
    ):
        assert told in shown
    assert "at most 3 in all" in shown
    document = place("approvals", "show", ID, "--json").json
    assert PlanRecord.model_validate(document["plan"]).digest == document["plan_digest"]


def test_a_strangers_text_can_not_pass_for_a_line_of_ours(shared: Place) -> None:
    shown = shared("approvals", "show", ID).out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert not [line for line in shown.splitlines() if line.startswith(("# heading", "@everyone"))]


def test_the_document_is_the_exact_bytes_to_sign(place: Place) -> None:
    place.person("alice")
    content = place.document("alice").read_bytes()
    told = json.loads(content)
    assert json.dumps(told, sort_keys=True, separators=(",", ":")).encode() == content
    assert (told["approver"], told["approval_id"], told["decision"]) == ("alice", ID, "approve")
    assert told["origin"] == place.journal.signer.key.name


def test_what_was_signed_elsewhere_is_left_for_the_host_byte_by_byte(place: Place) -> None:
    key = place.person("alice")
    document = place.document("alice")
    signature = place.signed(key, document)
    ran = place("approve", ID, "--document", document, "--signature", signature, "--yes")
    assert ran.status == 0, ran.err
    assert "no host runs" in ran.out
    assert "in 4h" in ran.out
    (message,) = place.left()
    assert (message.kind, message.document) == (
        "approve",
        {"document": document.read_text(), "signature": signature.read_text()},
    )


def test_the_document_need_not_be_handed_in_as_it_is_made_again(place: Place) -> None:
    key = place.person("alice")
    document = place.document("alice")
    answer = place("approve", ID[:5], "--signature", place.signed(key, document), "--yes", "--json").json
    assert (answer["state"], answer["approver"], answer["approval"]) == ("waiting", "alice", ID)
    assert place.left()[0].document["document"] == document.read_text()


def test_a_key_that_the_host_could_read_is_refused_and_the_other_way_explained(place: Place) -> None:
    ran = place("approve", ID, "--key", place.person("alice"), "--yes")
    assert ran.status == 1
    for told in ("the host could consent to its own plans", "ssh-keygen -Y sign", "--document --as alice", "allow_local"):
        assert told in ran.err
    assert place.left() == []


@pytest.mark.parametrize("suffix", ["", ".pub"])
def test_where_local_keys_count_one_signs_in_one_step(tmp_path: Path, suffix: str) -> None:
    place = Place(tmp_path, settings="allow_local = true\n")
    key = place.person("alice")
    ran = place("approve", ID, "--key", f"{key}{suffix}", "--yes")
    assert ran.status == 0, ran.err
    (message,) = place.left()
    assert json.loads(message.document["document"])["approver"] == "alice"


def test_a_key_in_an_agent_signs_for_whoever_may_consent(tmp_path: Path) -> None:
    place = Place(tmp_path)
    alice, stranger = place.person("alice"), made_key(tmp_path, name="stranger")
    socket = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not os.path.exists(socket):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        env = [("SSH_AUTH_SOCK", socket)]
        assert "no key" in place("approve", ID, "--agent", "--yes", env=env).err
        subprocess.run(["ssh-add", "-q", stranger], check=True, env={**os.environ, **dict(env)})
        assert "anybody who may consent" in place("approve", ID, "--agent", "--yes", env=env).err
        subprocess.run(["ssh-add", "-q", alice], check=True, env={**os.environ, **dict(env)})
        assert "anybody who may consent" in place("approve", ID, "--agent", "--as", "bob", "--yes", env=env).err
        ran = place("approve", ID, "--agent", "--yes", env=env)
        assert ran.status == 0, ran.err
        assert json.loads(place.left()[0].document["document"])["approver"] == "alice"
    finally:
        agent.terminate()
        agent.wait()


def test_the_line_for_an_unknown_key_is_shown_to_be_added(place: Place) -> None:
    place.person("alice")
    stranger = made_key(place.folder, name="stranger")
    ran = place("approve", ID, "--key", stranger, "--as", "carol", "--yes")
    assert ran.status == 1
    assert f'carol namespaces="{NAMESPACE}" {public_key(stranger).line}' in ran.err


def test_a_key_for_other_purposes_does_not_consent(place: Place) -> None:
    assert "may not sign for" in place("approve", ID, "--key", place.person("alice", "git"), "--yes").err


def test_nobody_signs_in_the_name_of_another(place: Place) -> None:
    alice, bob = place.person("alice"), place.person("bob")
    assert "is that of bob, not of alice" in place("approve", ID, "--key", bob, "--as", "alice", "--yes").err
    document = place.document("alice")
    ran = place("approve", ID, "--document", document, "--signature", place.signed(bob, document), "--yes")
    assert "the document names alice as approver, but bob signed it" in ran.err
    ran = place("approve", ID, "--document", document, "--signature", place.signed(alice, document), "--as", "bob", "--yes")
    assert ran.status == 1
    assert place.left() == []


def test_a_signature_for_another_purpose_or_document_is_refused(place: Place) -> None:
    key = place.person("alice")
    document = place.document("alice")
    told = "made for 'file'"
    assert told in place("approve", ID, "--document", document, "--signature", place.signed(key, document, "file"), "--yes").err
    other = place.folder / "other"
    other.write_text(document.read_text().replace(ID, "0" * 16))
    ran = place("approve", ID, "--document", other, "--signature", place.signed(key, other), "--yes")
    assert "differs in approval_id" in ran.err
    other.write_text(document.read_text() + "\n")
    ran = place("approve", ID, "--document", other, "--signature", place.signed(key, other), "--yes")
    assert "its spelling" in ran.err
    other.write_text(document.read_text().replace('"approve"', '"deny"'))
    ran = place("approve", ID, "--document", other, "--signature", place.signed(key, other), "--yes")
    assert "is a refusal" in ran.err
    assert place.left() == []


def test_what_has_expired_is_shown_so_and_not_sent(tmp_path: Path) -> None:
    place = Place(tmp_path, settings="allow_local = true\n", not_after=round(time.time() * 1000) - HOUR)
    key = place.person("alice")
    assert "1h ago" in place("approvals").out
    assert place("approvals", "--json").json[0]["expired"] is True
    assert "has expired" in place("approve", ID, "--key", key, "--yes").err
    assert place.left() == []


def test_a_plan_that_is_not_the_one_that_was_asked_about_is_never_signed(tmp_path: Path) -> None:
    place = Place(tmp_path, settings="allow_local = true\n", digest="0" * 64)
    key = place.person("alice")
    for command in (["approvals", "show", ID], ["approvals", "show", ID, "--document", "--as", "alice"]):
        ran = place(*command)
        assert ran.status == 3
        assert "not the one that was asked about" in ran.err
    assert place("approve", ID, "--key", key, "--yes").status == 3
    assert place.left() == []


def test_nobody_is_asked_where_nobody_is_and_a_no_sends_nothing(place: Place) -> None:
    key = place.person("alice")
    document = place.document("alice")
    signature = place.signed(key, document)
    assert place("approve", ID, "--signature", signature).status == 2
    assert place("approve", ID, "--signature", signature, stdin="y\n").status == 2
    assert place("approve", ID, "--signature", signature, "--json").status == 2
    assert place.left() == []


@pytest.mark.parametrize(("said", "sent"), [("y\n", 1), ("n\n", 0), ("\n", 0), ("\x03", 0)])
def test_at_a_terminal_the_plan_is_shown_in_colours_and_consent_is_asked_for(said: str, sent: int, place: Place) -> None:
    key = place.person("alice")
    signature = place.signed(key, place.document("alice"))
    shown = at_a_terminal(place, said, "approve", ID, "--signature", str(signature))
    assert "\x1b[31m    -4711" in shown
    assert "as alice? [y/N]" in shown
    assert len(place.left()) == sent
    if not sent:
        assert "the request stands" in shown or "interrupted" in shown or "Aborted" in shown


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """As a shell without job control starts what need not be waited for: processes inherit that ^C is ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_the_background")
def test_a_terminal_of_these_tests_is_one_also_if_they_run_in_the_background(place: Place) -> None:
    signature = place.signed(place.person("alice"), place.document("alice"))
    shown = at_a_terminal(place, "\x03", "approve", ID, "--signature", str(signature))
    assert "interrupted" in shown or "Aborted" in shown
    assert place.left() == []


def at_a_terminal(place: Place, said: str, *arguments: str) -> str:
    """What a command shows at a terminal whose user types `said` when asked; ^C again and again, as people do."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "REMEDIATION_HOME")}
    env |= {"HOME": str(place.folder), "TERM": "xterm-256color", "COLUMNS": "120"}
    argv = [sys.executable, "-m", "remediation", *arguments, "--home", str(place.journal.home.root)]
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True, preexec_fn=_take)
    os.close(theirs)
    shown, answered, deadline = b"", False, time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1.0)[0]:
                # Python notes a ^C between its prompt and its reading of the answer, and goes on to wait for the answer.
                if answered and said == "\x03":
                    os.write(ours, said.encode())
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            shown += piece
            if not answered and b"[y/N]" in shown:
                answered = True
                os.write(ours, said.encode())
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown.decode()


def _take() -> None:
    # As whoever logs somebody in: what is ignored by whoever started the tests is no matter of this terminal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["approve", ID, "--yes"], 2, "--key FILE, --agent and --signature"),
        (["approve", ID, "--yes", "--key", "nowhere", "--agent"], 2, "one of"),
        (["approve", ID, "--yes", "--key", "nowhere"], 1, "No such file"),
        (["approve", ID, "--yes", "--key", "."], 1, "is not a file"),
        (["approve", ID, "--yes", "--key", "/dev/null"], 1, "is not a file"),
        (["approve", ID, "--yes", "--key", __file__], 1, "--as NAME"),
        (["approve", ID, "--yes", "--key", __file__, "--as", "mallory"], 1, "mallory may not consent"),
        (["approve", ID, "--yes", "--signature", "nowhere"], 1, "No such file"),
        (["approve", ID, "--yes", "--signature", "."], 1, "the signature"),
        (["approve", ID, "--yes", "--signature", __file__], 1, "does not count"),
        (["approve", ID, "--yes", "--signature", "/dev/zero"], 1, "not a regular file"),
        (["approve", ID, "--yes", "--document", "x", "--key", "y"], 2, "give both"),
        (["approve", ID, "--yes", "--agent"], 1, "the agent has no key"),
        (["approve", "zzz", "--yes", "--signature", __file__], 1, "no request is pending as 'zzz'"),
        (["approve", "", "--yes", "--signature", __file__], 1, "no request is pending"),
        (["approvals", "show", "zzz"], 1, "`remediation approvals` lists"),
        (["approvals", "show", "\x1b[31m"], 1, "no request is pending"),
        (["approvals", "show", ID, "--document"], 2, "--as NAME"),
        (["approvals", "show", ID, "--as", "alice"], 2, "goes with --document"),
        (["approvals", "show", ID, "--document", "--json", "--as", "alice"], 2, "choose one"),
        (["approvals", "show", ID, "--document", "--as", "mallory\x1b"], 1, "may not consent"),
        (["deny", "zzz"], 1, "no request is pending"),
    ],
)
def test_nonsense_gets_a_sentence_and_is_not_sent(arguments: list[str], status: int, told: str, shared: Place) -> None:
    place = shared
    ran = place(*arguments)
    assert (ran.status, ran.out) == (status, "")
    assert told in ran.err
    assert "\x1b" not in ran.err
    assert place.left() == []


@pytest.mark.parametrize(
    ("signers", "told"), [(None, "can't be read"), ("alice ssh-ed25519\n", "line 1"), ("", "names nobody"), ("\xff\xfe", "line 1")]
)
def test_a_file_of_signers_that_names_nobody_is_told_of(signers: str | None, told: str, place: Place) -> None:
    if signers is None:
        place.signers.unlink()
    else:
        place.signers.write_text(signers)
    ran = place("approvals", "show", ID, "--document", "--as", "alice")
    assert ran.status in (1, 2)
    assert told in ran.err


def test_where_nobody_may_consent_that_is_said(tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream(), asking())
    ran = remediation("approve", ID, "--agent", "--yes", "--home", str(journal.home.root))
    assert ran.status == 1
    assert "set [approvals] allowed_signers" in ran.err


def test_anybody_at_the_home_may_deny(place: Place) -> None:
    ran = place("deny", ID[:6], "--reason", "not today")
    assert ran.status == 0, ran.err
    (message,) = place.left()
    assert (message.kind, message.document) == ("deny", {"approval_id": ID, "reason": "not today"})


def test_a_key_under_a_passphrase_without_a_terminal_fails_in_words(tmp_path: Path) -> None:
    place = Place(tmp_path, settings="allow_local = true\n")
    key = place.person("alice", passphrase="correct horse")
    ran = place("approve", ID, "--key", key, "--yes", env=[("SSH_ASKPASS", "/bin/false"), ("SSH_ASKPASS_REQUIRE", "force")])
    assert ran.status == 1
    assert "ssh-keygen could not sign" in ran.err
    assert place.left() == []


def test_whether_another_user_could_read_a_file_goes_by_owner_mode_and_folders(tmp_path: Path) -> None:
    nobody = 65534
    file = tmp_path / "key"
    file.write_text("secret")
    file.chmod(0o600)
    assert readable_by(os.geteuid(), file)
    assert readable_by(0, file)
    assert not readable_by(nobody, file)
    file.chmod(0o644)
    tmp_path.chmod(0o700)
    assert not readable_by(nobody, file)


def test_stock_tools_make_the_keys_that_are_meant(place: Place) -> None:
    """The page for operators says so: a key of one's own, a line in the file, and it counts."""
    key = place.keys / "consent"
    assert ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key).returncode == 0
    public = Path(f"{key}.pub").read_text().split()
    place.signers.write_text(f'# people\nalice@example.com namespaces="{NAMESPACE}" {public[0]} {public[1]} laptop\n')
    document = place.document("alice@example.com")
    assert place("approve", ID, "--signature", place.signed(key, document), "--yes").status == 0


def said(place: Place) -> list[tuple[str, str]]:
    """What the doctor says of consent: level and message."""
    findings = place("doctor", "--json").json["findings"]
    return [(finding["level"], finding["message"]) for finding in findings if finding["check"] == "approvals"]


def test_the_doctor_names_who_may_consent_and_what_waits(place: Place) -> None:
    place.person("alice")
    place.person("bob")
    (who, waits) = said(place)
    assert who[0] == "ok"
    assert who[1].startswith("alice, bob may consent")
    assert waits == ("ok", "1 wait for consent")


@pytest.mark.parametrize(
    ("signers", "told"),
    [
        (None, "can't be read"),
        ("", "names nobody"),
        ("nonsense", "line 1"),
        ("git", "has no line with the namespace remediation-approval"),
        ("past", "nobody can consent now"),
    ],
)
def test_the_doctor_sees_that_nobody_can_consent(signers: str | None, told: str, place: Place) -> None:
    if signers is None:
        place.signers.unlink()
    elif signers == "past":
        place.person("alice")
        place.signers.write_text(place.signers.read_text().replace(" namespaces", ' valid-before="20200101Z",namespaces'))
    elif signers == "git":
        place.person("alice", "git")
    else:
        place.signers.write_text(signers)
    problems = [message for level, message in said(place) if level == "problem"]
    assert len(problems) == 1
    assert told in problems[0]
    assert "in vain" in problems[0]
    assert place("doctor").status == 1


def test_the_doctor_sees_keys_that_the_host_could_use(tmp_path: Path) -> None:
    place = Place(tmp_path, settings="allow_local = true\n")
    key = place.person("alice")
    (tmp_path / ".ssh").mkdir()
    key.rename(tmp_path / ".ssh" / "consent")
    warnings = [message for level, message in said(place) if level == "warning"]
    assert any("allow_local" in message for message in warnings)
    assert any(f"the private key of alice lies in {tmp_path / '.ssh' / 'consent'}" in message for message in warnings)


def test_the_doctor_sees_requests_that_are_about_to_expire(tmp_path: Path) -> None:
    place = Place(tmp_path, not_after=round(time.time() * 1000) + HOUR // 2)
    assert any("expire within the hour, the first in 29 minutes" in message for _, message in said(place))
