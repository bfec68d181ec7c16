"""Commands: once, or observed; secrets only where they are needed."""

import asyncio
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.world import EffectWorld, carry_out, prepare, stored

from remediation.effects import DeclaredDisposable, RunCommand
from remediation.effects.command import OUTPUT_CAP
from remediation.effects.units import least_radius, units_of
from remediation.errors import CredentialRefused, EffectConflict, EffectError, EffectRefused
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Radius, Reversibility
from remediation.ports.effect import SecretRef


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    return EffectWorld(tmp_path, secrets={"token": "s3cr3t/value"})


def touching(world: EffectWorld, **fields: object) -> RunCommand:
    """A command whose result is the file `made`."""
    made = f"{world.root}/made"
    return RunCommand(
        **{"argv": ["touch", made], "undo": ["rm", "-f", made], "observe": ["test", "-e", made], "cwd": world.root, **fields}
    )


async def test_a_command_runs_and_says_what_it_said(world: EffectWorld) -> None:
    effect = RunCommand(argv=["sh", "-c", "echo $GIVEN; echo err >&2; pwd"], cwd=world.root, env={"GIVEN": "x"})
    assert stored(effect).describe() == effect.describe() == f"run sh -c 'echo $GIVEN; echo err >&2; pwd' in {world.root}"
    _, output = await carry_out(effect, world)
    assert (output.exit_code, output.stdout, output.stderr) == (0, f"x\n{world.root}\n", "err\n")


async def test_without_a_folder_it_runs_in_the_root_folder(world: EffectWorld) -> None:
    _, output = await carry_out(RunCommand(argv=["pwd"]), world)
    assert output.stdout == "/\n"


async def test_a_failing_command_is_an_error_with_its_last_words(world: EffectWorld) -> None:
    effect = RunCommand(argv=["sh", "-c", "echo 'it broke' >&2; exit 3"])
    with pytest.raises(EffectError, match=r"exited with 3; it may have done part of its work; it last said: 'it broke'"):
        await carry_out(effect, world)
    with pytest.raises(EffectError, match="signal 9"):
        await carry_out(RunCommand(argv=["sh", "-c", "kill -9 $$"]), world)
    _, output = await carry_out(RunCommand(argv=["sh", "-c", "exit 3"], ok=[0, 3]), world)
    assert output.exit_code == 3


async def test_a_command_that_cannot_start_or_takes_too_long_is_an_error(world: EffectWorld) -> None:
    with pytest.raises(EffectError, match="can't start"):
        await carry_out(RunCommand(argv=["no-such-command"]), world)
    with pytest.raises(EffectError, match=r"ended after 0\.2 s"):
        await carry_out(RunCommand(argv=["sleep", "1000"], timeout="200ms"), world)
    world.deadline = world.clock.monotonic() + 0.2
    with pytest.raises(EffectError, match="ended after"):
        await carry_out(RunCommand(argv=["sleep", "1000"], timeout="1h"), world)
    with pytest.raises(EffectError, match="deadline passed"):
        await carry_out(RunCommand(argv=["true"]), world)


async def test_without_an_observer_it_is_run_once_and_never_known(world: EffectWorld) -> None:
    effect = RunCommand(argv=["true"])
    assert effect.promised(world) is Promise.ONCE
    prepared, output = await carry_out(effect, world)
    assert await effect.probe(world, prepared) is Probe.UNKNOWN
    assert world.commands == [("true",)]
    with pytest.raises(EffectError, match="no undo"):
        await effect.revert(world, prepared, output)


async def test_with_an_observer_it_is_compare_and_set(world: EffectWorld) -> None:
    effect = touching(world)
    assert effect.promised(world) is Promise.STATE
    prepared = await prepare(effect, world)
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    await effect.apply(world, prepared)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    with pytest.raises(EffectConflict, match="says otherwise now"):
        await effect.apply(world, prepared)
    await effect.revert(world, prepared, None)
    await effect.revert(world, prepared, None)
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    assert [command[0] for command in world.commands].count("rm") == 1


async def test_what_is_there_already_is_neither_run_nor_undone(world: EffectWorld) -> None:
    (world.root / "made").write_text("theirs")
    effect = touching(world)
    prepared, output = await carry_out(effect, world)
    assert "will not be run" in effect.diff(prepared, world)
    await effect.revert(world, prepared, output)
    assert (world.root / "made").read_text() == "theirs"
    assert {command[0] for command in world.commands} == {"test"}
    (world.root / "made").unlink()
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)


async def test_an_observer_that_cannot_tell_stops_everything(world: EffectWorld) -> None:
    for observe in (["sh", "-c", "exit 2"], ["no-such-command"]):
        with pytest.raises(EffectRefused, match="can't tell"):
            await touching(world, observe=observe).prepare(world)
    effect = touching(world, observe=["sh", "-c", f"test ! -e {world.root}/broken || exit 2; test -e {world.root}/made"])
    prepared, _ = await carry_out(effect, world)
    (world.root / "broken").touch()
    assert await effect.probe(world, prepared) is Probe.UNKNOWN
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)
    with pytest.raises(EffectError, match="look by hand"):
        await effect.revert(world, prepared, None)


async def test_an_undo_that_fails_or_does_not_undo_is_an_error(world: EffectWorld) -> None:
    for undo, said in ((["false"], "exited with 1"), (["true"], "does not say that the result is gone")):
        (world.root / "made").unlink(missing_ok=True)
        effect = touching(world, undo=undo)
        prepared, output = await carry_out(effect, world)
        with pytest.raises(EffectError, match=said):
            await effect.revert(world, prepared, output)


async def test_secrets_reach_the_command_and_nothing_else(world: EffectWorld) -> None:
    effect = RunCommand(
        argv=["sh", "-c", 'echo "$0 $TOKEN"; echo "$0" >&2', SecretRef(secret="token")], env={"TOKEN": SecretRef(secret="token")}
    )
    prepared = await prepare(effect, world)
    assert world.used == []
    texts = [effect.describe(), effect.diff(prepared, world), effect.record().data, repr(effect), str(effect.touches())]
    _, output = await carry_out(effect, world)
    assert world.used == ["token"]
    assert output.stdout == "[secret token] [secret token]\n"
    assert world.commands[-1][-1] == "s3cr3t/value"
    texts.append(output.model_dump_json())
    assert not [text for text in texts if "s3cr3t" in text]
    assert "[secret token]" in effect.describe()


@pytest.mark.parametrize("script", ['echo "$0" >&2; exit 3', "sleep 1000"])
async def test_secrets_are_not_in_errors_either(world: EffectWorld, script: str) -> None:
    effect = RunCommand(argv=["sh", "-c", script, SecretRef(secret="token")], timeout="200ms")
    with pytest.raises(EffectError) as raised:
        await carry_out(effect, world)
    assert "s3cr3t" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None
    effect = RunCommand(argv=["no-such-command", SecretRef(secret="token")])
    with pytest.raises(EffectError) as raised:
        await carry_out(effect, world)
    assert "s3cr3t" not in "".join(traceback.format_exception(raised.value))


async def test_a_secret_that_is_not_there_starts_nothing(world: EffectWorld) -> None:
    with pytest.raises(CredentialRefused):
        await carry_out(RunCommand(argv=["true", SecretRef(secret="none")]), world)
    assert world.commands == []


async def test_the_receipt_keeps_the_end_of_what_was_said(world: EffectWorld) -> None:
    _, output = await carry_out(RunCommand(argv=["sh", "-c", "seq 1 100000"]), world)
    assert output.stdout.endswith("99999\n100000\n")
    assert len(output.stdout) < OUTPUT_CAP + 50


async def test_a_cancelled_apply_ends_the_command(world: EffectWorld) -> None:
    effect = RunCommand(argv=["sh", "-c", f"echo > {world.root}/started; exec sleep 1000"])
    prepared = await prepare(effect, world)
    task = asyncio.create_task(effect.apply(world, prepared))
    while not (world.root / "started").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_command_is_as_reversible_as_was_said(world: EffectWorld) -> None:
    assert RunCommand(argv=["true"]).reversibility(world) is Reversibility.IRREVERSIBLE
    assert RunCommand(argv=["true"], undo=["true"]).reversibility(world) is Reversibility.REVERSIBLE
    world.disposable = DeclaredDisposable(units=["app"], argv_prefixes=[["make", "clean"]])
    for argv, expected in (
        (["systemctl", "restart", "app.service"], Reversibility.DISPOSABLE),
        (["systemctl", "--no-block", "restart", "app"], Reversibility.DISPOSABLE),
        (["systemctl", "restart", "app.service", "other.service"], Reversibility.IRREVERSIBLE),
        (["systemctl", "restart", "app*"], Reversibility.IRREVERSIBLE),
        (["systemctl", "disable", "app.service"], Reversibility.IRREVERSIBLE),
        (["/tmp/systemctl", "restart", "app.service"], Reversibility.IRREVERSIBLE),
        (["make", "clean", "all"], Reversibility.DISPOSABLE),
        (["make", "all"], Reversibility.IRREVERSIBLE),
        (["make", SecretRef(secret="clean")], Reversibility.IRREVERSIBLE),
    ):
        assert RunCommand(argv=argv).reversibility(world) is expected, argv


def test_tools_that_administer_machines_reach_at_least_the_machine() -> None:
    assert RunCommand(argv=["true"]).radius() is Radius.PROCESS
    assert RunCommand(argv=["true"], reach="fleet").radius() is Radius.FLEET
    assert RunCommand(argv=["systemctl", "restart", "app.service"]).radius() is Radius.PROCESS
    assert RunCommand(argv=["systemctl", "daemon-reload"]).radius() is Radius.MACHINE
    assert RunCommand(argv=["/sbin/reboot"]).radius() is Radius.MACHINE
    assert RunCommand(argv=["true"], undo=["sudo", "true"]).radius() is Radius.MACHINE
    assert RunCommand(argv=["kubectl", "delete", "pod", "x"]).radius() is Radius.FLEET
    assert least_radius([]) is Radius.PROCESS


def test_units_are_named_only_when_the_command_is_understood_completely() -> None:
    assert units_of(["systemctl", "--user", "-q", "try-restart", "a", "b@1.timer"]) == ("a.service", "b@1.timer")
    for argv in (
        [],
        ["systemctl"],
        ["systemctl", "restart"],
        ["systemctl", "restart", "--all"],
        ["systemctl", "-H", "host", "restart", "a"],
        ["systemctl", "restart", "a;b"],
        ["service", "a", "restart"],
    ):
        assert units_of(argv) == ()


def test_a_command_that_makes_no_sense_is_refused() -> None:
    for fields in (
        {"argv": []},
        {"argv": "rm -rf /"},
        {"argv": ["a\0b"]},
        {"argv": ["a"], "undo": "b"},
        {"argv": ["a"], "env": {"A=B": "x"}},
        {"argv": ["a"], "env": {"A": "x\0"}},
        {"argv": ["a"], "cwd": "relative"},
    ):
        with pytest.raises(ValidationError):
            RunCommand(**fields)
    assert RunCommand(argv=[Path("/bin/true")]).argv == ("/bin/true",)


def test_a_description_is_one_harmless_line() -> None:
    effect = RunCommand(argv=["printf", "\x1b[2J\n\u202e"], cwd="/tmp", env={"A": "\x07"})
    assert effect.describe().isprintable()
