"""Hosts to measure: real ones, in a scratch folder, with limits on but raised."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from remediation import RemediatorBootstrap, Settings
from remediation.authoring import CallHost, DeleteFile, Finding, Handles, Plan, Runbook, RunbookSpec, Verdict, hookimpl
from remediation.cli.hosting import settle_memory


def quiet() -> None:
    """Log warnings and worse only: the terminal is not what is measured."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    settle_memory()  # as `remediation run` does


class StaleLock(Runbook):
    """The runbook of the authoring guide: one reversible file effect."""

    spec = RunbookSpec(
        id="stale-lock-file",
        handles=(Handles(code="LOCK_STALE"),),
        blast_radius="process",
        reversibility="reversible",
        level="recovery",
    )

    async def precondition(self, ctx):
        return Finding.applies(95) if await ctx.exists(ctx.subject_path()) else Finding.declined("gone")

    async def action(self, ctx):
        return Plan(DeleteFile(path=ctx.subject_path()))

    async def verify(self, ctx):
        return Verdict.failed("still there") if await ctx.exists(ctx.subject_path()) else Verdict.healthy()


class Poke(Runbook):
    """One call of an idempotent control of the host: what the engine itself costs."""

    spec = RunbookSpec(
        id="poke", handles=(Handles(code="STUCK"),), blast_radius="process", reversibility="disposable", level="recovery"
    )

    async def precondition(self, ctx):
        return Finding.applies(95)

    async def action(self, ctx):
        return Plan(CallHost(control="poke", args={"what": ctx.event.subject}))

    async def verify(self, ctx):
        return Verdict.healthy()


class _Plugin:
    @hookimpl
    def remediation_runbooks(self):
        return [StaleLock, Poke]


def bootstrap(folder: Path, plugins: tuple[ModuleType | Any, ...] = (), **tables: Any) -> RemediatorBootstrap:
    """A host in `folder`, autonomous, with both runbooks live."""
    quiet()
    (folder / "work").mkdir(exist_ok=True)
    options: dict[str, Any] = {
        "base": folder,
        "host": {"id": "bench", "home": folder / "home"},
        "keys": {"dir": folder / "keys"},
        "gate": {"profile": "autonomous"},
        "effects": {"roots": [folder / "work"], "disposable": {"controls": ["poke"]}},
        "runbooks": {"stale-lock-file": {"state": "live"}, "poke": {"state": "live"}},
        "limits": {
            "changes_per_hour": 100_000_000,
            "runbook_changes": 100_000_000,
            "concurrency": 64,
            "concurrency_per_runbook": 64,
            "concurrency_machine": 64,
            "storm_subjects": 100_000_000,
        },
        "channels": {"log": False},
    }
    boot = RemediatorBootstrap(Settings(**{**options, **tables}), plugins=[_Plugin(), *plugins])

    async def poke(key: str, what: str) -> None:
        return None

    boot.controls.register("poke", poke, idempotent=True)
    return boot
