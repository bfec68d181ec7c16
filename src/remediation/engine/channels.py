"""The built-in channels: the log, and a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from remediation.coordination.processes import run_process
from remediation.errors import ProcessError
from remediation.model.text import ending, printable
from remediation.ports.channel import Notice


class LogChannel:
    """Writes notices to the structured log: resolved ones as information, all others as warnings."""

    name = "log"

    async def send(self, notice: Notice) -> None:
        """Log `notice`."""
        log = structlog.get_logger("remediation.incidents")
        say = log.info if notice.kind == "resolved" else log.warning
        say(
            f"incident {notice.kind}",
            incident=notice.incident,
            code=notice.code,
            subject=printable(notice.subject),
            severity=notice.severity.value,
            reason=printable(notice.title),
        )


class CommandChannel:
    """Runs a command with the notice as one line of JSON on its standard input; an exit code other than 0 counts as not delivered."""

    name = "command"

    def __init__(self, argv: Sequence[str], cwd: Path) -> None:
        self._argv = tuple(argv)
        self._cwd = cwd

    async def send(self, notice: Notice) -> None:
        """Run the command; raises ProcessError when it fails."""
        done = await run_process(self._argv, timeout=25.0, cwd=self._cwd, stdin=notice.model_dump_json().encode() + b"\n")
        if done.exit_code != 0:
            raise ProcessError(f"the channel command ended with {done.exit_code}: {printable(ending(done.stderr, 300))}")
