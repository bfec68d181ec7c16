"""
What a failed run is evidence of, as the JSON of a degradation.

The job's own fields come from the configuration. All that was read out of printed text is listed in `TAINTED`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from remediation.model.base import epoch_ms, milliseconds
from remediation.model.text import EVIDENCE_CAP, capped, ending, wellformed
from remediation.sentinels._jobs.history import History
from remediation.sentinels._jobs.options import JobOptions
from remediation.sentinels._jobs.traceback import Traceback

TAINTED = (
    "chained",
    "error",
    "exception",
    "failing_file",
    "failing_function",
    "failing_line",
    "frames",
    "message",
    "missing_path",
    "stderr_tail",
    "stdout_tail",
)
"""Names in the evidence that derive from what the job printed."""
_TAIL_CAP = 8 * 1024
_PATH_CAP = 4096
_FRAME_PATH_CAP = 1024
_MESSAGE_CAP = 2048
_NAME_CAP = 256
_LIBRARIES = frozenset({"site-packages", "dist-packages"})


def of_job(options: JobOptions, cwd: Path, lock: Path, next_run: datetime, history: History) -> dict[str, Any]:
    """The fields that the operator's configuration and this host's clock are the source of."""
    job = {
        "job": options.name,
        "command": list(options.command),
        "cwd": str(cwd),
        "env": [[name, value] for name, value in sorted(options.env.items())],
        "schedule": options.schedule().table(),
        "timeout_ms": milliseconds(options.timeout),
        "lock": str(lock),
    }
    return {
        **job,
        "digest": digest(job),
        "next_run": epoch_ms(next_run),
        "recent": [[run.started, run.duration, run.exit_code] for run in history.runs[-5:]],
    }


def digest(job: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the fields of a job as JSON with sorted keys: who acts on them can tell that none was cut or masked."""
    return hashlib.sha256(json.dumps(job, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def of_output(stdout: str, stderr: str) -> dict[str, Any]:
    """The ends of what was printed."""
    return {name: wellformed(ending(text, _TAIL_CAP)) for name, text in (("stdout_tail", stdout), ("stderr_tail", stderr)) if text}


def of_traceback(found: Traceback, cwd: Path) -> dict[str, Any]:
    """The structure of a traceback."""
    evidence: dict[str, Any] = {
        "exception": capped(found.exception, _NAME_CAP),
        "message": capped(found.message, _MESSAGE_CAP),
        "frames": [
            {
                "file": capped(frame.file, _FRAME_PATH_CAP),
                "line": frame.line,
                "function": capped(frame.function, _NAME_CAP),
                "source": capped(frame.source, _NAME_CAP),
            }
            for frame in found.frames
        ],
    }
    if found.chained:
        evidence["chained"] = True
    if found.path is not None:
        evidence["missing_path"] = capped(found.path, _PATH_CAP)
    project = project_of(cwd)
    for frame in reversed(found.frames):
        file = cwd / frame.file
        if is_own(file, project):
            evidence |= {
                "failing_file": capped(str(file), _PATH_CAP),
                "failing_line": frame.line,
                "failing_function": capped(frame.function, _NAME_CAP),
            }
            break
    return evidence


def fitting(evidence: dict[str, Any]) -> dict[str, Any]:
    """`evidence` with less detail, as far as it must be for the size that a degradation may have."""
    slim = evidence
    for frames, tail in ((64, _TAIL_CAP), (16, 2048), (4, 512), (0, 128)):
        slim = dict(evidence)
        if "frames" in slim:
            slim["frames"] = slim["frames"][-frames:] if frames else []
        for name in ("stdout_tail", "stderr_tail"):
            if name in slim:
                slim[name] = ending(slim[name], tail)
        if len(json.dumps(slim, ensure_ascii=False).encode("utf-8", "replace")) <= EVIDENCE_CAP - 1024:
            return slim
    return slim


def tainted(evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """Those names in `evidence` that derive from printed text."""
    return tuple(name for name in TAINTED if name in evidence)


def project_of(cwd: Path) -> Path:
    """The nearest folder from `cwd` upwards that holds a ``.git``, else `cwd`."""
    for folder in (cwd, *cwd.parents):
        if os.path.lexists(folder / ".git"):
            return folder
    return cwd


def is_own(file: Path, project: Path) -> bool:
    """Whether `file` is code of the project, and not of a library that is installed inside it."""
    path = Path(os.path.normpath(file))
    return project in path.parents and not _LIBRARIES.intersection(path.relative_to(project).parts)
