"""``keys export --allowed-signers``: who may approve, for auditors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remediation.cli import output

if TYPE_CHECKING:
    from remediation.settings import Settings


def export_allowed_signers(settings: Settings, out: str | None) -> None:
    """
    Print the configured allowed signers in normal form, or write them to the file `out`.

    One line for each key: principal, namespaces, times and the key, sorted; ``ssh-keygen -Y verify -f`` takes it as it is.

    Raises:
        ConfigurationError: the file that is configured can't be used.

    """
    from remediation.keys.ssh import AllowedSigners

    configured = settings.approvals.allowed_signers
    if configured is None:
        output.fail("nobody may approve here: [approvals] allowed_signers is not set in remediation.toml")
    text = str(AllowedSigners.load(settings.base / configured))
    if out is None:
        output.say(text.removesuffix("\n"))
        return
    unfinished = f"{out}.{os.getpid()}"
    try:
        with open(unfinished, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, out)
    except OSError as error:
        output.fail(f"{out} can't be written: {error.strerror}", output.ExitCode.WRONG_USE)
    output.note(f"{text.count(chr(10))} keys of people in {out}")
