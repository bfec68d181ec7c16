"""Credentials in a running host: from the vault, as they are now, each use journaled by name, the values nowhere."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts import broken, entries_of, only, records_of, runbook

from remediation.authoring import CallHost, Finding, Plan, RemediationContext, RunCommand, SecretRef
from remediation.bootstrap import RemediatorBootstrap, initialise, open_vault
from remediation.errors import ConfigurationError, RegistrationError
from remediation.model.entries import CredentialUsed
from remediation.testing import eventually, plugin, running_host, settings_in

VALUE = "Zq7-unique-hunter2-Zq7"


def stored(folder: Path, **secrets: str) -> Any:
    """The vault of the host of `folder`, with these secrets."""
    settings = settings_in(folder)
    initialise(settings)
    vault = open_vault(settings.home)
    for name, value in secrets.items():
        vault.set(name, value)
    return vault


async def uses_of(host: Any, incident: str) -> list[tuple[str, str]]:
    return [(entry.name, entry.runbook) for entry in only(CredentialUsed, await entries_of(host, incident))]


async def test_a_step_reads_a_declared_secret_of_the_vault(tmp_path: Path) -> None:
    stored(tmp_path, token=VALUE)
    seen = []

    async def use(ctx: RemediationContext) -> Finding:
        seen.append(ctx.secret("token"))
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=use, credentials=("token",))) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert seen == [VALUE]
        assert await uses_of(host, incident.id) == [("token", "mend")]


async def test_a_command_gets_it_in_its_environment_alone(tmp_path: Path) -> None:
    stored(tmp_path, token=VALUE)
    out = tmp_path / "world" / "thing"

    async def run(ctx: RemediationContext) -> Plan:
        script = f'tr "\\0" "\\n" < /proc/self/environ > {tmp_path}/environ; echo mended > {out}; echo "$TOKEN"; echo "$TOKEN" >&2'
        return Plan(RunCommand(argv=["sh", "-c", script], undo=["true"], env={"TOKEN": SecretRef(secret="token")}))

    async with running_host(tmp_path, runbook(action=run, credentials=("token",))) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert f"TOKEN={VALUE}" in (tmp_path / "environ").read_text().splitlines()
        assert await uses_of(host, incident.id) == [("token", "mend")]
        told = str(await records_of(host))
        assert VALUE not in told
        assert "[secret token]" in told


@pytest.mark.parametrize("name", ["token", "tok", "prod-db"])
async def test_a_control_gets_it_as_an_argument(tmp_path: Path, name: str) -> None:
    stored(tmp_path, **{name: VALUE})
    got = []

    async def mend(path: str, t: str) -> dict[str, str]:
        got.append(t)
        Path(path).write_text("mended\n")
        return {"echo": t}

    async def call(ctx: RemediationContext) -> Plan:
        return Plan(CallHost(control="mend", args={"path": ctx.event.subject, "t": SecretRef(secret=name)}))

    made = runbook(action=call, credentials=(name,), reversibility="irreversible")
    async with running_host(
        tmp_path,
        made,
        prepare=lambda boot: boot.controls.register("mend", mend, idempotent=True),
        effects={"roots": [tmp_path / "world"], "disposable": {"controls": ["mend"]}},
    ) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert got == [VALUE]
        assert await uses_of(host, incident.id) == [(name, "mend")]
        assert VALUE not in str(await records_of(host))


async def test_what_a_runbook_that_declined_has_read_is_journaled_too(tmp_path: Path) -> None:
    stored(tmp_path, token=VALUE)

    async def look(ctx: RemediationContext) -> Finding:
        ctx.secret("token")
        return Finding.declined("not for me")

    curious = runbook("curious", precondition=look, credentials=("token",), priority=5)
    async with running_host(tmp_path, curious, runbook()) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "resolved"
        assert incident.attempts[-1].runbook == "mend"
        assert await uses_of(host, incident.id) == [("token", "curious")]


async def test_what_is_read_on_the_way_to_an_escalation_is_journaled(tmp_path: Path) -> None:
    stored(tmp_path, token=VALUE)

    async def look(ctx: RemediationContext) -> Finding:
        ctx.secret("token")
        raise RuntimeError("it broke")

    async with running_host(tmp_path, runbook(precondition=look, credentials=("token",))) as host:
        incident = await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        assert incident.status == "escalated"
        assert await uses_of(host, incident.id) == [("token", "mend")]


async def test_a_running_host_uses_a_changed_secret_at_once_and_refuses_a_removed_one(tmp_path: Path) -> None:
    vault = stored(tmp_path, token="the first one")
    seen = []

    async def use(ctx: RemediationContext) -> Finding:
        seen.append(ctx.secret("token"))
        return Finding.applies()

    async with running_host(tmp_path, runbook(precondition=use, credentials=("token",))) as host:
        await host.wait_for(await host.report(broken(tmp_path, "one")), timeout=10)
        vault.set("token", VALUE)
        await host.wait_for(await host.report(broken(tmp_path, "two")), timeout=10)
        assert seen == ["the first one", VALUE]
        vault.remove("token")
        refused = await host.wait_for(await host.report(broken(tmp_path, "three")), timeout=10)
        assert refused.status == "escalated"
        assert "has no credential 'token'; `remediation secrets set token`" in str(await entries_of(host))
        vault.set("token", "back again")
        await host.wait_for(await host.report(broken(tmp_path, "four")), timeout=10)
        assert seen[-1] == "back again"
        assert VALUE not in str(await records_of(host))


async def test_a_secret_that_changed_is_masked_from_its_first_use_on(tmp_path: Path) -> None:
    vault = stored(tmp_path, token="the first one")

    async def tell(ctx: RemediationContext) -> Finding:
        return Finding.applies(evidence=[f"the token is {ctx.secret('token')}"])

    async with running_host(tmp_path, runbook(precondition=tell, credentials=("token",))) as host:
        vault.set("token", VALUE)
        await host.wait_for(await host.report(broken(tmp_path)), timeout=10)
        told = str(await records_of(host))
        assert "the token is [redacted:vault]" in told
        assert VALUE not in told


async def test_a_host_without_a_declared_credential_does_not_start_and_does_once_it_is_set(tmp_path: Path) -> None:
    made = runbook(credentials=("token",))
    with pytest.raises(
        RegistrationError, match=r"'mend' declares credentials that this host does not have: token.*secrets set NAME"
    ):
        async with running_host(tmp_path, made):
            pass
    stored(tmp_path, token=VALUE)
    async with running_host(tmp_path, made) as host:
        assert (await host.wait_for(await host.report(broken(tmp_path)), timeout=10)).status == "resolved"


async def test_a_name_that_program_and_vault_both_have_is_refused_at_the_start(tmp_path: Path) -> None:
    stored(tmp_path, token=VALUE)
    with pytest.raises(ConfigurationError, match="token are in the vault, and the program") as refused:
        async with running_host(tmp_path, runbook(), secrets={"token": "from code"}):
            pass
    assert VALUE not in str(refused.value)


async def test_a_vault_that_was_altered_keeps_the_host_from_starting(tmp_path: Path) -> None:
    vault = stored(tmp_path, token=VALUE)
    document = json.loads(vault.path.read_bytes())
    document["records"] = []
    vault.path.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="was altered"):
        async with running_host(tmp_path, runbook()):
            pass


async def test_the_bootstrap_and_its_settings_show_no_value(tmp_path: Path) -> None:
    boot = RemediatorBootstrap(settings_in(tmp_path), plugins=[plugin(runbook())], secrets={"token": VALUE})
    assert VALUE not in repr(boot) + repr(boot.settings) + boot.settings.model_dump_json() + repr(vars(boot))


HUNTED = """
import asyncio, sys
from pathlib import Path
from remediation.authoring import Finding, Plan, RunCommand, SecretRef
from remediation.cli.logs import configure
from remediation.testing import running_host, eventually
from tests.support.hosts import broken, runbook

configure(sys.stderr, json=True)
folder = Path(sys.argv[1])

async def use(ctx):
    value = ctx.secret("token")
    ctx.log.info("read", length=len(value))
    return Finding.applies(evidence=["it was read: " + value])

async def run(ctx):
    script = f"touch {folder}/running; while [ ! -e {folder}/go ]; do sleep 0.05; done; echo mended > {ctx.event.subject}; echo $TOKEN"
    return Plan(RunCommand(argv=["sh", "-c", script], undo=["true"], env={"TOKEN": SecretRef(secret="token")}))

async def tell(ctx):
    raise ValueError("the token was " + ctx.secret("token"))

async def main():
    mend = runbook(precondition=use, action=run, credentials=("token",))
    bad = runbook("bad", code="BAD", precondition=tell, credentials=("token",))
    async with running_host(folder, mend, bad, channels={"log": True}) as host:
        reported = await host.report(broken(folder))
        failed = await host.report(broken(folder, "other", code="BAD"))
        print((await host.wait_for(failed, timeout=30)).status, flush=True)
        print((await host.wait_for(reported, timeout=30)).id, flush=True)

asyncio.run(main())
"""


async def test_a_value_is_found_nowhere_while_a_heal_uses_it_nor_after(tmp_path: Path) -> None:
    stored(tmp_path, token=VALUE)
    env = {**os.environ, "REMEDIATION_HOME": str(tmp_path / "home")}
    host = subprocess.Popen([sys.executable, "-c", HUNTED, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    try:
        await eventually(lambda: (tmp_path / "running").exists() or host.poll() is not None, within=30)
        processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        shown = b"".join(_bytes(process / "cmdline") for process in processes)
        assert str(tmp_path).encode() in shown
        assert VALUE.encode() not in shown
        assert VALUE.encode() not in _bytes(Path(f"/proc/{host.pid}/environ"))
        children = [process.name for process in processes if VALUE.encode() in _bytes(process / "environ")]
        assert children, "the command that declares it has it"
        # While it runs, the journal's write-ahead log is there too.
        assert not _holding(tmp_path / "home") + _holding(tmp_path / "keys")
    finally:
        (tmp_path / "go").touch()
        said, logged = host.communicate(timeout=60)
    assert host.returncode == 0, logged
    status, incident = said.decode().split()
    assert status == "escalated"
    assert VALUE.encode() not in said + logged
    assert b'"length"' in logged
    assert not _holding(tmp_path / "home") + _holding(tmp_path / "keys")
    (tmp_path / "home" / "remediation.toml").write_text(f'[host]\nid = "test-host"\n[keys]\ndir = "{tmp_path}/keys"\n')
    for command in (
        ["incident", "show", incident],
        ["incident", "show", incident, "--json"],
        ["incident", "show", incident, "--markdown"],
        ["incidents", "--json"],
        ["runbooks", "--json"],
        ["secrets", "list", "--json"],
        ["secrets", "list"],
        ["journal", "export"],
        ["journal", "export", "--format", "cloudevents"],
        ["journal", "tail", "--json"],
        ["doctor", "--json"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "remediation", *command], capture_output=True, env=env, timeout=60, check=False
        )
        assert VALUE.encode() not in done.stdout + done.stderr, command
        assert done.stdout, (command, done.stderr)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _holding(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and VALUE.encode() in _bytes(path)]
