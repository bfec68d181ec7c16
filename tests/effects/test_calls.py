"""Controls of the host: called under the effect's key, once."""

import asyncio
import functools
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.world import EffectWorld, carry_out, prepare, stored

from remediation.effects import CallHost, DeclaredDisposable
from remediation.errors import EffectConflict, EffectError, EffectRefused, RegistrationError
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Radius, Reversibility
from remediation.ports.effect import SecretRef


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    return EffectWorld(tmp_path)


class Queue:
    """A service of the host that deduplicates by key."""

    def __init__(self) -> None:
        self.done: dict[str, Any] = {}
        self.calls = 0

    def resume(self, key: str, name: str, limit: int = 1) -> dict[str, Any]:
        self.calls += 1
        return self.done.setdefault(key, {"name": name, "limit": limit})

    async def happened(self, key: str, **_: Any) -> bool:
        return key in self.done

    def undo(self, key: str, **_: Any) -> None:
        self.done.pop(key, None)


async def test_a_control_is_called_with_key_and_arguments(world: EffectWorld) -> None:
    queue = Queue()
    world.controls.register("queue.resume", queue.resume, idempotent=True)
    effect = CallHost(control="queue.resume", args={"name": "outbox", "limit": 3})
    assert stored(effect).describe() == 'call queue.resume(name="outbox", limit=3)'
    _, output = await carry_out(effect, world)
    assert queue.done == {world.key: {"name": "outbox", "limit": 3}}
    assert output.result == '{"name": "outbox", "limit": 3}'
    assert effect.touches().controls == ("queue.resume",)


async def test_functions_of_every_shape_can_be_controls(world: EffectWorld) -> None:
    seen: list[tuple[str, Any]] = []

    def without_key(*, x: int) -> None:
        seen.append(("without", x))

    async def coroutine(x: int, key: str) -> str:
        seen.append((key, x))
        return key

    class Callable_:
        async def __call__(self, x: int, **rest: Any) -> None:
            seen.append((rest["key"], x))

    world.controls.register("a", without_key)
    world.controls.register("b", coroutine)
    world.controls.register("c", Callable_())
    world.controls.register("d", functools.partial(coroutine, x=1))
    world.controls.register("e", lambda x, key: coroutine(x, key))
    for name in "abce":
        await carry_out(CallHost(control=name, args={"x": 1}), world)
    await carry_out(CallHost(control="d"), world)
    assert seen == [("without", 1), *[(world.key, 1)] * 4]
    assert set(world.controls) == set("abcde")
    assert len(world.controls) == 5


async def test_a_plain_function_does_not_block_the_loop(world: EffectWorld) -> None:
    release = threading.Event()
    world.controls.register("slow", lambda: release.wait(10))
    task = asyncio.create_task(carry_out(CallHost(control="slow"), world))
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert not task.done()
    release.set()
    assert (await task)[1].result == "true"


def test_what_it_promises_depends_on_how_it_was_registered(world: EffectWorld) -> None:
    world.controls.register("once", print)
    world.controls.register("idempotent", print, idempotent=True)
    world.controls.register("probed", print, probe=print)
    world.controls.register("undone", print, undo=print)
    promises = {name: CallHost(control=name).promised(world) for name in world.controls}
    assert promises == {
        "once": Promise.ONCE,
        "idempotent": Promise.KEYED,
        "probed": Promise.KEYED,
        "undone": Promise.ONCE,
    }
    world.disposable = DeclaredDisposable(controls=["idempotent"])
    reversibilities = {name: CallHost(control=name).reversibility(world) for name in world.controls}
    assert reversibilities == {
        "once": Reversibility.IRREVERSIBLE,
        "idempotent": Reversibility.DISPOSABLE,
        "probed": Reversibility.IRREVERSIBLE,
        "undone": Reversibility.REVERSIBLE,
    }
    assert CallHost(control="once", reach="machine").radius() is Radius.MACHINE


async def test_a_control_that_can_probe_but_not_deduplicate_is_asked_before_it_is_called(world: EffectWorld) -> None:
    queue, answers = Queue(), {"say": None}
    world.controls.register("resume", queue.resume, probe=lambda **_: answers["say"])
    effect = CallHost(control="resume", args={"name": "x"})
    prepared = await prepare(effect, world)
    for say, found in ((None, Probe.UNKNOWN), (True, Probe.APPLIED), (False, Probe.NOT_APPLIED), (Probe.APPLIED, Probe.APPLIED)):
        answers["say"] = say
        assert await effect.probe(world, prepared) is found
    answers["say"] = True
    await effect.apply(world, prepared)
    answers["say"] = None
    with pytest.raises(EffectConflict, match="can't say"):
        await effect.apply(world, prepared)
    assert queue.calls == 0
    answers["say"] = False
    await effect.apply(world, prepared)
    assert queue.calls == 1


async def test_a_call_is_taken_back_under_its_key(world: EffectWorld) -> None:
    queue = Queue()
    world.controls.register("resume", queue.resume, idempotent=True, probe=queue.happened, undo=queue.undo)
    effect = CallHost(control="resume", args={"name": "x"})
    prepared, output = await carry_out(effect, world)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, output)
    await effect.revert(world, prepared, output)
    assert queue.done == {}
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED


async def test_a_call_without_undo_cannot_be_taken_back(world: EffectWorld) -> None:
    world.controls.register("resume", lambda: None)
    effect = CallHost(control="resume")
    prepared, output = await carry_out(effect, world)
    with pytest.raises(EffectError, match="no undo"):
        await effect.revert(world, prepared, output)
    with pytest.raises(EffectRefused, match="without undo"):
        await world.controls["resume"].undo("k", {})


async def test_what_a_control_raises_is_told_harmlessly(world: EffectWorld) -> None:
    def fails() -> None:
        raise ValueError("\x1b[2J no such queue")

    world.controls.register("fails", fails)
    with pytest.raises(EffectError, match=r"call of control 'fails' failed: ValueError") as raised:
        await carry_out(CallHost(control="fails"), world)
    assert str(raised.value).isprintable()

    async def refuses() -> None:
        raise EffectConflict("the queue is gone")

    world.controls.register("refuses", refuses)
    with pytest.raises(EffectConflict, match="queue is gone"):
        await carry_out(CallHost(control="refuses"), world)


async def test_what_a_control_returns_is_kept_as_json(world: EffectWorld) -> None:
    for number, (value, kept) in enumerate(
        [(None, "null"), (1.5, "1.5"), ({"a": [1]}, '{"a": [1]}'), (object(), '"[object]"'), (float("nan"), '"nan"')]
    ):
        world.controls.register(f"r{number}", lambda value=value: value)
        _, output = await carry_out(CallHost(control=f"r{number}"), world)
        assert output.result == kept
    world.controls.register("huge", lambda: "x" * 1_000_000)
    _, output = await carry_out(CallHost(control="huge"), world)
    assert len(output.result) <= 16 * 1024


async def test_a_control_that_is_missing_or_was_registered_anew_is_not_called(world: EffectWorld) -> None:
    with pytest.raises(EffectRefused, match="known: none"):
        await CallHost(control="resume").prepare(world)
    world.controls.register("resume", lambda: None, idempotent=True)
    effect = CallHost(control="resume")
    prepared = await prepare(effect, world)
    again = EffectWorld(world.base)
    assert await effect.probe(again, prepared) is Probe.UNKNOWN
    again.controls.register("resume", lambda: None)
    with pytest.raises(EffectConflict, match="differently"):
        await effect.apply(again, prepared)


def test_registering_nonsense_is_refused(world: EffectWorld) -> None:
    world.controls.register("a", print)
    for name, function in (("a", print), ("A b", print), ("", print), ("x", "print")):
        with pytest.raises(RegistrationError):
            world.controls.register(name, function)
    with pytest.raises(RegistrationError, match="probe"):
        world.controls.register("x", print, probe=True)


def test_arguments_are_json_and_copied() -> None:
    args = {"a": [1.5, {"b": None}]}
    effect = CallHost(control="x", args=args)
    args["a"].append(2)
    assert effect.args == {"a": [1.5, {"b": None}]}
    assert stored(effect) == effect
    for bad in ({"a": object()}, {"a": float("nan")}, [1], {"key": 1}, "not json"):
        with pytest.raises(ValidationError):
            CallHost(control="x", args=bad)


async def test_a_secret_reaches_the_control_and_nothing_else(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path, secrets={"queue-token": "s3cr3t/välue"})
    got: list[dict[str, Any]] = []

    async def resume(**arguments: Any) -> dict[str, Any]:
        got.append(arguments)
        return {"echo": arguments["token"]}

    world.controls.register("resume", resume, idempotent=True)
    effect = CallHost(control="resume", args={"name": "mail", "token": SecretRef(secret="queue-token")})
    assert "token=[secret queue-token]" in effect.describe()
    done = await carry_out(stored(effect), world)
    assert got[0]["token"] == "s3cr3t/välue"
    assert got[0]["name"] == "mail"
    assert "s3cr3t" not in str(done)
    assert "s3cr3t" not in str(stored(effect).record())
    assert "[secret queue-token]" in str(done)
    assert world.used == ["queue-token"]


async def test_what_a_control_raises_shows_no_secret_not_even_in_what_caused_it(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path, secrets={"queue-token": "s3cr3t/value"})

    async def refuse(token: str) -> None:
        raise RuntimeError(f"{token} is not accepted")

    async def refuse_softly(token: str) -> None:
        raise EffectRefused(f"{token} is not accepted")

    for name, function in (("hard", refuse), ("soft", refuse_softly)):
        world.controls.register(name, function, idempotent=True)
        with pytest.raises(EffectError) as failed:
            await carry_out(CallHost(control=name, args={"token": SecretRef(secret="queue-token")}), world)
        told = "".join(traceback.format_exception(failed.value))
        assert "s3cr3t" not in told
        assert "[secret queue-token] is not accepted" in told
        assert failed.value.__context__ is None


def test_json_that_looks_like_a_secrets_name_is_only_json() -> None:
    effect = CallHost(control="resume", args={"said": {"secret": "queue-token"}})
    assert not effect.secrets
    assert stored(effect).args == {"said": {"secret": "queue-token"}}


def test_an_argument_is_a_value_or_a_secret() -> None:
    with pytest.raises(ValidationError, match="given twice"):
        CallHost(control="resume", args={"token": "x"}, secrets={"token": SecretRef(secret="queue-token")})
    with pytest.raises(ValidationError, match="'key'"):
        CallHost(control="resume", args={"key": SecretRef(secret="queue-token")})


@pytest.mark.parametrize("step", ["apply", "probe", "revert"])
async def test_a_plain_function_that_is_cancelled_is_waited_for_however_often(world: EffectWorld, step: str) -> None:
    began, release, ended = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()
    slow = {"apply": False, "probe": False, "revert": False, step: True}

    def work(name: str) -> bool:
        if slow[name]:
            loop.call_soon_threadsafe(began.set)
            release.wait(10)
            ended.append(name)
        return name == "probe"

    world.controls.register(
        "slow", lambda: work("apply"), idempotent=True, probe=lambda: work("probe"), undo=lambda: work("revert")
    )
    effect = CallHost(control="slow")
    prepared = await prepare(effect, world)
    calls = {
        "apply": lambda: effect.apply(world, prepared),
        "probe": lambda: effect.probe(world, prepared),
        "revert": lambda: effect.revert(world, prepared, None),
    }
    task = asyncio.ensure_future(calls[step]())
    await began.wait()
    for _ in range(3):
        task.cancel()
        assert await asyncio.wait({task}, timeout=0.01) == (set(), {task})
    release.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert ended == [step]


async def test_a_plain_function_that_exits_ends_its_call_and_nothing_else(world: EffectWorld) -> None:
    world.controls.register("leave", lambda: sys.exit(3))
    with pytest.raises(SystemExit):
        await carry_out(CallHost(control="leave"), world)
