"""What effects and runbooks are lent of the world: blobs, roots, controls, processes, what is disposable."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import structlog

from remediation.model.base import Frozen
from remediation.model.plan import BlobRef, Probe
from remediation.ports.clock import Clock


class Touches(Frozen):
    """What an effect reaches for, so that bounds and the operator's declarations can be checked without knowing its kind."""

    paths: tuple[str, ...] = ()
    """Absolute paths that are changed."""
    destroys: tuple[str, ...] = ()
    """Absolute paths whose content is lost (all must match a disposable glob for the effect to count as disposable)."""
    argv: tuple[str, ...] = ()
    """The command that is run, or that the process which is ended was started with."""
    beside: tuple[tuple[str, ...], ...] = ()
    """Further commands that may be run for it, to undo or observe it."""
    cwd: str = ""
    """Where these run; empty for the root folder."""
    env: tuple[str, ...] = ()
    """Names of the variables that these are given."""
    controls: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether it says nothing: what is reached for is not known then."""
        return not (self.paths or self.destroys or self.argv or self.controls or self.units)


class SecretRef(Frozen):
    """A secret by name, in a field of an effect; resolved only while the effect is applied."""

    secret: str


class BlobStore(Protocol):
    """
    Content by digest.

    Guarantees: `put` and `put_file` return after the content is durable; equal content is stored once; `get` verifies the digest.
    """

    async def put(self, data: bytes) -> BlobRef:
        """Store bytes."""

    async def put_file(self, path: Path) -> BlobRef:
        """Store a regular file's content (streamed; not following a link in the last component)."""

    async def get(self, ref: BlobRef) -> bytes:
        """
        The content.

        Raises:
            EffectError: missing or damaged.

        """

    def path(self, ref: BlobRef) -> Path:
        """Where the content lies, for reading or copying only."""

    def put_blocking(self, data: bytes) -> BlobRef:
        """Like `put`, for code that already runs in a worker thread."""

    def put_open_blocking(self, descriptor: int) -> BlobRef:
        """Store the content of an open regular file, from its start, in a worker thread; the file offset is left at the end."""

    def get_blocking(self, ref: BlobRef) -> bytes:
        """Like `get`, for code that already runs in a worker thread."""


class Roots(Protocol):
    """Which paths may be changed. See `remediation.confinement.AllowedRoots`."""

    def check(self, path: str | os.PathLike[str]) -> Path:
        """
        The absolute path, unchanged apart from lexical normalisation.

        Raises:
            OutsideRoots: outside every root, the home or the keys, or a component on the way is a symbolic link.

        """

    def barred(self, path: str | os.PathLike[str]) -> bool:
        """Whether `path`, its links followed, lies in the home or the keys: not even to be read for a copy."""

    def open_parent(self, path: str | os.PathLike[str]) -> AbstractContextManager[tuple[int, str]]:
        """
        A descriptor of the directory that holds `path`, opened without following any link, and the last name.

        Raises:
            OutsideRoots: as `check`, or a component turned into a link meanwhile.
            FileNotFoundError: a directory on the way is missing.

        """


class Control(Protocol):
    """A function of the embedding host that runbooks may have called, by name; see `HostControls`."""

    name: str
    idempotent: bool

    @property
    def can_probe(self) -> bool:
        """Whether it can say if a call with a given key happened."""

    @property
    def can_undo(self) -> bool:
        """Whether a call can be taken back."""

    async def call(self, key: str, args: Mapping[str, Any]) -> Any:
        """Call it under `key`."""

    async def probe(self, key: str, args: Mapping[str, Any]) -> Probe:
        """Whether the call under `key` happened."""

    async def undo(self, key: str, args: Mapping[str, Any]) -> None:
        """Take the call under `key` back."""


class EffectContext(Protocol):
    """What an effect may use. Given by the engine, for one effect, valid until its deadline."""

    key: str
    """``attempt:stage:index``: the same for prepare, apply, probe and revert of this effect, also after a restart."""
    deadline: float
    """On `clock.monotonic()`."""
    clock: Clock
    roots: Roots
    blobs: BlobStore
    controls: Mapping[str, Control]
    disposable: Disposable
    log: structlog.typing.FilteringBoundLogger

    def secret(self, ref: SecretRef | str) -> str:
        """
        The value of a secret that the runbook declared; its use is journaled.

        Raises:
            CredentialRefused: not declared, or not in the vault.

        """

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float | None = None,
    ) -> Completed:
        """
        Run a command to its end in its own process group, holding the attempt's lock; ended (SIGTERM, SIGKILL) at the deadline.

        Raises:
            ProcessError: it could not be started, or was ended at the deadline.

        """


class Completed(Frozen):
    """A finished command. Output is bounded; what was cut is said in the text."""

    argv: tuple[str, ...]
    exit_code: int
    """Negative: ended by that signal."""
    stdout: str
    stderr: str
    duration_ms: int


class Disposable(Protocol):
    """What the operator declared re-creatable in ``[effects.disposable]``."""

    def covers(self, touches: Touches) -> bool:
        """Whether everything that `touches` destroys, runs or calls was declared."""
