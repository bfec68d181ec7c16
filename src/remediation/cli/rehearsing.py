"""Runs rehearsals for commands: bounded in time, ended by SIGTERM too, and over when the command is, whatever a runbook started."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, NoReturn

from remediation.bootstrap.rehearsing import find, open_stage
from remediation.cli import output, patient_loop, rehearsal_story, showing
from remediation.cli.logs import configure
from remediation.engine.registry import Registry
from remediation.model.events import DegradationEvent
from remediation.settings import Settings
from remediation.settings.home import Home


def dry_run(home: Home, event: DegradationEvent, *, json: bool) -> NoReturn:
    """Say what a host would do about `event`; ends the command: 0 if it would act, else 1."""
    settings = Settings.of(home)

    async def rehearse() -> tuple[dict[str, Any], bool]:
        async with open_stage(settings) as stage:
            rehearsal = await stage.rehearse(event)
            notes = [*stage.notes, *_meant(event.code, stage.registry)]
            told = rehearsal_story.document(rehearsal, settings.gate.profile, notes)
            return told, bool(stage.stuck)

    told, stuck = _run(rehearse())
    if json:
        output.say_json(told)
    else:
        showing.say(rehearsal_story.parts(told))
    _end(output.ExitCode.OK if told["acts"] else output.ExitCode.NO, stuck=stuck)


def replay(home: Home, runbook: str, *, since: datetime, until: datetime | None, limit: int, json: bool) -> NoReturn:
    """Say what `runbook` would do about recorded degradations; ends the command: 0 if it has a plan for any of them, else 1."""
    settings = Settings.of(home)

    async def replay_all() -> tuple[dict[str, Any], bool]:
        async with open_stage(settings) as stage:
            item = find(stage.registry, runbook)
            selected = await stage.select(item, since=since, until=until, limit=limit)
            replayed = [await stage.replay(item, incident) for incident in selected.newest]
            notes = [*stage.notes, *(f"{name}: {why}" for name, why in stage.faulted.items())]
            return rehearsal_story.replay_document(runbook, selected, replayed, notes), bool(stage.stuck)

    told, stuck = _run(replay_all())
    if json:
        output.say_json(told)
    else:
        showing.say(rehearsal_story.replay_parts(told))
    _end(output.ExitCode.OK if told["results"]["planned"] else output.ExitCode.NO, stuck=stuck)


def _meant(code: str, registry: Registry) -> list[str]:
    """The code that a runbook handles, and that is `code` but for the case of its letters."""
    known = {item.code for spec in registry.specs.values() for item in spec.handles}
    near = sorted(each for each in known if each.casefold() == code.casefold())
    return [f"no runbook handles {code}; did you mean {near[0]}?"] if near and code not in known else []


def _run(work: Coroutine[Any, Any, tuple[dict[str, Any], bool]]) -> tuple[dict[str, Any], bool]:
    configure(sys.stderr, json=False, level="warning")
    try:
        return patient_loop.run(work)
    except patient_loop.Ended as ended:
        output.complain(f"{ended}; nothing was done")
        _end(ended.code, stuck=True)


def _end(code: int, *, stuck: bool) -> NoReturn:
    if stuck:
        # What does not stop would keep the interpreter from ending.
        output.flush()
        os._exit(code)
    raise SystemExit(code)
