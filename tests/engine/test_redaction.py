"""Secrets on their way through a real host: none of them comes to rest in the home, in the log, or with people."""

import base64
import io
import json
import random
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from tests.support.hosts import applies, broken, entries_of, is_mended, only, runbook, types_of, write_mended
from tests.support.secret_lines import filled
from tests.support.written_journal import remediation

from remediation import DegradationEvent, Reporter
from remediation.authoring import (
    CallHost,
    Finding,
    Plan,
    RemediationContext,
    RunCommand,
    SecretRef,
    Verdict,
    Wait,
    WriteFile,
    hookimpl,
)
from remediation.bootstrap import Host, RemediatorBootstrap
from remediation.cli.logs import configure
from remediation.core.incident import Incident
from remediation.errors import RegistrationError
from remediation.journal.inbox import Inbox
from remediation.model.entries import AttemptPlanned, DegradationCoalesced, DegradationReported
from remediation.model.runbook import Escalation
from remediation.settings import Home
from remediation.testing import WORLD, plugin, running_host, settings_in

RNG = random.Random(4711)
VAULT = "Tr0ub4dor/&3 q"
SECRETS = {
    name: filled(template, RNG)
    for name, template in {
        "github": "ghp_<alnum:36>",
        "aws": "AKIA<upper:16>",
        "slack": "xoxb-<digit:12>-<alnum:24>",
        "jwt": "eyJ<word:36>.<word:80>.<word:43>",
        "password": "pw-<alnum:12>",
        "acme": "ACME-<digit:12>",
        "bearer": "<word:40>",
        "email": "<lower:12>@example.org",
    }.items()
}
SAID = (
    f"push with {SECRETS['github']}, {SECRETS['aws']}, {SECRETS['slack']} and {SECRETS['jwt']}; password={SECRETS['password']} "
    f"at https://bob:{SECRETS['password']}@example.org/ for {SECRETS['email']}, {SECRETS['acme']}; Authorization: Bearer {SECRETS['bearer']}; "
    f"vault {VAULT} and {base64.b64encode(b'x' + VAULT.encode()).decode()}"
)
KNOWN = [VAULT, *(base64.b64encode(b"\0" * n + VAULT.encode()).decode()[n + (n > 0) : -4] for n in range(3))]

HIDDEN = [*SECRETS.values(), *KNOWN]
HIDDEN += [part for secret in SECRETS.values() if len(secret) > 20 and "@" not in secret for part in (secret[5:17], secret[-12:])]


class Acme:
    @hookimpl
    def remediation_secret_patterns(self) -> list[str]:
        return [r"ACME-[0-9]{12}"]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    yield stream
    structlog.reset_defaults()


def leaks(folder: Path, *texts: str) -> list[str]:
    """Where a secret stands in a file of `folder`, or in `texts`."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += [f"{path.relative_to(folder)}: {hidden}" for hidden in HIDDEN if hidden.encode() in data]
    return found + [f"text: {hidden}" for text in texts for hidden in HIDDEN if hidden in text]


async def healed(host: Host, event: DegradationEvent) -> Incident:
    return await host.wait_for(await host.report(event), timeout=20)


async def test_no_secret_comes_to_rest_whatever_a_runbook_says_prints_or_raises(tmp_path: Path, log: io.StringIO) -> None:
    async def finds(ctx: RemediationContext) -> Finding:
        ctx.log.warning("looking", said=SAID, more={"password": SECRETS["password"], "list": [SAID]}, error=ValueError(SAID))
        return Finding.applies(confidence=90, evidence=[SAID, "x" * 1990 + SAID], reason=SAID)

    async def runs(ctx: RemediationContext) -> Plan:
        run = RunCommand(
            argv=[sys.executable, str(ctx.subject_path().parent / "script.py")],
            env={"IT": SecretRef(secret="db")},
            undo=["true"],
        )
        return Plan(run, WriteFile(path=ctx.subject_path(), content="mended\n"), summary=SAID, loses="")

    async def says(ctx: RemediationContext) -> Verdict:
        return Verdict.failed(SAID, [SAID, json.dumps({"token": SECRETS["bearer"]})])

    async def raises(ctx: RemediationContext) -> Finding:
        raise ValueError(f"{'z' * 2000} {SAID}")

    async def declines(ctx: RemediationContext) -> Finding:
        return Finding.declined(SAID, [SAID])

    async def waits(ctx: RemediationContext) -> Wait:
        return Wait("0s", SAID)

    async def tells(ctx: RemediationContext) -> Escalation:
        return Escalation(title=SAID, analysis=f"# What\n\n{SAID}\n" * 50, actions=[SAID])

    script = f"import os; print(os.environ['IT'], {SAID!r}); import sys; print('y' * 9000, {SAID!r}, file=sys.stderr)"
    (tmp_path / WORLD).mkdir()
    (tmp_path / WORLD / "script.py").write_text(script)
    host_of: list[RemediatorBootstrap] = []

    def prepare(boot: RemediatorBootstrap) -> None:
        host_of.append(boot)
        configure(log, json=True, redactor=lambda: boot.redactor)

    kinds = [
        runbook("run", precondition=finds, action=runs, verify=says, escalate=tells, credentials=("db",), priority=3),
        runbook("raise", precondition=raises, priority=2),
        runbook("decline", precondition=declines, priority=1),
        runbook("wait", code="OTHER", action=waits),
    ]
    evidence = {
        "said": SAID,
        "nested": [{"api_key": SECRETS["bearer"]}],
        "long": "w" * 16_000 + SAID,
        "argv": ["x", "--token", SECRETS["bearer"]],
    }
    async with running_host(tmp_path, *kinds, plugins=[Acme()], secrets={"db": VAULT}, prepare=prepare) as host:
        incident = await healed(host, broken(tmp_path, summary=SAID, evidence=evidence))
        await host.report(broken(tmp_path, summary=SAID, evidence=evidence, severity="P0"))
        await host.report(broken(tmp_path, "other", code="OTHER", summary=SAID))
        told = await entries_of(host, incident.id)
        assert incident.status == "heal_failed"
        assert only(DegradationCoalesced, told)
    (tmp_path / WORLD / "script.py").unlink()
    (tmp_path / "home" / "remediation.toml").write_text(f'[host]\nid = "test-host"\n[keys]\ndir = "{tmp_path / "keys"}"\n')
    exported = remediation("journal", "export", "--home", str(tmp_path / "home"))
    shown = remediation("incident", "show", incident.id, "--home", str(tmp_path / "home"))
    assert (exported.status, shown.status) == (0, 0), exported.err + shown.err
    assert leaks(tmp_path, log.getvalue(), exported.out, shown.out) == []
    # It was said, and what was no secret is still there.
    (planned,) = only(AttemptPlanned, told)
    assert "push with [redacted:github-token], [redacted:aws-key]" in planned.finding.reason
    assert "[redacted:custom]" in planned.plan.summary
    assert "[redacted:vault]" in planned.plan.summary
    assert "looking" in log.getvalue()


async def test_a_command_line_report_holds_no_secret_even_in_the_inbox(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    said = SAID.replace(VAULT, "").replace(base64.b64encode(b"x" + VAULT.encode()).decode(), "").replace(SECRETS["acme"], "")
    evidence = json.dumps({"said": said, "password": SECRETS["password"]})
    ran = remediation(
        "report",
        "--code",
        "C",
        "--subsystem",
        "s",
        "--subject",
        f"https://a:{SECRETS['password']}@x/",
        "--summary",
        said,
        "--evidence",
        evidence,
        "--home",
        str(home.root),
    )
    assert ran.status == 0, ran.err
    Reporter(home).report(
        DegradationEvent(code="C", subsystem="s", subject="x", summary="v" * 2040 + said, evidence={"said": said})
    )
    Inbox(home.inbox).put("pause", {"reason": said}, at=1)
    assert len(list(home.inbox.iterdir())) == 3
    assert leaks(home.root, ran.out, ran.err) == []


async def test_what_only_the_host_knows_is_masked_when_a_report_is_taken_in(tmp_path: Path) -> None:
    async with running_host(tmp_path, plugins=[Acme()], secrets={"db": VAULT}, watch=False) as host:
        Reporter(tmp_path / "home").report(
            DegradationEvent(code="C", subsystem="s", subject="x", summary=SAID, evidence={"said": SAID})
        )
        await host.settle()
        (entry,) = only(DegradationReported, await entries_of(host))
        assert "[redacted:vault]" in entry.event.evidence["said"]
    assert leaks(tmp_path) == []


def test_a_job_that_prints_secrets_leaves_none_behind(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        f"import sys\nprint({SAID!r})\nprint('x' * 8100 + {SAID!r}, file=sys.stderr)\nraise KeyError({SAID!r})\n"
    )
    home = tmp_path / "home"
    Home(home).make()
    (home / "remediation.toml").write_text(
        textwrap.dedent(f"""
        [host]
        id = "jobs"
        autoload = false
        [keys]
        dir = "{tmp_path / "keys"}"
        [[jobs]]
        name = "leaky"
        command = [{json.dumps(sys.executable)}, "job.py", "--password", "{SECRETS["password"]}"]
        cwd = "{tmp_path}"
        env = {{ API_TOKEN = "{SECRETS["bearer"]}" }}
        every = "10m"
        """)
    )
    ran = remediation("run", "--once", "--json", "--home", str(home))
    assert ran.status in (0, 1), ran.err
    (tmp_path / "job.py").unlink()
    (home / "remediation.toml").unlink()
    found = [leak.partition(": ")[2] for leak in leaks(tmp_path, ran.out, ran.err)]
    others = {SECRETS["acme"], *KNOWN}  # neither vault nor plugin is this host's
    assert set(found) <= others
    assert "leaky" in ran.out


async def test_a_masked_subject_is_the_identity_of_what_is_reported_and_cleared(tmp_path: Path) -> None:
    async with running_host(tmp_path) as host:
        subjects = [f"postgres://app:{SECRETS['password']}{number}@db/app" for number in range(2)]
        first, second = [await host.report(DegradationEvent(code="DOWN", subsystem="db", subject=subject)) for subject in subjects]
        assert first.incident == second.incident
        incident = host.incident(first.incident)
        assert incident.event.subject == "postgres://app:[redacted:url-password]@db/app"
        await host._remediator.intake.clear("DOWN", "db", subjects[0])
        assert host.incident(first.incident).cleared_at > 0
        mail = await host.report(DegradationEvent(code="DOWN", subsystem="mail", subject="alice@example.org"))
        assert host.incident(mail.incident).event.subject == "alice@example.org"
    assert leaks(tmp_path) == []


HELD = {
    "an argument": lambda path: RunCommand(argv=["tool", SECRETS["github"]], undo=["true"]),
    "an option": lambda path: RunCommand(argv=["tool", "--password", SECRETS["password"]], undo=["true"]),
    "an undo": lambda path: RunCommand(argv=["tool"], undo=["tool", f"--token={SECRETS['bearer']}"]),
    "a variable": lambda path: RunCommand(argv=["tool"], undo=["true"], env={"DB_PASSWORD": "swordfish"}),
    "a known value": lambda path: RunCommand(argv=["tool", f"x{VAULT}x"], undo=["true"]),
    "a pattern of a plugin": lambda path: RunCommand(argv=["tool", SECRETS["acme"]], undo=["true"]),
    "the arguments of a control": lambda path: CallHost(
        control="login", args={"user": "bob", "auth": {"password": SECRETS["password"]}}
    ),
    "a content": lambda path: WriteFile(path=path, content=f"a = 1\nAPI_KEY = '{SECRETS['bearer']}'\n"),
    "a path": lambda path: WriteFile(path=path.parent / SECRETS["aws"], content="x"),
}


@pytest.mark.parametrize("where", HELD)
async def test_a_plan_that_holds_a_credential_is_refused_and_nothing_of_it_is_told(tmp_path: Path, where: str) -> None:
    async def plans(ctx: RemediationContext) -> Plan:
        return Plan(HELD[where](ctx.subject_path()))

    def prepare(boot: RemediatorBootstrap) -> None:
        boot.controls.register("login", lambda **_: None, idempotent=True, undo=lambda **_: None)

    kind = runbook(action=plans, credentials=("db",), blast_radius="fleet", reversibility="irreversible")
    async with running_host(tmp_path, kind, plugins=[Acme()], secrets={"db": VAULT}, prepare=prepare) as host:
        incident = await healed(host, broken(tmp_path))
        assert incident.status == "escalated"
        assert "holds what looks like a secret" in incident.reason
        assert "swordfish" not in repr(await entries_of(host))
        assert "stage.applied" not in await types_of(host, incident.id)
    assert (tmp_path / WORLD / "thing").read_text() == "broken\n"
    assert leaks(tmp_path) == []


FREE = {
    "a reference": lambda path: RunCommand(argv=["true"], undo=["true"], env={"DB_PASSWORD": SecretRef(secret="db")}),
    "a file of a secret": lambda path: RunCommand(
        argv=["true", "--password-file", "/run/secrets/db", "--token", "$TOKEN"], undo=["true"]
    ),
    "an address in a text": lambda path: WriteFile(path=path, content=f"# by {SECRETS['email']}\nmended\n"),
    "code about secrets": lambda path: WriteFile(
        path=path,
        content="def login(user, password: str, token=None):\n    token = os.environ['TOKEN']\n    password = password or config.password\n    connect(user=user, password=db_password)\n",
    ),
    "a digest": lambda path: WriteFile(path=path, content="3f786850e387550fdab836ed7e6dc881de23001b\n"),
}


@pytest.mark.parametrize("what", FREE)
async def test_a_plan_without_credentials_is_applied(tmp_path: Path, what: str) -> None:
    async def plans(ctx: RemediationContext) -> Plan:
        return Plan(FREE[what](ctx.subject_path()))

    async def healthy(ctx: RemediationContext) -> Verdict:
        return Verdict.healthy()

    async with running_host(tmp_path, runbook(action=plans, verify=healthy, credentials=("db",)), secrets={"db": VAULT}) as host:
        incident = await healed(host, broken(tmp_path))
        assert incident.status == "resolved", incident.reason


async def test_contents_are_written_and_undone_byte_for_byte_and_shown_masked(tmp_path: Path) -> None:
    before = f"password = '{SECRETS['password']}'\nhost = old\n"
    after = before.replace("old", "new")

    async def plans(ctx: RemediationContext) -> Plan:
        (ctx.scratch / "new").write_text(after)
        return Plan(WriteFile(path=ctx.subject_path(), blob=await ctx.keep(ctx.scratch / "new")))

    written: list[str] = []

    async def fails(ctx: RemediationContext) -> Verdict:
        written.append(await ctx.read_text(ctx.event.subject))
        return Verdict.failed("no")

    async with running_host(tmp_path, runbook(action=plans, verify=fails)) as host:
        incident = await healed(host, broken(tmp_path, text=before))
        (planned,) = only(AttemptPlanned, await entries_of(host, incident.id))
        assert "password = '[redacted:password]'" in planned.plan.effects[0].diff
        assert "+host = new" in planned.plan.effects[0].diff
    assert written == [after]
    assert (tmp_path / WORLD / "thing").read_text() == before
    assert {leak.split("/")[1] for leak in leaks(tmp_path) if leak.startswith("home/")} == {"blobs"}


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("(", "is no regular expression"),
        ("x*", "matches the empty string"),
        ("(a+)+b", "without an upper bound"),
        (r"\w+@acme", "without an upper bound"),
        ("[a-z]{4,20}", "matches masks themselves"),
        ("(?:[a-z0-9]{1,20}-){1,9}X", "ways from one place"),
        (r"(..)\1Z", "refers back"),
        (17, "must be text"),
    ],
)
async def test_an_expression_that_can_do_harm_is_refused_at_the_start(tmp_path: Path, expression: object, why: str) -> None:
    class Bad:
        @hookimpl
        def remediation_secret_patterns(self) -> list[object]:
            return [expression]

    with pytest.raises(RegistrationError, match="plugin Bad: remediation_secret_patterns: .*" + why):
        async with RemediatorBootstrap(settings_in(tmp_path), plugins=[plugin(), Bad()]).start():
            pass
    assert not (tmp_path / "home").exists()


async def test_a_heal_without_secrets_is_recorded_in_full(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(precondition=applies, action=write_mended, verify=is_mended)) as host:
        incident = await healed(host, broken(tmp_path, summary="the file is broken", evidence={"pid": 17, "key": "value"}))
        assert incident.status == "resolved"
        assert "redacted" not in repr(await entries_of(host, incident.id))
