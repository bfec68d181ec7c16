"""
Where a passphrase comes from: an environment variable, an inherited descriptor, a credential of systemd, or a person. Never an argument.

A source is written ``env:NAME``, ``fd:NUMBER`` or ``credential:NAME`` (a file in ``$CREDENTIALS_DIRECTORY``, see systemd.exec(5)).
Variables and descriptors can be read once: a variable is taken out of the environment, so that no child inherits it, and what was read is
remembered by this process. Non-guarantee: while the process lives, its first environment can be read in ``/proc/PID/environ`` by its user
and root; a credential or a descriptor does not have that weakness.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import unicodedata
from collections.abc import Callable, Sequence

from remediation.errors import ConfigurationError
from remediation.settings.home import PASSPHRASE_SOURCE

MAX_BYTES = 1024


class PassphraseRefused(ConfigurationError):
    """There is no passphrase, or it is not the right one; the message says where it was looked for, and never quotes it."""


Ask = Callable[[str], str | None]
"""Asks a person for the passphrase of what it is told, and returns what they typed; `None` if nobody is there to ask."""


class _Taken:
    """What this process has read from sources that give their passphrase only once, and whom it may ask."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[str, bytes] = {}
        self.ask: Ask | None = None


_taken = _Taken()


def ask_with(ask: Ask | None) -> None:
    """From now on, ask a person by `ask` where no source has a passphrase. The command line does this; a host has nobody to ask."""
    _taken.ask = ask


def check_source(source: str) -> str:
    """
    `source`, if it names one.

    Raises:
        ValueError: it doesn't.

    """
    if not re.fullmatch(PASSPHRASE_SOURCE, source):
        raise ValueError(f"{source!r} is none of env:NAME, fd:NUMBER (0, or 3 and more) and credential:NAME")
    return source


def passphrase(sources: Sequence[str], purpose: str) -> bytes:
    """
    The passphrase from the first of `sources` that has one, else from a person, if `ask_with` named one.

    Args:
        sources: As `check_source` has them.
        purpose: What it is for, in words: "the signing key /path".

    Raises:
        PassphraseRefused: nobody has one, or it can't be one (empty, not UTF-8, longer than 1,024 bytes).

    """
    with _taken.lock:
        for source in sources:
            found = _from(source)
            if found is not None:
                return found
        asked = f"asked:{purpose}"
        if asked in _taken.known:
            return _taken.known[asked]
        typed = _taken.ask(purpose) if _taken.ask is not None else None
        if typed is not None:
            _taken.known[asked] = cleaned(typed.encode(), "what was typed")
            return _taken.known[asked]
    tried = ", ".join(sources) or "nowhere: [keys] passphrase names no source"
    raise PassphraseRefused(
        f"{purpose} is encrypted, and there is no passphrase (looked in {tried}); set one of these, or run this at a terminal"
    )


def forget(purpose: str) -> None:
    """Don't use again what a person typed for `purpose`: it was wrong, or is no longer right."""
    with _taken.lock:
        _taken.known.pop(f"asked:{purpose}", None)


def cleaned(raw: bytes, where: str) -> bytes:
    """
    A passphrase in the one form that is used: UTF-8 in NFC, without the newline that editors and `echo` leave at its end.

    Raises:
        PassphraseRefused: it is empty, too long, or not UTF-8.

    """
    try:
        text = unicodedata.normalize("NFC", raw.decode()).removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise PassphraseRefused(f"the passphrase from {where} is not UTF-8 text") from error
    found = text.encode()
    if not found or len(found) > MAX_BYTES:
        raise PassphraseRefused(f"the passphrase from {where} has {len(found)} bytes; it must have 1 to {MAX_BYTES}")
    return found


def _from(source: str) -> bytes | None:
    kind, _, name = check_source(source).partition(":")
    if kind == "env":
        # Taken out each time: a variable that was set anew must not reach children either.
        raw = os.environb.pop(name.encode(), None)
        if raw is not None:
            _taken.known[source] = cleaned(raw, source)
        return _taken.known.get(source)
    if kind == "fd":
        if source not in _taken.known:
            raw = _read_descriptor(int(name))
            if raw is None:
                return None
            _taken.known[source] = cleaned(raw, source)
        return _taken.known[source]
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return cleaned(file.read(MAX_BYTES + 3), source)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PassphraseRefused(f"{source}: {folder}/{name} can't be read: {error.strerror}") from error


def _read_descriptor(number: int) -> bytes | None:
    try:
        kind = os.fstat(number).st_mode
        # What this process opened for itself is marked to be closed in children; what it inherited is not.
        if os.isatty(number) or not os.get_inheritable(number):
            return None
    except OSError:
        return None
    if stat.S_ISDIR(kind):
        raise PassphraseRefused(f"fd:{number} must be a pipe or a file that holds the passphrase, not a folder")
    raw = b""
    try:
        while len(raw) <= MAX_BYTES + 2 and (part := os.read(number, MAX_BYTES + 3)):
            raw += part
        if number > 2:
            os.close(number)
    except OSError as error:
        raise PassphraseRefused(f"fd:{number} can't be read: {error.strerror}") from error
    return raw
