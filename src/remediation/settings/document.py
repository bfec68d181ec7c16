"""`Settings`: the whole of ``remediation.toml``, checked, with every path absolute."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from remediation.errors import ConfigurationError
from remediation.model.base import Frozen
from remediation.settings import faults
from remediation.settings.anchors import Anchors
from remediation.settings.approvals import Approvals
from remediation.settings.home import CONFIG_NAME, DEFAULT_HOME, HOME_VARIABLE, Home, absolute, default_keys
from remediation.settings.limits import Limits, Trust
from remediation.settings.tables import (
    PROFILES,
    Channels,
    Effects,
    Gate,
    HostTable,
    Keys,
    Ladder,
    Profile,
    RunbookTable,
    Tables,
)


class Settings(Frozen):
    """
    What an operator configures. Every table and key has a default.

    In code: ``Settings(gate={"profile": "autonomous"}, base=folder)``. Afterwards all paths are absolute (relative ones are
    taken from `base`), and `host.id` and `host.home` are filled in.

    Raises:
        ConfigurationError: something in it can't be used; the message has one line for each problem.

    """

    base: Path = Field(default_factory=Path.cwd)
    """The folder that relative paths are relative to: that of the file."""
    host: HostTable = HostTable()
    gate: Gate = Gate()
    limits: Limits = Limits()
    trust: Trust = Trust()
    approvals: Approvals = Approvals()
    effects: Effects = Effects()
    runbooks: dict[str, RunbookTable] = Field(default_factory=dict)
    """By the runbook's id."""
    ladder: Ladder = Ladder()
    sentinels: dict[str, Tables] = Field(default_factory=dict)
    """By kind, the tables as they stand in the file: they are checked by the sentinel's own options."""
    jobs: Tables = ()
    """Tables of ``[[jobs]]``: sentinels of kind ``jobs``; see `sentinel_tables`."""
    channels: Channels = Channels()
    anchors: Anchors = Anchors()
    keys: Keys = Keys()

    def __init__(self, **tables: Any) -> None:
        _fill(self, tables, "settings")

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, home: str | os.PathLike[str] | None = None) -> Settings:
        """
        The settings in the file `path`.

        Args:
            path: A ``remediation.toml``.
            home: The home to use. Else ``REMEDIATION_HOME`` names it, else ``[host] home`` in the file.

        Raises:
            ConfigurationError: the file can't be read, is not TOML, or something in it can't be used.

        """
        file = absolute(path, Path.cwd())
        try:
            text = file.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise ConfigurationError(
                f"there is no {file}: make a home with `remediation init`, or name the file that you have"
            ) from None
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{file} is not UTF-8 text (byte {error.start}); TOML must be") from None
        except OSError as error:
            raise ConfigurationError(f"{file} can't be read: {error.strerror}") from error
        return cls.parse(text, file, home=home)

    @classmethod
    def parse(cls, text: str, file: Path, *, home: str | os.PathLike[str] | None = None) -> Settings:
        """
        The settings in `text`, as if it stood in `file` (absolute); nothing is read. See `load`.

        Raises:
            ConfigurationError: it is not TOML, or something in it can't be used.

        """
        try:
            tables = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigurationError(f"{file}: not TOML: {error}") from None
        if "base" in tables:
            raise ConfigurationError(f"{file}: there is no table [base]; relative paths are relative to the file")
        named = os.fspath(home) if home else os.environ.get(HOME_VARIABLE)
        host = tables.get("host", {})
        if named and isinstance(host, dict):
            tables["host"] = {**host, "home": absolute(named, Path.cwd())}
        settings = cls.__new__(cls)
        _fill(settings, {**tables, "base": file.parent}, str(file))
        return settings

    @classmethod
    def of(cls, home: Home) -> Settings:
        """
        The settings of a home: ``remediation.toml`` in it, or beside it when the home is a ``.remediation`` or the file names it.

        Raises:
            ConfigurationError: there is no such file, or it can't be used.

        """
        beside = home.root.parent / CONFIG_NAME
        if not home.config.exists() and beside.exists():
            if home.root.name == DEFAULT_HOME:
                return cls.load(beside, home=home.root)
            # A program that embeds a host names its home there, and makes no file in it.
            with contextlib.suppress(ConfigurationError):
                found = cls.load(beside)
                if os.path.realpath(found.home.root) == os.path.realpath(home.root):
                    return found
        return cls.load(home.config, home=home.root)

    @property
    def home(self) -> Home:
        """Where this host keeps its things, its keys included."""
        root = self.host.home or self.base / DEFAULT_HOME
        keys = self.keys
        return Home(root, keys.dir or default_keys(self.host.id), keys.provider, keys.passphrase, self.host.id)

    def sentinel_tables(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """The tables of all sentinels by kind, ``[[jobs]]`` as kind ``jobs`` among them."""
        tables = dict(self.sentinels)
        if self.jobs:
            tables["jobs"] = (*tables.get("jobs", ()), *self.jobs)
        return tables

    def runbook(self, id_: str) -> RunbookTable:
        """The table of the runbook `id_`, all defaults if there is none."""
        return self.runbooks.get(id_) or RunbookTable()

    def restrained(self, profile: Profile) -> Settings:
        """
        These settings under a stricter `profile`, or their own.

        Raises:
            ConfigurationError: `profile` allows more than the settings do.

        """
        if PROFILES.index(profile) > PROFILES.index(self.gate.profile):
            raise ConfigurationError(
                f"the profile {profile} allows more than {self.gate.profile}, which is configured; "
                f'only a stricter one can be asked for, for more set [gate] profile = "{profile}" in remediation.toml'
            )
        return self.model_copy(update={"gate": self.gate.model_copy(update={"profile": profile})})

    def digest(self) -> str:
        """SHA-256 (hex) of the effective settings: equal for equal settings, whatever the file's comments, order and spelling."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        base = absolute(self.base, Path.cwd())
        home = absolute(self.host.home, base) if self.host.home else base if Home(base).made else base / DEFAULT_HOME
        ready = absolute(self.host.ready_file, base) if self.host.ready_file else None
        host = {"home": home, "id": self.host.id or default_host_id(home), "ready_file": ready}
        roots = self.effects.roots
        disposable = self.effects.disposable
        effects = {
            "roots": None if roots is None else tuple(absolute(root, base) for root in roots),
            "disposable": disposable.model_copy(update={"globs": tuple(str(absolute(glob, base)) for glob in disposable.globs)}),
        }
        resolved = {
            "base": base,
            "host": self.host.model_copy(update=host),
            "effects": self.effects.model_copy(update=effects),
            "approvals": self.approvals.model_copy(
                update={
                    "allowed_signers": absolute(self.approvals.allowed_signers, base) if self.approvals.allowed_signers else None
                }
            ),
            "anchors": self.anchors.resolved(lambda path: absolute(path, base)),
            "keys": self.keys.model_copy(update={"dir": absolute(self.keys.dir, base) if self.keys.dir else None}),
        }
        # Frozen for everybody else; the fields set here stay marked as they were (a default that was resolved is still a default).
        self.__dict__.update(resolved)
        return self


def _fill(settings: Settings, tables: dict[str, Any], source: str) -> None:
    try:
        # What BaseModel's own initialiser does; the file's name is known here only.
        settings.__pydantic_validator__.validate_python(tables, self_instance=settings)
    except ValidationError as error:
        raise ConfigurationError("\n".join(faults.sentences(error, Settings, source))) from None


def machine_name() -> str:
    """The machine's name in the characters of a host id, at most 40 of them; ``host`` if nothing is left."""
    name = re.sub(r"[^a-z0-9-]+", "-", platform.node().partition(".")[0].lower())
    return name[:40].strip("-") or "host"


def default_host_id(home: Path) -> str:
    """The id of a host whose settings name none: the machine's name, and a digest of the home's path that keeps two hosts apart."""
    return f"{machine_name()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
