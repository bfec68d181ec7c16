"""
The surface for plugin authors: everything that a runbook, effect, sentinel or channel needs, and nothing else.

Names here are stable; what is not re-exported here is not for plugins.
"""

from remediation.context import IncidentView, PriorAttempt, RemediationContext
from remediation.effects import (
    CallHost,
    CopyFile,
    DeleteFile,
    GitCommit,
    MoveFile,
    RunCommand,
    TerminateProcess,
    WriteFile,
)
from remediation.errors import (
    CredentialRefused,
    EffectConflict,
    EffectError,
    EffectRefused,
    OutsideRoots,
    ProcessError,
)
from remediation.hooks import hookimpl
from remediation.model.base import Duration, Frozen, Severity
from remediation.model.events import DegradationEvent
from remediation.model.plan import BlobRef, Probe, Promise, Receipt
from remediation.model.runbook import (
    Bounds,
    Escalation,
    Finding,
    Handles,
    Level,
    Radius,
    Reversibility,
    RunbookSpec,
    Tier,
    Timeouts,
    Verdict,
    Wait,
)
from remediation.ports.channel import Channel, Notice
from remediation.ports.effect import Completed, Effect, EffectContext, Output, Plan, Prepared, SecretRef, Touches
from remediation.ports.sentinel import Sentinel, SentinelOptions, Watch
from remediation.runbook import NoOptions, Runbook

__all__ = [
    "BlobRef",
    "Bounds",
    "CallHost",
    "Channel",
    "Completed",
    "CopyFile",
    "CredentialRefused",
    "DegradationEvent",
    "DeleteFile",
    "Duration",
    "Effect",
    "EffectConflict",
    "EffectContext",
    "EffectError",
    "EffectRefused",
    "Escalation",
    "Finding",
    "Frozen",
    "GitCommit",
    "Handles",
    "IncidentView",
    "Level",
    "MoveFile",
    "NoOptions",
    "Notice",
    "Output",
    "OutsideRoots",
    "Plan",
    "Prepared",
    "PriorAttempt",
    "Probe",
    "ProcessError",
    "Promise",
    "Radius",
    "Receipt",
    "RemediationContext",
    "Reversibility",
    "RunCommand",
    "Runbook",
    "RunbookSpec",
    "SecretRef",
    "Sentinel",
    "SentinelOptions",
    "Severity",
    "TerminateProcess",
    "Tier",
    "Timeouts",
    "Touches",
    "Verdict",
    "Wait",
    "Watch",
    "WriteFile",
    "hookimpl",
]
