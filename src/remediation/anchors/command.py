"""An anchor that is a command: whatever it does with the head that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from remediation.coordination.processes import run_process
from remediation.model.text import printable
from remediation.ports.anchor import AnchorError


class CommandAnchor:
    """Runs `argv` in the folder `cwd`, without a shell, with the signed note on its standard input. It can't be read back."""

    def __init__(self, argv: Sequence[str], cwd: Path, *, name: str = "", every: float = 60.0, timeout: float = 30.0) -> None:
        self.name = name or f"command:{printable(argv[0])}"
        self.every = every
        self.timeout = timeout
        self._argv = tuple(argv)
        self._cwd = cwd

    async def keep(self, note: str) -> None:
        """
        Run the command with `note`.

        Raises:
            AnchorError: it ended with another status than 0.
            ProcessError: it could not be started, or was ended because it took too long.

        """
        done = await run_process(self._argv, timeout=self.timeout, cwd=self._cwd, stdin=note.encode())
        if done.exit_code != 0:
            said = printable(" ".join((done.stderr or done.stdout)[-300:].split()))
            raise AnchorError(f"{self.name} ended with {done.exit_code}{f': {said}' if said else ''}")

    async def heads(self) -> None:
        """It can't be read back."""
        return
