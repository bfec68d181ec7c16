"""The steps of a recovery as they are written down, so that whoever comes after a crash can finish them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from remediation.bootstrap.leftovers import RECOVERY
from remediation.settings import Home


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``recovery.json`` says."""

    origin: str
    kept: str
    reason: str
    old_origin: str
    vkeys: tuple[str, ...]
    new_key: bool
    old_key: bool
    """Whether there is an old key file, to be put aside for the new one."""
    encrypted: bool = False
    """Whether the new key is kept under the passphrase, as the old one was."""
    placing: bool = False
    """Whether the new journal is whole: it only has to be put in its place."""
    proven: int = 0
    old_head: str = ""
    open_again: int = 0
    held: int = 0


def read_plan(home: Home) -> Plan | None:
    """The plan of a recovery that was begun; `None` if there is none."""
    try:
        fields = json.loads((home.root / RECOVERY).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Plan(**{**fields, "vkeys": tuple(fields["vkeys"])})


def write_plan(home: Home, plan: Plan) -> None:
    """Write the plan down, durably."""
    write_durably(home.root / RECOVERY, json.dumps(asdict(plan), indent=1).encode())


def write_durably(path: Path, content: bytes) -> None:
    """Make or replace a file, durably, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
