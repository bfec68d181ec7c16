"""What is healed while hosts are killed: files, a command without a probe, a control that deduplicates by key."""

import json
import os
from pathlib import Path

from remediation import DegradationEvent, RemediatorBootstrap, Reporter, Settings
from remediation.authoring import (
    CallHost,
    DeleteFile,
    Finding,
    Handles,
    Plan,
    Runbook,
    RunbookSpec,
    RunCommand,
    Verdict,
    WriteFile,
    hookimpl,
)
from remediation.bootstrap import initialise

SCENARIOS = ("one-stage", "two-stages", "revert")


def _spec(code: str) -> RunbookSpec:
    return RunbookSpec(
        id=code.lower(),
        handles=(Handles(code=code.upper()),),
        blast_radius="process",
        reversibility="disposable",
        level="recovery",
    )


def _log(work: Path, word: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", 'echo "$2" >> "$1"', "log", str(work / "log"), word)


class _Healer(Runbook):
    spec = _spec("none")

    async def precondition(self, ctx):
        return Finding.applies(95)

    async def verify(self, ctx):
        work = ctx.subject_path()
        whole = (work / "config").read_text() == "new" and not (work / "stale").exists()
        return Verdict.healthy() if whole else Verdict.failed("not as it should be")


class OneStage(_Healer):
    spec = _spec("one-stage")

    async def action(self, ctx):
        work = ctx.subject_path()
        return Plan(
            WriteFile(path=work / "config", content="new"),
            RunCommand(argv=_log(work, "ran")),
            CallHost(control="notify", args={"work": str(work)}),
            DeleteFile(path=work / "stale"),
        )


class TwoStages(_Healer):
    spec = _spec("two-stages")

    async def action(self, ctx):
        work = ctx.subject_path()
        if ctx.stage == 0:
            return Plan(WriteFile(path=work / "config", content="new"), RunCommand(argv=_log(work, "ran")), more=True)
        assert len(ctx.receipts) == 2
        return Plan(CallHost(control="notify", args={"work": str(work)}), DeleteFile(path=work / "stale"))


class Reverting(_Healer):
    spec = _spec("revert")

    async def action(self, ctx):
        work = ctx.subject_path()
        return Plan(
            WriteFile(path=work / "config", content="new"),
            RunCommand(argv=_log(work, "ran"), undo=_log(work, "undone")),
            DeleteFile(path=work / "stale"),
        )

    async def verify(self, ctx):
        return Verdict.failed("it is never good enough")


class _Plugin:
    @hookimpl
    def remediation_runbooks(self):
        return [OneStage, TwoStages, Reverting]


def settings(base: Path) -> Settings:
    """Of the host in `base`."""
    return Settings(
        base=base,
        host={"id": "crash", "home": base / "home"},
        keys={"dir": base / "keys"},
        gate={"profile": "autonomous"},
        limits={"changes_per_hour": 1000},
        effects={
            "roots": [base / "work"],
            "disposable": {"argv_prefixes": [["/bin/sh"]], "controls": ["notify"]},
        },
        runbooks={name: {"state": "live"} for name in SCENARIOS},
        channels={"log": False},
    )


def make(base: Path, scenario: str) -> None:
    """Make the scene, and report the degradation of `scenario`."""
    work = base / "work"
    (work / "calls").mkdir(parents=True)
    (work / "config").write_text("old")
    (work / "stale").write_text("999999")
    os.utime(work / "stale", (1_700_000_000, 1_700_000_000))
    initialise(settings(base))
    Reporter(base / "home").report(DegradationEvent(code=scenario.upper(), subsystem="crash", subject=str(work)))


async def heal(base: Path) -> list[dict]:
    """Be the host until nothing is left to do; returns the incidents."""
    boot = RemediatorBootstrap(settings(base), plugins=[_Plugin()])

    async def notify(key: str, work: str) -> None:
        (Path(work) / "calls" / key.replace(":", "_")).write_text("called")

    boot.controls.register("notify", notify, idempotent=True)
    async with boot.start(watch=False) as host:
        await host.settle()
        return [
            {"id": item.id, "status": item.status.value, "dirty": item.dirty, "attempts": item.acted, "reason": item.reason}
            for item in host.incidents()
        ]


def state(base: Path) -> dict:
    """What a person would look at."""
    work = base / "work"
    log = work / "log"
    return {
        "config": (work / "config").read_text(),
        "stale": (work / "stale").read_text() if (work / "stale").exists() else None,
        "log": log.read_text().split() if log.exists() else [],
        "calls": sorted(os.listdir(work / "calls")),
        "others": sorted(set(os.listdir(work)) - {"config", "stale", "log", "calls"}),
        "scratch": os.listdir(base / "home" / "scratch"),
        "inbox": [name for name in os.listdir(base / "home" / "inbox") if name.endswith(".json")],
        "locks": sorted(set(os.listdir(base / "home" / "locks")) - {"subjects.lock"}),
    }


def told(value: object) -> str:
    """For an assertion's message."""
    return json.dumps(value, indent=1)
