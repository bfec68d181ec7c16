"""A job is rerun exactly as configured, alone, and its failure is a result and no error."""

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.world import EffectWorld

from remediation.effects.rerun_job import RerunJob, RerunOutput, running_alone
from remediation.errors import EffectError
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Reversibility
from remediation.ports.effect import EffectKinds


def rerun(world: EffectWorld, code: str, **fields: object) -> RerunJob:
    effect = RerunJob.model_validate(
        {"name": "pages", "argv": (sys.executable, "-c", code), "cwd": str(world.root), "timeout": "30s"} | fields
    )
    loaded = EffectKinds([RerunJob]).load(effect.record())
    assert loaded == effect
    return effect


async def carried_out(world: EffectWorld, effect: RerunJob) -> RerunOutput:
    return await effect.apply(world, await effect.prepare(world))


async def test_the_command_runs_in_its_folder_with_its_environment(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    effect = rerun(world, "import os; print(os.getcwd(), os.environ['LEVEL'])", env=(("LEVEL", "3"),))
    output = await carried_out(world, effect)
    assert output.exit_code == 0
    assert output.said == f"{world.root} 3\n"
    assert output.duration_ms > 0


async def test_a_failure_of_the_job_is_told_in_the_output(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    output = await carried_out(world, rerun(world, "import sys; print('no', file=sys.stderr); sys.exit(3)"))
    assert (output.exit_code, output.said, output.error) == (3, "no\n", "")


async def test_an_overrun_and_a_command_that_is_not_there_are_told_in_the_output(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    late = await carried_out(world, rerun(world, "import time; time.sleep(600)", timeout="300ms"))
    assert late.exit_code is None
    assert "ended after" in late.error
    absent = await carried_out(world, rerun(world, "", argv=("/nowhere/program",)))
    assert absent.exit_code is None
    assert "/nowhere/program" in absent.error


async def test_a_job_whose_folder_is_gone_is_not_planned(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    with pytest.raises(EffectError, match="is gone"):
        await rerun(world, "", cwd=str(tmp_path / "missing")).prepare(world)


async def test_it_waits_for_the_scheduled_run_to_end(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    lock = tmp_path / "lock"
    effect = rerun(world, "open('ran', 'w')", lock=str(lock))
    async with running_alone(lock, world.clock, until=world.clock.monotonic()):
        running = asyncio.create_task(carried_out(world, effect))
        done, _ = await asyncio.wait([running], timeout=0.2)
        assert not done
        assert not (world.root / "ran").exists()
    assert (await running).exit_code == 0


async def test_it_gives_up_on_a_run_that_does_not_end_and_starts_nothing(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path, seconds=0.2)
    lock = tmp_path / "lock"
    effect = rerun(world, "open('ran', 'w')", lock=str(lock))
    async with running_alone(lock, world.clock, until=world.clock.monotonic()):
        with pytest.raises(EffectError, match="not started a second time"):
            await carried_out(world, effect)
    assert not (world.root / "ran").exists()


async def test_the_lock_is_no_way_to_open_another_file(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(EffectError, match=r"lock .* can't be opened"):
        await carried_out(world, rerun(world, "pass", lock=str(tmp_path / "lock")))
    assert not (tmp_path / "other").exists()


async def test_it_promises_no_more_than_it_keeps(tmp_path: Path) -> None:
    world = EffectWorld(tmp_path)
    effect = rerun(world, "pass")
    prepared = await effect.prepare(world)
    assert effect.promise is Promise.ONCE
    assert await effect.probe(world, prepared) is Probe.UNKNOWN
    assert effect.reversibility(world) is Reversibility.DISPOSABLE
    assert effect.touches().argv == effect.argv
    await effect.revert(world, prepared, None)
    assert "rerun the job pages" in effect.describe()
