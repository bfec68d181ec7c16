"""What is known of the failed job, and by whose word: the operator's configuration, or text that the job printed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from remediation.context import RemediationContext
from remediation.model.base import parse_duration
from remediation.model.events import Provenance
from remediation.model.schedule import Schedule
from remediation.model.text import printable
from remediation.runbooks._volatile_path import CanNotHeal
from remediation.runbooks._volatile_path.options import VolatilePathOptions

_CONFIGURED = ("command", "cwd", "env", "job", "lock", "schedule", "timeout_ms")
_MOST_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the operator configured it: nothing here comes from printed text."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: tuple[tuple[str, str], ...]
    timeout: timedelta
    schedule: Schedule | None
    lock: Path | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What the traceback says. Each word of it is to be confirmed in the world."""

    missing: str
    files: tuple[Path, ...]
    """Files of its frames, innermost first, each once."""


def job_of(ctx: RemediationContext) -> Job:
    """
    The job that failed.

    Raises:
        CanNotHeal: nobody who may vouch for it does.

    """
    options: VolatilePathOptions = ctx.options
    name = ctx.event.subject
    if ctx.incident.provenance is Provenance.SENTINEL:
        return _configured(name, ctx.event.evidence)
    known = options.jobs.get(name)
    if known is None:
        raise CanNotHeal(
            f"the failure of {printable(name)} was not seen by this host's own job sentinel, and no option vouches for the command "
            f'that would be rerun; add [runbooks."volatile-path".options.jobs."{printable(name)}"] with command and cwd'
        )
    env = tuple(sorted(known.env.items()))
    return Job(name, known.command, known.cwd, env, known.timeout, known.schedule(), None)


def _configured(name: str, evidence: Mapping[str, Any]) -> Job:
    fields: dict[str, Any] = {key: evidence.get(key) for key in _CONFIGURED}
    stated = hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
    if fields["job"] != name or stated != evidence.get("digest"):
        raise CanNotHeal(
            "the job's command, folder or environment did not arrive as configured (cut, or masked as a secret), so that it can't "
            "be rerun; keep secrets out of [[jobs]]"
        )
    try:
        return Job(
            name=name,
            argv=tuple(fields["command"]),
            cwd=Path(fields["cwd"]),
            env=tuple((key, value) for key, value in fields["env"]),
            timeout=timedelta(milliseconds=fields["timeout_ms"]),
            schedule=Schedule(
                **{key: parse_duration(value) if key == "every" else value for key, value in fields["schedule"].items()}
            ),
            lock=Path(fields["lock"]),
        )
    except (TypeError, ValueError) as error:
        raise CanNotHeal(f"the job's configuration can't be read from the evidence: {error}") from error


def claim_of(evidence: Mapping[str, Any], job: Job) -> Claim:
    """
    What the evidence says about the failure.

    Raises:
        CanNotHeal: it names no file that is missing, or no place in a program.

    """
    missing = evidence.get("missing_path")
    if not isinstance(missing, str) or not missing:
        raise CanNotHeal("the traceback does not say which file is missing")
    frames = evidence.get("frames")
    named = [evidence.get("failing_file")]
    listed = reversed(frames[-_MOST_FRAMES:]) if isinstance(frames, list) else ()
    named += [frame.get("file") for frame in listed if isinstance(frame, dict)]
    files = [Path(os.path.normpath(job.cwd / name)) for name in named if isinstance(name, str) and name and "\0" not in name]
    if not files:
        raise CanNotHeal("the traceback does not say which script asked for the file")
    return Claim(missing, tuple(dict.fromkeys(files)))
