"""The tables of ``remediation.toml``: one class each, every key with its default and its meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, field_validator

from remediation.model.base import Frozen
from remediation.settings.home import PASSPHRASE_SOURCE, PASSPHRASE_SOURCES

_HOST_ID = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


Profile = Literal["observe", "supervised", "collaborative", "autonomous"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
"""From the strictest on."""


def _autoload(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("must be true, false, or a list of names of entry points")


class HostTable(Frozen):
    """``[host]``: who this host is, and what it loads."""

    id: str = ""
    """Names the host in its journal and keys: 1-63 of a-z, 0-9, '.' and '-', letter or digit at both ends. `init` makes one."""
    home: Path | None = None
    """The folder of the journal and the inbox. Default: the file's own, if that is a home, else ``.remediation`` beside it."""
    plugins: tuple[str, ...] = ()
    """Modules with hooks, beside what entry points bring."""
    autoload: Annotated[bool | tuple[str, ...], BeforeValidator(_autoload)] = True
    """Which plugins installed packages may bring through the entry-point group ``remediation``: all, none, or those named."""
    ready_file: Path | None = None
    """Written when the host is ready, removed when it stops: who it is, as JSON. For whoever waits for it. Default: none."""
    strict_steps: StrictBool = True
    """Whether a runbook's step that changes files, starts processes or alters the process's own state is a fault of the runbook."""

    @field_validator("id")
    @classmethod
    def _named(cls, value: str) -> str:
        if value and not _HOST_ID.fullmatch(value):
            raise ValueError("must be 1-63 of a-z, 0-9, '.' and '-', with a letter or digit at both ends")
        return value


class Gate(Frozen):
    """``[gate]``: what the host may do alone."""

    profile: Profile = "supervised"
    """How far the host may go without a person."""
    confidence_threshold: StrictInt = Field(default=70, ge=0, le=100)
    """Findings below it ask a person."""


class Disposables(Frozen):
    """``[effects.disposable]``: what the operator declares re-creatable, so that destroying it loses nothing."""

    globs: tuple[str, ...] = ()
    """Paths; ``**`` matches any number of folders."""
    units: tuple[str, ...] = ()
    """Units of the service manager that may be restarted."""
    argv_prefixes: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()
    """Beginnings of command lines that may be run without an undo."""
    controls: tuple[str, ...] = ()
    """Functions of the embedding host that may be called without an undo."""


class Effects(Frozen):
    """``[effects]``: what may be changed."""

    roots: tuple[Path, ...] | None = None
    """Folders and files that runbooks may change. Not set: what the configured sentinels watch. Empty: nothing."""
    disposable: Disposables = Disposables()


class RunbookTable(Frozen):
    """``[runbooks."<id>"]``: one runbook's state, place and options."""

    state: Literal["registered", "live", "quarantined"] = "registered"
    """``registered`` observes only, ``live`` may act, ``quarantined`` is kept from acting."""
    order: StrictInt | None = None
    """Place on the ladder among the runbooks that match, smaller first; before those without one."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The runbook's own options; checked by the runbook."""


class Ladder(Frozen):
    """``[ladder]``: which runbook is tried first."""

    order: tuple[str, ...] = ()
    """Ids of runbooks, first to last; before those that are not listed."""


class Channels(Frozen):
    """``[channels]``: how people are told."""

    command: tuple[str, ...] = ()
    """Run for each notice, in the folder of the file, with the notice as JSON on its standard input. Empty: none."""
    log: StrictBool = True
    """Also write notices to the host's log."""


PassphraseSource = Annotated[str, Field(pattern=PASSPHRASE_SOURCE)]


class Keys(Frozen):
    """``[keys]``: the signing key, and where it and ``head.note`` lie."""

    dir: Path | None = None
    """Outside the home, and backed up apart from it. Default: ``$XDG_STATE_HOME/remediation/<host id>``."""
    provider: str = Field(default="file", pattern="^[a-z][a-z0-9-]*$")
    """What keeps the private key: ``file``, ``keyring`` (the operating system's), or what a plugin brings."""
    passphrase: tuple[PassphraseSource, ...] = PASSPHRASE_SOURCES
    """Where the passphrase of an encrypted key file comes from; the first one that has it: ``env:``, ``fd:`` or ``credential:``."""


def _as_tables(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("is one table; write its header with two brackets, [[…]]")  # noqa: TRY004 - pydantic takes ValueError
    return value


Tables = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_as_tables)]
"""An array of tables whose keys are not known here."""
