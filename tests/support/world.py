"""A real world for effects: an `EffectContext` over a folder, with a blob store, roots, a clock, controls and processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from remediation.confinement import AllowedRoots
from remediation.coordination.processes import run_process
from remediation.effects import BUILTIN_KINDS, DeclaredDisposable, HostControls
from remediation.errors import CredentialRefused
from remediation.ports.clock import SystemClock
from remediation.ports.effect import Completed, Effect, EffectKinds, Output, Prepared, SecretRef, prepared_of
from remediation.stores.blobs import FileBlobStore

KINDS = EffectKinds(BUILTIN_KINDS)


class EffectWorld:
    """
    What the engine gives to one effect, for real, in `base`: ``base/root`` may be changed, ``base/home`` never.

    `key` and `deadline` can be set; `used` holds the names of the secrets that were asked for.
    """

    def __init__(
        self,
        base: Path,
        *,
        key: str = "attempt:0:0",
        roots: Sequence[Path] | None = None,
        disposable: DeclaredDisposable | None = None,
        secrets: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> None:
        self.base = base
        self.root = base / "root"
        self.home = base / "home"
        for folder in (self.root, self.home):
            folder.mkdir(parents=True, exist_ok=True)
        self.key = key
        self.clock = SystemClock()
        self.deadline = self.clock.monotonic() + seconds
        self.roots = AllowedRoots([self.root] if roots is None else roots, excluded=[self.home])
        self.blobs = FileBlobStore(self.home / "blobs")
        self.controls = HostControls()
        self.disposable = disposable or DeclaredDisposable()
        self.log = structlog.get_logger()
        self.secrets = dict(secrets or {})
        self.used: list[str] = []
        self.commands: list[tuple[str, ...]] = []

    def secret(self, ref: SecretRef | str) -> str:
        name = ref.secret if isinstance(ref, SecretRef) else ref
        if name not in self.secrets:
            raise CredentialRefused(f"{name!r} is not in the vault")
        self.used.append(name)
        return self.secrets[name]

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float | None = None,
    ) -> Completed:
        self.commands.append(tuple(argv))
        left = max(0.0, self.deadline - self.clock.monotonic())
        return await run_process(argv, timeout=left if timeout is None else min(left, timeout), cwd=cwd, env=env, stdin=stdin)


def stored(effect: Effect[Any, Any]) -> Effect[Any, Any]:
    """`effect` as it comes back from the journal."""
    loaded = KINDS.load(effect.record())
    assert loaded == effect
    return loaded


async def prepare(effect: Effect[Any, Any], world: EffectWorld) -> Prepared:
    """What `effect` prepares, as it comes back from the journal."""
    prepared = await effect.prepare(world)
    loaded = prepared_of(effect, prepared.model_dump_json())
    assert loaded == prepared
    return loaded


async def carry_out(effect: Effect[Any, Any], world: EffectWorld) -> tuple[Prepared, Output]:
    """Prepare and apply `effect` as the engine does: from what was stored."""
    prepared = await prepare(effect, world)
    output = await stored(effect).apply(world, prepared)
    assert output == effect.output_type.model_validate_json(output.model_dump_json())
    return prepared, output


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below `root`: type, mode, owner, content or target, and the modification time of files."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            stat = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            changed = stat.st_mtime_ns if path.is_file() else 0
            found[str(path.relative_to(root))] = (oct(stat.st_mode), stat.st_uid, stat.st_gid, content, changed)
    return found
