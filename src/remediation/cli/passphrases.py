"""Passphrases of the command line: from where the settings say, or asked at the terminal. Never an argument."""

from __future__ import annotations

import getpass
import sys

from remediation.cli import output


def ask_at_the_terminal(*, twice: bool = False) -> None:
    """Have commands ask for a passphrase that no source has, if somebody is there to ask; a new one is asked for twice."""
    from remediation.keys import passphrase

    ask = _ask_twice if twice else _ask
    passphrase.ask_with(ask if sys.stdin.isatty() else None)


def new_passphrase(source: str | None) -> bytes:
    """A new passphrase: from `source`, else typed twice at the terminal."""
    from remediation.keys.passphrase import check_source, cleaned, passphrase

    if source is not None:
        try:
            check_source(source)
        except ValueError as error:
            output.fail(f"--from: {error}", output.ExitCode.WRONG_USE)
        return passphrase([source], "the new key file")
    if not sys.stdin.isatty():
        output.fail("say where the new passphrase comes from, with --from, or do it on a terminal", output.ExitCode.WRONG_USE)
    return cleaned(_ask_twice("the key").encode(), "what was typed")


def _ask_twice(purpose: str) -> str:
    first = getpass.getpass(f"New passphrase of {purpose}: ")
    if getpass.getpass("Once more: ") != first:
        output.fail("the two differ; nothing was changed")
    return first


def _ask(purpose: str) -> str | None:
    return getpass.getpass(f"Passphrase of {purpose}: ")
