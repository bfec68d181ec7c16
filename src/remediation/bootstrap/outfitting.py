"""
What a host is made of besides its journal: the runbooks, what the operator allows, and the places that may be changed.

Values from settings and plugins, without a look at the world; a host that starts and a dry run are made of the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from remediation.confinement import AllowedRoots
from remediation.core.lifecycle import RunbookRecord, evolve_runbook, to_quarantine
from remediation.core.tallies import Group
from remediation.core.trust import TrustElevationSource
from remediation.discovery import Plugins
from remediation.effects import DeclaredDisposable
from remediation.engine.policy import Policy
from remediation.engine.registry import Registered, Registry
from remediation.model.base import milliseconds
from remediation.model.entries import Entry, RunbookPromoted, RunbookQuarantined, RunbookRegistered
from remediation.model.runbook import Radius
from remediation.ports.sentinel import Sentinel
from remediation.settings import Settings


def registry_of(settings: Settings, plugins: Plugins, credentials: Collection[str]) -> Registry:
    """
    All runbooks, in the order that the settings give them.

    Args:
        credentials: Names of those that the host has.

    Raises:
        RegistrationError: one is refused.

    """
    ordered = sorted((table.order, id_) for id_, table in settings.runbooks.items() if table.order is not None)
    registry = Registry(order=[*settings.ladder.order, *(id_ for _, id_ in ordered)], credentials=credentials)
    for kind, plugin in plugins.runbooks():
        spec = getattr(kind, "spec", None)
        options = settings.runbook(spec.id).options if spec is not None else {}
        registry.add(kind, options=options, plugin=plugin)
    return registry


def policy_of(settings: Settings, registry: Registry) -> Policy:
    """Profile and limits."""
    limits = settings.limits
    return Policy(
        profile=settings.gate.profile,
        threshold=settings.gate.confidence_threshold,
        attempt_cap=limits.attempts_per_incident,
        cooldown_ms=milliseconds(limits.cooldown),
        changes_per_hour=limits.changes_per_hour,
        runbook_changes=limits.runbook_changes,
        runbook_window_ms=milliseconds(limits.runbook_window),
        storm_subjects=limits.storm_subjects,
        storm_exit_ms=milliseconds(limits.storm_exit),
        groups=tuple(Group(**group.model_dump()) for group in limits.groups),
        concurrency=limits.concurrency,
        per_runbook=limits.concurrency_per_runbook,
        per_radius={Radius.MACHINE: limits.concurrency_machine, Radius.FLEET: limits.concurrency_fleet},
        approvers=settings.approvals.allowed_signers is not None,
        approval_ms=milliseconds(settings.approvals.expires),
        recheck_ms=milliseconds(settings.approvals.recheck),
        trust=TrustElevationSource(settings.trust.earn_after),
        radii={id_: item.spec.blast_radius for id_, item in registry.runbooks.items()},
    )


def roots_of(settings: Settings, sentinels: Sequence[Sentinel[Any]]) -> AllowedRoots:
    """What may be changed: what the settings name, else what the sentinels watch; never the home and the keys."""
    roots = settings.effects.roots
    if roots is None:
        roots = tuple(dict.fromkeys(root for sentinel in sentinels for root in sentinel.roots()))
    return AllowedRoots([Path(root) for root in roots], excluded=[settings.home.root, settings.home.keys])


def disposable_of(settings: Settings) -> DeclaredDisposable:
    """What the operator declared re-creatable."""
    declared = settings.effects.disposable
    return DeclaredDisposable(
        units=declared.units, argv_prefixes=declared.argv_prefixes, controls=declared.controls, globs=declared.globs
    )


def standing_of(settings: Settings, item: Registered, record: RunbookRecord | None, *, now: int) -> Iterator[Entry]:
    """What a host that starts has to journal about a runbook of which the journal knows `record`: its code, and what is configured."""
    id_ = item.spec.id
    if record is None or record.code_digest != item.code_digest or _taken_back(settings, record):
        registered = RunbookRegistered.of(item.spec, item.code_digest, item.plugin)
        yield registered
        record = evolve_runbook(record, registered, at=0)
    wanted = settings.runbook(id_).state
    if wanted == "live" and record.state == "registered":
        yield RunbookPromoted(runbook=id_, code_digest=item.code_digest, by="configuration")
    elif wanted == "quarantined" and record.state != "quarantined":
        yield RunbookQuarantined(runbook=id_, by="configuration", reason="configured so")
    elif record.state in ("live", "degraded") and (why := to_quarantine(record, essential=item.spec.essential, now=now)):
        # A host was killed between the verdict and the entry that follows from it.
        yield RunbookQuarantined(runbook=id_, by="record", reason=why)


def _taken_back(settings: Settings, record: RunbookRecord) -> bool:
    """Whether the configuration lets a runbook act no longer: it says so, or what promoted it is gone from there."""
    table = settings.runbook(record.id)
    if record.state not in ("live", "degraded") or table.state == "live":
        return False
    return record.promoted_by == "configuration" or "state" in table.model_fields_set
